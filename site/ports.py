"""Free TCP ports of the loopback interface."""

import random
import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

ADDRESS = "127.0.0.1"
LOWEST = 10000


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def is_open(port: int) -> bool:
    """Whether a server listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((ADDRESS, port)) == 0


def assigned(names: Iterable[str], kept: Mapping[str, int]) -> dict[str, int]:
    """A free port for every name, the one it had before wherever that is still free."""
    with ExitStack() as held:
        return {name: kept[name] if name in kept and is_free(kept[name]) else _held(held) for name in names}


def _held(held: ExitStack) -> int:
    """A port that is kept free until the stack is closed, and that the kernel gives to nobody who asks it for any."""
    listener = held.enter_context(socket.socket())
    while True:
        port = random.randrange(LOWEST, _first_of_the_kernels())  # noqa: S311 (to keep sites apart, not to hide anything)
        try:
            listener.bind((ADDRESS, port))
        except OSError:
            continue
        return port


def _first_of_the_kernels() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
