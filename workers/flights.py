"""Work that is the same for several callers, done for them together."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from typing import Any

from schemas.errors import Stopped
from workers.stopping import Stop


class Flights:
    """What is under way in this process, by key.

    A caller joins only work that has not begun: what began before the call may not show what the caller has just done. So for each key
    at most one is under way and one waits for it, and nobody waits for more than these two.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[Hashable, Future[Any]] = {}
        self._next: dict[Hashable, Future[Any]] = {}

    def share(self, key: Hashable, work: Callable[[], Any], stop: Stop) -> Any:
        """The outcome of `work`, which whoever calls with the same key before it begins shares; raises what it raises.

        When the caller is stopped whose work it was, the others go on.
        """
        while True:
            try:
                return self._join(key, work)
            except Stopped:
                if stop.asked:
                    raise

    def _join(self, key: Hashable, work: Callable[[], Any]) -> Any:
        with self._lock:
            joined, before = self._next.get(key), self._begun.get(key)
            if joined is None:
                mine: Future[Any] = Future()
                (self._begun if before is None else self._next)[key] = mine
        if joined is not None:
            return joined.result()
        if before is not None:
            wait([before])
            with self._lock:
                self._begun[key] = self._next.pop(key)
        return self._do(key, mine, work)

    def _do(self, key: Hashable, mine: Future[Any], work: Callable[[], Any]) -> Any:
        try:
            mine.set_result(work())
        except BaseException as failed:  # noqa: BLE001 (whoever waits must be told)
            mine.set_exception(failed)
        with self._lock:
            if self._begun.get(key) is mine and key not in self._next:
                del self._begun[key]
        return mine.result()
