"""Who has just been let into which system, as far as this process has seen."""

import time
from typing import Final

# So long what has ended well there is proof.
SECONDS: Final = 10.0
_MANY: Final = 10_000


class Proofs:
    """The last moments at which calls of users ended well on systems; every method may be called from any thread."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], float] = {}

    def note(self, user: str, system: str) -> None:
        """A call of the user has ended well there."""
        now = time.monotonic()
        if len(self._seen) >= _MANY:
            self._seen = {known: seen for known, seen in self._seen.copy().items() if now - seen < SECONDS}
        self._seen[user, system] = now

    def forget(self, user: str, system: str) -> None:
        """A call of the user has failed there, whatever the reason."""
        self._seen.pop((user, system), None)

    def hold(self, user: str, system: str) -> bool:
        """Whether the user is known to be let in just now."""
        return time.monotonic() - self._seen.get((user, system), float("-inf")) < SECONDS
