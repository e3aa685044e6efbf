"""What the programs hold over a long, steady load of many kinds of calls."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.api import Api
from bench.folders import folders
from bench.listing import ENTRIES
from bench.plots import Plot
from bench.series import CallFailedError, Series
from bench.stage import Stage
from bench.submission import SCRIPT, folders_of_jobs
from bench.tables import Part, digits, failures, ms, table

RATE = 5.0  # calls a second in all
EVERY = 30.0  # seconds between looks
STEADY = 0.05  # of what a program holds: so much more in an hour is still steady
_LEAST = 4 * 2**20  # bytes an hour: what the allocator and Python give and take is no growth
_CLIENTS = 4
_TOKEN_SECONDS = 120
_KINDS = {"ls": 40, "view": 20, "upload": 15, "download": 15, "submit": 5, "jobs": 5}  # and their shares of a hundred calls
_CONTENT = b"x" * 20_000
_MB = 2**20


@dataclass
class Samples:
    """Resident bytes of each program, by the seconds since the beginning."""

    seconds: list[float] = field(default_factory=list)
    rss: dict[str, list[int]] = field(default_factory=dict)

    def add(self, moment: float, held: dict[str, int]) -> None:
        """One look."""
        self.seconds.append(moment)
        for name, size in held.items():
            self.rss.setdefault(name, []).append(size)

    def slope(self, name: str) -> float:
        """Bytes an hour over the last two thirds, by least squares; 0 of fewer than two looks."""
        first = len(self.seconds) // 3
        return 3600 * slope(self.seconds[first:], self.rss[name][first:])

    def steady(self, name: str) -> bool:
        """Whether it holds no more after another hour than what is allowed for noise."""
        return self.slope(name) <= max(_LEAST, STEADY * self.rss[name][-1])


def slope(across: list[float], up: list[int]) -> float:
    """The slope of the line through points by least squares; 0 of fewer than two."""
    if len(across) < 2:
        return 0.0
    middle, height = sum(across) / len(across), sum(up) / len(up)
    width = sum((x - middle) ** 2 for x in across)
    return sum((x - middle) * (y - height) for x, y in zip(across, up, strict=True)) / width if width else 0.0


def soak(stage: Stage, *, seconds: float) -> list[Part]:
    """Resident memory of the programs while a few clients call for so many seconds; no time is measured."""
    samples, over, found = Samples(), threading.Event(), {name: Series() for name in _KINDS}
    owners = [stage.user] * _CLIENTS
    with folders(owners[:1], entries=ENTRIES) as (shown,), folders(owners, entries=0) as places, folders_of_jobs(stage) as jobs:
        threads = [threading.Thread(target=_call_on, args=(stage, (shown, own), jobs, found, over)) for own in places]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        while (moment := time.monotonic() - begun) <= seconds:
            samples.add(moment, stage.programs.rss())
            over.wait(min(EVERY, seconds / 6))
        over.set()
        for thread in threads:
            thread.join()
    lines = {name: [(at / 60, size / _MB) for at, size in zip(samples.seconds, sizes, strict=True)] for name, sizes in samples.rss.items()}
    plot = Plot("soak", "resident memory over a steady load", "minutes", "MB", lines, straight=True)
    return [Part("soak", f"{_table(samples)}\n\n{_calls(found, seconds)}", failures(*found.values()), (plot,))]


def _table(samples: Samples) -> str:
    rows = [
        (
            *(name, *(digits(sizes[at] / _MB) for at in (0, len(sizes) // 3, -1)), digits(max(sizes) / _MB)),
            *(digits(samples.slope(name) / _MB), "yes" if samples.steady(name) else "**no**"),
        )
        for name, sizes in samples.rss.items()
    ]
    hours = digits(samples.seconds[-1] / 60)
    return table(("RSS MB", "at first", "after a third", f"after {hours} minutes", "most", "MB an hour, last two thirds", "steady"), rows)


def _calls(found: dict[str, Series], seconds: float) -> str:
    rows = [
        (name, digits(len(one.seconds) / seconds), ms(one.p50), str(len(one.seconds)), str(len(one.failures)))
        for name, one in found.items()
    ]
    return table(("call", "a second", "p50 ms", "n", "errors"), rows)


def _call_on(stage: Stage, places: tuple[str, str], jobs: list[str], found: dict[str, Series], over: threading.Event) -> None:
    """One client, who makes a share of the calls until it is over, with a fresh token now and then."""
    while not over.is_set():
        api, end = Api(stage.address()), time.monotonic() + _TOKEN_SECONDS
        calls = _kinds(stage, api, places, jobs)
        calls["upload"]()  # what the others ask for
        while time.monotonic() < end and not over.wait(random.expovariate(RATE / _CLIENTS)):
            kind = random.choices(list(calls), weights=list(_KINDS.values()))[0]
            found[kind].time(calls[kind])
        api.close()


def _kinds(stage: Stage, api: Api, places: tuple[str, str], jobs: list[str]) -> dict[str, Callable[[], object]]:
    """The calls by their names, in the order of _KINDS."""
    shown, own = places
    file = f"{own}/file"
    return {
        "ls": lambda: api.ls(shown, entries=ENTRIES),
        "view": lambda: _whole(len(api.get("/utilities/view", targetPath=file)["output"])),
        "upload": lambda: api.send("/utilities/upload", _CONTENT, name="file", targetPath=own),
        "download": lambda: _whole(len(api.read("/utilities/download", sourcePath=file))),
        "submit": lambda: _submit(stage, api, jobs),
        "jobs": lambda: api.outcome(str(api.get("/compute/jobs", pageSize="10", pageNumber="0")["task_id"])),
    }


def _whole(length: int) -> None:
    if length != len(_CONTENT):
        raise CallFailedError(f"{length} bytes came, not {len(_CONTENT)}")


def _submit(stage: Stage, api: Api, jobs: list[str]) -> None:
    task_id = api.submit(SCRIPT)
    jobs.append(task_id)
    stage.master.run("scancel", str(api.outcome(task_id)["jobid"]))
