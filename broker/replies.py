"""Answers to waited calls: published to the process that waits, kept nowhere."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from redis import Redis

from broker.blobs import ANSWER_SECONDS, Blob, Blobs
from schemas.errors import FirecrestError, TimedOut, error_from_wire, error_to_wire

_LOG = logging.getLogger(__name__)
_LARGE = 32768
_RECONNECT_SECONDS = 0.1


class Replies:
    """One subscription, and one reading thread, for all the calls that a process waits for."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._blobs = Blobs(redis)
        self._pending: dict[str, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._subscribed = threading.Event()
        self._closed = threading.Event()
        self.channel = f"replies:{os.getpid()}:{uuid4().hex}"

    @contextmanager
    def expected(self, call_id: str) -> Iterator[Future[dict[str, Any]]]:
        """A future for the answer to a call, to be asked for before the call is sent."""
        self._listen()
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
        self._closed.set()
        if self._reader is not None:
            self._reader.join()

    def _listen(self) -> None:
        with self._lock:
            if self._reader is None or not self._reader.is_alive():
                self._subscribed.clear()
                self._reader = threading.Thread(target=self._read, name="replies", daemon=True)
                self._reader.start()
        if not self._subscribed.wait(timeout=5):
            raise ConnectionError("no subscription to replies")

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except Exception as lost:  # noqa: BLE001 (the outermost frame of the thread; redis-py raises TypeError, too, when cut off)
                self._subscribed.clear()
                _LOG.warning("lost the subscription to replies: %s", lost)
                self._closed.wait(_RECONNECT_SECONDS)

    def _follow(self) -> None:
        with self._redis.pubsub() as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe(self.channel)
            while not self._closed.is_set():
                message = subscription.get_message(timeout=1)
                if message is not None:
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._subscribed.set()
        elif message["type"] == "message":
            answer = json.loads(message["data"])
            future = self._pending.get(answer.pop("id"))
            if future is not None and not future.done():
                future.set_result(answer)


class Answers:
    """The workers' side."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
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
        self._redis.publish(channel, json.dumps({"id": call_id, **answer}))
