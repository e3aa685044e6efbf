"""The processes of the site by their program's name, and what they use."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
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
        return {name: Usage(_summed(tree, _cpu), int(_summed(tree, _rss))) for name, tree in _trees(self.roots).items()}

    def rss(self) -> dict[str, int]:
        """Resident bytes of each now."""
        return {name: int(_summed(tree, _rss)) for name, tree in _trees(self.roots).items()}

    @contextmanager
    def peaks(self, *, every: float = 1) -> Iterator[dict[str, int]]:
        """The most resident bytes that each had in all, looked at every so many seconds until the end of the block."""
        most = self.rss()
        over = threading.Event()

        def watch() -> None:
            while not over.wait(every):
                for name, rss in self.rss().items():
                    most[name] = max(most[name], rss)

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
    return {name: int(_summed(tree, _pss)) for name, tree in _trees(roots).items()}


def _trees(roots: Mapping[str, psutil.Process]) -> dict[str, list[psutil.Process]]:
    """Each root and all that descend from it, found in one look at the processes of the machine."""
    children = defaultdict(list)
    for process in psutil.process_iter(["ppid"]):
        children[process.info["ppid"]].append(process)

    def tree(root: psutil.Process) -> list[psutil.Process]:
        return [root, *(one for child in children[root.pid] for one in tree(child))]

    return {name: tree(root) for name, root in roots.items()}


def _summed(tree: list[psutil.Process], what: Callable[[psutil.Process], float]) -> float:
    total = 0.0
    for process in tree:
        with suppress(psutil.NoSuchProcess):  # what has ended meanwhile is in its parent's account
            total += what(process)
    return total


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def _pss(process: psutil.Process) -> int:
    return int(process.memory_full_info().pss)
