"""How many tasks each user has under way in this process, which bounds how many of its threads one user holds."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Shares:
    """Counts tasks by user, up to `most` each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = Counter[str]()
        self._lock = threading.Lock()

    @contextmanager
    def one(self, user: str) -> Iterator[bool]:
        """Whether one more task of the user may be under way; it is, for as long as the block lasts."""
        with self._lock:
            mine = self._taken[user] < self._most
            self._taken[user] += mine
        try:
            yield mine
        finally:
            with self._lock:
                self._taken[user] -= mine
                if not self._taken[user]:
                    del self._taken[user]
