"""What keeps transfers moving, and what it costs while nothing moves."""

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from broker.celery import create_celery
from broker.configuration import open_redis
from broker.health import Health
from broker.tasks import Attempt, Tasks
from schemas.errors import StorageNotAvailable
from schemas.settings import Settings, Storage
from schemas.task import Status
from tests.real_site import eventually
from workers.housekeeping import Sweeper
from workers.moving import Arrivals, Ticker, arrival_tickers, idle
from workers.staging.staging import Place, Staged

STORE = {
    "private_url": "http://127.0.0.1:9",
    "public_url": "http://127.0.0.1:9",
    "access_key": "a",
    "secret_key": "s",
    "notifications_url": "http://127.0.0.1:9/storage/announcements",
    "notifications_secret": "a secret of the store",
}
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


class Announcing(Buckets):
    """One whose heartbeats are heard as long as it has a `health`; every other one seems to fail."""

    def __init__(self, health: Health | None) -> None:
        super().__init__()
        self.health = health
        self.beats = 0

    def heartbeat(self) -> None:
        """Tell `health`."""
        self.beats += 1
        if self.health is not None:
            self.health.hear(seconds=60)
        if self.beats % 2:
            raise StorageNotAvailable("gone")


def storage(**changes: Any) -> Storage:
    """Settings of an object store that is to announce what arrives."""
    return Storage.model_validate({**STORE, **changes})


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


def test_what_is_asked_of_redis_and_the_object_store_does_not_grow_with_the_number_of_open_uploads(
    tasks: Tasks, sweeper: Sweeper, redis: Redis
) -> None:
    buckets: Any = Buckets(shared=[])
    arrivals = Arrivals(tasks, buckets, sweeper)
    waiting(tasks, ["shared"])
    few = _commands(redis, arrivals.look, sweeper.sweep)
    waiting(tasks, ["shared"] * 2_000)

    assert _commands(redis, arrivals.look, sweeper.sweep) == few
    assert buckets.listed == ["shared", "shared"]


def _commands(redis: Redis, *ticks: Callable[[], None]) -> list[str]:
    """The names of the commands that Redis is given meanwhile in the database of this module, those of its scripts too."""
    with redis.monitor() as monitor:
        for tick in ticks:
            tick()
        redis.echo("over")
        said = (line["command"].split()[0] for line in iter(monitor.next_command, None) if line["db"] == 1)
        return [name for name in takewhile(lambda name: name != "ECHO", said) if name != "SELECT"]


def test_as_long_as_announcements_are_heard_nothing_is_polled(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    (here,) = waiting(tasks, ["one"])
    buckets: Any = Buckets(one=[here])
    poll, *_ = arrival_tickers(redis, Arrivals(tasks, buckets, sweeper), buckets, storage(arrival_seconds=0.01))
    Health(redis).hear(seconds=60)
    with redis.monitor() as monitor:
        poll.start()
        asked = (line for line in iter(monitor.next_command, None) if line["command"] == "EXISTS health:announcements")
        assert len(list(islice(asked, 5))) == 5
    assert buckets.listed == []

    Health(redis).deafen()
    eventually(lambda: tasks.waiting("one", [here]) == [])
    poll.stop()


def test_when_an_announcement_may_have_been_lost_all_is_looked_for_once(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    (here,) = waiting(tasks, ["one"])
    buckets: Any = Buckets(one=[here])
    poll, *_ = arrival_tickers(redis, Arrivals(tasks, buckets, sweeper), buckets, storage(arrival_seconds=0.01))
    Health(redis).hear(seconds=60)
    Health(redis).doubt()
    poll.start()
    eventually(lambda: not Health(redis).doubts())
    assert tasks.waiting("one", [here]) == []
    with redis.monitor() as monitor:
        asked = (line for line in iter(monitor.next_command, None) if line["command"] == "EXISTS health:announcements")
        assert len(list(islice(asked, 5))) == 5
    assert buckets.listed == ["one"]
    poll.stop()


def test_a_doubt_stays_until_all_could_be_looked_for(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    waiting(tasks, ["gone"])
    buckets: Any = Buckets()
    poll, *_ = arrival_tickers(redis, Arrivals(tasks, buckets, sweeper), buckets, storage(arrival_seconds=0.01))
    Health(redis).hear(seconds=60)
    Health(redis).doubt()
    poll.start()
    eventually(lambda: len(buckets.listed) > 2)
    assert Health(redis).doubts()
    poll.stop()


def test_a_heartbeat_that_was_not_heard_leaves_a_doubt(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    buckets: Any = Announcing(Health(redis))
    _, heartbeat, _ = arrival_tickers(redis, Arrivals(tasks, buckets, sweeper), buckets, storage(heartbeat_seconds=0.02))
    Health(redis).hear(seconds=60)
    heartbeat.start()
    eventually(lambda: buckets.beats > 3)
    assert not Health(redis).doubts()
    buckets.health = None
    eventually(Health(redis).doubts)
    heartbeat.stop()


def test_only_a_heartbeat_that_comes_back_counts_as_heard(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    buckets: Any = Announcing(Health(redis))
    _, heartbeat, _ = arrival_tickers(redis, Arrivals(tasks, buckets, sweeper), buckets, storage(heartbeat_seconds=0.02))
    heartbeat.start()
    eventually(Health(redis).hears)
    buckets.health = None
    eventually(lambda: not Health(redis).hears())
    beats = buckets.beats
    eventually(lambda: buckets.beats > beats + 2)
    heartbeat.stop()


def test_what_was_announced_in_vain_is_found_by_the_rare_look(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    (here,) = waiting(tasks, ["one"])
    buckets: Any = Buckets(one=[here])
    *_, unannounced = arrival_tickers(redis, Arrivals(tasks, buckets, sweeper), buckets, storage(unannounced_seconds=0.01))
    Health(redis).hear(seconds=60)
    unannounced.start()
    eventually(lambda: tasks.waiting("one", [here]) == [])
    unannounced.stop()


def test_without_announcements_there_is_nothing_but_the_poll(tasks: Tasks, sweeper: Sweeper, redis: Redis) -> None:
    (here,) = waiting(tasks, ["one"])
    Health(redis).hear(seconds=60)
    buckets: Any = Buckets(one=[here])
    polled = storage(notifications_url="", arrival_seconds=0.01)
    (poll,) = arrival_tickers(redis, Arrivals(tasks, buckets, sweeper), buckets, polled)
    poll.start()
    eventually(lambda: tasks.waiting("one", [here]) == [])
    poll.stop()


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


@pytest.mark.parametrize(
    ("took", "leisure", "seconds"),
    [(0.1, 0, 0), (0.1, 4, 0.4), (60, 4, 240), (0.1, 500, 50), (0.2, 500, 100), (2, 500, 600), (200, 500, 800)],
)
def test_a_look_takes_a_small_share_of_the_time_but_is_not_put_off_for_long(took: float, leisure: float, seconds: float) -> None:
    assert idle(took, leisure=leisure) == pytest.approx(seconds)
