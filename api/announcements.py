"""Where the object store announces what has come: all that this can bring about is an early look for the file of a task."""

import hmac
import logging
import threading
from http import HTTPStatus

from flask import Flask, Response, jsonify, request
from gunicorn.http.errors import ParseException
from pydantic import ValidationError
from redis.exceptions import RedisError
from werkzeug.exceptions import RequestEntityTooLarge

from broker.health import Health
from broker.tasks import Tasks
from schemas.announcements import HEARTBEAT, Announcement, Arrival
from schemas.settings import Storage

PATH = "/storage/announcements"
_LOG = logging.getLogger(__name__)
_MOST = 65536


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def listen(app: Flask, storage: Storage, tasks: Tasks, health: Health) -> None:
    """Have the API take announcements, of the object store alone; it doubts that it has heard all when it, or Redis, was away."""
    missed = threading.Event()
    try:
        health.doubt()
    except RedisError:
        missed.set()

    def take() -> Response | tuple[Response, int]:
        try:
            for arrival in _arrivals(storage.notifications_secret):
                _note(arrival, storage, tasks, health)
            if missed.is_set():
                health.doubt()
                missed.clear()
        except _RefusedError as refused:
            return _refusal(refused.status, str(refused))
        except RedisError as failed:
            missed.set()
            _LOG.warning("cannot reach Redis: %s", failed)
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The service cannot reach its message broker")
        return Response(status=HTTPStatus.NO_CONTENT)

    app.add_url_rule(PATH, "announcements", take, methods=["POST"])


def _note(arrival: Arrival, storage: Storage, tasks: Tasks, health: Health) -> None:
    if arrival.key == HEARTBEAT:
        health.hear(seconds=2.5 * storage.heartbeat_seconds)
    elif arrival.task_id and tasks.waiting(arrival.bucket, [arrival.task_id]):
        tasks.wake(arrival.task_id)


def _arrivals(secret: str) -> tuple[Arrival, ...]:
    request.max_content_length = _MOST
    try:
        arrivals = Announcement.model_validate_json(request.get_data(cache=False)).arrivals
    except RequestEntityTooLarge:
        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"An announcement has at most {_MOST} bytes") from None
    except (OSError, ParseException, ValidationError):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "This is no announcement") from None
    if not all(hmac.compare_digest(arrival.secret.encode(), secret.encode()) for arrival in arrivals):
        _LOG.warning("an announcement was refused: its secret is not storage.notifications_secret")
        raise _RefusedError(HTTPStatus.FORBIDDEN, "Permission denied")
    return arrivals


def _refusal(status: HTTPStatus, text: str) -> tuple[Response, int]:
    return jsonify(description=text, error=status.phrase), status
