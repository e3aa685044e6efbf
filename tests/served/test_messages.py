"""Messages and workers: who takes them, what becomes of them when a worker stops, and what Flower is told."""

import json
import os
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
import yaml
from redis import Redis
from redis.client import PubSub

from broker.blobs import Blobs
from broker.celery import create_celery
from broker.configuration import VARIABLE, open_redis
from broker.gateway import Caller, Gateway
from broker.grants import GrantSigner
from broker.keys import sealing_key, signing_key
from broker.replies import Replies
from broker.tasks import Tasks
from schemas.rights import EVERY_RIGHT
from schemas.settings import Settings
from schemas.utilities import Whoami
from tests.real_site import eventually

ANN = Caller("ann", "a token", EVERY_RIGHT)
THREADS = 2
Event = dict[str, Any]


class Told:
    """What Flower is told of tasks, from now on."""

    def __init__(self, subscription: PubSub) -> None:
        self._events: list[Event] = []
        self._subscription = subscription
        self._subscription.psubscribe("/3.celeryev/task*")
        assert self._subscription.get_message(timeout=10)["type"] == "psubscribe"

    def events(self) -> list[Event]:
        """All so far."""
        while message := self._subscription.get_message():
            told = json.loads(b64decode(json.loads(message["data"])["body"]))
            self._events += told if isinstance(told, list) else [told]
        return self._events

    def types(self, task_id: str = "") -> list[str]:
        """The types of those of a task, or of all."""
        return [one["type"] for one in self.events() if task_id in (one["uuid"], "")]


@pytest.fixture
def told(redis: Redis) -> Iterator[Told]:
    with redis.pubsub() as subscription:
        yield Told(subscription)


@pytest.fixture(scope="module")
def apart(settings: Settings) -> Settings:
    """Settings for a database of our own."""
    return settings.model_copy(update={"broker": settings.broker.model_copy(update={"url": settings.broker.url.replace("/0", "/3")})})


@pytest.fixture
def redis(apart: Settings) -> Iterator[Redis]:
    client = open_redis(apart)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def gateway(apart: Settings, redis: Redis) -> Iterator[Gateway]:
    replies = Replies(redis)
    yield Gateway(
        create_celery(apart),
        tasks=Tasks(redis, lifetime=600),
        blobs=Blobs(redis),
        replies=replies,
        signer=GrantSigner(signing_key(apart.keys.private, "api"), sealing_key(apart.keys.public)),
        limits=apart.limits.model_copy(update={"patience": 60}),
    )
    replies.close()


Start = Callable[[], "subprocess.Popen[bytes]"]
Call = Callable[[], "Future[Any]"]


@pytest.fixture
def start(apart: Settings, tmp_path: Path) -> Iterator[Start]:
    """Start a worker with two threads; it is not waited for."""
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(apart.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
    command = [sys.executable, "-m", "celery", "-A", "tests.served.waiting_worker", "worker", "--pool=threads", f"--concurrency={THREADS}"]
    workers: list[subprocess.Popen[bytes]] = []

    def begin() -> "subprocess.Popen[bytes]":
        options = ["--without-gossip", "--without-mingle", "--queues=utilities", "--task-events", f"--hostname={uuid4().hex}@%h"]
        with (tmp_path / f"{len(workers)}.log").open("wb") as log:
            workers.append(subprocess.Popen([*command, *options], env={**os.environ, VARIABLE: str(file)}, stdout=log, stderr=log))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.fixture
def call(gateway: Gateway) -> Iterator[Call]:
    """Call, and have the answer some time."""
    with ThreadPoolExecutor(10) as pool:
        yield lambda: pool.submit(lambda: json.loads(cast(bytes, gateway.call(Whoami(), ANN, "here"))))


def begun(redis: Redis, count: int) -> None:
    eventually(lambda: redis.llen("begun") == count, seconds=60)


def test_a_worker_takes_no_more_than_it_has_threads_for_and_loses_none_when_it_is_told_to_stop(
    redis: Redis, start: Start, call: Call
) -> None:
    first, calls = start(), [call() for _ in range(THREADS + 2)]
    begun(redis, THREADS)
    assert redis.llen("utilities") == 2

    first.send_signal(signal.SIGTERM)
    eventually(lambda: bool(redis.keys("bell:*")), seconds=60)
    redis.rpush("go", *["done"] * THREADS)
    assert first.wait(60) == 0
    assert redis.llen("utilities") == 2

    start()
    begun(redis, THREADS + 2)
    redis.rpush("go", "done", "done")
    assert [one.result(60) for one in calls] == ["done"] * (THREADS + 2)


def test_calls_go_through_though_all_connections_were_cut(redis: Redis, start: Start, call: Callable[[], "Future[Any]"]) -> None:
    start()
    redis.rpush("go", "once", "again")
    assert call().result(60) == "once"

    redis.client_kill_filter(_type="normal", skipme=True)

    assert call().result(60) == "again"


def test_a_message_that_nobody_waits_for_any_more_is_not_performed(
    redis: Redis, start: Start, apart: Settings, call: Call, told: Told
) -> None:
    amqp = create_celery(apart).amqp
    amqp.put("utilities", amqp.as_task_v2("late", "utilities.Whoami", ({},), {"grant": "", "reply": "nobody"}, expires=-1))
    start()
    redis.rpush("go", "done")
    assert call().result(60) == "done"

    eventually(lambda: told.types("late") == ["task-received", "task-revoked"])
    assert redis.llen("begun") == 1


def test_flower_is_told_of_a_long_call_while_it_lasts_and_after_it(redis: Redis, start: Start, call: Call, told: Told) -> None:
    start()
    long = call()
    eventually(lambda: told.types() == ["task-received", "task-started"], seconds=60)
    assert told.events()[0].items() >= {"name": "utilities.Whoami", "args": Whoami.shown({"groups": False})}.items()

    redis.rpush("go", "done")
    long.result(60)
    eventually(lambda: told.types() == ["task-received", "task-started", "task-succeeded"])
    assert told.events()[-1]["runtime"] > 0


def test_what_was_not_told_yet_is_told_when_the_worker_stops(redis: Redis, start: Start, call: Call, told: Told) -> None:
    worker, calls = start(), [call(), call()]
    begun(redis, 2)

    worker.send_signal(signal.SIGTERM)
    redis.rpush("go", "done", "done")
    assert [one.result(60) for one in calls] == ["done", "done"]
    worker.wait(60)

    eventually(lambda: told.types().count("task-succeeded") == 2)
