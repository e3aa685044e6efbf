"""Cost curves over how many there are: clients, users, systems."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yaml

from bench.api import Address
from bench.changed import replaced
from bench.folders import folders
from bench.listing import ENTRIES
from bench.load import Client, Generator, Lister, Load, generator
from bench.masters import SESSIONS
from bench.people import RESTARTED, people
from bench.plots import Plot
from bench.stage import Stage
from bench.tables import Part, failures, table
from bench.throughput import RATES, rate

CLIENTS = (1, 4, 16, 64, 256, 1000)
USERS = (1, 10, 100, 1000)
SYSTEMS = (1, 10, 50)
_MASTERS_FOR = 64  # clients: beyond, the machine would only start `ssh` processes
_BESIDE = 64  # clients of the curves over users and systems
_API, _SSH = "API", "ssh over ControlMasters"
Loads = dict[tuple[str, int], Load]


def concurrency(stage: Stage, *, counts: tuple[int, ...], rounds: int, seconds: float) -> list[Part]:
    """Rates and times of `ls` by the number of clients of one user, each with a folder of its own."""
    loads: Loads = {}
    most = min(_MASTERS_FOR, max(counts))
    owners = [stage.user] * max(counts)
    with generator() as source, stage.masters(math.ceil(most / SESSIONS)) as masters, folders(owners, entries=ENTRIES) as places:
        for count in counts:
            where = stage.address()
            ours: list[Client] = [(Lister(where, place, ENTRIES),) for place in places[:count]]
            loads[_API, count] = _loaded(source, ours, rounds, seconds)
            if count <= most:
                theirs: list[Client] = [(Lister(masters[at % len(masters)], place, ENTRIES),) for at, place in enumerate(places[:count])]
                loads[_SSH, count] = _loaded(source, theirs, rounds, seconds)
    return [_part("concurrency", "ls by the number of clients of one user", "clients", loads)]


def users(stage: Stage, *, counts: tuple[int, ...], rounds: int, seconds: float) -> list[Part]:
    """The same by the number of users, among whom the clients are divided, or whose calls they make in turn."""
    loads: Loads = {}
    with people(stage.site, max(counts)) as crowd, generator() as source, folders([one.user for one in crowd], entries=ENTRIES) as places:
        listers = [Lister(where, place, ENTRIES) for where, place in zip(crowd, places, strict=True)]
        for count in counts:
            loads[_API, count] = _loaded(source, _shared(listers[:count]), rounds, seconds)
    return [_part("users", f"ls of {_BESIDE} clients by the number of users", "users", loads)]


def systems(stage: Stage, *, counts: tuple[int, ...], rounds: int, seconds: float) -> list[Part]:
    """The same by the number of systems, all of them the same SSH server, to which the clients go in turn."""
    loads: Loads = {}
    with generator() as source, folders([stage.user], entries=ENTRIES) as (place,):
        for count in counts:
            with _systems(stage, count) as names:
                where: Address = stage.address()
                listers = [Lister(replace(where, system=name), place, ENTRIES) for name in names]
                loads[_API, count] = _loaded(source, _shared(listers), rounds, seconds)
    return [_part("systems", f"ls of {_BESIDE} clients of one user by the number of systems", "systems", loads)]


def _shared(listers: list[Lister]) -> list[Client]:
    """As many clients as ever, who between them are all of the listers."""
    if len(listers) <= _BESIDE:
        return [(listers[number % len(listers)],) for number in range(_BESIDE)]
    return [tuple(listers[number::_BESIDE]) for number in range(_BESIDE)]


@contextmanager
def _systems(stage: Stage, count: int) -> Iterator[list[str]]:
    """The names of so many systems, the site's own first; the others are like it."""
    settings = yaml.safe_load(Path(stage.site.facts["settings"]).read_text(encoding="utf-8"))
    names = [stage.system.name, *(f"{stage.system.name}-{number}" for number in range(2, count + 1))]
    like = [{**settings["systems"][0], "name": name} for name in names]
    with replaced(stage.site, {"systems": like}, restarted=(*RESTARTED, "housekeeping", "beat")):
        yield names


def _loaded(source: Generator, clients: list[Client], rounds: int, seconds: float) -> Load:
    source.load(clients, seconds=2)  # warms up: connections, and what the processes need
    load = Load()
    for _ in range(rounds):
        load.join(source.load(clients, seconds), alongside=False)
    return load


def _part(name: str, title: str, across: str, loads: Loads) -> Part:
    rows = [rate(f"{count:,} {across}: {way}", _clients(across, count), load, _floor(loads, count)) for (way, count), load in loads.items()]
    ways = dict.fromkeys(way for way, _ in loads)
    times = {f"{way}, p50": [(count, 1000 * load.calls.p50) for (one, count), load in loads.items() if one == way] for way in ways}
    times |= {f"{way}, p95": [(count, 1000 * load.calls.p95) for (one, count), load in loads.items() if one == way] for way in ways}
    said = failures(*(load.calls for load in loads.values()))
    return Part(name, table(RATES, rows), said, (Plot(name, title, across, "ms", times),))


def _clients(across: str, count: int) -> int:
    return count if across == "clients" else _BESIDE


def _floor(loads: Loads, count: int) -> Load:
    """What a load is compared to: ssh with as many clients, or the first of its curve where there is no ssh."""
    if (_SSH, count) in loads:
        return loads[_SSH, count]
    return Load() if any(way == _SSH for way, _ in loads) else next(iter(loads.values()))
