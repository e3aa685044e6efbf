"""Programs of the gateway that the bench starts itself, beside the supervised ones or in their place."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from celery import Celery
from redis import Redis

from bench.centre import ROOT
from bench.changed import await_calls, each
from bench.processes import Programs
from tests.real_site import Site, eventually

_STOP_SECONDS = 20
WORKERS = ("worker-1", "worker-2")


@contextmanager
def started(commands: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Process ids of the commands, which run until the end of the block, or of the bench."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, words in commands.items():
            tied = ("setpriv", "--pdeathsig", "KILL", "--", *words)
            running[name] = subprocess.Popen(tied, env=dict(environment), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield {name: process.pid for name, process in running.items()}
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def stopped(site: Site, programs: Sequence[str]) -> Iterator[None]:
    """The supervised programs not running, until the end of the block."""
    try:
        each(site, "stop", programs)
        yield
    finally:
        each(site, "start", programs)
        await_workers(site, [name for name in programs if name in WORKERS])
        await_calls(site)


@contextmanager
def more_workers(site: Site, count: int) -> Iterator[dict[str, int]]:
    """Process ids of so many workers more, like the first supervised one."""
    programs = Programs(site)
    model = programs.roots[WORKERS[0]]
    names = [f"worker-{number}" for number in range(len(WORKERS) + 1, len(WORKERS) + 1 + count)]
    commands = {name: [word.replace(f"{WORKERS[0]}@", f"{name}@") for word in model.cmdline()] for name in names}
    with started(commands, model.environ()) as ids:
        await_workers(site, names)
        yield ids


def await_workers(site: Site, names: Sequence[str]) -> None:
    """Wait until workers of these names answer."""
    with Celery(broker=site.facts["urls"]["redis"], set_as_current=False) as celery:

        def answer() -> bool:
            answers = celery.control.inspect(timeout=1).ping() or {}
            return {name.partition("@")[0] for name in answers} >= set(names)

        eventually(answer, seconds=120)


@contextmanager
def also_bound(redis: Redis, address: str) -> Iterator[None]:
    """Redis listening at one more address of this machine."""
    before = redis.config_get("bind")["bind"]
    redis.config_set("bind", f"{before} {address}")
    try:
        yield
    finally:
        redis.config_set("bind", before)
