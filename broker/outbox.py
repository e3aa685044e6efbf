"""Letters that leave for queues by one connection: those that come while others are on their way go together, in one command."""

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from broker.own_connections import OwnConnection

_LOG = logging.getLogger(__name__)

# Called with what became of a letter that may not have arrived.
Lost = Callable[[Exception], None]


class _Letter(NamedTuple):
    queue: str
    text: str
    lost: Lost


class Outbox:
    """One thread that puts letters into queues, for all threads that wait for what comes of them and not for that."""

    def __init__(self, own: OwnConnection) -> None:
        self._own = own
        self._letters: deque[_Letter] = deque()
        self._bell: _Bell | None = None
        self._lock = threading.Lock()

    def put(self, queue: str, text: str, lost: Lost) -> None:
        """Have a letter put into a queue soon; call `lost`, in another thread, if it cannot be."""
        self._letters.append(_Letter(queue, text, lost))
        (self._bell or self._start()).ring()

    def _start(self) -> "_Bell":
        """The bell of the thread, which is started with it."""
        with self._lock:
            if self._bell is None:
                self._bell = _Bell()
                threading.Thread(target=self._run, args=(self._bell,), name="outbox", daemon=True).start()
            return self._bell

    def _run(self, bell: "_Bell") -> None:
        while True:
            bell.wait(lambda: bool(self._letters))
            self._send(self._waiting())

    def _waiting(self) -> dict[str, list[_Letter]]:
        """All letters that wait, by their queues."""
        found: dict[str, list[_Letter]] = {}
        while self._letters:
            letter = self._letters.popleft()
            found.setdefault(letter.queue, []).append(letter)
        return found

    def _send(self, waiting: dict[str, list[_Letter]]) -> None:
        for queue, letters in waiting.items():
            try:
                self._own.command("LPUSH", queue, *(letter.text for letter in letters))
            except Exception as lost:  # noqa: BLE001 (the outermost frame of the thread; redis-py raises TypeError, too, when cut off)
                _LOG.warning("%s letters for %s may not have arrived: %s", len(letters), queue, lost)
                for letter in letters:
                    letter.lost(lost)


class _Bell:
    """Wakes one thread. It is a socket: who waits for a lock or a queue is woken by gevent after all greenlets that are ready by then."""

    def __init__(self) -> None:
        self._rope, self._clapper = socket.socketpair()
        self._asleep = False

    def ring(self) -> None:
        """Wake the thread if it sleeps."""
        if self._asleep:
            self._asleep = False
            self._rope.send(b"!")

    def wait(self, awaited: Callable[[], bool]) -> None:
        """Sleep until rung, or not at all when there is what is awaited."""
        while not awaited():
            self._asleep = True
            if not awaited():
                self._clapper.recv(64)
            self._asleep = False
