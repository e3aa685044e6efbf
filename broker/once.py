"""Marks of what was done once and must not be done again, whoever sends the message anew."""

import threading
import time
from itertools import count
from typing import Final, NamedTuple
from uuid import uuid4

from redis import Redis

from broker.own_connections import OwnConnection

_MANY: Final = 10_000


class Claim(NamedTuple):
    """What marks that something was done, in which `mine` tells whose mark it is; it lasts so many seconds."""

    key: str
    mine: str
    seconds: int


class Once:
    """Knows what was done in this process, by memory that nobody else can write, and in others, by marks in Redis.

    Who deletes the marks has each other process do it once more at most. Without Redis, only this process counts.
    """

    def __init__(self, redis: Redis | None, kind: str) -> None:
        self._own = OwnConnection(redis) if redis else None
        self._kind = kind
        self._marks = map(f"{uuid4().hex}.{{}}".format, count())
        self._lock = threading.Lock()
        self._done: dict[str, float] = {}

    def first(self, identity: str, *, seconds: float) -> bool:
        """Whether nobody has asked for this identity before; it is remembered for so long. Raises RedisError."""
        claim = self.claim(identity, seconds=seconds)
        return claim is not None and self.holds(claim)

    def claim(self, identity: str, *, seconds: float) -> Claim | None:
        """A claim to be the first, which is for Redis to decide; None when this process knows better."""
        if not self._is_new(identity, seconds):
            return None
        return Claim(f"once:{self._kind}:{identity}", next(self._marks), int(seconds) + 1)

    def holds(self, claim: Claim) -> bool:
        """Whether nobody else has made the claim. Raises RedisError."""
        if self._own is None:
            return True
        # With GET, since a command whose answer was lost is sent again, and finds the mark that it has made itself.
        found = self._own.command("SET", claim.key, claim.mine, "NX", "GET", "EX", claim.seconds)
        return found in (None, claim.mine.encode())

    def _is_new(self, identity: str, seconds: float) -> bool:
        now = time.monotonic()
        with self._lock:
            if len(self._done) > _MANY:
                self._done = {known: end for known, end in self._done.items() if end > now}
            if self._done.get(identity, 0) > now:
                return False
            self._done[identity] = now + seconds
            return True
