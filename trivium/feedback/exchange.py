"""Votes as rows of the common preference schemas, without loss: importing.py makes the same votes of them again.

What a schema has no place for travels in one more column, "trivium" (Argilla: in its "metadata").
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

from trivium.errors import DataError
from trivium.feedback.store import Store
from trivium.feedback.votes import Choice, NewPair, NewQueued, Policy, StoredPair, Vote
from trivium.records import Message

Kind = Literal["trl", "trl-conversational", "trl-implicit", "trl-unpaired", "hh", "arena", "argilla", "votes"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EXTRA = "trivium"
Json = dict[str, Any]


class Carried(NamedTuple):
    """One vote with all that is known about it."""

    pair: NewPair
    rater: str
    simulated: bool
    choice: Choice
    idempotency_key: str
    shown_swapped: bool = False
    seconds: float = 0.0
    comment: str = ""
    created_at: str = ""  # empty: when it is imported
    repeat: int = 0
    attempt: int = 0
    withdrawn_at: str | None = None
    policy: Policy | None = None  # by which the pair came into the queue; None: it did not
    score: float | None = None
    known: Choice | None = None
    probability: float | None = None  # of being chosen by that policy
    ended: tuple[bool, bool] = (True, True)  # whether the answers came to their ends

    @property
    def queued(self) -> NewQueued | None:
        """As it came into the queue, where it did."""
        if self.policy is None:
            return None
        return NewQueued(self.pair, self.policy, self.score, self.known, self.probability, self.ended)


def carried(store: Store) -> list[Carried]:
    """Every vote of the store, withdrawn ones too."""
    pairs, queued = {pair.id: pair for pair in store.pairs()}, store.queued()
    found = []
    for vote in store.history():
        entry = queued.get(vote.pair_id)
        chosen = {name: getattr(entry, name) for name in NewQueued._fields[1:]} if entry else {}
        found.append(_carried(pairs[vote.pair_id], vote)._replace(**chosen))
    return found


def _carried(pair: StoredPair, vote: Vote) -> Carried:
    new = NewPair(pair.prompt, pair.first, pair.second, pair.round, pair.first_model, pair.second_model, pair.source)
    return Carried(
        new,
        vote.rater,
        vote.simulated,
        vote.choice,
        vote.idempotency_key,
        vote.shown_swapped,
        vote.seconds,
        vote.comment,
        vote.created_at,
        vote.repeat,
        vote.attempt,
        vote.withdrawn_at,
    )


def rows_of(votes: Iterable[Carried], kind: Kind) -> Iterator[Json]:
    """Rows of a file in that schema: one for each vote, of trl-unpaired two."""
    if kind not in KINDS:
        raise DataError(f'schema "{kind}" is unknown; choose one of {", ".join(KINDS)}')
    for vote in votes:
        yield from map(_sendable, _WRITERS[kind](vote))


def _sendable(value: Any) -> Any:
    """What JSON in UTF-8 can hold: half of a surrogate pair stays whole in our column only."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {name: _sendable(inner) for name, inner in value.items()}
    return [_sendable(inner) for inner in value] if isinstance(value, list) else value


def _turns(messages: Iterable[Message]) -> list[Json]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _sides(vote: Carried) -> tuple[str, str]:
    """Chosen and rejected; of a tie, a skip or "both bad" the first and the second."""
    first, second = vote.pair.first, vote.pair.second
    return (second, first) if vote.choice == "second" else (first, second)


