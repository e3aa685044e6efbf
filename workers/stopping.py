"""How one thread has another stop what it runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.errors import Stopped


class Stop:
    """The wish that some work stop: made once, heeded from then on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[Callable[[], None]] = []
        self._asked = False

    @property
    def asked(self) -> bool:
        """Whether the wish has been made."""
        return self._asked

    def ask(self) -> None:
        """Have what runs ended, without waiting for it."""
        with self._lock:
            self._asked = True
            ends = list(self._ends)
        for end in ends:
            threading.Thread(target=end, name="stop", daemon=True).start()

    @contextmanager
    def ends(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called, by another thread, when the block is to stop. Raises Stopped, however the block ended, when it was."""
        with self._lock:
            self._ends.append(end)
            asked = self._asked
        try:
            if asked:
                end()
                raise Stopped
            yield
        finally:
            with self._lock:
                self._ends.remove(end)
                asked = self._asked
            if asked:
                raise Stopped
