"""Load from many clients at once, made by processes of their own, so that no interpreter lock holds the clients back."""

import math
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from multiprocessing.synchronize import Barrier

from bench.api import Address, Api
from bench.masters import Master
from bench.series import Series
from bench.ties import end_with_parent

PROCESSES = 4
_BARRIER_SECONDS = 60


@dataclass(frozen=True)
class Lister:
    """Lists a folder over and over, over HTTP or ssh; it can be sent to another process."""

    where: Address | Master
    folder: str
    entries: int

    def opened(self) -> Callable[[], None]:
        """One `ls`, over a connection of its own. It raises CallFailedError."""
        client = self.where if isinstance(self.where, Master) else Api(self.where)
        return lambda: client.ls(self.folder, entries=self.entries)


# One client is each of its listers in turn.
Client = Sequence[Lister]


@dataclass
class Load:
    """What came of a load: the times of its calls, seconds of the clients' CPU (their `ssh` included) and of wall clock."""

    calls: Series = field(default_factory=Series)
    client_cpu: float = 0
    seconds: float = 0

    def join(self, other: "Load", *, alongside: bool) -> None:
        """Take in another load that ran alongside, or before or after."""
        self.calls.join(other.calls)
        self.client_cpu += other.client_cpu
        self.seconds = max(self.seconds, other.seconds) if alongside else self.seconds + other.seconds

    @property
    def rate(self) -> float:
        """Calls that succeeded, in a second; nan when there was no load."""
        return len(self.calls.seconds) / self.seconds if self.seconds else math.nan


class Generator:
    """The processes that make the load."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        """Use the processes of a pool of PROCESSES."""
        self._pool = pool

    def load(self, clients: Sequence[Client], seconds: float, *, warm: bool = True) -> Load:
        """So many clients, each making one call after another for so many seconds; if `warm`, after one that is not counted."""
        shares = [list(clients[number::PROCESSES]) for number in range(PROCESSES)]
        total = Load()
        for part in self._pool.map(_share, shares, [seconds] * PROCESSES, [warm] * PROCESSES):
            total.join(part, alongside=True)
        return total


@contextmanager
def generator() -> Iterator[Generator]:
    """The processes, started; they end with the block."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_remember, initargs=(barrier,)) as pool:
        yield Generator(pool)


_BARRIERS: list[Barrier] = []  # of a process of the pool: the one it has been given


def _remember(barrier: Barrier) -> None:
    end_with_parent()
    _BARRIERS.append(barrier)


def _share(clients: list[Client], seconds: float, warm: bool) -> Load:  # noqa: FBT001 (a pool's map gives it by its place)
    """The part of the load that this process makes, begun together with the others'."""
    calls = [Series() for _ in clients]
    ready, go = threading.Barrier(len(clients) + 1), threading.Event()
    end = [0.0]

    def work(client: Client, series: Series) -> None:
        ways = cycle([lister.opened() for lister in client])
        if warm:
            first = Series()
            first.time(next(ways))
            series.failures += first.failures
        ready.wait(_BARRIER_SECONDS)
        go.wait()
        while time.perf_counter() < end[0]:
            series.time(next(ways))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(clients, calls, strict=True)]
    for thread in threads:
        thread.start()
    ready.wait(_BARRIER_SECONDS)
    _BARRIERS[0].wait(_BARRIER_SECONDS)
    begun, cpu = time.perf_counter(), _cpu()
    end[0] = begun + seconds
    go.set()
    for thread in threads:
        thread.join()
    total = Load(client_cpu=_cpu() - cpu, seconds=time.perf_counter() - begun if clients else 0)
    for series in calls:
        total.calls.join(series)
    return total


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
