"""How people come in: the owner by the secret in the address, others by an invitation; a cookie remembers them."""

import secrets
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import URL
from starlette.responses import RedirectResponse, Response

from trivium.feedback.people import Person
from trivium.studio.auth import Anyone, Member
from trivium.studio.studio import Here, Json, Studio, show

routes = APIRouter()
STAY = 30  # days that a session lasts
OWNER = "me"


class Acceptance(BaseModel):
    """An invitation, and the name of the person who uses it."""

    model_config = ConfigDict(extra="forbid")

    secret: Annotated[str, Field(min_length=1, max_length=100)]
    name: Annotated[str, Field(min_length=1, max_length=60)]


@routes.get("/open", include_in_schema=False)
def come_in(request: Request, here: Here, who: Anyone, token: str = "") -> Response:
    """The address that `trivium studio` prints: its secret becomes a cookie, and leaves the address bar."""
    if not secrets.compare_digest(token.encode(), request.app.state.secret.encode()):
        raise HTTPException(401, "this address is not valid any more; take the one that `trivium studio` printed last")
    answer = RedirectResponse("/", status_code=303)
    agent = request.headers.get("user-agent", "")
    remember(answer, request, here.people.open_session(owner_of(here).id, days=STAY, agent=agent))
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
    person, key = here.people.accept(told.secret, told.name, agent=request.headers.get("user-agent", ""))
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
