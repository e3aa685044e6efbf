"""Marks of what was done once and must not be done again, whoever sends the message anew."""

import threading
import time
from typing import Final
from uuid import uuid4

from redis import Redis

from broker.own_connections import OwnConnection

_MANY: Final = 10_000


class Once:
    """Knows what was done in this process, by memory that nobody else can write, and in others, by marks in Redis.

    Who deletes the marks has each other process do it once more at most. Without Redis, only this process counts.
    """

    def __init__(self, redis: Redis | None, kind: str) -> None:
        self._own = OwnConnection(redis) if redis else None
        self._kind = kind
        self._lock = threading.Lock()
        self._done: dict[str, float] = {}

    def first(self, identity: str, *, seconds: float) -> bool:
        """Whether nobody has asked for this identity before; it is remembered for so long. Raises RedisError."""
        return self._is_new(identity, seconds) and self._marks(identity, seconds)

    def _is_new(self, identity: str, seconds: float) -> bool:
        now = time.monotonic()
        with self._lock:
            if len(self._done) > _MANY:
                self._done = {known: end for known, end in self._done.items() if end > now}
            if self._done.get(identity, 0) > now:
                return False
            self._done[identity] = now + seconds
            return True

    def _marks(self, identity: str, seconds: float) -> bool:
        if self._own is None:
            return True
        # With GET, since a command whose answer was lost is sent again, and finds the mark that it has made itself.
        mine = uuid4().hex
        found = self._own.redis.set(f"once:{self._kind}:{identity}", mine, nx=True, get=True, ex=int(seconds) + 1)
        return found is None or found == mine.encode()
