"""What keeps transfers moving, and what it costs while nothing moves."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from broker.celery import create_celery
from broker.configuration import open_redis
from broker.tasks import Attempt, Tasks
from schemas.errors import StorageNotAvailable
from schemas.settings import Settings
from schemas.task import Status
from tests.real_site import eventually
from workers.housekeeping import Sweeper
from workers.moving import Arrivals, Ticker
from workers.staging.staging import Place, Staged

MESSAGE = {"operation": "storage.StageIn", "parameters": {}, "shown": "{}", "grant": "g"}


class Buckets:
    """An object store that lists what it is told to hold."""

    def __init__(self, **held: list[str]) -> None:
        self.held = held
        self.listed: list[str] = []

    def arrived(self, bucket: str) -> Iterator[Staged]:
        """The files of tasks; of the bucket "gone" it cannot tell."""
        self.listed.append(bucket)
        if bucket == "gone":
            raise StorageNotAvailable("gone")
        for task_id in self.held.get(bucket, []):
            yield Staged(Place(bucket, f"{task_id}/file"), 1, "etag", datetime.now(UTC))


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    """A deployment apart, so that no worker takes what is sent."""
    apart = settings.broker.model_copy(update={"url": settings.broker.url.removesuffix("/0") + "/1"})
    return settings.model_copy(update={"broker": apart})


@pytest.fixture(scope="module")
def redis(settings: Settings) -> Iterator[Redis]:
    """A client for its messages and records."""
    client = open_redis(settings)
    yield client
    client.close()


@pytest.fixture
def tasks(redis: Redis) -> Tasks:
    redis.flushdb()
    return Tasks(redis, lifetime=600)


@pytest.fixture
def sweeper(settings: Settings, tasks: Tasks) -> Sweeper:
    return Sweeper(create_celery(settings), tasks, 3)


def waiting(tasks: Tasks, topics: Iterable[str]) -> list[str]:
    """Ids of uploads that wait for a client."""
    ids = []
    for topic in topics:
        task = tasks.create(uuid4().hex, user="ann", service="storage", system="here", message=MESSAGE, steps=True)
        mine = Attempt(task.task_id, 1, "me")
        tasks.accept(mine, lease=60)
        tasks.rest(mine, Status.FORM_READY, {"msg": "x" * 2000}, state={"form": "x" * 2000}, seconds=600_000, topic=topic)
        ids.append(task.task_id)
    return ids


def test_a_file_that_has_arrived_sends_the_next_step_of_its_task_once(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    here, there, elsewhere = waiting(tasks, ["one", "one", "two"])
    buckets: Any = Buckets(one=[here, "0" * 32])
    arrivals = Arrivals(tasks, buckets, sweeper)
    arrivals.look()
    arrivals.look()

    assert redis.llen("storage") == 1
    assert tasks.message(here) == (MESSAGE, 2)
    assert buckets.listed == ["one", "two", "one", "two"]
    assert tasks.waiting("one", [here, there]) == [there]
    assert tasks.waiting("two", [elsewhere]) == [elsewhere]


def test_a_bucket_that_cannot_be_listed_keeps_nobody_else_waiting(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    _, here = waiting(tasks, ["gone", "one"])
    buckets: Any = Buckets(one=[here])
    Arrivals(tasks, buckets, sweeper).look()

    assert redis.llen("storage") == 1


def test_a_bucket_that_nobody_waits_for_is_not_listed(tasks: Tasks, sweeper: Sweeper) -> None:
    (here,) = waiting(tasks, ["one"])
    buckets: Any = Buckets(one=[here])
    arrivals = Arrivals(tasks, buckets, sweeper)
    for _ in range(3):
        arrivals.look()

    assert buckets.listed == ["one"]


def test_ten_thousand_open_uploads_cost_less_than_a_hundredth_of_a_core(
    tasks: Tasks, sweeper: Sweeper, redis: Redis, record_property: Callable[[str, object], None]
) -> None:
    waiting(tasks, ["shared"] * 10_000)
    buckets: Any = Buckets(shared=[])
    arrivals, seconds = Arrivals(tasks, buckets, sweeper), 30
    before = time.process_time() + _cpu(redis)
    for _ in range(seconds):  # what is done in every second
        arrivals.look()
        sweeper.sweep()
        sweeper.sweep()
    spent = time.process_time() + _cpu(redis) - before

    record_property("share of a core, without the listing itself", f"{spent / seconds:.4f}")
    assert spent / seconds < 0.01


def _cpu(redis: Redis) -> float:
    used: dict[str, float] = redis.info("cpu")
    return used["used_cpu_sys"] + used["used_cpu_user"]


def test_of_two_tickers_one_ticks_and_the_other_takes_over(redis: Redis) -> None:
    redis.flushdb()
    ticked, broken = [], threading.Event()

    def tick(name: str) -> Callable[[], None]:
        def note() -> None:
            ticked.append(name)
            if broken.is_set():
                raise RuntimeError("broken")

        return note

    tickers = [Ticker(redis, "test", tick(name), period=0.02) for name in ("one", "two")]
    for ticker in tickers:
        ticker.start()
    eventually(lambda: len(ticked) > 5)
    assert len(set(ticked)) == 1
    first = ticked[0]
    broken.set()
    count = len(ticked)
    eventually(lambda: len(ticked) > count + 3)
    tickers[0 if first == "one" else 1].stop()
    eventually(lambda: len(set(ticked)) == 2)
    for ticker in tickers:
        ticker.stop()
