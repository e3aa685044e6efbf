"""Leases on the tasks that this process works on, renewed until they are done."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from broker.tasks import Attempt, Tasks
from workers.stopping import Stop

_LOG = logging.getLogger(__name__)
# So soon is it seen that a task was cancelled.
_LONGEST_PERIOD = 1


class Leases:
    """One thread that renews all leases of a process every second, or every third of `seconds` if that is less."""

    def __init__(self, tasks: Tasks, seconds: float) -> None:
        self.seconds = seconds
        self._tasks = tasks
        self._held: dict[Attempt, tuple[Stop, bool]] = {}
        self._lock = threading.Lock()
        self._renewer: threading.Thread | None = None

    @contextmanager
    def held(self, attempt: Attempt, since: float, *, graceful: bool = False) -> Iterator[Stop]:
        """Renew the lease of an attempt, accepted `since` (time.monotonic()), while the block runs.

        What it gives is asked to stop when the lease cannot be renewed: at once, or when it has lapsed if that is `graceful`.
        It stops by itself when the lease has lapsed: a process that was stopped and wakes must begin nothing, as another may
        have taken over and be done by then.
        """
        self._start()
        stop = Stop(since + self.seconds)
        self._held[attempt] = stop, graceful
        try:
            yield stop
        finally:
            self._held.pop(attempt, None)

    def _start(self) -> None:
        with self._lock:
            if self._renewer is None or not self._renewer.is_alive():
                self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._renewer.start()

    def _renew(self) -> None:
        pause = threading.Event()
        while not pause.wait(min(self.seconds / 3, _LONGEST_PERIOD)):
            for attempt, (stop, graceful) in tuple(self._held.items()):
                asked = time.monotonic()
                try:
                    if self._tasks.renew(attempt, lease=self.seconds):
                        stop.lapses = asked + self.seconds
                    elif stop.asked or not graceful:
                        _LOG.warning("lost the lease on task %s", attempt.task_id)
                        self._held.pop(attempt, None)
                        stop.ask()
                except Exception:  # noqa: BLE001 (the outermost frame of the thread; redis-py raises TypeError, too, when cut off)
                    _LOG.warning("cannot renew leases", exc_info=True)
