"""Bearer tokens of users: checked by the API for every call, and again by the delegation (contract, 1.1 and 3.6)."""

import hashlib
import json
import math
import re
import threading
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jwt

from broker.compact import strictly_written
from broker.key_sets import KeySet, PublicKey
from schemas.errors import Unauthorized
from schemas.rights import Right
from schemas.settings import Issuer

_GENERAL = "Bad header or JWT, general exception raised"
_SIGNATURE = "JWT token has invalid signature"
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}", re.ASCII)
_LONGEST = 16384
_PROOF_SECONDS = 60
_MOST_PROOFS = 10_000
_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, RecursionError)


@dataclass(frozen=True)
class Bearer:
    """Whose token it is, and what it allows."""

    user: str
    rights: frozenset[Right]


@dataclass(frozen=True)
class _Proof:
    """What a token is good for as long as the key that has signed it is the issuer's."""

    bearer: Bearer
    claims: dict[str, Any]
    keys: KeySet
    key_id: str | None
    algorithm: str
    key: PublicKey
    until: float

    def holds(self) -> bool:
        """Whether it need not be made anew. Raises ServiceUnavailable."""
        return time.monotonic() < self.until and self.keys.find(self.key_id, self.algorithm) is self.key


class TokenVerifier:
    """Says whose token it is, by the rules of the issuer that it names; a signature is remembered for a minute."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._issuers = [(issuer, KeySet(issuer.jwks_url)) for issuer in issuers]
        self._proofs: OrderedDict[bytes, _Proof] = OrderedDict()
        self._lock = threading.Lock()

    def fetchers(self) -> list[Callable[[], None]]:
        """What fetches the keys of each issuer, which is done at the latest when they are needed."""
        return [keys.refresh for _, keys in self._issuers]

    def bearer(self, token: str, *, moment: float | None = None) -> Bearer:
        """Whose token it is, if it is valid at `moment` (Unix seconds; now by default).

        Raises Unauthorized in the words of the contract, or ServiceUnavailable.
        """
        moment = time.time() if moment is None else moment
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        proof = self._proofs.get(digest)
        if proof is None or not proof.holds():
            proof = self._prove(token, moment)
            self._remember(digest, proof)
        _check_times(proof.claims, moment)
        return proof.bearer

    def _prove(self, token: str, moment: float) -> _Proof:
        header, claims = _read(token)
        issuer, keys = self._issuer(claims)
        key = _signer(token, header, issuer, keys)
        _check_times(claims, moment)
        _check_scopes(claims, issuer)
        bearer = Bearer(_user(claims, issuer), issuer.rights(_scopes(claims), _realm_roles(claims)))
        return _Proof(bearer, claims, keys, header.get("kid"), header["alg"], key, time.monotonic() + _PROOF_SECONDS)

    def _remember(self, digest: bytes, proof: _Proof) -> None:
        with self._lock:
            self._proofs[digest] = proof
            self._proofs.move_to_end(digest)
            while len(self._proofs) > _MOST_PROOFS:
                self._proofs.popitem(last=False)

    def _issuer(self, claims: dict[str, Any]) -> tuple[Issuer, KeySet]:
        for issuer, keys in self._issuers:
            if issuer.issuer in ("", claims.get("iss")):
                return issuer, keys
        raise _refused(_SIGNATURE)


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as they stand, nothing of which is proven yet; there is one way to write each token."""
    if len(token) > _LONGEST or not strictly_written(token):
        raise _refused(_GENERAL)
    try:
        header, claims = (_object(part) for part in token.split(".")[:2])
    except _UNREADABLE:
        raise _refused(_GENERAL) from None
    return header, claims


def _object(part: str) -> dict[str, Any]:
    text = urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    found = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_json)
    if not isinstance(found, dict):
        raise TypeError("not a JSON object")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _signer(token: str, header: dict[str, Any], issuer: Issuer, keys: KeySet) -> PublicKey:
    """The key of the issuer that has signed the token."""
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in issuer.algorithms:
        raise _refused("JWT token has invalid signature algorithm")
    if not isinstance(key_id, str | None) or "crit" in header or "b64" in header:
        raise _refused(_GENERAL)
    key = keys.find(key_id, algorithm)
    if key is None:
        raise _refused(_SIGNATURE)
    try:
        jwt.decode(token, key.key, algorithms=[algorithm], audience=issuer.audience or None, options=_options(issuer))
    except jwt.InvalidSignatureError:
        raise _refused(_SIGNATURE) from None
    except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError) as wrong:
        audience = isinstance(wrong, jwt.InvalidAudienceError) or wrong.claim == "aud"
        raise _refused("Invalid audience in JWT token" if audience else _GENERAL) from None
    except _UNREADABLE:
        raise _refused(_GENERAL) from None
    return key


def _options(issuer: Issuer) -> Any:
    required = ["exp", "aud"] if issuer.audience else ["exp"]
    return {"require": required, "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": bool(issuer.audience)}


def _check_times(claims: dict[str, Any], moment: float) -> None:
    expires, starts = claims["exp"], claims.get("nbf", 0)
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in (expires, starts)):
        raise _refused(_GENERAL)
    if not moment < expires:
        raise _refused("JWT token has expired")
    if moment + 30 < starts:
        raise _refused(_GENERAL)


def _check_scopes(claims: dict[str, Any], issuer: Issuer) -> None:
    for scope in issuer.scopes:
        if scope not in _scopes(claims):
            raise _refused(f"Scope '{scope}' wasn't found in JWT")


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    return frozenset(str(claims.get("scope", "")).split())


def _realm_roles(claims: dict[str, Any]) -> frozenset[str]:
    access = claims.get("realm_access")
    roles = access.get("roles") if isinstance(access, dict) else None
    return frozenset(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else frozenset()


def _user(claims: dict[str, Any], issuer: Issuer) -> str:
    name = _service_account(claims, issuer) or claims.get(issuer.username_claim)
    if not isinstance(name, str) or not _USER.fullmatch(name) or not re.fullmatch(issuer.users or ".*", name):
        raise _refused(_GENERAL)
    return name


def _service_account(claims: dict[str, Any], issuer: Issuer) -> Any:
    """Who a service account is; nobody in particular when the claims do not tell (contract, 3.6)."""
    client = claims.get(issuer.client_claim)
    if not issuer.service_account_role or issuer.service_account_role not in _realm_roles(claims) or not isinstance(client, str):
        return None
    if client in issuer.clients:
        return issuer.clients[client]
    try:
        return claims["resource_access"][client]["roles"][0]
    except (KeyError, TypeError, IndexError):
        return None


def _refused(words: str) -> Unauthorized:
    return Unauthorized(description=words)
