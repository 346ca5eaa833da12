"""Votes from files: those that exchange.py wrote, the same again; pairs of other tools as votes of one rater."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from sqlalchemy.engine import Connection

from trivium.errors import DataError
from trivium.feedback import queries, queue
from trivium.feedback.exchange import EXTRA, Carried
from trivium.feedback.store import Store
from trivium.feedback.votes import (
    IMPORTED,
    Choice,
    NewPair,
    NewVote,
    Policy,
    check_name,
    check_pair,
    check_queued,
    check_vote,
)
from trivium.records import Message, Pair, Role
from trivium.text import preferences
from trivium.text.rows import Row, read_rows

Json = dict[str, Any]


def read_votes(path: Path, *, round: int) -> list[Carried]:
    """Every vote of a file in one of the schemas; what another tool wrote becomes votes for the round.

    raises  DataError at the first row that is neither a vote nor a pair
    """
    found: dict[str, Carried] = {}
    halves: dict[str, dict[bool, list[str]]] = {}
    for row in read_rows(path):
        if _is_unpaired(row.value):
            made = _joined(row, halves, round)
        else:
            made = [_restored(row)] if _extra_of(row.value) is not None else _foreign(row, round)
        for vote in made:
            found.setdefault(vote.idempotency_key, vote)
    if not found:
        raise DataError(f"{path.name}: holds no votes; a label 1 and a label 0 for the same prompt make one")
    return list(found.values())


def _extra_of(value: Json) -> object:
    metadata = value.get("metadata")
    return value.get(EXTRA) or (metadata.get(EXTRA) if isinstance(metadata, dict) else None)


class _Turn(msgspec.Struct):
    role: Role
    content: str


class _PairRow(msgspec.Struct):
    prompt: list[_Turn]
    first: str
    second: str
    round: int
    first_model: str = ""
    second_model: str = ""
    source: str = "sampled"


class _VoteRow(msgspec.Struct):
    """A vote as it travels; what is missing or of another type is named."""

    pair: _PairRow
    rater: str
    simulated: bool
    choice: Choice
    idempotency_key: str
    shown_swapped: bool = False
    seconds: float = 0.0
    comment: str = ""
    created_at: str = ""
    repeat: int = 0
    attempt: int = 0
    withdrawn_at: str | None = None
    policy: Policy | None = None
    score: float | None = None
    known: Choice | None = None
    probability: float | None = None
    ended: tuple[bool, bool] = (True, True)


def _restored(row: Row) -> Carried:
    try:
        extra = _extra_of(row.value)
        said = msgspec.convert(json.loads(extra) if isinstance(extra, str) else extra, _VoteRow)
    except (ValueError, RecursionError) as error:
        raise DataError(f'{row.where}: "{EXTRA}" holds no vote ({error}); export the votes again') from None
    fields = {name: getattr(said, name) for name in said.__struct_fields__}
    pair = {name: getattr(said.pair, name) for name in said.pair.__struct_fields__}
    prompt = tuple(Message(turn.role, turn.content) for turn in said.pair.prompt)
    made = Carried(**fields | {"pair": NewPair(**pair | {"prompt": prompt})})
    check_pair(made.pair)
    return made


def _foreign(row: Row, round: int) -> list[Carried]:
    """Rows of other tools: Argilla's records, Arena's battles with their models, and all that are pairs."""
    if "fields" in row.value and "responses" in row.value:
        return _argilla_record(row, round)
    pairs = list(preferences.recognise(row).read(row))
    models = (str(row.value.get("model_a") or ""), str(row.value.get("model_b") or ""))
    judge = str(row.value.get("judge") or IMPORTED)
    return [_as_vote(pair, row, round, judge, models) for pair in pairs]


def _as_vote(pair: Pair, row: Row, round: int, rater: str, models: tuple[str, str]) -> Carried:
    winner = str(row.value.get("winner") or "").strip().lower()
    swapped = winner in ("model_b", "b", "conversation_b")  # the reader puts the winner first
    first_model, second_model = models[::-1] if swapped else models
    new = NewPair(pair.prompt, pair.chosen, pair.rejected, round, first_model, second_model, pair.source)
    both_bad = pair.tie and winner in ("tie (bothbad)", "tie (both bad)", "bothbad", "both bad", "neither")
    choice: Choice = "both_bad" if both_bad else "tie" if pair.tie else "first"
    return Carried(new, rater, False, choice, f"{rater}:{new.key}", shown_swapped=swapped)


def _argilla_record(row: Row, round: int) -> list[Carried]:
    """A record with the fields prompt, first and second (or response_a, response_b ...), and answers of raters."""
    fields, responses = row.value["fields"], row.value["responses"]
    if not isinstance(fields, dict) or not isinstance(responses, dict) or not responses:
        raise DataError(f'{row.where}: "fields" and "responses" must be objects, as Argilla exports a record')
    question, given = next(iter(responses.items()))
    names = [name for name in fields if name not in preferences.PROMPTS]
    if len(names) != 2 or not isinstance(given, list):
        raise DataError(f"{row.where}: an Argilla record needs a prompt, two answers and responses to one question")
    values: dict[str, Choice] = {names[0]: "first", names[1]: "second", "tie": "tie", "both_bad": "both_bad"}
    values |= {"first": "first", "second": "second", "skip": "skip"}
    prompt = {name: value for name, value in fields.items() if name in preferences.PROMPTS}
    as_pair = Row({**prompt, "chosen": fields[names[0]], "rejected": fields[names[1]]}, row.where)
    (pair,) = preferences.recognise(as_pair).read(as_pair)
    new = NewPair(pair.prompt, pair.chosen, pair.rejected, round, source=pair.source)
    votes = []
    for answer in given:
        said = answer if isinstance(answer, dict) else {}
        if said.get("status", "submitted") != "submitted":  # a draft, or discarded
            continue
        choice = values.get(str(said.get("value")))
        if choice is None:
            raise DataError(
                f'{row.where}: "{question}" is {str(said.get("value"))!r:.40}; known are {", ".join(values)}'
            )
        rater = f"argilla {said.get('user_id', '')}".strip()
        votes.append(Carried(new, rater, False, choice, f"{rater}:{new.key}"))
    return votes


def _is_unpaired(value: Json) -> bool:
    return "completion" in value and "label" in value and EXTRA not in value


def _joined(row: Row, halves: dict[str, dict[bool, list[str]]], round: int) -> list[Carried]:
    """A good and a bad answer to the same prompt make one vote; until both are there, they wait."""
    value = row.value
    prompt, completion, label = value.get("prompt"), value.get("completion"), value.get("label")
    if label not in (0, 1, True, False) or prompt is None:
        raise DataError(f"{row.where}: unpaired preferences need a prompt, a completion and a label 0 or 1")
    key = msgspec.json.encode(prompt).decode()
    waiting = halves.setdefault(key, {True: [], False: []})
    if not waiting[not label]:
        waiting[bool(label)].append(cast(str, completion))
        return []
    other = waiting[not label].pop(0)
    good, bad = (completion, other) if label else (other, completion)
    as_pair = Row({"prompt": prompt, "chosen": good, "rejected": bad}, row.where)
    (pair,) = preferences.recognise(as_pair).read(as_pair)
    return [_as_vote(pair, row, round, IMPORTED, ("", ""))]


def import_votes(store: Store, votes: Sequence[Carried]) -> int:
    """Into the store, all or none; how many were new. Doing it twice changes nothing.

    raises  DataError when a key comes back with another vote, or a rater votes on a pair again
    """
    for vote in votes:
        _check(vote)
    raters = {(vote.rater, vote.simulated) for vote in votes}
    ids = {name: store.add_rater(name, simulated=simulated).id for name, simulated in sorted(raters)}
    return store.write(lambda connection: _restore(connection, votes, ids))


def _check(vote: Carried) -> None:
    check_pair(vote.pair)
    check_vote(NewVote(0, 0, vote.choice, vote.idempotency_key, seconds=vote.seconds))
    if (queued := vote.queued) is not None:
        check_queued(queued)
    if vote.created_at:
        check_name("created_at", vote.created_at)


def _restore(connection: Connection, votes: Sequence[Carried], raters: dict[str, int]) -> int:
    """Votes in the order they came; each withdrawn one is withdrawn before the next is cast."""
    queue.enqueue(connection, [queued for vote in votes if (queued := vote.queued) is not None])
    ids = queries.insert_pairs(connection, [vote.pair for vote in votes])
    keys = {vote.idempotency_key for vote in votes}
    known = queries.known_keys(connection, sorted(keys))
    queries.restore_votes(
        connection, [_as_cast(vote, pair_id, raters[vote.rater]) for vote, pair_id in zip(votes, ids, strict=True)]
    )
    return len(keys - known)


def _as_cast(vote: Carried, pair_id: int, rater_id: int) -> queries.Restored:
    new = NewVote(
        pair_id,
        rater_id,
        vote.choice,
        vote.idempotency_key,
        vote.shown_swapped,
        vote.seconds,
        vote.comment,
        vote.repeat,
    )
    return queries.Restored(new, vote.created_at, vote.withdrawn_at)
