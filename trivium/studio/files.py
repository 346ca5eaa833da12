"""Scripts, styles and pictures: those of this package and Plotly's, by name, from a list; no path is put together."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from trivium.studio.auth import Anyone
from trivium.studio.studio import HERE

routes = APIRouter()
KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
SMALL = 2000  # bytes that are not worth packing


@cache
def known() -> dict[str, Path]:
    """What may be asked for, by name."""
    found = {path.name: path for path in sorted((HERE / "static").iterdir()) if path.suffix in KINDS}
    found["report.css"] = Path(str(files("trivium.report") / "page.css"))
    plotly = find_spec("plotly")
    if plotly and plotly.submodule_search_locations:
        found["plotly.js"] = Path(plotly.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return found


@cache
def packed(name: str) -> tuple[bytes, bytes, str]:
    """A file as it is, the same in gzip, and a tag that names its content."""
    data = known()[name].read_bytes()
    return data, gzip.compress(data, 6, mtime=0), f'"{hashlib.sha256(data).hexdigest()[:16]}"'


@routes.get("/static/{name}", include_in_schema=False)
def static(name: str, request: Request, who: Anyone) -> Response:
    if name not in known():
        raise HTTPException(404, "there is no such file")
    data, small, tag = packed(name)
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if len(data) > SMALL and "gzip" in request.headers.get("accept-encoding", ""):
        data, headers["Content-Encoding"] = small, "gzip"
    return Response(data, media_type=KINDS[Path(name).suffix], headers=headers)
