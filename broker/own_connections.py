"""Connections to Redis that belong to one thread."""

import _socket
import socket
import struct
import threading
from typing import Any

from redis import Redis
from redis.driver_info import DriverInfo

# Found out once, and not for each connection by a look at all installed packages.
DRIVER = DriverInfo()


class OwnConnection(threading.local):
    """A connection for each thread that asks; a command costs a fraction of what it costs by way of a pool."""

    def __init__(self, redis: Redis) -> None:
        """Take one out of the pool of a client. Raises RedisError, to be asked again."""
        self.redis: Redis = redis.client()  # type: ignore[no-untyped-call]
        self._timed: Any = None

    def command(self, *words: bytes | str | float) -> Any:
        """What Redis replies to a command; where the connection breaks it is sent again, as the client retries. Raises RedisError."""
        connection: Any = self.redis.connection

        def send() -> Any:
            connection.send_command(*words)
            if connection._sock is not self._timed:  # noqa: SLF001 (nothing public names it)
                self._timed = connection._sock  # noqa: SLF001
                _have_the_kernel_time(self._timed, connection.socket_timeout)
            return connection.read_response()

        return connection.retry.call_with_retry(send, lambda _: connection.disconnect())


def _have_the_kernel_time(sock: Any, seconds: float | None) -> None:
    """Have the kernel end what takes too long: Python would poll() first, and let go of the interpreter lock once more each time.

    What gevent has made of a socket waits without the kernel, and stays as it is.
    """
    if isinstance(sock, _socket.socket):
        whole = int(seconds or 0)
        limit = struct.pack("@ll", whole, int(1e6 * ((seconds or 0) - whole)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        sock.settimeout(None)
