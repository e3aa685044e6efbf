"""Throughput by the number of worker processes, and with API and workers on networks of their own."""

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from psutil import Process

from bench.api import Address
from bench.beside import WORKERS, also_bound, await_workers, more_workers, started, stopped
from bench.changed import written
from bench.folders import folders
from bench.listing import ENTRIES
from bench.load import Client, Generator, Lister, Load, generator
from bench.masters import SESSIONS, Master
from bench.namespaces import NETWORK, Namespace, namespaces
from bench.people import RESTARTED, Issuer
from bench.plots import Plot
from bench.processes import Programs
from bench.stage import Stage
from bench.tables import Part, digits, failures, table
from bench.throughput import RATES, rate
from tests.real_site import Site

CLIENTS = 64
_API, _SSH = "API", "ssh over ControlMasters"
_NAMESPACES = "2, API and workers in network namespaces of their own"
_AGAIN = "2 again (A/A)"


@dataclass(frozen=True)
class _Way:
    """How the gateway runs: how it is called, and its programs."""

    where: Address
    programs: Programs


@dataclass
class _Trial:
    """All loads of the gateway in one shape and of ssh beside it; CPU seconds of each program during the gateway's."""

    loads: dict[str, Load] = field(default_factory=lambda: {_API: Load(), _SSH: Load()})
    cpu: dict[str, float] = field(default_factory=dict)


def spread(stage: Stage, *, rounds: int, seconds: float) -> list[Part]:
    """Rates of `ls` in each shape of the gateway, beside ssh in the same minutes, and what the programs use of the cores."""
    shapes: dict[str, Callable[[], AbstractContextManager[_Way]]] = {
        "2": lambda: nullcontext(_Way(stage.address(), Programs(stage.site))),
        "1": lambda: _one(stage),
        "4": lambda: _four(stage),
        _NAMESPACES: lambda: _apart(stage),
        _AGAIN: lambda: nullcontext(_Way(stage.address(), Programs(stage.site))),
    }
    trials = {name: _Trial() for name in shapes}
    owners = [stage.user] * CLIENTS
    with generator() as source, stage.masters(math.ceil(CLIENTS / SESSIONS)) as ways, folders(owners, entries=ENTRIES) as places:
        for name, shape in shapes.items():
            with shape() as way:
                _measure(trials[name], way, source, (ways, places), rounds=rounds, seconds=seconds)
    rows = [rate(f"{name}: {way}", CLIENTS, load, trial.loads[_SSH]) for name, trial in trials.items() for way, load in trial.loads.items()]
    said = failures(*(load.calls for trial in trials.values() for load in trial.loads.values()))
    return [Part("spread", f"{table(RATES, rows)}\n\n{_shares(trials)}", said, (_plot(trials),))]


def _measure(trial: _Trial, way: _Way, source: Generator, ground: tuple[list[Master], list[str]], *, rounds: int, seconds: float) -> None:
    masters, places = ground
    clients: dict[str, list[Client]] = {
        _API: [(Lister(way.where, place, ENTRIES),) for place in places],
        _SSH: [(Lister(masters[number % len(masters)], place, ENTRIES),) for number, place in enumerate(places)],
    }
    source.load(clients[_API], 2)  # warms up
    for _ in range(rounds):
        for name in random.sample(list(clients), len(clients)):
            before = way.programs.usage()
            trial.loads[name].join(source.load(clients[name], seconds), alongside=False)
            after = way.programs.usage()
            if name == _API:
                trial.cpu = {program: trial.cpu.get(program, 0) + after[program].cpu - used.cpu for program, used in before.items()}


