"""How people come in: the owner by the secret in the address, others by an invitation, again by name and password.

A cookie remembers them: the key of a session that is made anew each time, never one that the browser brought.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import URL
from starlette.responses import RedirectResponse, Response

from trivium.errors import DataError
from trivium.feedback.people import LONGEST, SHORTEST, Person
from trivium.studio.auth import Anyone, Member
from trivium.studio.studio import Here, Json, Studio, show

routes = APIRouter()
STAY = 30  # days that a session lasts
OWNER = "me"
Name = Annotated[str, Field(min_length=1, max_length=60)]
Password = Annotated[str, Field(min_length=SHORTEST, max_length=LONGEST)]


class Acceptance(BaseModel):
    """An invitation, and the name of the person who uses it."""

    model_config = ConfigDict(extra="forbid")

    secret: Annotated[str, Field(min_length=1, max_length=100)]
    name: Name
    password: Password | None = None
    """to come in again by, from another browser"""


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    password: Annotated[str, Field(min_length=1, max_length=LONGEST)]


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")

    password: Password


@routes.get("/open", include_in_schema=False)
def come_in(request: Request, here: Here, who: Anyone, token: str = "") -> Response:
    """The address that `trivium studio` prints: its secret becomes a cookie, and leaves the address bar."""
    place = place_of(request)
    here.tries.require_room(place)
    if not secrets.compare_digest(token.encode(), request.app.state.secret.encode()):
        here.tries.count(place)
        raise HTTPException(401, "this address is not valid any more; take the one that trivium studio printed last")
    answer = RedirectResponse("/", status_code=303)
    remember(answer, request, here.people.open_session(owner_of(here).id, days=STAY, agent=agent_of(request)))
    return answer


def owner_of(here: Studio) -> Person:
    """Whoever started the studio: the first owner."""
    known = next((person for person in here.people.people() if person.role == "owner"), None)
    return known or here.people.found(OWNER)


@routes.get("/join", include_in_schema=False)
def join(here: Here, who: Anyone) -> Response:
    """Where an invitation leads. Its secret stands behind the #: it is sent once, when a name is given."""
    return show(here, None, "join")


@routes.post("/api/join", status_code=201)
def accept(told: Acceptance, request: Request, here: Here, who: Anyone) -> Response:
    """Use an invitation."""
    with vain_tries_counted(here, place_of(request)):
        person, key = here.people.accept(told.secret, told.name, told.password, agent=agent_of(request))
    return welcome(request, person, key)


@routes.get("/enter", include_in_schema=False)
def enter(here: Here, who: Anyone) -> Response:
    """Where those come in again who have a password."""
    return show(here, None, "enter")


@routes.post("/api/enter", status_code=201)
def sign_in(told: Credentials, request: Request, here: Here, who: Anyone) -> Response:
    """By name and password."""
    with vain_tries_counted(here, place_of(request), f"name {' '.join(told.name.split()).casefold()}"):
        person, key = here.people.sign_in(told.name, told.password, agent=agent_of(request))
    return welcome(request, person, key)


@routes.get("/me", include_in_schema=False)
def me(here: Here, who: Member) -> Response:
    """One's own password, and the way out."""
    return show(here, who, "me")


@routes.put("/api/password")
def set_password(told: NewPassword, request: Request, here: Here, who: Member) -> Response:
    """Ends this person's sessions everywhere, and begins a new one here."""
    here.people.set_password(who.id, told.password)
    return welcome(request, who, here.people.open_session(who.id, days=STAY, agent=agent_of(request)))


@contextmanager
def vain_tries_counted(here: Studio, *keys: str) -> Iterator[None]:
    """raises  HTTPException 429 where these have tried too often, before anything is looked up"""
    here.tries.require_room(*keys)
    try:
        yield
    except DataError:
        here.tries.count(*keys)
        raise


def place_of(request: Request) -> str:
    return f"place {request.client.host if request.client else ''}"


def agent_of(request: Request) -> str:
    return request.headers.get("user-agent", "")


def welcome(request: Request, person: Person, key: str) -> Response:
    answer = Json({"name": person.name, "role": person.role}, status_code=201)
    remember(answer, request, key)
    return answer


@routes.post("/api/leave")
def leave(request: Request, here: Here, who: Member) -> Response:
    """End the session of this browser."""
    here.people.sign_out(request.cookies.get(cookie_of(request.url), ""))
    answer = Json({"left": True})
    answer.delete_cookie(cookie_of(request.url), path="/", httponly=True, samesite="strict")
    return answer


def remember(answer: Response, request: Request, key: str) -> None:
    """Let the browser, and no script in it, keep the key of a new session."""
    answer.set_cookie(
        cookie_of(request.url),
        key,
        max_age=STAY * 24 * 3600,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )


def cookie_of(url: URL) -> str:
    """Cookies are the same for every port of a machine: each studio names its own."""
    return f"trivium-{url.port or 0}"
