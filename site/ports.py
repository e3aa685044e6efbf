"""Free TCP ports of the loopback interface."""

import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

ADDRESS = "127.0.0.1"


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
    listener = held.enter_context(socket.socket())
    listener.bind((ADDRESS, 0))
    return int(listener.getsockname()[1])
