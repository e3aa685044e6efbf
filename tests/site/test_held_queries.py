"""Queries of tasks that the running API holds, while it is told to end and while clients hang up."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis import Redis

from broker.tasks import Tasks
from tests.real_site import Client, Site, eventually

LONGEST = 30_000


@pytest.fixture
def redis(site: Site) -> Iterator[Redis]:
    with site.redis() as client:
        yield client


@pytest.fixture
def pending(redis: Redis, alice: Client) -> Iterator[str]:
    """A task of alice that no worker knows of."""
    tasks, task_id = Tasks(redis, lifetime=600, patience=600), uuid4().hex
    tasks.create(task_id, user=alice.user, service="compute", system="cluster", message={})
    yield task_id
    tasks.discard(task_id, alice.user)


@pytest.fixture
def is_held(redis: Redis, alice: Client) -> Callable[[], bool]:
    """Whether some process holds a query of alice."""
    return lambda: bool(redis.pubsub_numsub(f"settled:{alice.user}")[0][1])


def line(site: Site, request: str) -> dict[str, Any]:
    """What the trail says of a request, when it has been answered."""

    def found() -> dict[str, Any] | None:
        lines = Path(site.facts["logs"], "api.log").read_text().splitlines()
        return next((json.loads(text[text.index("{") :]) for text in lines if f'"request": "{request}"' in text), None)

    return eventually(found)


def test_nothing_is_held_for_a_client_that_has_hung_up(site: Site, alice: Client, pending: str, is_held: Callable[[], bool]) -> None:
    word = f"held-{uuid4().hex}"
    headers = {"Authorization": alice.authorization(), "Prefer": "wait=600", "X-Request-ID": word}
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=20)
    connection.request("GET", f"/tasks/{pending}", headers=headers)
    eventually(is_held)
    connection.close()

    assert line(site, word)["held"] < LONGEST
    assert eventually(lambda: not is_held())


def test_what_is_held_is_answered_when_the_api_is_told_to_begin_anew(
    site: Site, alice: Client, pending: str, is_held: Callable[[], bool]
) -> None:
    word, answers = f"held-{uuid4().hex}", []
    headers = {"Prefer": "wait=600", "X-Request-ID": word}
    thread = threading.Thread(target=lambda: answers.append(alice.get(f"/tasks/{pending}", headers=headers)))
    thread.start()
    eventually(is_held)
    site.supervisor("signal", "HUP", "api")
    thread.join()

    (answer,) = answers
    assert (answer.status_code, answer.json()["task"]["status"]) == (200, "100")
    assert line(site, word)["held"] < LONGEST
    assert alice.get("/status/services").status_code == 200