def _text(prompt: Sequence[Message]) -> str:
    """A single question as it is; else the turns one below the other, as a transcript has them."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return _transcript(prompt)


def _transcript(messages: Iterable[Message]) -> str:
    speakers = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "".join(f"\n\n{speakers[message.role]}: {message.content}" for message in messages)


def _extra(vote: Carried) -> Json:
    """All that a row needs to become the same vote again: a string, which every kind of file and tool can hold."""
    pair = vote.pair._asdict() | {"prompt": _turns(vote.pair.prompt)}
    return {EXTRA: json.dumps({**vote._asdict(), "pair": pair})}


def _is_tie(vote: Carried) -> bool:
    return vote.choice not in ("first", "second")


def _asked(vote: Carried, written: Callable[[Sequence[Message]], object]) -> Json:
    """The column of the prompt; none where there is no prompt, as readers know it."""
    return {"prompt": written(vote.pair.prompt)} if vote.pair.prompt else {}


def _trl(vote: Carried) -> Iterator[Json]:
    chosen, rejected = _sides(vote)
    yield _asked(vote, _text) | {"chosen": chosen, "rejected": rejected, "tie": _is_tie(vote)} | _extra(vote)


def _trl_conversational(vote: Carried) -> Iterator[Json]:
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in _sides(vote))
    yield _asked(vote, _turns) | {"chosen": chosen, "rejected": rejected, "tie": _is_tie(vote)} | _extra(vote)


def _trl_implicit(vote: Carried) -> Iterator[Json]:
    chosen, rejected = (_turns([*vote.pair.prompt, Message("assistant", text)]) for text in _sides(vote))
    yield {"chosen": chosen, "rejected": rejected, "tie": _is_tie(vote)} | _extra(vote)


def _trl_unpaired(vote: Carried) -> Iterator[Json]:
    """A label for each answer; of a tie both are as good, of "both bad" both are bad."""
    chosen, rejected = _sides(vote)
    labels = {"tie": (True, True), "both_bad": (False, False)}.get(vote.choice, (True, False))
    for text, label in zip((chosen, rejected), labels, strict=True):
        yield {"prompt": _text(vote.pair.prompt), "completion": text, "label": label} | _extra(vote)


def _hh(vote: Carried) -> Iterator[Json]:
    chosen, rejected = (_transcript([*vote.pair.prompt, Message("assistant", text)]) for text in _sides(vote))
    yield {"chosen": chosen, "rejected": rejected, "tie": _is_tie(vote)} | _extra(vote)


def _arena(vote: Carried) -> Iterator[Json]:
    pair = vote.pair
    sides = ((pair.second, pair.second_model), (pair.first, pair.first_model))
    (left, left_model), (right, right_model) = sides if vote.shown_swapped else sides[::-1]
    winners = {"tie": "tie", "both_bad": "tie (bothbad)", "skip": "tie"}
    won = "model_a" if (vote.choice == "first") != vote.shown_swapped else "model_b"
    yield {
        "model_a": left_model,
        "model_b": right_model,
        "winner": winners.get(vote.choice, won),
        "conversation_a": _turns([*pair.prompt, Message("assistant", left)]),
        "conversation_b": _turns([*pair.prompt, Message("assistant", right)]),
        "judge": vote.rater,
        "turn": sum(message.role == "user" for message in pair.prompt),
    } | _extra(vote)


def _argilla(vote: Carried) -> Iterator[Json]:
    pair = vote.pair
    answer = {"value": vote.choice, "user_id": vote.rater, "status": "submitted"}
    if vote.choice == "skip" or vote.withdrawn_at:
        answer["status"] = "discarded"
    yield {
        "id": f"{pair.key[:16]}-{vote.idempotency_key}",
        "fields": {"prompt": _turns(pair.prompt), "first": pair.first, "second": pair.second},
        "responses": {"preference": [answer]},
        "metadata": _extra(vote),
    }


def _votes(vote: Carried) -> Iterator[Json]:
    yield _extra(vote)


_WRITERS: dict[Kind, Callable[[Carried], Iterator[Json]]] = {
    "trl": _trl,
    "trl-conversational": _trl_conversational,
    "trl-implicit": _trl_implicit,
    "trl-unpaired": _trl_unpaired,
    "hh": _hh,
    "arena": _arena,
    "argilla": _argilla,
    "votes": _votes,
}
