"""Owns the web page as HTTP: a request's path and headers in, a response out. No sockets.

The files of ``web/`` are read once, at the start: a path that is not one of theirs leads nowhere, whatever it contains.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from websockets.datastructures import Headers
from websockets.http11 import Response

WEB = Path(__file__).parent / "web"
INDEX = "index.html"
PREFIX = "/web/"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SECURITY_HEADERS = {
    # Nothing from elsewhere, nothing inline, no string that becomes code or markup.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class _File:
    body: bytes
    content_type: str
    etag: str


class Page:
    """The page and what belongs to it. Raises `OSError` when the installation lacks its files."""

    def __init__(self, folder: Path = WEB) -> None:
        self._files = {PREFIX + path.name: _read(path) for path in folder.iterdir() if path.suffix in CONTENT_TYPES}
        self._files["/"] = self._files.pop(PREFIX + INDEX)

    @property
    def paths(self) -> list[str]:
        """Where its files are, ``/`` among them."""
        return sorted(self._files)

    def answer(self, path: str, headers: Headers) -> Response | None:
        """The response to GET for one of its files; `None` when the path (without its query) is none of them."""
        file = self._files.get(path)
        if file is None:
            return None
        # Always asked for again, so that page and server are of one version; answered without a body if unchanged.
        fields = {"Date": formatdate(usegmt=True), "Connection": "close", "Cache-Control": "no-cache"}
        fields |= {"ETag": file.etag} | SECURITY_HEADERS
        if _matches(headers.get_all("If-None-Match"), file.etag):
            return _response(HTTPStatus.NOT_MODIFIED, fields)
        fields |= {"Content-Type": file.content_type, "Content-Length": str(len(file.body))}
        return _response(HTTPStatus.OK, fields, file.body)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    return _File(body, CONTENT_TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _matches(conditions: list[str], etag: str) -> bool:
    """RFC 9110, 13.1.2: any of the listed tags, compared weakly."""
    listed = [tag.strip().removeprefix("W/") for condition in conditions for tag in condition.split(",")]
    return etag in listed or "*" in listed


def _response(status: HTTPStatus, fields: dict[str, str], body: bytes = b"") -> Response:
    return Response(status.value, status.phrase, Headers(fields), body)
