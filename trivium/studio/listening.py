"""An address to listen on, and an app that is served there until somebody ends it."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import uvicorn

from trivium.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATIENCE = 3  # seconds that answers under way are waited for at the end


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; 0 is a free port. Raises ConfigError when it cannot be had."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # from here on callers wait, and are not turned away, until the app is up
    except OSError as reason:
        listening.close()
        told = f"host = {host}, port = {port}: cannot listen there ({reason.strerror}); choose another"
        raise ConfigError(told) from None
    except OverflowError:
        listening.close()
        raise ConfigError(f"port = {port}: must be at most 65535, or 0 for a free one") from None
    return listening


def address(host: str, port: int) -> str:
    """As it stands in a URL."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: Any, listening: socket.socket) -> None:
    """Until Ctrl-C or SIGTERM."""
    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=PATIENCE,
        lifespan="off",
    )
    with suppress(KeyboardInterrupt):  # which uvicorn raises again after it has ended in peace
        asyncio.run(uvicorn.Server(settings).serve(sockets=[listening]))
