"""Answers to waited calls: published to the process that waits, kept nowhere."""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from redis import Redis
from redis.exceptions import NoScriptError

from broker.blobs import ANSWER_SECONDS, Blob, Blobs
from broker.once import Claim
from broker.outbox import Lost
from broker.own_connections import OwnConnection
from broker.subscription import Subscription
from schemas.errors import FirecrestError, TimedOut, error_from_wire, error_to_wire

_LARGE = 32768


# JSON, or a Blob where the operation yields bytes.
Output = bytes | Blob
_Found = tuple[bytes, bytes]


class _Answer:
    """What one thread waits for; a lock costs a fraction of a Future."""

    def __init__(self) -> None:
        self.found: _Found | Exception = b"", b""
        self.come = threading.Lock()
        self.come.acquire()


class Replies:
    """What a process is answered, which it hears by its subscription."""

    def __init__(self, redis: Redis) -> None:
        self.subscription = Subscription(redis)
        self.channel = self.subscription.channel
        self._blobs = Blobs(redis)
        self._pending: dict[str, _Answer] = {}
        self.subscription.add(self.channel, self._take)

    def open(self) -> None:
        """Listen from now on. Raises ConnectionError when nothing can be heard."""
        self.subscription.ready(self.channel)

    def ask(self, call_id: str, post: Callable[[Lost], None], *, seconds: float) -> Output:
        """Have a call posted, and wait so long for its output.

        Raises the FirecrestError that the operation ended with, TimedOut when no answer came in time, what `post` raises or tells is lost,
        or ConnectionError when no answer could be heard.
        """
        self.subscription.ready(self.channel)
        answer = self._pending[call_id] = _Answer()
        try:
            post(partial(self._settle, call_id))
            if not answer.come.acquire(timeout=seconds):
                raise TimedOut("Command has finished with timeout signal")
        finally:
            self._pending.pop(call_id, None)
        return self._read(answer.found)

    def _read(self, found: _Found | Exception) -> Output:
        if isinstance(found, Exception):
            raise found
        what, text = found
        if what == b"output":
            return text
        told = json.loads(text)
        if what == b"error":
            raise error_from_wire(told)
        blob = Blob(**told)
        return blob if what == b"raw" else b"".join(self._blobs.take(blob))

    def close(self) -> None:
        """Listen no more."""
        self.subscription.close()

    def _take(self, said: bytes | None) -> None:
        if said is not None:
            call_id, what, text = said.split(b" ", 2)
            self._settle(call_id.decode(), (what, text))

    def _settle(self, call_id: str, found: _Found | Exception) -> None:
        answer = self._pending.pop(call_id, None)
        if answer is not None:
            answer.found = found
            answer.come.release()


# Marks a claim as `Once.holds` does, and publishes unless somebody else has made it.
_PUBLISH_ONCE: Final = """
local found = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET', 'EX', ARGV[2])
if found and found ~= ARGV[1] then return 0 end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
"""
_PUBLISH_ONCE_SHA: Final = hashlib.sha1(_PUBLISH_ONCE.encode()).hexdigest()  # noqa: S324 (the name that Redis gives it)


class Answers:
    """The workers' side. An answer with a claim is given by whoever has made the claim, and by nobody else: methods tell whether it was."""

    def __init__(self, redis: Redis) -> None:
        self._own = OwnConnection(redis)
        self._blobs = Blobs(redis)

    def succeed(self, channel: str, call_id: str, output: Output, claim: Claim | None = None) -> bool:
        """Answer a call with its output. Raises RedisError."""
        if isinstance(output, Blob):
            return self._publish(channel, call_id, claim, "raw", _json(asdict(output)))
        if len(output) > _LARGE:
            blob = self._blobs.put([output], seconds=ANSWER_SECONDS)
            return self._publish(channel, call_id, claim, "blob", _json(asdict(blob)))
        return self._publish(channel, call_id, claim, "output", output)

    def fail(self, channel: str, call_id: str, error: FirecrestError, claim: Claim | None = None) -> bool:
        """Answer a call with its failure. Raises RedisError."""
        return self._publish(channel, call_id, claim, "error", _json(error_to_wire(error)))

    def _publish(self, channel: str, call_id: str, claim: Claim | None, what: str, text: bytes) -> bool:
        said = f"{call_id} {what} ".encode() + text
        if claim is None:
            self._own.command("PUBLISH", channel, said)
            return True
        words = (1, claim.key, claim.mine, claim.seconds, channel, said)
        try:
            return bool(self._own.command("EVALSHA", _PUBLISH_ONCE_SHA, *words))
        except NoScriptError:
            return bool(self._own.command("EVAL", _PUBLISH_ONCE, *words))


def _json(told: Any) -> bytes:
    return json.dumps(told).encode()
