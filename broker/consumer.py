"""The consumer of a worker: each thread of its pool takes messages from the queues by itself, and does what they ask for.

Celery's own takes them in the main thread, which costs more than a call does, and holds some that other workers could begin.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from celery.concurrency.base import BasePool, apply_target
from celery.utils.functional import noop
from celery.worker.consumer import Consumer
from kombu.serialization import prepare_accept_content

from broker.events import SECONDS

_LOG = logging.getLogger(__name__)
# Less than the time after which a connection counts as broken.
_LOOK_SECONDS: Final = 8
_PAUSE_SECONDS: Final = 1


class AtOnce(BasePool):  # type: ignore[misc]
    """The pool as seen by what handles messages: it is in one of the pool's threads already."""

    def apply_async(self, target: Any, args: Any = (), kwargs: Any = None, **options: Any) -> None:
        """Do it."""
        apply_target(target, args, kwargs, **options)


class CarefulConsumer(Consumer):  # type: ignore[misc]
    """Celery's own would end for some of what can be written into a queue; here it costs a line in the log."""

    def __init__(self, *arguments: Any, pool: BasePool, **options: Any) -> None:
        super().__init__(*arguments, pool=AtOnce(pool.limit), **options)
        self._threads = pool
        self._stopped = threading.Event()
        self._handle: Callable[[Any], None] = noop
        self._working = False
        self._cut_off = False

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """What handles messages from now on."""
        self._handle = super().create_task_handler(*arguments, **options)
        for _ in range(0 if self._working else self._threads.limit):
            self._threads.apply_async(self._work, callback=noop)
        self._working = True
        return self._handle

    def register_with_event_loop(self, hub: Any) -> None:
        """Have the events that were gathered sent by and by."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(SECONDS, self._flush_events)

    def on_send_event_buffered(self) -> None:
        """Celery would send it at once."""

    def stop(self) -> None:
        """Take no more; what is under way comes to its end before the pool stops."""
        self._stopped.set()
        try:
            self.app.amqp.wake(self._threads.limit)
        except self.connection_errors as lost:
            _LOG.warning("threads that wait for messages stop within %s seconds: %s", _LOOK_SECONDS, lost)
        super().stop()

    def shutdown(self) -> None:
        """Send the last events."""
        self._flush_events()
        super().shutdown()

    def _work(self) -> None:
        queues = deque(self.app.amqp.queues.consume_from)
        while not self._stopped.is_set():
            queues.rotate()
            try:
                taken = self.app.amqp.take(queues, seconds=_LOOK_SECONDS)
            except Exception as lost:  # noqa: BLE001 (the outermost frame; redis-py raises TypeError, too, when cut off)
                self._tell(lost)
                self._stopped.wait(_PAUSE_SECONDS)
                continue
            self._cut_off = False
            if taken:
                self._do(taken)

    def _tell(self, lost: Exception) -> None:
        if not self._cut_off:
            self._cut_off = True
            _LOG.warning("no messages can be taken: %s", lost)

    def _do(self, taken: bytes) -> None:
        try:
            message = self.app.amqp.message(json.loads(taken))
            message.accept = prepare_accept_content(self.app.conf.accept_content)
            self._handle(message)
        except Exception:  # noqa: BLE001 (the outermost frame: whatever a stranger wrote)
            _LOG.critical("a message that is none of ours was dropped", exc_info=True)
