"""Identical work that is wanted by many at once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from schemas.errors import CommandFailed, Stopped
from tests.real_site import eventually
from workers.flights import Flights
from workers.stopping import Stop


class Work:
    """Work that counts how often it is done, and takes until it is allowed to end."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Semaphore(0)

    def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        assert self.may_end.acquire(timeout=10)
        return mine


@pytest.fixture
def pool():
    with ThreadPoolExecutor(50) as pool:
        yield pool


def callers(flights: Flights, pool: ThreadPoolExecutor, work: Callable[[], Any], count: int, key: str = "key") -> list[Future[Any]]:
    """So many callers, all of whom have called."""
    arrived = threading.Barrier(count + 1)

    def call() -> Any:
        arrived.wait(10)
        return flights.share(key, work, Stop())

    found = [pool.submit(call) for _ in range(count)]
    arrived.wait(10)
    return found


def test_whoever_comes_while_one_runs_shares_the_next(pool: ThreadPoolExecutor) -> None:
    flights, work = Flights(), Work()
    (first,) = callers(flights, pool, work, 1)
    eventually(lambda: work.begun == 1)
    others = callers(flights, pool, work, 20)
    eventually(lambda: flights._next)
    assert work.begun == 1

    work.may_end.release()
    assert first.result(10) == 1
    eventually(lambda: work.begun == 2)
    work.may_end.release(20)

    outcomes = [other.result(10) for other in others]
    assert min(outcomes) == 2
    assert max(outcomes) <= 3, "one more only for those who came after the second had begun"
    assert (flights._begun, flights._next) == ({}, {})


def test_nobody_is_given_what_began_before_they_asked(pool: ThreadPoolExecutor) -> None:
    flights, happened, lock = Flights(), [0], threading.Lock()

    def client() -> None:
        for _ in range(200):
            with lock:
                happened[0] += 1
                mine = happened[0]
            assert flights.share("key", lambda: happened[0], Stop()) >= mine

    for done in [pool.submit(client) for _ in range(8)]:
        done.result(30)
    assert (flights._begun, flights._next) == ({}, {})


def test_different_work_does_not_wait(pool: ThreadPoolExecutor) -> None:
    flights, slow = Flights(), Work()
    (waiting,) = callers(flights, pool, slow, 1)

    assert flights.share("other", lambda: "at once", Stop()) == "at once"
    slow.may_end.release()
    assert waiting.result(10) == 1


def test_a_failure_is_shared_too_and_not_kept(pool: ThreadPoolExecutor) -> None:
    flights, gate = Flights(), threading.Event()
    runs = []

    def fail() -> None:
        runs.append(1)
        gate.wait(10)
        raise CommandFailed("slurm_load_jobs error")

    found = callers(flights, pool, fail, 1)
    eventually(lambda: runs)
    found += callers(flights, pool, fail, 10)
    eventually(lambda: flights._next)
    gate.set()

    for one in found:
        with pytest.raises(CommandFailed, match="slurm_load_jobs error"):
            one.result(10)
    assert flights.share("key", lambda: "fine", Stop()) == "fine"


def test_who_is_stopped_does_not_take_the_others_along(pool: ThreadPoolExecutor) -> None:
    flights, stop, begun, may_end = Flights(), Stop(), threading.Event(), threading.Event()

    def stopped() -> None:
        begun.set()
        assert may_end.wait(10)
        raise Stopped

    running = threading.Event()
    first = pool.submit(flights.share, "key", lambda: running.set() or begun.wait(10), Stop())
    assert running.wait(10)
    leader = pool.submit(flights.share, "key", stopped, stop)
    eventually(lambda: "key" in flights._next)
    rider = pool.submit(flights.share, "key", lambda: "done", Stop())
    eventually(pool._work_queue.empty)
    begun.set()
    stop.ask()
    may_end.set()

    with pytest.raises(Stopped):
        leader.result(10)
    assert (first.result(10), rider.result(10)) == (True, "done")
