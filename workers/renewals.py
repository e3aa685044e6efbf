"""Certificates at hand, and the renewal of what is about to end beside the calls that still do without it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import paramiko

from schemas.errors import FirecrestError
from workers.certificates import UserKey, expiry

_LOG = logging.getLogger(__name__)

Certify = Callable[[str], str]
Key = tuple[str, str]

# A certificate is not used in its last seconds: clocks differ, and the way to the system takes time.
_MARGIN: Final = 30.0
# It is replaced, where a call allows, when less than this part of its time is left.
_LAST: Final = 1 / 3
_AT_ONCE: Final = 4
_PAUSE: Final = 30.0


class Certificates:
    """The certificates at hand, one per system and user, all for one key."""

    def __init__(self) -> None:
        self._key = UserKey()
        self._lines: dict[Key, tuple[str, float, float]] = {}

    def at_hand(self, entrance: Key) -> paramiko.PKey | None:
        """The key with a certificate that is still good, if there is one."""
        line, _, end = self._lines.get(entrance, ("", 0.0, 0.0))
        return self._key.paramiko(line) if time.time() < end else None

    def waning(self, entrance: Key) -> bool:
        """Whether there is none that is good for long."""
        return time.time() >= self._lines.get(entrance, ("", 0.0, 0.0))[1]

    def obtain(self, entrance: Key, certify: Certify) -> paramiko.PKey:
        """The key with a new certificate. Raises what `certify` raises."""
        line = certify(self._key.public_line())
        now = time.time()
        end = expiry(line) - _MARGIN
        current = {known: entry for known, entry in self._lines.copy().items() if now < entry[2]}
        self._lines = {**current, entrance: (line, end - (end - now) * _LAST, end)}
        return self._key.paramiko(line)

    def forget(self, entrance: Key) -> None:
        """Drop a certificate that was refused."""
        self._lines.pop(entrance, None)


class Renewals:
    """Renewals under way: one of an entrance, few at all; after a failure there is none for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[Key] = set()
        self._later: dict[Key, float] = {}

    def beside(self, entrance: Key, renew: Callable[[], None]) -> None:
        """Have `renew` called by a thread of its own, unless that has to wait."""
        now = time.monotonic()
        with self._lock:
            if entrance in self._under_way or len(self._under_way) >= _AT_ONCE or now < self._later.get(entrance, 0.0):
                return
            self._under_way.add(entrance)
        threading.Thread(target=self._renew, args=(entrance, renew), name="renewal", daemon=True).start()

    def _renew(self, entrance: Key, renew: Callable[[], None]) -> None:
        failed = True
        try:
            renew()
            failed = False
        except FirecrestError as error:
            _LOG.warning("the way into %s as %s could not be renewed: %s", *entrance, error.text)
        finally:
            now = time.monotonic()
            with self._lock:
                self._under_way.discard(entrance)
                self._later = {known: until for known, until in self._later.items() if now < until}
                if failed:
                    self._later[entrance] = now + _PAUSE
