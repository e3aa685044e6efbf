"""What a process hears from others by way of Redis, while it listens."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import TimeoutError  # noqa: A004 (redis' own)

_LOG = logging.getLogger(__name__)
_RECONNECT_SECONDS = 0.1
_PATIENCE = 5
_QUIET_SECONDS = 10

# Called in the reading thread with what was published; with None when the channel is heard from now on, and something may have been missed.
Heard = Callable[[bytes | None], None]


@dataclass
class _Channel:
    heard: list[Heard] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)


class Subscription:
    """One connection, and one reading thread, for all the channels that a process listens to; `channel` is one of its own."""

    def __init__(self, redis: Redis) -> None:
        self.channel = f"replies:{os.getpid()}:{uuid4().hex}"
        self._pool = redis.connection_pool
        self._channels = {self.channel: _Channel()}
        self._lock = threading.Lock()
        self._connection: Any = None
        self._reader: threading.Thread | None = None
        self._closed = threading.Event()

    def add(self, channel: str, heard: Heard) -> None:
        """Have that called with what the channel says, from when it is `ready`."""
        with self._lock:
            known = self._channels.get(channel)
            if known is None:
                known = self._channels[channel] = _Channel()
                self._say("SUBSCRIBE", channel)
            known.heard.append(heard)

    def remove(self, channel: str, heard: Heard) -> None:
        """Call that no more."""
        with self._lock:
            known = self._channels[channel]
            known.heard.remove(heard)
            if not known.heard and channel != self.channel:
                del self._channels[channel]
                self._say("UNSUBSCRIBE", channel)

    def ready(self, channel: str, *, seconds: float = _PATIENCE) -> None:
        """Wait until the channel, which was added, is heard. Raises ConnectionError when that takes longer."""
        known = self._channels[channel]
        if known.ready.is_set():
            return
        self._read_on()
        if not known.ready.wait(timeout=seconds):
            raise ConnectionError("no subscription")

    @contextmanager
    def listening(self, channel: str, heard: Heard, *, seconds: float = _PATIENCE) -> Iterator[None]:
        """Nothing that the channel says within the block is missed. Raises ConnectionError when it is not heard by then."""
        self.add(channel, heard)
        try:
            self.ready(channel, seconds=seconds)
            yield
        finally:
            self.remove(channel, heard)

    def close(self) -> None:
        """Listen no more."""
        self._closed.set()
        if self._reader is not None:
            self._reader.join()

    def _say(self, *words: str) -> None:
        if self._connection is not None:
            try:
                self._connection.send_command(*words, check_health=False)
            except Exception as lost:  # noqa: BLE001 (the reader finds that, too, and subscribes to all again)
                _LOG.warning("lost the subscription: %s", lost)

    def _read_on(self) -> None:
        if self._reader is not None and self._reader.is_alive():
            return
        with self._lock:
            if self._reader is None or not self._reader.is_alive():
                self._reader = threading.Thread(target=self._read, name="subscription", daemon=True)
                self._reader.start()

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except Exception as lost:  # noqa: BLE001 (the outermost frame of the thread; redis-py raises TypeError, too, when cut off)
                _LOG.warning("lost the subscription: %s", lost)
                self._closed.wait(_RECONNECT_SECONDS)

    def _follow(self) -> None:
        connection: Any = self._pool.get_connection()
        try:
            with self._lock:
                self._connection = connection
                connection.send_command("SUBSCRIBE", *self._channels, check_health=False)
            self._take_all(connection)
        finally:
            with self._lock:
                self._connection = None
                for known in self._channels.values():
                    known.ready.clear()
            connection.disconnect()
            self._pool.release(connection)

    def _take_all(self, connection: Any) -> None:
        quiet = 0
        while not self._closed.is_set():
            try:
                message = connection.read_response(timeout=1, disconnect_on_error=False, push_request=True)
            except TimeoutError:
                if (quiet := quiet + 1) % _QUIET_SECONDS == 0:
                    with self._lock:
                        connection.send_command("PING", check_health=False)
            else:
                quiet = 0
                self._take(message)

    def _take(self, message: Any) -> None:
        if not isinstance(message, list) or message[0] not in (b"subscribe", b"message"):
            return
        kind, channel, said = message
        known = self._channels.get(channel.decode())
        if known is None:
            return
        for heard in tuple(known.heard):
            heard(said if kind == b"message" else None)
        if kind == b"subscribe":
            known.ready.set()
