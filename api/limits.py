"""How many calls a user may make: who makes more waits for a moment, or is told so before anything is done for them."""

import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from flask import Response, g
from redis.exceptions import RedisError

from api.lines import Lines
from api.pace import Pace
from broker.limits import Limiter, Standing
from schemas.errors import TooManyRequests
from schemas.settings import Limits

_LOG = logging.getLogger(__name__)
# The end of a call that was not seen must not count for ever; no call takes longer.
_LONGEST_SECONDS = 3600
_LONGEST_WAIT = 5  # seconds


@dataclass(frozen=True)
class _Call:
    user: str
    since: float


class Turnstile:
    """Lets calls in, and knows those of this process that are under way, downloads that are still being sent among them."""

    def __init__(self, limiter: Limiter, limits: Limits) -> None:
        self._limiter = limiter
        self._limits = limits
        self._lines = Lines(limits.calls_waiting)
        self._pace = Pace()
        self._calls: dict[str, _Call] = {}
        self._lock = threading.Lock()
        self._renewing: threading.Thread | None = None

    def enter(self, user: str) -> None:
        """Count the current request as a call of the user. Raises TooManyRequests, which says when to try again, or RedisError."""
        limits = self._limits
        if not limits.calls_per_second and not limits.calls_at_once:
            return
        call = uuid4().hex
        standing = g.standing = self._standing(user, call)
        wait = str(max(1, math.ceil(standing.wait)))
        if standing.verdict == "rate":
            raise TooManyRequests(f"Too many requests: at most {limits.calls_per_second:g} per second", says=wait)
        if standing.verdict == "calls":
            raise TooManyRequests(f"Too many requests at once: at most {limits.calls_at_once}", says=wait)
        if limits.calls_at_once:
            g.call = call
            self._count(call, _Call(user, time.monotonic()))

    def _standing(self, user: str, call: str) -> Standing:
        """How the call is met, when its turn has come if it has to wait for that and there is room."""
        standing = self._limiter.enter(user, call)
        if standing.verdict == "in":
            return standing
        end = time.monotonic() + _LONGEST_WAIT
        with self._lines.place(user, until=end) as first:
            while first and standing.verdict != "in" and time.monotonic() + standing.wait < end:
                time.sleep(standing.wait)
                standing = self._limiter.enter(user, call)
        return standing

    def see_off(self, response: Response) -> Response:
        """The answer, told how much the user has left; the call is over when it has been sent, or nobody takes it any more."""
        standing: Standing | None = g.pop("standing", None)
        if standing and self._limits.calls_per_second:
            response.headers["RateLimit-Limit"] = str(self._limits.calls_burst)
            response.headers["RateLimit-Remaining"] = str(standing.remaining)
            response.headers["RateLimit-Reset"] = str(standing.reset)
        if response.status_code == TooManyRequests.status:
            self._pace.keep(g.caller.user)
        if "call" in g:
            response.call_on_close(partial(self._leave, g.pop("call")))
        return response

    def step_aside(self) -> None:
        """Count the current call no more, though it is not answered yet: it does nothing but wait."""
        if "call" in g:
            self._leave(g.pop("call"))

    def renew(self) -> None:
        """Have the calls under way go on counting. Raises RedisError."""
        late = time.monotonic() - _LONGEST_SECONDS
        with self._lock:
            self._calls = {name: call for name, call in self._calls.items() if call.since > late}
            users = {name: call.user for name, call in self._calls.items()}
        self._limiter.renew(users)

    def _leave(self, name: str) -> None:
        with self._lock:
            call = self._calls.pop(name, None)
        if call:
            with suppress(RedisError):  # then it counts for a few seconds more
                self._limiter.leave(call.user, name)

    def _count(self, name: str, call: _Call) -> None:
        with self._lock:
            self._calls[name] = call
            if self._renewing is None or not self._renewing.is_alive():
                self._renewing = threading.Thread(target=self._run, name="calls-renewal", daemon=True)
                self._renewing.start()

    def _run(self) -> None:
        while True:
            time.sleep(self._limiter.seconds / 3)
            try:
                self.renew()
            except RedisError as lost:
                _LOG.warning("cannot renew the calls under way: %s", lost)
