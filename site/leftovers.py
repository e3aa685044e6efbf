"""Processes that belong to a site without being its supervisor's children: job steps, SSH sessions, what a kill left."""

import contextlib
import os
from collections.abc import Iterable, Iterator

import psutil

from facts import Site

GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)


def leftovers(site: Site) -> list[psutil.Process]:
    """Every process that was started by the site or through it, this one and those above it excepted."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in _ours(site) if process.pid not in spared]


def descendants(pids: Iterable[int]) -> list[psutil.Process]:
    """The processes below some processes."""
    found: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(*GONE):
            found += psutil.Process(pid).children(recursive=True)
    return found


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill the processes that still run, and wait until they are gone."""
    living = list(processes)
    for process in living:
        with contextlib.suppress(*GONE):
            process.kill()
    psutil.wait_procs(living, timeout=10)


def _ours(site: Site) -> Iterator[psutil.Process]:
    sessions = _ssh_sessions(site)
    for process in psutil.process_iter():
        with contextlib.suppress(*GONE, psutil.AccessDenied):
            if process.status() != psutil.STATUS_ZOMBIE and (process.pid in sessions or _mentions(process, str(site.layout.state))):
                yield process


def _mentions(process: psutil.Process, state: str) -> bool:
    return any(state in word for word in process.cmdline()) or any(state in value for value in process.environ().values())


def _ssh_sessions(site: Site) -> set[int]:
    # sshd writes its titles over its environment, so its sessions are known by their end of the connection
    servers = {site.ports["sshd"], site.ports["ridge"]}
    connections = psutil.net_connections("tcp4")
    return {entry.pid for entry in connections if entry.pid and entry.laddr and entry.laddr.port in servers}
