"""How messages of Celery's get into queues and out of them, each in one command to Redis."""

import json
import threading
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast
from uuid import uuid4

from celery import Celery
from celery.app.amqp import AMQP, task_message
from kombu import Consumer
from kombu.exceptions import OperationalError

from broker.outbox import Lost, Outbox
from broker.own_connections import OwnConnection

_BELL_SECONDS: Final = 60
_OPENING_SECONDS: Final = 5


class _Lines(NamedTuple):
    """Ways to the broker."""

    channel: Any
    own: OwnConnection
    outbox: Outbox


class Post(AMQP):  # type: ignore[misc]
    """Celery's, with a short way for messages that go into one queue and want no answer by Celery.

    What is taken is in no queue any more, as Celery has it for tasks that are acknowledged early. What is lost with its worker
    is sent again by the sweep (architecture, 2, "Lost and found"), or waited for by nobody any more.
    """

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        self._bell = f"bell:{uuid4().hex}"
        self._opening = threading.Lock()
        self._opened: _Lines | None = None

    def put(self, queue: str, message: task_message) -> None:
        """Put a message into a queue; one that cannot be put is tried once more. Raises ConnectionError, RedisError or OperationalError."""
        self.open().channel.kept.lpush(queue, self._written(queue, message))

    def post(self, queue: str, message: task_message, lost: Lost) -> None:
        """Have a message put into a queue soon, and call `lost` with what `put` would raise. Raises OperationalError."""
        self.open().outbox.put(queue, self._written(queue, message), lost)

    def take(self, queues: Iterable[str], *, seconds: float) -> bytes | None:
        """The oldest message of the first queue that has one, or None when none has come for so long. Raises as for `put`."""
        taken = self.open().own.command("BRPOP", *queues, self._bell, seconds)
        return cast(bytes, taken[1]) if taken else None

    def wake(self, threads: int) -> None:
        """Give so many threads of this process that wait for messages something that is none. Raises as for `put`."""
        with self.open().channel.kept.pipeline() as pipeline:
            pipeline.lpush(self._bell, *[b""] * threads)
            pipeline.expire(self._bell, _BELL_SECONDS)
            pipeline.execute()

    def message(self, letter: dict[str, Any]) -> Any:
        """What was put, for Celery's worker. Raises whatever comes of what is no message."""
        channel = self.open().channel
        message = channel.Message(letter, channel=channel)
        if message.errors:
            message._reraise_error()  # noqa: SLF001 (kombu's consumers do)
        return message

    def TaskConsumer(self, channel: Any, *_: Any, **options: Any) -> Consumer:  # noqa: N802 (Celery's)
        """One that takes nothing: threads do (`broker.consumer`)."""
        return self.Consumer(channel, queues=[], **options)

    def _written(self, queue: str, message: task_message) -> str:
        """A message as queues hold it."""
        channel = self.open().channel
        letter = channel.prepare_message(
            json.dumps(message.body),
            content_type="application/json",
            content_encoding="utf-8",
            headers=message.headers,
            properties=message.properties,
        )
        channel._inplace_augment_message(letter, "", queue)  # noqa: SLF001 (kombu's channels do, before they use a slower JSON)
        return json.dumps(letter)

    def open(self) -> _Lines:
        """The ways of this process, opened by whoever needs them first. Raises as for `put`."""
        if self._opened is None:
            if not self._opening.acquire(timeout=_OPENING_SECONDS):
                raise OperationalError("the broker has not been reached yet")
            try:
                self._opened = self._opened or self._connect()
            finally:
                self._opening.release()
        return self._opened

    def _connect(self) -> _Lines:
        channel = self.app.connection_for_write().channel()
        own = OwnConnection(channel.kept)
        return _Lines(channel, own, Outbox(own))
