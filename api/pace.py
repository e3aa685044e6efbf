"""When those who call too often are told so: the first time at once, and then at a steady pace, for they would ask again."""

import threading
import time
from typing import Final

# So many refusals a second are told to one user, by one process: those who do not wait are made to.
PACE: Final = 20
# Beyond this clients would give up.
LONGEST: Final = 5.0
_MOST_USERS: Final = 4000


class Pace:
    """The turns of all users in one process."""

    def __init__(self) -> None:
        self._turns: dict[str, float] = {}
        self._lock = threading.Lock()

    def keep(self, user: str) -> None:
        """Wait for the user's next turn."""
        time.sleep(self.seconds(user, time.monotonic()))

    def seconds(self, user: str, now: float) -> float:
        """How long it takes until the next turn of the user, which is taken with that."""
        with self._lock:
            if len(self._turns) > _MOST_USERS:
                self._turns = {known: turn for known, turn in self._turns.items() if turn > now}
            due = min(max(now, self._turns.get(user, now)), now + LONGEST)
            self._turns[user] = due + 1 / PACE
        return due - now
