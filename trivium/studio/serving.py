"""`trivium serve`: the API by itself. Puts desks, guard and server together, and ends them in peace."""

import hmac
import signal
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from trivium.compute import best_device
from trivium.errors import ConfigError
from trivium.runs import Run
from trivium.shelf import is_done, open_model
from trivium.story.voices import latest_model, run_around
from trivium.studio.api import openai_routes
from trivium.studio.asking import ApiError
from trivium.studio.desk import Desk
from trivium.studio.guard import Guard
from trivium.studio.listening import LOOPBACK, address, listen, serve

RETRY = "2"  # seconds after which a full queue may be asked again
LARGEST_BODY = 4 * 2**20  # bytes: a context may be long


def build_api(desks: Mapping[str, Desk], *, hosts: Collection[str], api_key: str | None) -> FastAPI:
    """hosts    what the Host header may say: in lower case, without port and brackets
    api_key  what `Authorization: Bearer …` has to say, where one is set
    """
    app = FastAPI(title="Trivium", docs_url=None, redoc_url=None, openapi_url=None)

    async def with_key(request: Request) -> None:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if api_key is not None and not hmac.compare_digest(shown.encode(), api_key.encode()):
            raise ApiError("the API key is missing or wrong", status=401, code="invalid_api_key")

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "models": list(desks)})

    async def refused(request: Request, reason: Exception) -> Response:
        assert isinstance(reason, ApiError)
        return _told(reason)

    async def missing(request: Request, reason: Exception) -> Response:
        assert isinstance(reason, HTTPException)
        return _told(ApiError(f"{request.method} {request.url.path}: {reason.detail}", status=reason.status_code))

    app.include_router(openai_routes(desks), dependencies=[Depends(with_key)])
    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(HTTPException, missing)
    app.add_middleware(Guard, names=hosts, pages=(), called=host_of, refuse=_refuse, largest_body=LARGEST_BODY)
    return app


def host_of(header: str) -> str:
    """The name in a Host header, in lower case, without port and brackets; empty when there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _refuse(code: int, reason: str) -> Response:
    return _told(ApiError(reason, status=code))


def _told(reason: ApiError) -> Response:
    headers = {"Retry-After": RETRY} if reason.status == 429 else {}
    return JSONResponse(reason.body(), status_code=reason.status, headers=headers)


def serve_models(folders: Sequence[Path], *, host: str, port: int, names: Collection[str], api_key: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    raises  ConfigError when the address cannot be listened on, two models share a name, or others could come in freely
    """
    if host not in LOOPBACK and not api_key:
        raise ConfigError(f"host = {host}: others can reach it; give --api-key or set TRIVIUM_API_KEY")
    found = named(folders)
    with listen(host, port) as listening:
        desks = {name: Desk(*open_model(folder, device=best_device())) for name, folder in found.items()}
        app = build_api(desks, hosts={name.lower() for name in (*LOOPBACK, host, *names)}, api_key=api_key)
        print(f"http://{address(host, listening.getsockname()[1])}/v1", flush=True)
        print(f"{', '.join(desks)}. Ctrl-C ends it.", file=sys.stderr)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which uvicorn raises again after it has ended in peace
        try:
            serve(app, listening)
        finally:
            for desk in desks.values():
                desk.close()


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """What is served, by names that differ: of two that share one, RUN/NAME, or the folder around it and NAME.

    raises  ConfigError when two share that too
    """
    every = {folder.resolve(): (name, folder) for given in folders for name, folder in served(given)}.values()
    shared = {name for name, times in Counter(name for name, _ in every).items() if times > 1}
    found: dict[str, Path] = {}
    for name, folder in every:
        if name in shared:
            run = run_around(folder)
            name = f"{(run.path if run else folder.parent).resolve().name}/{name}"
        if name in found:
            raise ConfigError(f"models: {found[name]} and {folder} are both called {name}; rename one folder")
        found[name] = folder
    return found


def served(folder: Path) -> list[tuple[str, Path]]:
    """A model folder by its name; of a run, every finished model."""
    if latest_model(folder) == folder:
        return [(folder.resolve().name, folder)]
    run = Run(folder)
    last = [round.aligned for round in run.rounds() if is_done(round.aligned)][-1:]
    return [(stage.name, stage) for stage in (run.base, run.instruct, *last) if is_done(stage)]
