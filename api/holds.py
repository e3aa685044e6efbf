"""Queries of tasks that are held until there is something to tell, so that clients need not sleep and ask again."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from flask import Response, after_this_request, g, request
from redis.exceptions import RedisError

from api.limits import Turnstile
from broker.subscription import Subscription
from schemas.settings import Limits
from schemas.task import Task

_MOST = 1000
_GLANCE_SECONDS = 1
_ESTABLISHED = 1  # TCP_ESTABLISHED of Linux' tcp_states.h, the first byte of struct tcp_info

Look = Callable[[], list[Task]]


class Holds:
    """The queries that this process holds; each waits in the greenlet of its connection, and those of a user share a channel."""

    def __init__(self, subscription: Subscription, turnstile: Turnstile, limits: Limits) -> None:
        self._subscription = subscription
        self._turnstile = turnstile
        self._limits = limits
        self._held: Counter[str] = Counter()
        self._changes: set[threading.Event] = set()
        self._lock = threading.Lock()
        self._closed = False

    def settled(self, user: str, look: Look, *, asked: int | None) -> list[Task]:
        """What `look` finds of tasks of the user, as soon as one of them is pending no more, or when the time is up.

        That is after as many seconds as the client has asked for, if it has, and there is room: else what it finds at once.
        Raises what `look` raises the first time.
        """
        seconds = self._limits.hold_seconds if asked is None else min(asked, self._limits.longest_hold_seconds)
        found = look()
        if seconds and _pending(found):
            with self._place(user) as changed:
                if changed is None:
                    return found
                found = self._hold(user, look, found, changed=changed, seconds=seconds)
        if asked is not None:
            after_this_request(_applied(f"wait={seconds}"))
        return found

    def close(self) -> None:
        """Let go of all that is held, for good. It waits for nothing, so that it may be called from a signal handler."""
        self._closed = True
        for changed in tuple(self._changes):
            changed.set()

    @contextmanager
    def _place(self, user: str) -> Iterator[threading.Event | None]:
        """What is set when the user's tasks have changed; None if there is no room."""
        changed = threading.Event()
        with self._lock:
            room = not self._closed and len(self._changes) < _MOST and self._held[user] < self._limits.holds_per_user
            if room:
                self._held[user] += 1
                self._changes.add(changed)
        try:
            yield changed if room else None
        finally:
            if room:
                self._forget(user, changed)

    def _forget(self, user: str, changed: threading.Event) -> None:
        with self._lock:
            self._changes.remove(changed)
            self._held[user] -= 1
            if not self._held[user]:
                del self._held[user]

    def _hold(self, user: str, look: Look, found: list[Task], *, changed: threading.Event, seconds: float) -> list[Task]:
        self._turnstile.step_aside()
        began, ids = time.monotonic(), {task.task_id.encode() for task in found}

        def heard(task_id: bytes | None) -> None:
            if task_id is None or task_id in ids:
                changed.set()

        with suppress(RedisError, ConnectionError), self._subscription.listening(f"settled:{user}", heard, seconds=seconds):
            changed.clear()
            while _pending(found := look()):
                if not self._changed(changed, end=began + seconds):
                    found = look()  # what progress there is
                    break
        g.held = round(1000 * (time.monotonic() - began), 1)
        return found

    def _changed(self, changed: threading.Event, *, end: float) -> bool:
        while not self._closed and not _gone() and (left := end - time.monotonic()) > 0:
            if changed.wait(min(left, _GLANCE_SECONDS)):
                changed.clear()
                return True
        return False


def _pending(found: list[Task]) -> bool:
    return bool(found) and all(task.status.pending for task in found)


def _applied(preference: str) -> Callable[[Response], Response]:
    def tell(response: Response) -> Response:
        response.headers["Preference-Applied"] = preference
        return response

    return tell


def _gone() -> bool:
    """Whether the client has hung up, as far as gunicorn lets us see."""
    client = request.environ.get("gunicorn.socket")
    if client is None:
        return False
    try:
        state: int = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:
        return False
    return state != _ESTABLISHED
