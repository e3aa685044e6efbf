"""A thousand clients at once: of one user, and of a hundred."""

import random
from dataclasses import dataclass

from bench.api import Address
from bench.folders import folders
from bench.listing import ENTRIES
from bench.load import Client, Generator, Lister, Load, generator
from bench.people import people
from bench.processes import Programs, proportional
from bench.stage import Stage
from bench.tables import Part, digits, failures, table

CLIENTS, USERS = 1000, 100
_ONE, _MANY = f"{CLIENTS:,} clients of one user", f"{CLIENTS:,} clients of {USERS} users"
_MB = 2**20


def crush(stage: Stage, *, rounds: int, seconds: float) -> list[Part]:
    """Times and failures, and what each program holds at most; nothing is warmed up, and every call counts."""
    with people(stage.site, USERS) as users, generator() as source:
        programs = Programs(stage.site)
        before, few = programs.rss(), _held(stage, programs)
        ways = {_ONE: users[:1], _MANY: users}
        loads = {name: Load() for name in ways}
        peaks: dict[str, dict[str, int]] = {name: {} for name in ways}
        for _ in range(rounds):
            for name in random.sample(list(ways), len(ways)):
                with programs.peaks() as found:
                    loads[name].join(_loaded(source, ways[name], seconds), alongside=False)
                peaks[name] = {program: max(most, peaks[name].get(program, 0)) for program, most in found.items()}
        connections = _connections(few, _held(stage, programs))
    rows = [_row(name, load) for name, load in loads.items()]
    times = table(("", "calls / s", "p50 s", "p95 s", "p99 s", "most s", "n", "errors"), rows)
    text = f"{times}\n\n{_peaks(before, peaks)}\n\n{connections}"
    return [Part("crush", text, failures(*(load.calls for load in loads.values())))]


def _loaded(source: Generator, users: list[Address], seconds: float) -> Load:
    owners = [users[number % len(users)] for number in range(CLIENTS)]
    with folders([owner.user for owner in users], entries=ENTRIES) as places:
        clients: list[Client] = [(Lister(owner, places[number % len(users)], ENTRIES),) for number, owner in enumerate(owners)]
        return source.load(clients, seconds, warm=False)


def _row(name: str, load: Load) -> tuple[str, ...]:
    calls = load.calls
    times = (calls.p50, calls.p95, calls.p99, max(calls.seconds, default=float("nan")))
    return name, digits(load.rate), *map(digits, times), str(len(calls.seconds)), str(len(calls.failures))


def _peaks(before: dict[str, int], peaks: dict[str, dict[str, int]]) -> str:
    rows = [(name, digits(rss / _MB), *(digits(found[name] / _MB) for found in peaks.values())) for name, rss in before.items()]
    return table(("RSS MB in all", "before", *(f"most, {name}" for name in peaks)), rows)


@dataclass(frozen=True)
class _Held:
    """What workers and sshd hold, in bytes (PSS), and the SSH connections that stand between them."""

    connections: int
    bytes: dict[str, int]


def _held(stage: Stage, programs: Programs) -> _Held:
    workers = [name for name in programs.roots if name.startswith("worker-")]
    count = sum(_to(programs, name, stage.system.port) for name in workers)
    return _Held(count, proportional({name: programs.roots[name] for name in (*workers, "sshd")}))


def _to(programs: Programs, name: str, port: int) -> int:
    """Connections of a program to a port."""
    return sum(1 for one in programs.roots[name].net_connections("tcp") if one.raddr and one.raddr.port == port)


def _connections(before: _Held, after: _Held) -> str:
    more = max(1, after.connections - before.connections)
    rows = [
        (name, digits(then / _MB), digits(after.bytes[name] / _MB), digits((after.bytes[name] - then) / 1024 / more))
        for name, then in before.bytes.items()
    ]
    header = ("PSS MB", f"{before.connections} SSH connections", f"{after.connections} after the loads", "KB a connection")
    return table(header, rows)