def _shares(trials: dict[str, _Trial]) -> str:
    programs = list(dict.fromkeys(program for trial in trials.values() for program in trial.cpu))
    rows = [(program, *(_share(trial, trial.cpu.get(program)) for trial in trials.values())) for program in programs]
    rows.append(("the clients", *(_share(trial, trial.loads[_API].client_cpu) for trial in trials.values())))
    sums = [sum(trial.cpu.values()) + trial.loads[_API].client_cpu for trial in trials.values()]
    rows.append(("**all of it**", *(_share(trial, used) for trial, used in zip(trials.values(), sums, strict=True))))
    return table(("% of a core during the API's loads", *trials), rows)


def _share(trial: _Trial, seconds: float | None) -> str:
    return "" if seconds is None else digits(100 * seconds / trial.loads[_API].seconds)


def _plot(trials: dict[str, _Trial]) -> Plot:
    lines = {way: [(float(name), trials[name].loads[way].rate) for name in ("1", "2", "4")] for way in (_API, _SSH)}
    return Plot("spread", f"ls of {ENTRIES} entries, {CLIENTS} clients", "worker processes", "calls a second", lines)


@contextmanager
def _one(stage: Stage) -> Iterator[_Way]:
    with stopped(stage.site, WORKERS[1:]):
        yield _Way(stage.address(), Programs(stage.site))


@contextmanager
def _four(stage: Stage) -> Iterator[_Way]:
    with more_workers(stage.site, 2) as ids:
        yield _Way(stage.address(), Programs(stage.site, beside=ids))


@contextmanager
def _apart(stage: Stage) -> Iterator[_Way]:
    """API and workers each in a namespace, Redis and sshd here, reached over the links."""
    site, models = stage.site, Programs(stage.site).roots
    environment = models["api"].environ()
    with namespaces(2) as (front, back), also_bound(stage.redis, front.host), _sshd(site, front.host) as door:
        issuer, commands = Issuer(front.host), _commands(site, models, front, back)
        try:
            # with these settings only what is started here begins
            with stopped(site, RESTARTED), written(site, _reached(site, issuer, front.host)), started(commands, environment) as ids:
                await_workers(site, WORKERS)
                where = Address(f"http://{_moved(site, front)}", stage.system.name, issuer.token(stage.user), stage.user)
                yield _Way(where, Programs(site, beside={**ids, **door}))
        finally:
            issuer.close()


def _commands(site: Site, models: Mapping[str, Process], front: Namespace, back: Namespace) -> dict[str, list[str]]:
    """The API and the workers as they run, but each in its namespace; the delegation as it runs."""
    words = {name: models[name].cmdline() for name in RESTARTED}
    bound = [word.replace(urlsplit(site.url).netloc, _moved(site, front)) for word in words["api"]]
    return {**words, "api": front.command(bound), **{name: back.command(words[name]) for name in WORKERS}}


def _moved(site: Site, front: Namespace) -> str:
    """Where the API is in its namespace."""
    return f"{front.address}:{urlsplit(site.url).port}"


def _sshd(site: Site, address: str) -> AbstractContextManager[dict[str, int]]:
    """A second SSH server, as the first but at another address of this machine too."""
    words = ("/usr/sbin/sshd", "-D", "-e", "-f", site.facts["sshd"]["config"], "-o", f"ListenAddress={address}", "-o", "PidFile=none")
    return started({"sshd at the link": words}, os.environ)


def _reached(site: Site, issuer: Issuer, host: str) -> dict[str, object]:
    """The sections of the settings with which all is reached at that address of this machine."""
    settings = yaml.safe_load(Path(site.facts["settings"]).read_text(encoding="utf-8"))
    broker, delegation = settings["broker"], settings["delegation"]
    return {
        "systems": [{**settings["systems"][0], "host": host}],
        "broker": {**broker, "url": broker["url"].replace("127.0.0.1", host)},
        "issuers": [
            *({**one, "users": ".*"} for one in settings["issuers"]),
            {**issuer.settings(), "users": ".*", "insecure_jwks": True},
        ],
        "delegation": {**delegation, "source_addresses": [*delegation["source_addresses"], NETWORK]},
    }
