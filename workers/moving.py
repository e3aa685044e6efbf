"""What keeps transfers moving: a quick look for steps that are due, one for files that have arrived, and the sweep for orphans."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from celery import Celery
from celery.signals import worker_ready, worker_shutdown
from redis import Redis

from broker.celery import HOUSEKEEPING
from broker.health import Health
from broker.tasks import Tasks
from schemas.errors import FirecrestError
from schemas.settings import Settings, Storage
from workers.housekeeping import Sweeper, register
from workers.staging.staging import Staging

_LOG = logging.getLogger(__name__)
# However many buckets there are, looking into them takes one part of the time in so many; the second where arrivals are announced.
_LEISURE: Final = 4
_MUCH_LEISURE: Final = 500
_LONGEST_LEISURE: Final = 600  # seconds, unless that is too short even for _LEISURE
_PAGE: Final = 1000


def idle(took: float, *, leisure: float) -> float:
    """Seconds to pause after what took so many: `leisure` times as long, but hardly ever longer than ten minutes."""
    return max(min(leisure, _LEISURE) * took, min(leisure * took, _LONGEST_LEISURE))


class Ticker:
    """Calls a function every `period` seconds, in one process at a time: the lock in Redis passes on when its holder is gone.

    After a call the thread pauses as `idle` says, if this is more.
    """

    def __init__(self, redis: Redis, name: str, function: Callable[[], object], *, period: float, leisure: float = 0) -> None:
        self._redis = redis
        self._name = f"ticker:{name}"
        self._function = function
        self._period = period
        self._leisure = leisure
        self._holder = uuid4().hex
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def stop(self) -> None:
        """End after the present call."""
        self._stopped.set()

    def _run(self) -> None:
        pause = self._period
        while not self._stopped.wait(pause):
            try:
                pause = self._tick() if self._is_mine() else self._period
            except Exception:  # noqa: BLE001 (the outermost frame of the thread)
                _LOG.warning("%s failed", self._name, exc_info=True)

    def _tick(self) -> float:
        began = time.monotonic()
        self._function()
        pause = idle(time.monotonic() - began, leisure=self._leisure)
        if pause > self._period:
            self._redis.pexpire(self._name, int(1000 * pause + 6000 * self._period))
        return max(self._period, pause)

    def _is_mine(self) -> bool:
        milliseconds = int(6000 * self._period)
        if self._redis.set(self._name, self._holder, nx=True, px=milliseconds):
            return True
        mine = self._redis.get(self._name) == self._holder.encode()
        if mine:
            self._redis.pexpire(self._name, milliseconds)
        return mine


class Arrivals:
    """Wakes the tasks whose files clients have put into the object store: one listing per bucket that any task waits for."""

    def __init__(self, tasks: Tasks, staging: Staging, sweeper: Sweeper) -> None:
        self._tasks = tasks
        self._staging = staging
        self._sweeper = sweeper

    def look(self) -> bool:
        """Look into all those buckets; whether that was possible."""
        whole = True
        for bucket in self._tasks.awaited():
            try:
                arrived = sorted({staged.place.task_id for staged in self._staging.arrived(bucket)})
            except FirecrestError as failed:
                _LOG.warning("cannot list %s: %s", bucket, failed.text)
                whole = False
                continue
            for start in range(0, len(arrived), _PAGE):
                for task_id in self._tasks.waiting(bucket, arrived[start : start + _PAGE]):
                    self._tasks.wake(task_id)
                    self._sweeper.look_at(task_id, set())
        return whole


def keep_moving(app: Celery, tasks: Tasks, redis: Redis, settings: Settings, staging: Staging | None) -> None:
    """Have a worker that keeps house look for steps that are due and, where there is an object store, for what has arrived in it."""
    sweeper = Sweeper(app, tasks, settings.engine.attempts)
    tickers = [Ticker(redis, "steps", sweeper.sweep, period=settings.engine.tick_seconds)]
    if staging is not None and settings.storage is not None:
        tickers += arrival_tickers(redis, Arrivals(tasks, staging, sweeper), staging, settings.storage)
        register(app, "beat.SweepStaging", _orphan_sweep(tasks, staging, age=settings.storage.orphan_seconds))

    def start(**_: Any) -> None:
        if HOUSEKEEPING in app.amqp.queues.consume_from:
            for ticker in tickers:
                ticker.start()

    def stop(**_: Any) -> None:
        for ticker in tickers:
            ticker.stop()

    worker_ready.connect(start, weak=False)
    worker_shutdown.connect(stop, weak=False)


def arrival_tickers(redis: Redis, arrivals: Arrivals, staging: Staging, storage: Storage) -> list[Ticker]:
    """The poll, or where arrivals are announced: a heartbeat, the poll while it is not heard or one may have been lost, and a rare look."""
    health = Health(redis)

    def poll() -> None:
        doubts = health.doubts()
        if storage.notifications_url and health.hears() and not doubts:
            return
        if arrivals.look() and doubts:
            health.settle(doubts)

    def beat() -> None:
        if not health.hears():
            health.doubt()
        health.deafen()
        try:
            staging.heartbeat()
        except FirecrestError as failed:
            _LOG.warning("no heartbeat: %s", failed.text)

    tickers = [Ticker(redis, "arrivals", poll, period=storage.arrival_seconds, leisure=_LEISURE)]
    if storage.notifications_url:
        tickers.append(Ticker(redis, "heartbeat", beat, period=storage.heartbeat_seconds))
        tickers.append(Ticker(redis, "unannounced", arrivals.look, period=storage.unannounced_seconds, leisure=_MUCH_LEISURE))
    return tickers


def _orphan_sweep(tasks: Tasks, staging: Staging, *, age: float) -> Callable[[], None]:
    def sweep() -> None:
        before = datetime.now(UTC) - timedelta(seconds=age)
        for bucket in staging.buckets():
            if swept := staging.sweep(bucket, before=before, gone=tasks.gone):
                _LOG.warning("%s files without a task were swept from %s", swept, bucket)

    return sweep
