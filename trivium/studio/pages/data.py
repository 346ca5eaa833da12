"""The data page: what the models saw, and every vote, found by words; all votes to take along."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from trivium.feedback.exchange import carried, rows_of
from trivium.feedback.store import Choice, StoredPair, Vote
from trivium.studio.auth import Reader
from trivium.studio.seeing import Sort
from trivium.studio.studio import Here, Json, show

routes = APIRouter()
SORTS = (
    ("documents", "Documents", "Phase I: the next token is learned everywhere.", "There are no documents."),
    (
        "dialogues",
        "Dialogues",
        "Phase II: the assistant’s answers and their ends are learned.",
        "There are no dialogues.",
    ),
    ("pairs", "Pairs", "Phase III: each answer’s reward is read at its last token.", "Nobody has voted yet."),
    ("votes", "Votes", "Every vote as it was cast. Nothing is ever edited.", "Nobody has voted yet."),
)
EXPORTS = (
    ("csv", "a table (CSV)"),
    ("votes", "all that is known (JSON lines)"),
    ("trl", "TRL"),
    ("hh", "HH-RLHF"),
    ("arena", "Arena"),
    ("argilla", "Argilla"),
)
Form = Literal["csv", "votes", "trl", "hh", "arena", "argilla"]
PAGE = 12  # votes
Words = Annotated[str, Query(max_length=200)]
PageNumber = Annotated[int, Query(ge=0, le=1_000_000)]


@routes.get("/data")
def data(here: Here, who: Reader) -> Response:
    named = [{"key": key, "told": told, "empty": empty} for key, _, told, empty in SORTS]
    exports = [{"key": key, "title": title} for key, title in EXPORTS]
    sorts = [(key, title) for key, title, _, _ in SORTS]
    return show(here, who, "data", sorts=sorts, first={"sorts": named, "exports": exports})


@routes.get("/api/data")
def seen(here: Here, who: Reader, sort: Sort = "documents", words: Words = "", page: PageNumber = 0) -> Response:
    """What the models saw, as tokens."""
    return Json(here.data.find(sort, words, page))


@routes.get("/api/votes")
def votes(
    here: Here, who: Reader, words: Words = "", choice: Words = "", rater: Words = "", page: PageNumber = 0
) -> Response:
    """The votes, the newest first."""
    choices: tuple[Choice, ...] = (
        ("first", "second") if choice == "first" else (cast(Choice, choice),) if choice else ()
    )
    wanted = words.lower().split()
    if wanted:
        _, everything = here.store.find_votes(choices, rater)
        found = [one for one in everything if all(word in text_of(*one) for word in wanted)]
        total, shown = len(found), found[PAGE * page : PAGE * (page + 1)]
    else:
        total, shown = here.store.find_votes(choices, rater, start=PAGE * page, count=PAGE)
    raters = [known.name for known in here.store.raters()]
    return Json({"total": total, "page": page, "of": PAGE, "votes": [as_row(*one) for one in shown], "raters": raters})


def text_of(vote: Vote, pair: StoredPair) -> str:
    said = [*(message.content for message in pair.prompt), pair.first, pair.second, vote.comment, vote.rater]
    return "\n".join(said).lower()


def as_row(vote: Vote, pair: StoredPair) -> dict[str, Any]:
    return {
        "prompt": "\n".join(message.content for message in pair.prompt),
        "first": pair.first,
        "second": pair.second,
        "choice": vote.choice,
        "rater": vote.rater,
        "simulated": vote.simulated,
        "round": pair.round,
        "comment": vote.comment,
        "seconds": vote.seconds,
        "swapped": vote.shown_swapped,
        "withdrawn": vote.withdrawn_at is not None,
        "at": vote.created_at[:16].replace("T", " "),
    }


@routes.get("/api/votes/export", response_class=StreamingResponse)
def export(here: Here, who: Reader, form: Form = "votes") -> Response:
    """All votes with their pairs, as a file."""
    name = f"{here.run.path.resolve().name}-{form}.{'csv' if form == 'csv' else 'jsonl'}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if form == "csv":
        rows = [as_row(*one) for one in reversed(here.store.find_votes()[1])]
        return StreamingResponse(as_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)
    lines = (json.dumps(row) + "\n" for row in rows_of(carried(here.store), form))
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


def as_csv(rows: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """A table that a spreadsheet reads as text: what it would take for a formula begins with an apostrophe."""
    columns = list(rows[0]) if rows else ["prompt"]
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        line = io.StringIO()
        csv.writer(line).writerow([harmless(row[name]) for name in columns])
        yield line.getvalue().encode("utf-8", "replace")


def harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
