"""Whether a system can be reached at all, found without entering it."""

import socket

from schemas.settings import System

_BANNER = b"SSH-2.0-"


def answers(system: System, *, seconds: float) -> bool:
    """Whether an SSH server greets us within `seconds`."""
    try:
        with socket.create_connection((system.host, system.port), timeout=seconds) as connection:
            return connection.recv(len(_BANNER), socket.MSG_WAITALL) == _BANNER
    except OSError:
        return False
