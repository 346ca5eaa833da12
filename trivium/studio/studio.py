"""What all pages share: the run and what was opened of it, and how a page or an answer is put together."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

import anyio
from fastapi import Depends, HTTPException, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, JSONResponse

from trivium.config import read_settings, resolve
from trivium.feedback.people import People, Person
from trivium.feedback.store import Store
from trivium.report import words
from trivium.runs import Run, votes_of
from trivium.story.asking import Asker
from trivium.studio.ballots import Ballots
from trivium.studio.seeing import Data
from trivium.studio.tries import Tries
from trivium.studio.voices import Voices
from trivium.studio.watching import Log
from trivium.studio.work import Work

HERE = Path(__file__).parent
PAGES = (
    ("story", "/", "Story", ("owner", "rater", "viewer")),
    ("playground", "/playground", "Playground", ("owner", "viewer")),
    ("vote", "/vote", "Vote", ("owner", "rater")),
    ("judges", "/judges", "Judges", ("owner", "viewer")),
    ("standings", "/standings", "Standings", ("owner", "viewer")),
    ("data", "/data", "Data", ("owner", "viewer")),
    ("team", "/team", "Team", ("owner",)),
)


@dataclass(frozen=True)
class Limits:
    """How much one studio takes upon itself."""

    writing: int = 2  # answers written at the same time
    waiting: int = 16  # answers that wait for their turn; who comes after is turned away


class Turns:
    """Lets a few in at a time; the rest wait, up to a number, and whoever comes after is told to come back."""

    def __init__(self, limits: Limits) -> None:
        self._free = anyio.Semaphore(limits.writing)
        self._most = limits.writing + limits.waiting
        self._inside = 0

    def require_room(self) -> None:
        """raises  HTTPException 429 when the queue is full"""
        if self._inside >= self._most:
            raise HTTPException(429, "too many ask at once; try again in a moment", headers={"Retry-After": "2"})

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        self.require_room()
        self._inside += 1
        try:
            async with self._free:
                yield
        finally:
            self._inside -= 1


@dataclass(frozen=True)
class Studio:
    """A run, and what is open of it."""

    run: Run
    log: Log
    work: Work
    voices: Voices
    data: Data
    store: Store
    ballots: Ballots
    people: People
    is_open: bool  # to other machines
    turns: Turns
    tries: Tries

    def close(self) -> None:
        """What is at work on the run goes on."""
        self.ballots.asker.close()
        self.voices.close()
        self.store.close()


def open_studio(run: Run, limits: Limits | None = None, *, is_open: bool = False) -> Studio:
    recipe = resolve(read_settings(run.recipe))
    store = Store.open(votes_of(run, recipe.votes.database))
    voices = Voices(run)
    ballots = Ballots(store, Asker(run, store, voices.open_folder, seed=recipe.seed))
    return Studio(
        run,
        Log(run, store),
        Work(run),
        voices,
        Data(run, store),
        store,
        ballots,
        People(store),
        is_open,
        Turns(limits or Limits()),
        Tries(),
    )


def studio_of(request: Request) -> Studio:
    return cast(Studio, request.app.state.studio)


async def _here(request: Request) -> Studio:
    return studio_of(request)  # on the event loop: there is nothing to wait for


Here = Annotated[Studio, Depends(_here)]


class Json(JSONResponse):
    """JSON in ASCII: a text may hold half a character, which UTF-8 does not."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


@cache
def environment() -> Environment:
    """Templates: everything that came from outside is escaped."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"visible": words.visible, "count": words.count, "minutes": words.minutes}
    return made


def show(here: Studio, who: Person | None, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, with the navigation of the person who looks at it."""
    pages = [(key, path, title) for key, path, title, roles in PAGES if who is not None and who.role in roles]
    text = (
        environment()
        .get_template(f"{name}.html.j2")
        .render(page=name, pages=pages, who=who, run=here.run.path.resolve().name, **values)
    )
    return HTMLResponse(text.encode("utf-8", "replace"), status_code=status)
