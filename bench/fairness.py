"""What one user at full load, who does not wait when told to, leaves of another's answering times."""

import http.client
import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Event
from urllib.parse import urlsplit

from bench.api import Address, Api, address
from bench.changed import changed
from bench.series import Series
from bench.stage import CLIENT, Stage
from bench.tables import Part, digits, failures, ms, ratio, table
from bench.ties import end_with_parent
from schemas.settings import Limits
from tests.real_site import Site

CLIENTS, PROCESSES = 96, 4
_OTHER = "bob"
_NAMES = ("calls_per_second", "calls_burst", "calls_at_once", "tasks_at_once")
_DEFAULTS = {name: Limits.model_fields[name].default for name in _NAMES}
_UNLIMITED = {**_DEFAULTS, "calls_per_second": 0, "calls_at_once": 0}
_RESTARTED = ("api", "worker-1", "worker-2")
_QUIET, _AGAIN, _LOADED = "alone", "alone again (A/A)", f"beside {CLIENTS} clients of another user"
_PAUSE = 2  # seconds in which what is under way comes to its end, and the other user's burst is theirs again

_BETWEEN = 0.05  # seconds from one call of the other user to the next, which is less than they may make

Stop = Callable[[], Counter[int]]


def fairness(stage: Stage, *, rounds: int, calls: int) -> Part:
    """The times of one user's `whoami`, alone and beside another user who makes as many as ever go, with limits and without."""
    rows: list[tuple[str, ...]] = []
    said: tuple[str, ...] = ()
    # without limits each call takes a hundred times as long
    for name, limits, share in (("default limits", _DEFAULTS, 1), ("no limits", _UNLIMITED, 10)):
        with changed(stage.site, "limits", limits, restarted=_RESTARTED):
            found, answered = _measured(stage.site, rounds=rounds, calls=calls // share)
        rows += [(f"{name}: {way}", *_times(series, found[_QUIET])) for way, series in found.items()]
        rows.append((f"… who were answered {_told(answered)}", *[""] * 6))
        said += failures(*found.values())
    return Part("fairness", table(("", "p50 ms", "p95 ms", "p50 / alone", "p95 / alone", "n", "errors"), rows), said)


def _times(series: Series, quiet: Series) -> tuple[str, ...]:
    ratios = (ratio(series.p50, quiet.p50), ratio(series.p95, quiet.p95))
    return ms(series.p50), ms(series.p95), *ratios, str(len(series.seconds)), str(len(series.failures))


def _told(answered: dict[int, float]) -> str:
    return ", ".join(f"{status or 'nothing'} {digits(rate)} times a second" for status, rate in sorted(answered.items()))


def _measured(site: Site, *, rounds: int, calls: int) -> tuple[dict[str, Series], dict[int, float]]:
    """The times of each way, which take turns; how often a second the others were answered so."""
    found = {name: Series() for name in (_QUIET, _AGAIN, _LOADED)}
    answered, seconds = Counter[int](), 0.0
    for _ in range(rounds):
        for name in random.sample(list(found), len(found)):
            api, many = Api(address(site, _OTHER)), address(site, CLIENT)  # tokens are good for minutes only
            api.whoami()
            begun = time.monotonic()
            stop = flooding(many) if name == _LOADED else None
            for _ in range(calls):
                time.sleep(_BETWEEN)
                found[name].time(api.whoami)
            if stop:
                answered += stop()
                seconds += time.monotonic() - begun
                time.sleep(_PAUSE)
            api.close()
    return found, {status: count / seconds for status, count in answered.items()}


def flooding(where: Address) -> Stop:
    """Have CLIENTS clients call without a pause, until what is returned is called, which gives their answers by status.

    They are in processes of their own, so that no interpreter lock of theirs holds back who is measured.
    """
    context = multiprocessing.get_context("spawn")
    begun, over, results = context.Barrier(PROCESSES + 1), context.Event(), context.SimpleQueue()
    processes = [context.Process(target=_flood, args=(where, begun, over, results), daemon=True) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    begun.wait(60)

    def stop() -> Counter[int]:
        over.set()
        found = sum((results.get() for _ in processes), Counter[int]())
        for process in processes:
            process.join()
        return found

    return stop


def _flood(where: Address, begun: threading.Barrier, over: Event, results: "multiprocessing.SimpleQueue[Counter[int]]") -> None:
    end_with_parent()
    counts = [Counter[int]() for _ in range(CLIENTS // PROCESSES)]
    threads = [threading.Thread(target=_call_on, args=(where, over, count)) for count in counts]
    begun.wait(60)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(sum(counts, Counter[int]()))


def _call_on(where: Address, over: Event, count: Counter[int]) -> None:
    """One client with one connection, which is opened anew when the server ends it."""
    connection = http.client.HTTPConnection(urlsplit(where.url).netloc, timeout=60)
    headers = {"Authorization": f"Bearer {where.token}", "X-Machine-Name": where.system}
    while not over.is_set():
        try:
            connection.request("GET", "/utilities/whoami", headers=headers)
            answer = connection.getresponse()
            answer.read()
            count[answer.status] += 1
        except (http.client.HTTPException, OSError):
            connection.close()
            count[0] += 1
    connection.close()
