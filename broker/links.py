"""Links to the object store in task records: sealed to the API and signed by a worker, so that Redis yields none and takes none."""

import hashlib
import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from broker.grants import sign_claims, verified_claims
from broker.key_rings import KeyRing, Watched
from broker.keys import opening_keys, sealing_key, signing_key
from schemas.settings import Keys
from schemas.task import Status, Task

_LOG = logging.getLogger(__name__)
_PART = "links"
_CHANGED = "What this task says was changed by somebody else"
# Where links stand in the data of a task; clients run what stands under `msg`, and fetch what stands under `url`.
_PLACES = {Status.FORM_READY: "msg", Status.STAGED_OUT: "url"}


class _ForgedError(Exception):
    """A link that no worker has sealed for this task of this user."""


class LinkSealer:
    """The workers' side."""

    def __init__(self, key: Callable[[], Ed25519PrivateKey], box: Callable[[], X25519PublicKey]) -> None:
        self._key = key
        self._box = box

    @classmethod
    def of(cls, keys: Keys) -> Self:
        """The deployment's, with the keys that its folders hold at the time; raises KeyFileError."""
        key = Watched(keys.private, lambda: signing_key(keys.private, "worker"))
        box = Watched(keys.public, lambda: sealing_key(keys.public, _PART))
        return cls(key.now, box.now)

    def sealed(self, links: Any, *, task_id: str, user: str) -> dict[str, str]:
        """The links of a task of a user as they stand in the record."""
        box = SealedBox(PublicKey(self._box().public_bytes_raw())).encrypt(json.dumps(links).encode())
        claims = {"task": task_id, "user": user, "links": _digest(box)}
        return {"sealed": b64encode(box).decode(), "signed": sign_claims(claims, self._key())}


class Links:
    """The API's side."""

    def __init__(self, openers: Callable[[], Sequence[X25519PrivateKey]], workers: KeyRing) -> None:
        self._openers = openers
        self._workers = workers

    @classmethod
    def of(cls, keys: Keys) -> Self:
        """The deployment's, with the keys that its folders hold at the time; raises KeyFileError."""
        return cls(Watched(keys.private, lambda: opening_keys(keys.private, _PART)).now, KeyRing.of(keys.public, "worker"))

    @classmethod
    def none(cls) -> Self:
        """Those of a deployment without an object store: there are no links."""
        return cls(list, KeyRing())

    def opened(self, task: Task) -> Task:
        """The task as its user sees it; where no worker has put its links there for this user, it says that instead of anything else."""
        try:
            return task.model_copy(update={"data": self._opened(task)})
        except _ForgedError:
            _LOG.critical("the links of task %s were changed by somebody else", task.task_id)
            return task.model_copy(update={"data": _CHANGED})

    def _opened(self, task: Task) -> Any:
        told, place = task.data, _PLACES.get(task.status)
        if not isinstance(told, dict):
            if place:
                raise _ForgedError
            return told
        wanted = {place} if place else set()
        if "url" in told:
            wanted.add("url")
        if not isinstance(told.get("msg", ""), str):
            wanted.add("msg")
        return {**told, **{name: self._open(task, told.get(name)) for name in wanted}}

    def _open(self, task: Task, kept: Any) -> Any:
        try:
            box = b64decode(kept["sealed"], validate=True)
            claims, _ = verified_claims(kept["signed"], self._workers)
        except (KeyError, TypeError, ValueError, jwt.PyJWTError, RecursionError):
            raise _ForgedError from None
        if claims != {"task": task.task_id, "user": task.user, "links": _digest(box)}:
            raise _ForgedError
        for opener in self._openers():
            with suppress(CryptoError):
                return json.loads(SealedBox(PrivateKey(opener.private_bytes_raw())).decrypt(box))
        raise _ForgedError


def _digest(box: bytes) -> str:
    return hashlib.sha256(box).hexdigest()
