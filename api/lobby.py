"""Where connections end: one thread answers whoever was refused, each in their time, and closes behind everybody."""

import heapq
import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

_LOG = logging.getLogger(__name__)
# So many refusals a second are told to the holder of one token, by one process: those who do not wait are made to.
PACE: Final = 20
# Beyond this clients would give up.
LONGEST: Final = 5.0
# What still comes is thrown away for so long: a server that closes while a body still comes resets the connection, answer and all.
LINGER: Final = 3.0
MOST: Final = 4000
_PIECE = 65536


@dataclass(order=True)
class _Guest:
    due: float
    number: int
    sock: socket.socket = field(compare=False)
    answer: bytes = field(compare=False)


class Lobby:
    """The connections of one process that are about to end."""

    def __init__(self) -> None:
        self._arrived: deque[_Guest] = deque()
        self._waiting: list[_Guest] = []
        self._leaving: deque[_Guest] = deque()
        self._numbers = count()
        self._turns: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ending = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._rope, False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="lobby", daemon=True)
        self._thread.start()

    def take(self, sock: socket.socket, answer: bytes = b"", key: str = "") -> None:
        """Send the answer, if there is one, when it is the turn of the next with that key, and close the connection."""
        due = self._turn(key) if answer else 0.0
        self._arrived.append(_Guest(due, next(self._numbers), sock, answer))
        self._ring()

    def close(self) -> None:
        """Tell everybody at once, and end."""
        self._ending = True
        self._ring()
        self._thread.join(LINGER)
        os.close(self._rope)

    def _turn(self, key: str) -> float:
        now = time.monotonic()
        with self._lock:
            if len(self._turns) > MOST:
                self._turns = {known: turn for known, turn in self._turns.items() if turn > now}
            due = min(max(now, self._turns.get(key, now)), now + LONGEST)
            self._turns[key] = due + 1 / PACE
        return due

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._rope, b".")

    def _run(self) -> None:
        while not self._ending:
            try:
                self._look()
            except Exception:  # noqa: BLE001 (the outermost frame of the thread)
                _LOG.warning("the lobby failed", exc_info=True)
        self._receive()
        for guest in self._waiting:
            self._tell(guest)
        for guest in self._leaving:
            guest.sock.close()
        self._selector.close()
        os.close(self._bell)

    def _look(self) -> None:
        for ready, _ in self._selector.select(self._pause()):
            if ready.data is None:
                with suppress(BlockingIOError):
                    os.read(self._bell, _PIECE)
            elif not _more(ready.data.sock):
                self._end(ready.data)
        self._receive()
        now = time.monotonic()
        while self._waiting and self._waiting[0].due <= now:
            self._tell(heapq.heappop(self._waiting))
        while self._leaving and self._leaving[0].due <= now:
            self._end(self._leaving.popleft())

    def _pause(self) -> float:
        times = [guests[0].due for guests in (self._waiting, self._leaving) if guests]
        return max(0.0, min(times) - time.monotonic()) if times else LINGER

    def _receive(self) -> None:
        while self._arrived:
            guest = self._arrived.popleft()
            if len(self._waiting) + len(self._leaving) >= MOST:
                guest.sock.close()
            else:
                heapq.heappush(self._waiting, guest)

    def _tell(self, guest: _Guest) -> None:
        """Answer, and then only listen."""
        try:
            guest.sock.setblocking(False)
            if guest.answer:
                guest.sock.send(guest.answer)
            guest.sock.shutdown(socket.SHUT_WR)
            self._selector.register(guest.sock, selectors.EVENT_READ, guest)
        except (OSError, ValueError):  # it is gone, or takes nothing
            guest.sock.close()
            return
        guest.due = time.monotonic() + LINGER
        self._leaving.append(guest)

    def _end(self, guest: _Guest) -> None:
        with suppress(KeyError, ValueError):  # it has ended before its time was over
            self._selector.unregister(guest.sock)
        guest.sock.close()


def _more(sock: socket.socket) -> bool:
    """Whether more may come, after what has come is thrown away."""
    try:
        return bool(sock.recv(_PIECE))
    except BlockingIOError:
        return True
    except OSError:
        return False
