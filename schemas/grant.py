"""Who asked for what: the signed statement that travels with every operation."""

import time

from pydantic import BaseModel


class Grant(BaseModel):
    """What the API states of a call that it accepted; times are Unix seconds.

    `seal` is the caller's token, readable by the delegation only; `request` is the id of the HTTP request, for the audit trail.
    """

    task_id: str
    user: str
    system: str
    operation: str
    parameters: str
    accepted: int
    expires: float
    seal: str
    request: str = ""

    def check_time(self) -> None:
        """Raises GrantExpired when the time of the grant is over."""
        if time.time() > self.expires:
            raise GrantExpired(f"the grant of task {self.task_id} has expired")


class GrantError(Exception):
    """The grant is forged, has expired, or is for another call."""


class GrantExpired(GrantError):
    """The grant is genuine, but its time is over."""
