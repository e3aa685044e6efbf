"""Announcements of the object store: whom the API believes, and that they bring about no more than an early look."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import ConnectionError as NoRedis
from werkzeug.test import TestResponse

from api.announcements import listen
from api.app import create_app
from broker.gateway import Gateway
from broker.health import Health
from broker.limits import Limiter
from broker.tasks import Attempt
from schemas.announcements import HEARTBEAT
from schemas.settings import Settings, Storage
from schemas.task import Status
from tests.served.conftest import NamedCallers

SECRET = "a secret of the store"
MESSAGE = {"operation": "storage.StageIn", "parameters": {}, "shown": "{}", "grant": "g"}
HEARTBEAT_ARRIVED = ("firecrest", HEARTBEAT)
STORE = {"private_url": "http://127.0.0.1:9", "public_url": "http://127.0.0.1:9", "access_key": "a", "secret_key": "s"}


STORAGE = Storage.model_validate({**STORE, "notifications_url": "http://127.0.0.1:9/x", "notifications_secret": SECRET})


@pytest.fixture
def announced(gateway: Gateway, redis: Redis) -> FlaskClient:
    """The endpoint alone."""
    app = Flask("announcements")
    listen(app, STORAGE, gateway.tasks, Health(redis))
    return app.test_client()


@pytest.fixture
def whole(settings: Settings, gateway: Gateway, redis: Redis) -> FlaskClient:
    """The API of a deployment whose object store announces what arrives."""
    return application(settings, gateway, redis).test_client()


def application(settings: Settings, gateway: Gateway, redis: Redis) -> Flask:
    """Of a deployment whose object store announces what arrives."""
    announced = settings.model_copy(update={"storage": STORAGE})
    return create_app(announced, gateway, NamedCallers(), Health(redis), Limiter(redis, settings.limits))


def arrival(bucket: str, key: str, secret: str = SECRET) -> dict[str, Any]:
    """As radosgw 16.2 says it."""
    return {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 3}}, "opaqueData": secret}


def announce(client: FlaskClient, *arrivals: Any) -> TestResponse:
    return client.post("/storage/announcements", data=json.dumps({"Records": arrivals}))


@pytest.fixture
def waiting(gateway: Gateway) -> Callable[[str], str]:
    """Makes a task that waits for a file in a bucket; gives its id."""

    def make(bucket: str) -> str:
        task = gateway.tasks.create(uuid4().hex, user="ann", service="storage", system="here", message=MESSAGE, steps=True)
        mine = Attempt(task.task_id, 1, "me")
        gateway.tasks.accept(mine, lease=60)
        gateway.tasks.rest(mine, Status.FORM_READY, {"msg": "form"}, state={"kept": 1}, seconds=600, topic=bucket)
        return task.task_id

    return make


@pytest.mark.parametrize("key", ["{}/data.bin", "ann/{}/data.bin", "{}/new\nline ünï+%41", "{}/%2F"])
def test_an_announced_file_makes_the_next_step_of_its_task_due(
    announced: FlaskClient, gateway: Gateway, waiting: Callable[[str], str], key: str
) -> None:
    here, other = waiting("one"), waiting("one")
    assert announce(announced, arrival("one", key.format(here))).status_code == 204

    assert here in gateway.tasks.due()
    assert other not in gateway.tasks.due()
    assert gateway.tasks.waiting("one", [here, other]) == [other]


def test_what_is_announced_twice_is_looked_at_once_and_keeps_its_state(
    announced: FlaskClient, gateway: Gateway, waiting: Callable[[str], str]
) -> None:
    here = waiting("one")
    for _ in range(2):
        assert announce(announced, arrival("one", f"{here}/x"), arrival("one", f"{here}/x")).status_code == 204

    assert gateway.tasks.standing(here) == (Status.FORM_READY, {"kept": 1}, False)
    assert gateway.tasks.message(here) == (MESSAGE, 2)


def test_what_no_task_waits_for_is_taken_and_changes_nothing(
    announced: FlaskClient, gateway: Gateway, redis: Redis, waiting: Callable[[str], str]
) -> None:
    elsewhere, running = waiting("two"), gateway.tasks.create(uuid4().hex, user="ann", service="storage", system="here", message=MESSAGE)
    before = redis.dump(f"task:{elsewhere}"), redis.dump(f"task:{running.task_id}")
    keys = [f"{elsewhere}/x", f"{running.task_id}/x", f"{'0' * 32}/x", "", "/", "x", f"-out/{elsewhere}/x", f"{elsewhere}/x/y", "task:open"]
    for key in keys:
        assert announce(announced, arrival("one", key)).status_code == 204

    assert (redis.dump(f"task:{elsewhere}"), redis.dump(f"task:{running.task_id}")) == before
    assert elsewhere not in gateway.tasks.due()


@pytest.mark.parametrize("secret", ["", "a secret of the stor", SECRET + "x", "é"])
def test_whoever_does_not_know_the_secret_is_refused_without_a_hint(
    announced: FlaskClient, gateway: Gateway, waiting: Callable[[str], str], secret: str
) -> None:
    here = waiting("one")
    for arrivals in ([arrival("one", f"{here}/x", secret)], [arrival("one", f"{here}/x"), arrival("one", f"{here}/y", secret)]):
        refused = announce(announced, *arrivals)
        assert (refused.status_code, refused.json) == (403, {"description": "Permission denied", "error": "Forbidden"})

    assert gateway.tasks.waiting("one", [here]) == [here]


MALFORMED = [
    b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"Records": null}', b'{"Records": []}', b'{"Records": [null]}', b'{"Records": [{}]}',
    b"\xff\xfe",
    b'{"Records": [{"s3": "x", "opaqueData": "a secret of the store"}]}',
    b'{"Records": [{"s3": {"bucket": {"name": 1}, "object": {"key": "x"}}, "opaqueData": "a secret of the store"}]}',
    b'{"Records": [{"s3": {"bucket": {"name": "one"}, "object": {"key": "x"}}}]}',
    b'{"Records": [{"s3": {"bucket": {"name": "one"}, "object": {"key": "x"}}, "opaqueData": ["a secret of the store"]}]}',
    b'{"Records": [{"s3": {"bucket": {"name": "one"}, "object": {"key": "x"}}, "opaqueData": "\\ud800"}]}',
    b"[" * 60000,
]  # fmt: skip


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_announcement_is_refused(announced: FlaskClient, body: bytes) -> None:
    refused = announced.post("/storage/announcements", data=body)

    assert (refused.status_code, refused.json) == (400, {"description": "This is no announcement", "error": "Bad Request"})


def test_what_is_too_large_is_refused(whole: FlaskClient) -> None:
    refused = announce(whole, arrival("one", "x" * 65536))

    assert (refused.status_code, refused.json) == (
        413,
        {"description": "An announcement has at most 65536 bytes", "error": "Request Entity Too Large"},
    )


def test_other_methods_are_refused(announced: FlaskClient) -> None:
    assert announced.get("/storage/announcements").status_code == 405


def test_only_a_heartbeat_tells_that_announcements_come_through(announced: FlaskClient, redis: Redis) -> None:
    announce(announced, arrival("one", HEARTBEAT, "wrong"))
    announce(announced, arrival("one", f"{'0' * 32}/x"))
    assert not Health(redis).hears()
    announce(announced, arrival(*HEARTBEAT_ARRIVED))

    assert Health(redis).hears()
    assert 0 < redis.pttl("health:announcements") <= 12_500


def test_the_endpoint_is_there_only_where_the_object_store_announces(client: FlaskClient, whole: FlaskClient) -> None:
    assert announce(client, arrival(*HEARTBEAT_ARRIVED)).status_code == 404
    assert announce(whole, arrival(*HEARTBEAT_ARRIVED)).status_code == 204


def test_an_api_that_starts_may_have_missed_something(announced: FlaskClient, settings: Settings, gateway: Gateway, redis: Redis) -> None:
    Health(redis).settle(Health(redis).doubts())
    assert not Health(redis).doubts()
    application(settings, gateway, redis)

    assert Health(redis).doubts()


def test_without_redis_the_object_store_is_told_to_come_again_and_what_was_missed_is_looked_for(gateway: Gateway, redis: Redis) -> None:
    class NoHealth(Health):
        there = False

        def hear(self, *, seconds: float) -> None:
            if not self.there:
                raise NoRedis
            super().hear(seconds=seconds)

    app, health = Flask("announcements"), NoHealth(redis)
    listen(app, STORAGE, gateway.tasks, health)
    health.settle(health.doubts())

    assert announce(app.test_client(), arrival(*HEARTBEAT_ARRIVED)).status_code == 503
    assert not health.doubts()
    health.there = True
    assert announce(app.test_client(), arrival(*HEARTBEAT_ARRIVED)).status_code == 204
    assert health.doubts()
    health.settle(health.doubts())
    assert announce(app.test_client(), arrival(*HEARTBEAT_ARRIVED)).status_code == 204
    assert not health.doubts()
