"""The worker's side of delegation: asking for certificates."""

import json
import time
from collections.abc import Callable
from typing import cast
from uuid import uuid4

from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from broker.gateway import ask
from broker.grants import sign_claims
from broker.replies import Replies
from schemas.errors import ServiceUnavailable, TimedOut

_PATIENCE = 8


class Petitioner:
    """Asks the delegation, in the name of one worker."""

    def __init__(self, app: Celery, replies: Replies, key: Callable[[], Ed25519PrivateKey], *, worker: str) -> None:
        self._app = app
        self._replies = replies
        self._key = key
        self._worker = worker

    def certify(self, public_key: str, grant: str, command: str = "") -> str:
        """A certificate for the key, on the strength of a grant; raises AccessDenied or ServiceUnavailable.

        `command` is the one that it is for (`workers.forced.spelled`), where the system wants one.
        """
        return self._certify({"public_key": public_key, "grant": grant, "command": command})

    def certify_probe(self, public_key: str, system: str, command: str = "") -> str:
        """A certificate for the key, for the `probe_user` of a system; raises AccessDenied or ServiceUnavailable."""
        return self._certify({"public_key": public_key, "probe": system, "command": command})

    def _certify(self, wanted: dict[str, str]) -> str:
        call_id = uuid4().hex
        claims = {**wanted, "call": call_id, "worker": self._worker, "at": int(time.time())}
        petition = sign_claims(claims, self._key())
        try:
            found = ask(self._app, self._replies, "delegation.Certify", petition, task_id=call_id, shown=self._worker, seconds=_PATIENCE)
            return str(json.loads(cast(bytes, found)))
        except (TimedOut, RedisError, OperationalError, ConnectionError) as lost:
            raise ServiceUnavailable("The delegation does not answer") from lost
