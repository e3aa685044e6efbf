"""Grants: signed by the API, verified by whoever acts on them, with the caller's token sealed inside."""

import hashlib
import json
import math
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from jwt.utils import base64url_decode, base64url_encode
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.signing import SigningKey
from pydantic import ValidationError

from broker.compact import strictly_written
from broker.key_rings import Enrolled, KeyRing, Watched
from broker.keys import key_id, sealing_key, signing_key
from schemas.grant import Grant, GrantError
from schemas.operation import digest
from schemas.settings import Keys

_ALGORITHM: Final = "EdDSA"
_SEAL_SECONDS: Final = 60.0
_MANY: Final = 4000


class GrantSigner:
    """The API's side: states what a caller asked for."""

    def __init__(self, key: Ed25519PrivateKey, seal: X25519PublicKey) -> None:
        """One whose keys never change."""
        self._key: Callable[[], Ed25519PrivateKey] = lambda: key
        self._seal: Callable[[], X25519PublicKey] = lambda: seal
        self._seals = _Seals()

    @classmethod
    def of(cls, keys: Keys) -> "GrantSigner":
        """The deployment's, with the keys that its folders hold at the time; raises KeyFileError."""
        key = Watched(keys.private, lambda: signing_key(keys.private, "api"))
        seal = Watched(keys.public, lambda: sealing_key(keys.public))
        signer = cls(key.now(), seal.now())
        signer._key, signer._seal = key.now, seal.now
        return signer

    def grant(
        self,
        operation: str,
        parameters: dict[str, Any],
        *,
        task_id: str,
        user: str,
        system: str,
        token: str,
        seconds: float,
        request: str = "",
    ) -> str:
        """A grant for one call of an operation that Celery knows by that name, good for `seconds` from now, as a JWT."""
        now = time.time()
        statement = Grant(
            task_id=task_id,
            user=user,
            system=system,
            operation=operation,
            parameters=digest(parameters),
            accepted=int(now),
            expires=now + seconds,
            seal=self._seals.sealed(token, self._seal()),
            request=request,
        )
        return sign_claims(statement.model_dump(), self._key())


class GrantVerifier:
    """The side of workers and delegation."""

    def __init__(self, *keys: Ed25519PublicKey, ring: KeyRing | None = None) -> None:
        self._ring = ring or KeyRing(*keys)

    @classmethod
    def of(cls, keys: Keys) -> "GrantVerifier":
        """The deployment's, by the keys that its folder holds at the time; raises KeyFileError."""
        return cls(ring=KeyRing.of(keys.public, "api"))

    def verify(self, text: str) -> Grant:
        """What the API stated, whether or not its time is over; raises GrantError when it did not state this."""
        try:
            return Grant.model_validate(verified_claims(text, self._ring)[0])
        except (jwt.PyJWTError, ValidationError, ValueError, TypeError, RecursionError) as wrong:
            raise GrantError(f"not a grant of this API: {wrong}") from None


class _Seals:
    """Tokens as they were sealed within the last minute: sealing takes longer than signing does."""

    def __init__(self) -> None:
        self._sealed: dict[tuple[bytes, bytes], tuple[float, str]] = {}

    def sealed(self, token: str, seal: X25519PublicKey) -> str:
        """The token, readable by the holder of the key alone."""
        now, which = time.monotonic(), (hashlib.sha256(token.encode()).digest(), seal.public_bytes_raw())
        since, text = self._sealed.get(which, (-math.inf, ""))
        if now - since > _SEAL_SECONDS:
            text = b64encode(SealedBox(PublicKey(which[1])).encrypt(token.encode())).decode()
            if len(self._sealed) >= _MANY:
                self._sealed.clear()
            self._sealed[which] = now, text
        return text


def sign_claims(claims: dict[str, Any], key: Ed25519PrivateKey) -> str:
    """A JWT whose header names the key that signed it."""
    head, signer = _signer(key)
    stated = f"{head}.{base64url_encode(json.dumps(claims).encode()).decode()}"
    return f"{stated}.{base64url_encode(signer.sign(stated.encode()).signature).decode()}"


@lru_cache
def _signer(key: Ed25519PrivateKey) -> tuple[str, SigningKey]:
    """The header of what the key signs, and the key for libsodium, which takes half as long as OpenSSL."""
    header = {"alg": _ALGORITHM, "kid": key_id(key.public_key()), "typ": "JWT"}
    return base64url_encode(json.dumps(header).encode()).decode(), SigningKey(key.private_bytes_raw())


def verified_claims(text: str, ring: KeyRing) -> tuple[dict[str, Any], Enrolled]:
    """What a JWT states, and who signed it; raises jwt.InvalidTokenError for one that no key of the ring has signed."""
    if not strictly_written(text):
        raise jwt.InvalidTokenError("not strictly written")
    head, stated, signature = text.split(".")
    header = json.loads(base64url_decode(head))
    try:
        signer, algorithm = ring.named(header["kid"]), header["alg"]
    except KeyError:
        raise jwt.InvalidTokenError("signed with a key that is not known") from None
    if algorithm != _ALGORITHM or "crit" in header:
        raise jwt.InvalidAlgorithmError("not signed as the parts of this service sign")
    try:
        # Not jwt.decode(), which first looks at each letter of it: that takes longer than all the rest.
        signer.key.verify(base64url_decode(signature), f"{head}.{stated}".encode())
    except InvalidSignature:
        raise jwt.InvalidSignatureError("not signed with that key") from None
    return json.loads(base64url_decode(stated)), signer


def unseal(grant: Grant, *keys: X25519PrivateKey) -> str:
    """The caller's token inside the grant, which was sealed to one of the keys; raises GrantError."""
    for key in keys:
        with suppress(CryptoError, ValueError):
            return SealedBox(PrivateKey(key.private_bytes_raw())).decrypt(b64decode(grant.seal, validate=True)).decode()
    raise GrantError("the token in the grant was not sealed for this delegation")
