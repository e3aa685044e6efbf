"""How messages of Celery's get into queues and out of them, each in one command to Redis."""

import json
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final, cast
from uuid import uuid4

from celery.app.amqp import AMQP, task_message
from kombu import Consumer

from broker.outbox import Lost, Outbox
from broker.own_connections import OwnConnection

_BELL_SECONDS: Final = 60


class Post(AMQP):  # type: ignore[misc]
    """Celery's, with a short way for messages that go into one queue and want no answer by Celery.

    What is taken is in no queue any more, as Celery has it for tasks that are acknowledged early. What is lost with its worker
    is sent again by the sweep (architecture, 2, "Lost and found"), or waited for by nobody any more.
    """

    def put(self, queue: str, message: task_message) -> None:
        """Put a message into a queue; one that cannot be put is tried once more. Raises ConnectionError, RedisError or OperationalError."""
        self._channel.kept.lpush(queue, self._written(queue, message))

    def post(self, queue: str, message: task_message, lost: Lost) -> None:
        """Have a message put into a queue soon, and call `lost` with what `put` would raise. Raises OperationalError."""
        self._outbox.put(queue, self._written(queue, message), lost)

    def take(self, queues: Iterable[str], *, seconds: float) -> bytes | None:
        """The oldest message of the first queue that has one, or None when none has come for so long. Raises as for `put`."""
        taken = self._own.command("BRPOP", *queues, self._bell, seconds)
        return cast(bytes, taken[1]) if taken else None

    def wake(self, threads: int) -> None:
        """Give so many threads of this process that wait for messages something that is none. Raises as for `put`."""
        with self._channel.kept.pipeline() as pipeline:
            pipeline.lpush(self._bell, *[b""] * threads)
            pipeline.expire(self._bell, _BELL_SECONDS)
            pipeline.execute()

    def message(self, letter: dict[str, Any]) -> Any:
        """What was put, for Celery's worker. Raises whatever comes of what is no message."""
        message = self._channel.Message(letter, channel=self._channel)
        if message.errors:
            message._reraise_error()  # noqa: SLF001 (kombu's consumers do)
        return message

    def TaskConsumer(self, channel: Any, *_: Any, **options: Any) -> Consumer:  # noqa: N802 (Celery's)
        """One that takes nothing: threads do (`broker.consumer`)."""
        return self.Consumer(channel, queues=[], **options)

    def _written(self, queue: str, message: task_message) -> str:
        """A message as queues hold it."""
        letter = self._channel.prepare_message(
            json.dumps(message.body),
            content_type="application/json",
            content_encoding="utf-8",
            headers=message.headers,
            properties=message.properties,
        )
        self._channel._inplace_augment_message(letter, "", queue)  # noqa: SLF001 (kombu's channels do, before they use a slower JSON)
        return json.dumps(letter)

    @cached_property
    def _outbox(self) -> Outbox:
        return Outbox(self._own)

    @cached_property
    def _bell(self) -> str:
        return f"bell:{uuid4().hex}"

    @cached_property
    def _own(self) -> OwnConnection:
        return OwnConnection(self._channel.kept)

    @cached_property
    def _channel(self) -> Any:
        return self.app.connection_for_write().channel()
