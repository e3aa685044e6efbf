"""The processes of the site by their program's name, and what they use."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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

    def __init__(self, site: Site, names: tuple[str, ...] = (*GATEWAY, *SERVERS), *, beside: Mapping[str, int] | None = None) -> None:
        """Find them by the supervisor's status; `beside` are process ids of others, by name."""
        running = {name: int(pid) for name, pid in _RUNNING.findall(site.supervisor("status"))}
        found = {name: running[name] for name in names if name in running} | dict(beside or {})
        self.roots = {name: psutil.Process(pid) for name, pid in found.items()}

    def usage(self) -> dict[str, Usage]:
        """What each has used."""
        return {name: _usage(root) for name, root in self.roots.items()}

    @contextmanager
    def peaks(self, *, every: float = 1) -> Iterator[dict[str, int]]:
        """The most resident bytes that each had in all, looked at every so many seconds until the end of the block."""
        most = {name: used.rss for name, used in self.usage().items()}
        over = threading.Event()

        def watch() -> None:
            while not over.wait(every):
                for name, used in self.usage().items():
                    most[name] = max(most[name], used.rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield most
        finally:
            over.set()
            watcher.join()

    def words(self, name: str) -> list[str]:
        """The command line of a program."""
        return self.roots[name].cmdline()


def proportional(roots: Mapping[str, psutil.Process]) -> dict[str, int]:
    """Bytes of each program now, pages that processes share counted in parts (PSS)."""
    found = dict.fromkeys(roots, 0)
    for name, root in roots.items():
        for process in _tree(root):
            with suppress(psutil.NoSuchProcess):
                found[name] += process.memory_full_info().pss
    return found


def _tree(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [root, *root.children(recursive=True)]
    return []


def _usage(root: psutil.Process) -> Usage:
    cpu, rss = 0.0, 0
    for process in _tree(root):
        with suppress(psutil.NoSuchProcess):  # what has ended meanwhile is in its parent's account
            times = process.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            rss += process.memory_info().rss
    return Usage(cpu, rss)
