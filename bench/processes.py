"""The processes of the site by their program's name, and what they use."""

import re
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tests.real_site import Site

GATEWAY = ("api", "worker-1", "worker-2", "housekeeping", "delegation", "beat", "flower")
SERVERS = ("redis", "sshd")
_RUNNING = re.compile(r"^(\S+)\s+RUNNING\s+pid (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """CPU seconds that a program has used so far, those of its ended children included, and its resident bytes now."""

    cpu: float
    rss: int


class Programs:
    """The programs whose use is told, each a tree of processes under the supervisor."""

    def __init__(self, site: Site, names: tuple[str, ...] = (*GATEWAY, *SERVERS)) -> None:
        """Find them by the supervisor's status."""
        running = {name: int(pid) for name, pid in _RUNNING.findall(site.supervisor("status"))}
        self.roots = {name: psutil.Process(running[name]) for name in names if name in running}

    def usage(self) -> dict[str, Usage]:
        """What each has used."""
        return {name: _usage(root) for name, root in self.roots.items()}

    def words(self, name: str) -> list[str]:
        """The command line of a program."""
        return self.roots[name].cmdline()


def _usage(root: psutil.Process) -> Usage:
    cpu, rss = 0.0, 0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # what has ended meanwhile is in its parent's account
            times = process.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            rss += process.memory_info().rss
    return Usage(cpu, rss)
