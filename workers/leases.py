"""Leases on the tasks that this process works on, renewed until they are done."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from broker.tasks import Attempt, Tasks

_LOG = logging.getLogger(__name__)


class Leases:
    """One thread that renews all leases of a process every third of `seconds`."""

    def __init__(self, tasks: Tasks, seconds: float) -> None:
        self.seconds = seconds
        self._tasks = tasks
        self._held: set[Attempt] = set()
        self._lock = threading.Lock()
        self._renewer: threading.Thread | None = None

    @contextmanager
    def held(self, attempt: Attempt) -> Iterator[None]:
        """Renew the lease of an accepted attempt while the block runs."""
        self._start()
        self._held.add(attempt)
        try:
            yield
        finally:
            self._held.discard(attempt)

    def _start(self) -> None:
        with self._lock:
            if self._renewer is None or not self._renewer.is_alive():
                self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._renewer.start()

    def _renew(self) -> None:
        pause = threading.Event()
        while not pause.wait(self.seconds / 3):
            for attempt in tuple(self._held):
                try:
                    if not self._tasks.renew(attempt, lease=self.seconds):
                        _LOG.warning("lost the lease on task %s", attempt.task_id)
                        self._held.discard(attempt)
                except Exception:  # noqa: BLE001 (the outermost frame of the thread; redis-py raises TypeError, too, when cut off)
                    _LOG.warning("cannot renew leases", exc_info=True)
