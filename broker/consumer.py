"""The consumer of a worker: what is in a queue and is no message of ours costs a line in the log, and not the worker."""

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

_LOG = logging.getLogger(__name__)


class CarefulConsumer(Consumer):  # type: ignore[misc]
    """Celery's own would end for some of what can be written into a queue, and have the message back there for the next worker."""

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Handles a message, or drops it."""
        handle = super().create_task_handler(*arguments, **options)
        lost = (*self.connection_errors, *self.channel_errors)

        def handle_or_drop(message: Any) -> None:
            try:
                handle(message)
            except lost:
                raise
            except Exception:  # noqa: BLE001 (the outermost frame: whatever a stranger wrote)
                _LOG.critical("a message that is none of ours was dropped", exc_info=True)
                if not message.acknowledged:
                    message.reject_log_error(_LOG, lost)

        return handle_or_drop
