"""The API application."""

import logging
from contextlib import suppress
from typing import Any

from flask import Flask, Response, current_app, g, request
from flask_restx import Api
from gunicorn.http.errors import ParseException
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

import api.status
import api.transfers
import schemas.catalogue
from api.announcements import listen
from api.audit import keep_trail
from api.documents import openapi
from api.holds import Holds
from api.identity import Identity
from api.limits import Turnstile
from api.local import VERSION, Office
from api.permission import PERMISSIONS
from api.protection import protect
from api.requests import MEGABYTE, too_large
from api.resources import Desk, namespaces
from broker.gateway import Gateway
from broker.health import Health
from broker.limits import Limiter
from broker.links import Links
from schemas.errors import FirecrestError, ServiceUnavailable, TooManyRequests
from schemas.operation import OPERATIONS
from schemas.settings import Settings

_LOG = logging.getLogger(__name__)
_SLACK = 65536
_MOST_DRAINED = 64 * MEGABYTE

Failure = tuple[dict[str, Any], int, dict[str, str]]


def create_app(settings: Settings, gateway: Gateway, identity: Identity, health: Health, limiter: Limiter) -> Flask:
    """The WSGI application: every declared operation, Swagger UI on `/`, OpenAPI 3.1 on `/openapi.json`."""
    app = Flask("firecrest")
    app.config.update(
        RESTX_INCLUDE_ALL_MODELS=True,
        RESTX_MASK_SWAGGER=False,
        SWAGGER_UI_DOC_EXPANSION="list",
        SWAGGER_UI_OPERATION_ID=True,
        ERROR_INCLUDE_MESSAGE=False,
        MAX_CONTENT_LENGTH=settings.limits.utilities_max_file_size * MEGABYTE + _SLACK,
    )
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    bearer = {"token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "Bearer <token>"}}
    api = Api(
        app,
        title="FirecREST",
        version=VERSION,
        doc="/",
        description="[As OpenAPI 3.1](openapi.json)",
        authorizations=bearer,
        security="token",
        catch_all_404s=True,
    )
    turnstile = Turnstile(limiter, settings.limits)
    permission = PERMISSIONS[settings.permission.source](settings.permission)
    holds = app.extensions["holds"] = Holds(gateway.subscription, turnstile, settings.limits)
    office = Office(gateway, health, settings, Links.of(settings.keys) if settings.storage else Links.none(), holds)
    desk = Desk(gateway, identity, turnstile, permission, office, settings)
    for space in namespaces(OPERATIONS, desk):
        api.add_namespace(space)
    _tell_failures(api, settings)
    keep_trail(app)  # what is called after a request goes backwards
    app.after_request(_with_its_body_read)
    app.after_request(turnstile.see_off)
    protect(app, settings.api)
    if settings.storage and settings.storage.notifications_url:
        listen(app, settings.storage, gateway.tasks, health)
    document = openapi(OPERATIONS, version=VERSION)
    app.add_url_rule("/openapi.json", "openapi", lambda: document)
    return app


def _with_its_body_read(response: Response) -> Response:
    # A server that closes while a body still comes resets the connection, and the client may never see why it was refused.
    # From those who did not show who they are no more is taken than any request may hold.
    if response.status_code == TooManyRequests.status:
        return response  # api.server ends the connection, and throws away what comes
    body, left = request.environ["wsgi.input"], _MOST_DRAINED if "caller" in g else current_app.config["MAX_CONTENT_LENGTH"]
    with suppress(OSError, ParseException):
        while left > 0 and (chunk := body.read(_SLACK)):
            left -= len(chunk)
    return response


def _tell_failures(api: Api, settings: Settings) -> None:
    @api.errorhandler(FirecrestError)
    def failed(error: FirecrestError) -> Failure:
        """The operation failed."""
        return _told(error)

    @api.errorhandler(RequestEntityTooLarge)
    def oversized(error: RequestEntityTooLarge) -> Failure:
        """The request is too large."""
        return _told(too_large(g.operation, settings.limits))

    @api.errorhandler(RedisError)
    @api.errorhandler(OperationalError)
    def unreachable(error: Exception) -> Failure:
        """The service cannot work just now."""
        _LOG.warning("cannot reach Redis: %s", error)
        return _told(ServiceUnavailable("The service cannot reach its message broker"))

    @api.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Failure:
        """There is no such endpoint."""
        g.failed = type(error).__name__
        headers = {name: value for name, value in error.get_headers() if name == "Allow"}
        return {"description": error.description or error.name, "error": error.name.capitalize()}, error.code or 500, headers

    @api.errorhandler(Exception)
    def broken(error: Exception) -> Failure:
        """The service has a fault."""
        g.failed = type(error).__name__
        _LOG.error("the request failed", exc_info=error)
        kind, said = "FirecREST Internal error", "Internal error"
        body = {"error": kind, "description": said} if _fails_is_error() else {"description": kind, "error": said}
        return body, 500, {}


def _told(error: FirecrestError) -> Failure:
    g.failed = type(error).__name__
    body = error.swapped_body if _fails_is_error() else error.body
    return body(g.get("fails", "")), error.status, error.headers()


def _fails_is_error() -> bool:
    return "operation" in g and g.operation.route.fails_is_error
