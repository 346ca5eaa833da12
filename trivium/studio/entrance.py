"""How people come in: the owner by the secret in the address, others by an invitation; a cookie remembers them."""

import hashlib
import secrets

from fastapi import APIRouter, HTTPException, Request
from starlette.datastructures import URL
from starlette.responses import RedirectResponse, Response

from trivium.studio.auth import Anyone, Person
from trivium.studio.studio import Studio

routes = APIRouter()
STAY = 30 * 24 * 3600  # seconds that a cookie is kept


class Door:
    """Who holds which key."""

    def __init__(self, studio: Studio, secret: str) -> None:
        self._secret = secret
        self._sessions: dict[str, Person] = {}

    def opens(self, secret: str) -> bool:
        return secrets.compare_digest(secret.encode(), self._secret.encode())

    def owner(self) -> Person:
        return Person(0, "me", "owner")

    def enter(self, person: Person) -> str:
        key = secrets.token_urlsafe(32)
        self._sessions[hashlib.sha256(key.encode()).hexdigest()] = person
        return key

    async def person_of(self, request: Request) -> Person | None:
        key = request.cookies.get(cookie_of(request.url), "")
        return self._sessions.get(hashlib.sha256(key.encode()).hexdigest())


def cookie_of(url: URL) -> str:
    """Cookies are the same for every port of a machine: each studio names its own."""
    return f"trivium-{url.port or 0}"


@routes.get("/open", include_in_schema=False)
def come_in(request: Request, who: Anyone, token: str = "") -> Response:
    """The address that `trivium studio` prints: its secret becomes a cookie, and leaves the address bar."""
    door: Door = request.app.state.door
    answer = RedirectResponse("/", status_code=303)
    if not door.opens(token):
        raise HTTPException(401, "this address is not valid any more; take the one that `trivium studio` printed last")
    remember(answer, request, door.enter(door.owner()))
    return answer


def remember(answer: Response, request: Request, key: str) -> None:
    """Let the browser, and no script in it, keep the key."""
    answer.set_cookie(
        cookie_of(request.url),
        key,
        max_age=STAY,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
