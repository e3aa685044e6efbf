"""What is certified, and what never is: the one place that decides it."""

import logging
import pwd
import threading
import time
from collections.abc import Callable
from fnmatch import fnmatchcase

from schemas.errors import AccessDenied, TooManyRequests
from schemas.grant import GrantError
from schemas.settings import Delegation
from workers.certificates import CertificateRequest, Statement, new_serial

_LOG = logging.getLogger(__name__)


def uid_of(user: str) -> int:
    """The uid that the name service of this host knows; raises KeyError."""
    return pwd.getpwnam(user).pw_uid


class Policy:
    """Decides on requests that are genuine, by the delegation's settings."""

    def __init__(self, settings: Delegation, *, seconds: int, uid: Callable[[str], int] = uid_of) -> None:
        """Certificates live `seconds`; `uid` looks users up, and raises KeyError for those it does not know."""
        self._settings = settings
        self._seconds = seconds
        self._uid = uid
        self._addresses = {worker.name: worker.source_addresses for worker in settings.workers}
        self._rate = Rate(settings.certificates_per_minute)

    def statement(self, request: CertificateRequest, *, enrolled: str, command: str = "") -> Statement:
        """What the certificate for the request of an enrolled worker states, if for anything for this command line alone.

        Raises GrantError for a worker that is not among those of the settings, AccessDenied for a user who is not let in,
        TooManyRequests for one who has been given too many.
        """
        addresses = self._source_addresses(enrolled)
        if not self.lets_in(request.user):
            _LOG.warning("no certificate for %s", request.key_id())
            raise AccessDenied("User does not have permissions to access machine")
        self._rate.take(request.user)
        return Statement(request.public_key, request.user, request.key_id(), new_serial(), self._seconds, addresses, command)

    def _source_addresses(self, enrolled: str) -> tuple[str, ...]:
        if self._settings.workers and enrolled not in self._addresses:
            raise GrantError(f"the worker {enrolled} is not enrolled")
        return self._addresses.get(enrolled) or self._settings.source_addresses

    def lets_in(self, user: str) -> bool:
        """Whether the user may have certificates at all."""
        if user == "root" or any(fnmatchcase(user, pattern) for pattern in self._settings.denied_users):
            return False
        try:
            return not self._settings.minimum_uid or self._uid(user) >= self._settings.minimum_uid
        except KeyError:
            return False


class Rate:
    """So many a minute for each user, as many of them at once."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, user: str) -> None:
        """Count one; raises TooManyRequests when the user has none left."""
        now = time.monotonic()
        with self._lock:
            if len(self._left) > 10_000:
                self._left = {user: entry for user, entry in self._left.items() if now - entry[1] < 60}
            left, at = self._left.get(user, (float(self._per_minute), now))
            left = min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
            if left < 1:
                raise TooManyRequests("Too many requests at once", says=str(int((1 - left) * 60 / self._per_minute) + 1))
            self._left[user] = left - 1, now
