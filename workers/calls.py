"""How a worker handles messages that ask for calls: past what Celery does for tasks that it tries again or keeps results of."""

import logging
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from celery.worker import state
from celery.worker.consumer import Consumer

_LOG = logging.getLogger(__name__)


class Call:
    """A message that asks for a call, in the place of Celery's Request."""

    def __init__(self, task: Task, message: Any, consumer: Consumer) -> None:
        """Read the message. Raises whatever comes of one that is none of ours."""
        headers = message.headers
        (self._parameters,), self._keywords, _ = message.payload
        self.id, self.name, self.task = str(headers["id"]), task.name, task
        self._expires = datetime.fromisoformat(headers["expires"]).astimezone(UTC) if headers.get("expires") else None
        self._shown = str(headers.get("argsrepr") or "")
        self._consumer = consumer

    def perform(self) -> None:
        """Perform the call, unless its time is over."""
        state.task_reserved(self)
        state.task_accepted(self)
        self._tell("received", name=self.name, args=self._shown, kwargs="{}")
        try:
            expired = bool(self._expires and datetime.now(UTC) > self._expires)
            if expired or self.id in state.revoked:
                _LOG.info("nobody waits any more for %s, task %r", self.name, self.id)
                self._tell("revoked", terminated=False, signum=None, expired=expired)
            else:
                self._run()
        finally:
            state.task_ready(self)

    def _run(self) -> None:
        self._tell("started")
        began = time.monotonic()
        try:
            self.task.perform(self.id, self._parameters, **self._keywords)
        except Ignore:
            _LOG.info("%s is not due, task %r", self.name, self.id)
        except self.task.throws as failed:
            _LOG.info("%s failed, task %r: %r", self.name, self.id, failed)
            self._tell("failed", exception=repr(failed), traceback="")
        except Exception as failed:  # noqa: BLE001 (the outermost frame of the thread)
            _LOG.exception("%s raised what it must not, task %r", self.name, self.id)
            self._tell("failed", exception=repr(failed), traceback=traceback.format_exc())
        else:
            self._tell("succeeded", result="None", runtime=time.monotonic() - began)

    def _tell(self, what: str, **facts: Any) -> None:
        if self._consumer.event_dispatcher:
            self._consumer.event_dispatcher.send(f"task-{what}", uuid=self.id, **facts)


def strategy(task: Task, _app: Celery, consumer: Consumer) -> Callable[..., None]:
    """What the consumer does with messages for a task of calls."""

    def perform(message: Any, *_: Any) -> None:
        Call(task, message, consumer).perform()

    return perform
