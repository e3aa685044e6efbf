"""Grants: signed by the API, verified by whoever acts on them, with the caller's token sealed inside."""

import time
from base64 import b64decode, b64encode

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from pydantic import ValidationError

from broker.compact import strictly_written
from schemas.grant import Grant, GrantError
from schemas.operation import Operation, digest

_ALGORITHM = "EdDSA"


class GrantSigner:
    """The API's side: states what a caller asked for."""

    def __init__(self, key: Ed25519PrivateKey, seal: X25519PublicKey) -> None:
        self._key = key
        self._box = SealedBox(PublicKey(seal.public_bytes_raw()))

    def grant(self, op: Operation, *, task_id: str, user: str, system: str, token: str, seconds: float) -> str:
        """A grant for one call, good for `seconds` from now, as a JWT."""
        accepted = int(time.time())
        statement = Grant(
            task_id=task_id,
            user=user,
            system=system,
            operation=op.task(),
            parameters=digest(op.parameters()),
            accepted=accepted,
            expires=accepted + int(seconds) + 1,
            seal=b64encode(self._box.encrypt(token.encode())).decode(),
        )
        return jwt.encode(statement.model_dump(), self._key, algorithm=_ALGORITHM)


class GrantVerifier:
    """The side of workers and delegation."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def verify(self, text: str) -> Grant:
        """What the API stated, whether or not its time is over; raises GrantError when it did not state this."""
        if not strictly_written(text):
            raise GrantError("not a grant of this API: it is not strictly written")
        try:
            return Grant.model_validate(jwt.decode(text, self._key, algorithms=[_ALGORITHM]))
        except (jwt.InvalidTokenError, ValidationError, ValueError, TypeError) as wrong:
            raise GrantError(f"not a grant of this API: {wrong}") from None


def unseal(grant: Grant, key: X25519PrivateKey) -> str:
    """The caller's token inside the grant; raises GrantError."""
    box = SealedBox(PrivateKey(key.private_bytes_raw()))
    try:
        return box.decrypt(b64decode(grant.seal, validate=True)).decode()
    except (CryptoError, ValueError):
        raise GrantError("the token in the grant was not sealed for this delegation") from None
