"""What stands before every route: what a server may be called, how large a request may be, what a browser may do.

Knows no people, no run and no key. A page of somebody else's must not reach a server on this machine, by whatever name.
"""

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

READING = frozenset({"GET", "HEAD"})
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
LARGEST_BODY = 256 * 2**10  # bytes

# Everything comes from here, and nothing stands in the page itself: no script, no style, no frame around it.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the address may hold a secret
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}


def loopback_names(port: int) -> frozenset[str]:
    """What a browser on this machine may call the studio."""
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))


def refused(code: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status_code=code)


class Guard:
    """Refuses what no page of ours would send, before anybody reads it; adds the headers that bind the browser."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Collection[str],
        pages: Collection[str],
        called: Callable[[str], str] = str.lower,
        refuse: Callable[[int, str], Response] = refused,
        largest_body: int = LARGEST_BODY,
    ) -> None:
        """names   what the server may be called, in lower case
        pages   where pages of ours come from, as an Origin header has it behind its scheme
        called  what a Host header calls the server
        refuse  a refusal, from its status and reason
        """
        self.app = app
        self.names, self.pages = names, pages
        self.called, self.refuse = called, refuse
        self.largest_body = largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self.refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, sealed)
            return
        await self.app(scope, self._counted(receive), sealed)

    def refusal(self, method: str, headers: Headers) -> Response | None:
        """Why a request is turned away; None when it may pass."""
        if self.called(headers.get("host", "")) not in self.names:
            told = "this is not an address of the server; take the one that it printed, or start it with --name"
            return self.refuse(421, told)
        if any(not self._is_ours(origin) for origin in headers.getlist("origin")):
            return self.refuse(403, "this request comes from a page that is not served here")
        if method not in READING | WRITING:
            return self.refuse(405, f"{method} is not answered here")
        if method in WRITING and headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return self.refuse(415, "send JSON, with Content-Type: application/json")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.largest_body:
            return self.refuse(413, f"a request may have {self.largest_body:,} bytes")
        return None

    def _is_ours(self, origin: str) -> bool:
        try:
            found = urlsplit(origin.lower())
        except ValueError:
            return False
        return found.scheme in ("http", "https") and found.netloc in self.pages and origin.count("/") == 2

    def _counted(self, receive: Receive) -> Receive:
        """The same request, cut where it grows beyond what it may be, whatever length it declared."""
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self.largest_body:
                    return {"type": "http.disconnect"}
            return message

        return counted
