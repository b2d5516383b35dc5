"""The pages and what they are made of: files of this package, the same for everyone, without any data in them."""

from __future__ import annotations

import re
import stat
from hashlib import sha256
from pathlib import Path

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gemmad.api.auth import ASSETS, wants_page
from gemmad.api.health import Health

FOLDER = Path(__file__).parent / "assets"
DASHBOARD_PAGE, CHAT_PAGE = "index.html", "chat.html"

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_SAFETY = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ASK_EACH_TIME = "no-cache"
_KEEP = "public, max-age=31536000, immutable"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".license": "text/plain; charset=utf-8",
}
_SEGMENT = re.compile(r"[A-Za-z0-9_@-][A-Za-z0-9_@.-]*")
"""Of a path: no empty one, none that begins with a dot, no backslash, nothing beyond ASCII."""
_VERSIONED = re.compile(r"vendor/(?:.*/)?[^/]*[-@.]\d+\.\d+(?:\.\d+)*[^/]*")
"""A vendored file with its version in its name never changes."""


class Asset(Struct, frozen=True):
    """One file, as it was when `stamp` was taken."""

    content: bytes
    media_type: str
    etag: str
    stamp: tuple[int, int]
    """Time of change in nanoseconds, and size."""


class Pages:
    """Serves them. A file that has changed on disk is read anew."""

    def __init__(self, health: Health, *, folder: Path = FOLDER) -> None:
        self._health = health
        self._folder = folder
        self._read: dict[str, Asset] = {}

    async def dashboard(self, request: Request) -> Response:
        """The dashboard for browsers, an overview in plain text for everyone else."""
        if wants_page(request.headers):
            response = self._answer(request, DASHBOARD_PAGE)
        else:
            response = await self._health.overview(request)
        response.headers["Vary"] = "Accept"
        return response

    async def chat(self, request: Request) -> Response:
        """The chat page."""
        return self._answer(request, CHAT_PAGE)

    async def asset(self, request: Request) -> Response:
        """Styles, scripts, pictures. Raises HTTPException for anything else."""
        path: str = request.scope["path"].removeprefix(ASSETS)  # the router's own lacks a line feed at its end
        if path.endswith(".html"):  # each page has an address of its own
            raise HTTPException(404)
        return self._answer(request, path)

    def _answer(self, request: Request, path: str) -> Response:
        asset = self._find(path)
        headers = {
            **_SAFETY,
            "ETag": asset.etag,
            "Cache-Control": _KEEP if _VERSIONED.fullmatch(path) else _ASK_EACH_TIME,
        }
        if asset.etag in _etags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)

    def _find(self, path: str) -> Asset:
        """Raises HTTPException for what is no file of ours."""
        media_type = _TYPES.get(Path(path).suffix.lower())
        if media_type is None or not all(_SEGMENT.fullmatch(part) for part in path.split("/")):
            raise HTTPException(404)
        file = self._folder / path
        try:
            status = file.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise HTTPException(404)
            stamp = status.st_mtime_ns, status.st_size
            known = self._read.get(path)
            if known is not None and known.stamp == stamp:
                return known
            content = file.read_bytes()
        except OSError:  # not there, or a name that is too long
            raise HTTPException(404) from None
        asset = Asset(content, media_type, f'"{sha256(content).hexdigest()[:32]}"', stamp)
        self._read[path] = asset
        return asset


def _etags(header: str) -> set[str]:
    """Those that a client has; a proxy that compressed one has made it weak."""
    return {etag.strip().removeprefix("W/") for etag in header.split(",")}
