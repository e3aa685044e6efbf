"""Answers to waited calls: published to the process that waits, kept nowhere."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from redis import Redis

from broker.blobs import ANSWER_SECONDS, Blob, Blobs
from broker.own_connections import OwnConnection
from broker.subscription import Subscription
from schemas.errors import FirecrestError, TimedOut, error_from_wire, error_to_wire

_LARGE = 32768


class Replies:
    """What a process is answered, which it hears by its subscription."""

    def __init__(self, redis: Redis) -> None:
        self.subscription = Subscription(redis)
        self.channel = self.subscription.channel
        self._blobs = Blobs(redis)
        self._pending: dict[str, Future[dict[str, Any]]] = {}
        self.subscription.add(self.channel, self._take)

    @contextmanager
    def expected(self, call_id: str) -> Iterator[Future[dict[str, Any]]]:
        """A future for the answer to a call, to be asked for before the call is sent."""
        self.subscription.ready(self.channel)
        future: Future[dict[str, Any]] = Future()
        self._pending[call_id] = future
        try:
            yield future
        finally:
            self._pending.pop(call_id, None)

    def wait(self, answer: "Future[dict[str, Any]]", *, seconds: float) -> Any:
        """The output; a Blob where the operation yields bytes.

        Raises the FirecrestError that the operation ended with, or TimedOut when no answer came in time.
        """
        try:
            found = answer.result(timeout=seconds)
        except Late:
            raise TimedOut("Command has finished with timeout signal") from None
        if "error" in found:
            raise error_from_wire(found["error"])
        if "raw" in found:
            return Blob(**found["raw"])
        if "blob" in found:
            return json.loads(b"".join(self._blobs.take(Blob(**found["blob"]))))
        return found["output"]

    def close(self) -> None:
        """Listen no more."""
        self.subscription.close()

    def _take(self, said: bytes | None) -> None:
        if said is None:
            return
        answer = json.loads(said)
        future = self._pending.get(answer.pop("id"))
        if future is not None and not future.done():
            future.set_result(answer)


class Answers:
    """The workers' side."""

    def __init__(self, redis: Redis) -> None:
        self._own = OwnConnection(redis)
        self._blobs = Blobs(redis)

    def succeed(self, channel: str, call_id: str, output: Any) -> None:
        """Answer a call with JSON, or with the bytes in a Blob."""
        if isinstance(output, Blob):
            self._publish(channel, call_id, raw=asdict(output))
            return
        text = json.dumps(output)
        if len(text) > _LARGE:
            self._publish(channel, call_id, blob=asdict(self._blobs.put([text.encode()], seconds=ANSWER_SECONDS)))
        else:
            self._publish(channel, call_id, output=output)

    def fail(self, channel: str, call_id: str, error: FirecrestError) -> None:
        """Answer a call with its failure."""
        self._publish(channel, call_id, error=error_to_wire(error))

    def _publish(self, channel: str, call_id: str, **answer: Any) -> None:
        self._own.redis.publish(channel, json.dumps({"id": call_id, **answer}))
