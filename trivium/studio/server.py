"""The web app put together, and served until somebody stops it. Knows no page from within."""

import secrets
import socket
import sys
import webbrowser
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from trivium.errors import BusyError, RunError, TriviumError
from trivium.feedback.people import Person
from trivium.runs import read_run
from trivium.studio import entrance, files
from trivium.studio.auth import Owner
from trivium.studio.guard import Guard, loopback_names
from trivium.studio.listening import LOOPBACK, address, listen, serve
from trivium.studio.pages import ROUTERS
from trivium.studio.studio import Here, Json, Studio, open_studio, show, studio_of

TITLES = {401: "Come in first", 403: "Not for you", 404: "There is no such page", 429: "Too many at once"}


def build_app(studio: Studio, *, names: Collection[str], secret: str) -> FastAPI:
    """The studio as an ASGI application.

    names   what the Host header may say, port included
    secret  whoever brings it in the address is the owner
    """
    app = FastAPI(title="Trivium studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.studio = studio
    app.state.secret = secret

    async def person_of(request: Request) -> Person | None:
        key = request.cookies.get(entrance.cookie_of(request.url))
        return await run_in_threadpool(studio.people.person_of, key) if key else None

    app.state.person_of = person_of
    for router in (entrance.routes, files.routes, *ROUTERS):
        app.router.routes.extend(router.routes)  # side by side, so that a walk over them meets every one

    @app.get("/api/openapi.json", include_in_schema=False)
    def schema(here: Here, who: Owner) -> Response:
        return Json(app.openapi())

    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(TriviumError, _mistaken)
    ours = frozenset(name.lower() for name in names)
    app.add_middleware(Guard, names=ours, pages=ours)
    return app


async def _refused(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, HTTPException)
    return await _answer(request, reason.status_code, str(reason.detail), reason.headers)


async def _malformed(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, RequestValidationError)
    first = reason.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return await _answer(
        request, 422, f"{where or 'request'}: {first['msg'].lower()}".encode("ascii", "replace").decode()
    )


async def _mistaken(request: Request, reason: Exception) -> Response:
    code = 503 if isinstance(reason, BusyError) else 409 if isinstance(reason, RunError) else 400
    return await _answer(request, code, str(reason))


async def _answer(request: Request, code: int, told: str, headers: object = None) -> Response:
    """One line of JSON for a script, a page for a person."""
    if request.url.path.startswith("/api/"):
        answer: Response = Json({"error": told}, status_code=code)
    else:
        who = await request.app.state.person_of(request)
        title = TITLES.get(code, "That did not work")
        answer = show(studio_of(request), who, "refusal", status=code, title=title, told=told)
    answer.headers.update(dict(headers) if isinstance(headers, dict) else {})
    return answer


def serve_studio(run: Path, *, host: str, port: int, names: Collection[str], browser: bool) -> None:
    """Serve the studio until it is interrupted.

    host   the address to listen on; anything but loopback lets others in, who then need an invitation
    port   0: a free one
    names  under which others reach it
    raises RunError when there is no run; ConfigError when the address cannot be listened on
    """
    studio = open_studio(read_run(run), is_open=host not in LOOPBACK)
    with closing(listen(host, port)) as listening:
        port = listening.getsockname()[1]
        secret = secrets.token_urlsafe(24)
        app = build_app(studio, names=addresses(host, port, names), secret=secret)
        shown = host if host not in ("0.0.0.0", "::") else next(iter(names), socket.gethostname())
        entry = f"http://{address(shown, port)}/open?token={secret}"
        print(entry, flush=True)
        print(f"The studio of {run}. Ctrl-C ends it; what is at work on the run goes on.", file=sys.stderr)
        if browser:
            webbrowser.open(entry)
        with closing(studio):
            serve(app, listening)


def addresses(host: str, port: int, names: Collection[str]) -> set[str]:
    """What the Host header may say: the address listened on, and the names that were given, with and without port."""
    found = {address(host, port), *loopback_names(port)}
    if host not in LOOPBACK:
        for name in (*names, *(() if names else (socket.gethostname(),))):
            found |= {name.lower(), f"{name.lower()}:{port}"}
    elif names:
        found |= {name.lower() for name in names}
    return found
