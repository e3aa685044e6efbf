"""What every answer tells browsers and caches: to keep it to themselves; and who else may ask from within a browser (CORS)."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from schemas.settings import Api

ALWAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)
# The rest of what is shown is the same for everybody.
_DOCUMENTS: Final = frozenset({"doc", "specs", "openapi", "restx_doc.static"})
_PAGE: Final = (
    "default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_INLINE: Final = re.compile(rb"<script[^>]*>([^<]+)</script>")
_HSTS: Final = "max-age=31536000"
_METHODS: Final = "GET, POST, PUT, DELETE"
_HEADERS: Final = "Accept, X-Machine-Name, X-Task-Id, Authorization, Content-Type, Prefer"
_CORS_SECONDS: Final = "3600"


def protect(app: Flask, settings: Api) -> None:
    """Have every answer of the application say so, those of failures too."""
    if settings.proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.proxies, x_proto=settings.proxies)  # type: ignore[method-assign]

    def preflight() -> Response | None:
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return Response(status=HTTPStatus.NO_CONTENT) if asks and _allowed(settings) else None

    def add(response: Response) -> Response:
        for name, value in ALWAYS.items():
            response.headers.setdefault(name, value)
        if request.endpoint in _DOCUMENTS:
            response.headers["Cache-Control"] = "no-cache"
        if request.endpoint == "doc":
            response.headers["Content-Security-Policy"] = _page_policy(response.get_data())
        if request.is_secure:
            response.headers["Strict-Transport-Security"] = _HSTS
        if origin := _allowed(settings):
            _share(response, origin)
        return response

    app.before_request(preflight)
    app.after_request(add)


@cache
def _page_policy(page: bytes) -> str:
    """The policy of Swagger UI's page, which has a script in it that is always the same."""
    digests = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page))
    return _PAGE.format(hashes="".join(f" 'sha256-{digest}'" for digest in digests))


def _allowed(settings: Api) -> str:
    """The origin of the request as CORS names it, if it may ask; else nothing."""
    if "*" in settings.origins:
        return "*"
    origin = request.headers.get("Origin", "")
    return origin if origin in settings.origins else ""


def _share(response: Response, origin: str) -> None:
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "*"
    response.headers.add("Vary", "Origin")
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _HEADERS
        response.headers["Access-Control-Max-Age"] = _CORS_SECONDS


def refusal(status: HTTPStatus) -> bytes:
    """The whole answer to what is no request, after which the connection ends."""
    body = json.dumps({"description": "The request cannot be read", "error": status.phrase}).encode() + b"\n"
    headers = {"Connection": "close", "Content-Type": "application/json", "Content-Length": str(len(body)), **ALWAYS}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n".encode() + body
