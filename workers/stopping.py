"""How one thread has another stop what it runs."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.errors import Stopped


class Stop:
    """The wish that some work stop: made once, heeded from then on. Without being asked, work stops that has gone on until `lapses`."""

    def __init__(self, lapses: float = math.inf) -> None:
        self.lapses = lapses  # by time.monotonic()
        self._lock = threading.Lock()
        self._ends: list[Callable[[], object]] = []
        self._asked = False

    @property
    def asked(self) -> bool:
        """Whether the wish has been made, or the time is over."""
        return self._asked or time.monotonic() >= self.lapses

    def check(self) -> None:
        """Raises Stopped when nothing more is to be begun."""
        if self.asked:
            raise Stopped

    def ask(self) -> None:
        """Have what runs ended, without waiting for it."""
        with self._lock:
            self._asked = True
            ends = list(self._ends)
        for end in ends:
            threading.Thread(target=end, name="stop", daemon=True).start()

    @contextmanager
    def ends(self, end: Callable[[], object]) -> Iterator[None]:
        """Have `end` called, by another thread, when the block is to stop. Raises Stopped, however the block ended, when it was."""
        with self._lock:
            self._ends.append(end)
            asked = self.asked
        try:
            if asked:
                end()
                raise Stopped
            yield
        finally:
            with self._lock:
                self._ends.remove(end)
            self.check()
