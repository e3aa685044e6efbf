"""Where calls wait for their turn: a line for each user, of which the first alone asks whether it may go on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Line:
    def __init__(self) -> None:
        self.length = 0
        self.turn = threading.Lock()


class Lines:
    """At most `most` calls of a user wait, and twice as many in all: each holds a thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[str, _Line] = {}
        self._waiting = 0
        self._lock = threading.Lock()

    @contextmanager
    def place(self, user: str, *, until: float) -> Iterator[bool]:
        """Whether the call is the first in its user's line, which it stays as long as the block lasts.

        It is not if there is no room, or if its turn has not come by that moment (of time.monotonic()).
        """
        line = self._join(user)
        if line is None:
            yield False
            return
        try:
            first = line.turn.acquire(timeout=max(0, until - time.monotonic()))
            try:
                yield first
            finally:
                if first:
                    line.turn.release()
        finally:
            self._quit(user, line)

    def _join(self, user: str) -> _Line | None:
        with self._lock:
            line = self._lines.get(user) or _Line()
            if line.length >= self._most or self._waiting >= 2 * self._most:
                return None
            self._lines[user] = line
            line.length += 1
            self._waiting += 1
            return line

    def _quit(self, user: str, line: _Line) -> None:
        with self._lock:
            self._waiting -= 1
            line.length -= 1
            if not line.length:
                del self._lines[user]
