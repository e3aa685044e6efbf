"""What a task keeps from step to step, signed: who can write to Redis must not tell a worker where to write in a user's name."""

import json
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.key_rings import KeyRing, Watched
from broker.keys import key_id, signing_key
from schemas.errors import CommandFailed
from schemas.settings import Keys

_CHANGED = "The state of the task was changed by somebody else"


class KeptStates:
    """Signs states with the worker's key, and takes those that an enrolled worker has signed."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """One that knows only this key."""
        self._key: Callable[[], Ed25519PrivateKey] = lambda: key
        self._ring = KeyRing(key.public_key())

    @classmethod
    def of(cls, keys: Keys) -> "KeptStates":
        """The deployment's, with the keys that its folders hold at the time; raises KeyFileError."""
        key = Watched(keys.private, lambda: signing_key(keys.private, "worker"))
        states = cls(key.now())
        states._key, states._ring = key.now, KeyRing.of(keys.public, "worker")
        return states

    def signed(self, task_id: str, state: dict[str, Any]) -> dict[str, Any]:
        """The state of a task as it is kept in the record."""
        key = self._key()
        return {"state": state, "key": key_id(key.public_key()), "signature": key.sign(_said(task_id, state)).hex()}

    def verified(self, task_id: str, kept: dict[str, Any]) -> dict[str, Any]:
        """What was signed for that task, or nothing when no step has kept anything; raises CommandFailed for what was not signed."""
        if not kept:
            return {}
        try:
            state: dict[str, Any] = kept["state"]
            self._ring.named(kept["key"]).key.verify(bytes.fromhex(kept["signature"]), _said(task_id, state))
        except (InvalidSignature, KeyError, TypeError, ValueError) as wrong:
            raise CommandFailed(_CHANGED) from wrong
        return state


def _said(task_id: str, state: dict[str, Any]) -> bytes:
    return f"state of task {task_id}\n{json.dumps(state, sort_keys=True)}".encode()
