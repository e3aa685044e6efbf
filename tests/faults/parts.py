"""The parts of the service and the site that can be broken, and the ways to break them."""

import os
import re
import signal
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import psutil

from tests.real_site import Site, eventually

WORKERS = ("worker-1", "worker-2")


class Kind(StrEnum):
    """What happens to a part."""

    KILLED = "killed"  # with SIGKILL, and started again at once
    GONE = "gone"  # with SIGKILL, and started again only after a while: connections are refused
    CUT_OFF = "cut off"  # with SIGSTOP, for a while: connections are taken, or stand, and nobody answers


@dataclass(frozen=True)
class Part:
    """Programs of the site that break together; `also_killed` die in any case, so that the part is needed."""

    name: str
    programs: tuple[str, ...]
    also_killed: tuple[str, ...] = ()

    def breaks(self, site: Site, kind: Kind, seconds: float) -> None:
        """Break it, for so many seconds unless it comes back at once, and mend it."""
        kill(processes(site, self.also_killed))
        broken = processes(site, self.programs)
        if kind is Kind.CUT_OFF:
            send(broken, signal.SIGSTOP)
            time.sleep(seconds)
            send(broken, signal.SIGCONT)
        else:
            kill(broken)
            if kind is Kind.GONE:
                site.supervisor("stop", *self.programs)
                time.sleep(seconds)
        run_again(site, *self.programs, *self.also_killed)


PARTS = (
    Part("one worker", WORKERS[:1]),
    Part("both workers", WORKERS),
    Part("housekeeping, beat", ("housekeeping", "beat")),
    Part("API", ("api",)),
    Part("Redis", ("redis",)),
    Part("sshd", ("sshd",)),
    Part("object store", ("radosgw",)),
    Part("its disk", ("ceph-osd",)),
    Part("delegation", ("delegation",), also_killed=WORKERS),
)


def processes(site: Site, programs: Collection[str]) -> list[psutil.Process]:
    """The processes of the programs: what they have started, too, but not what users run."""
    found: list[psutil.Process] = []
    for pid in re.findall(r" pid (\d+),", site.supervisor("status", *programs)) if programs else ():
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(int(pid))
            found += [server, *(child for child in server.children(recursive=True) if child.name() == server.name())]
    return found


def kill(broken: Iterable[psutil.Process]) -> None:
    """Kill processes, and wait for their end."""
    broken = list(broken)
    send(broken, signal.SIGKILL)
    psutil.wait_procs(broken, timeout=10)


def send(broken: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to those processes that are still there."""
    for process in broken:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def run_again(site: Site, *programs: str) -> None:
    """Start those of the programs that do not run."""

    def all_run() -> bool:
        down = [line.split()[0] for line in site.supervisor("status", *programs).splitlines() if "RUNNING" not in line]
        if down:
            site.supervisor("start", *down)
        return not down

    eventually(all_run, seconds=60)
