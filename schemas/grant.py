"""Who asked for what: the signed statement that travels with every operation."""

from pydantic import BaseModel


class Grant(BaseModel):
    """What the API states of a call that it accepted; times are Unix seconds.

    `seal` is the caller's token, readable by the delegation only.
    """

    task_id: str
    user: str
    system: str
    operation: str
    parameters: str
    accepted: int
    expires: int
    seal: str


class GrantError(Exception):
    """The grant is forged, has expired, or is for another call."""
