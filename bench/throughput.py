"""How many `ls` a second there are with many clients, and what one costs each process."""

import math
import random
from dataclasses import dataclass, field

from bench.folders import folders
from bench.listing import ENTRIES
from bench.load import PROCESSES, Client, Generator, Lister, Load, generator
from bench.masters import SESSIONS, Master
from bench.processes import GATEWAY, SERVERS, Usage
from bench.stage import Stage
from bench.tables import Part, digits, failures, ms, ratio, table

CLIENTS = (1, 16, 64, 256)
_API, _SSH, _AGAIN = "API", "ssh over ControlMasters", "the same again (A/A)"
RATES = ("", "clients", "calls / s", "rate / floor", "p50 ms", "p95 ms", "p50 / floor", "p95 / floor", "n", "errors")


@dataclass
class Trial:
    """All loads of one way with so many clients, and what each program used meanwhile: CPU seconds, resident bytes gained."""

    load: Load = field(default_factory=Load)
    cpu: dict[str, float] = field(default_factory=dict)
    gained: dict[str, int] = field(default_factory=dict)

    def account(self, before: dict[str, Usage], after: dict[str, Usage]) -> None:
        """Add what was used between two moments."""
        for name, then in before.items():
            self.cpu[name] = self.cpu.get(name, 0) + after[name].cpu - then.cpu
            self.gained[name] = self.gained.get(name, 0) + after[name].rss - then.rss

    def per_call(self, seconds: float) -> float:
        """Seconds for each call that succeeded."""
        return seconds / max(1, len(self.load.calls.seconds))


Trials = dict[tuple[str, int], Trial]


def throughput(stage: Stage, *, rounds: int, seconds: float) -> list[Part]:
    """Rates and times at several concurrencies, and the cost of a call to each process."""
    trials: Trials = {(way, clients): Trial() for clients in CLIENTS for way in (_API, _SSH, _AGAIN)}
    first = stage.programs.usage()
    most = max(CLIENTS)
    with generator() as source, stage.masters(math.ceil(most / SESSIONS)) as ways, folders([stage.user] * most, entries=ENTRIES) as places:
        for number in range(rounds + 1):
            order = list(trials)
            random.shuffle(order)
            for key in order:
                # the first round warms up: shells, connections, the processes' memory
                trial = trials[key] if number else Trial()
                _run(stage, source, _callers(stage, key, ways, places), trial, seconds=seconds if number else 1)
    said = failures(*(trial.load.calls for trial in trials.values()))
    return [Part("saturated", _rates(trials), said), Part("cost", _costs(trials, first, stage.programs.usage()))]


def _callers(stage: Stage, key: tuple[str, int], ways: list[Master], places: list[str]) -> list[Client]:
    """As many clients as the trial has, each with a folder of its own."""
    way, clients = key
    where = stage.address()
    return [(Lister(where if way == _API else ways[number % len(ways)], place, ENTRIES),) for number, place in enumerate(places[:clients])]


def _run(stage: Stage, source: Generator, clients: list[Client], trial: Trial, *, seconds: float) -> None:
    before = stage.programs.usage()
    trial.load.join(source.load(clients, seconds), alongside=False)
    trial.account(before, stage.programs.usage())


def _rates(trials: Trials) -> str:
    return table(RATES, [rate(way, clients, trial.load, trials[_SSH, clients].load) for (way, clients), trial in trials.items()])


def rate(way: str, clients: int, load: Load, floor: Load) -> list[str]:
    """A row of RATES: what a load came to beside the floor's."""
    calls, least = load.calls, floor.calls
    times = [ms(calls.p50), ms(calls.p95), ratio(calls.p50, least.p50), ratio(calls.p95, least.p95)]
    return [way, str(clients), digits(load.rate), ratio(load.rate, floor.rate), *times, str(len(calls.seconds)), str(len(calls.failures))]


def _costs(trials: Trials, first: dict[str, Usage], last: dict[str, Usage]) -> str:
    columns = [trials[_API, clients] for clients in CLIENTS]
    rows = [(name, *_cost(name, columns), _megabytes(first[name]), _megabytes(last[name]), _gain(name, columns)) for name in first]
    clients = [ms(trial.per_call(trial.load.client_cpu)) for trial in columns]
    sums = [ms(_all(trial, (*GATEWAY, *SERVERS))) for trial in columns]
    floor = [ms(_all(trials[_SSH, number], SERVERS)) for number in CLIENTS]
    rows += [
        (f"the clients ({PROCESSES} processes)", *clients, "", "", ""),
        ("**all of it, API**", *sums, "", "", ""),
        ("**all of it, ssh** (sshd and `ssh`)", *floor, "", "", ""),
    ]
    header = (
        "CPU ms a call, API",
        *(f"{number} client{'s' * (number > 1)}" for number in CLIENTS),
        "RSS MB before",
        "RSS MB after",
        "RSS KB a call",
    )
    return table(header, rows)


def _cost(name: str, columns: list[Trial]) -> list[str]:
    return [ms(trial.per_call(trial.cpu[name])) for trial in columns]


def _all(trial: Trial, names: tuple[str, ...]) -> float:
    return trial.per_call(trial.load.client_cpu + sum(trial.cpu[name] for name in names))


def _megabytes(usage: Usage) -> str:
    return digits(usage.rss / 2**20)


def _gain(name: str, columns: list[Trial]) -> str:
    calls = sum(len(trial.load.calls.seconds) for trial in columns)
    return digits(sum(trial.gained[name] for trial in columns) / 1024 / max(1, calls))
