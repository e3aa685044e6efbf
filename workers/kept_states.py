"""What a task keeps from step to step, signed: who can write to Redis must not tell a worker where to write in a user's name."""

import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import CommandFailed


class KeptStates:
    """Signs states with the key that all workers share, and takes no other."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key()

    def signed(self, task_id: str, state: dict[str, Any]) -> dict[str, Any]:
        """The state of a task as it is kept in the record."""
        return {"state": state, "signature": self._key.sign(_said(task_id, state)).hex()}

    def verified(self, task_id: str, kept: dict[str, Any]) -> dict[str, Any]:
        """What was signed for that task, or nothing when no step has kept anything; raises CommandFailed for what was not signed."""
        if not kept:
            return {}
        try:
            state: dict[str, Any] = kept["state"]
            self._public.verify(bytes.fromhex(kept["signature"]), _said(task_id, state))
        except (InvalidSignature, KeyError, TypeError, ValueError) as wrong:
            raise CommandFailed("The state of the task was changed by somebody else") from wrong
        return state


def _said(task_id: str, state: dict[str, Any]) -> bytes:
    return f"state of task {task_id}\n{json.dumps(state, sort_keys=True)}".encode()
