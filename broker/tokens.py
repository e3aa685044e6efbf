"""Bearer tokens of users: checked by the API for every call, and again by the delegation (contract, 1.1 and 3.6)."""

import json
import logging
import re
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

import jwt

from broker.compact import strictly_written
from schemas.errors import ServiceUnavailable, Unauthorized
from schemas.settings import Issuer

_LOG = logging.getLogger(__name__)
_GENERAL = "Bad header or JWT, general exception raised"
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}", re.ASCII)
_REFRESH_SECONDS = 600
_COOLDOWN_SECONDS = 2
_FETCH_SECONDS = 3
_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, RecursionError)


class KeySet:
    """The public keys of an issuer: fetched when first needed, when an unknown one is asked for, and every ten minutes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._lock = threading.Lock()

    def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of that id; raises ServiceUnavailable when the issuer has never answered."""
        age = time.monotonic() - self._fetched
        if age > _REFRESH_SECONDS or (key_id not in self._keys and age > _COOLDOWN_SECONDS):
            self._refresh()
        if not self._keys:
            raise ServiceUnavailable("The token issuer cannot be reached")
        return self._keys.get(key_id)

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._fetched < _COOLDOWN_SECONDS:
                return
            try:
                self._keys = self._fetch()
            except (OSError, ValueError, jwt.PyJWTError) as wrong:
                _LOG.warning("cannot fetch %s: %s", self._url, wrong)
            finally:
                self._fetched = time.monotonic()

    def _fetch(self) -> dict[str | None, jwt.PyJWK]:
        with urllib.request.urlopen(self._url, timeout=_FETCH_SECONDS) as answer:  # noqa: S310 (the URL is a setting)
            keys = jwt.PyJWKSet.from_dict(json.load(answer)).keys
        return {key.key_id: key for key in keys if key.public_key_use in (None, "sig")}


class TokenVerifier:
    """Says whose token it is."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._issuers = [(issuer, KeySet(issuer.jwks_url)) for issuer in issuers]

    def user(self, token: str, *, moment: float | None = None) -> str:
        """The user whom the token names, if it is valid at `moment` (Unix seconds; now by default).

        Raises Unauthorized in the words of the contract, or ServiceUnavailable.
        """
        if not strictly_written(token):
            raise _refused(_GENERAL)
        issuer, keys = self._issuer(token)
        claims = self._claims(token, issuer, keys)
        _check_times(claims, time.time() if moment is None else moment)
        _check_scope(claims, issuer)
        return _user(claims, issuer)

    def _issuer(self, token: str) -> tuple[Issuer, KeySet]:
        try:
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except _UNREADABLE:
            raise _refused(_GENERAL) from None
        for issuer, keys in self._issuers:
            if issuer.issuer in ("", claimed):
                return issuer, keys
        raise _refused("JWT token has invalid signature")

    def _claims(self, token: str, issuer: Issuer, keys: KeySet) -> dict[str, Any]:
        header = _header(token)
        if header.get("alg") != issuer.algorithm:
            raise _refused("JWT token has invalid signature algorithm")
        key = keys.find(header.get("kid"))
        if key is None:
            raise _refused("JWT token has invalid signature")
        try:
            return jwt.decode(token, key, algorithms=[issuer.algorithm], audience=issuer.audience or None, options=_options(issuer))
        except jwt.InvalidSignatureError:
            raise _refused("JWT token has invalid signature") from None
        except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError) as wrong:
            audience = isinstance(wrong, jwt.InvalidAudienceError) or wrong.claim == "aud"
            raise _refused("Invalid audience in JWT token" if audience else _GENERAL) from None
        except _UNREADABLE:
            raise _refused(_GENERAL) from None


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except _UNREADABLE:
        raise _refused(_GENERAL) from None


def _options(issuer: Issuer) -> Any:
    required = ["exp", "aud"] if issuer.audience else ["exp"]
    return {"require": required, "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": bool(issuer.audience)}


def _check_times(claims: dict[str, Any], moment: float) -> None:
    expires, starts = claims["exp"], claims.get("nbf", 0)
    if not isinstance(expires, int | float) or not isinstance(starts, int | float):
        raise _refused(_GENERAL)
    if not moment < expires:
        raise _refused("JWT token has expired")
    if moment + 30 < starts:
        raise _refused(_GENERAL)


def _check_scope(claims: dict[str, Any], issuer: Issuer) -> None:
    if issuer.scope and issuer.scope not in str(claims.get("scope", "")).split():
        raise _refused(f"Scope '{issuer.scope}' wasn't found in JWT")


def _user(claims: dict[str, Any], issuer: Issuer) -> str:
    name = _service_account(claims, issuer.service_account_role) or claims.get("preferred_username")
    if not isinstance(name, str) or not _USER.fullmatch(name):
        raise _refused(_GENERAL)
    return name


def _service_account(claims: dict[str, Any], role: str) -> Any:
    try:
        if role in claims["realm_access"]["roles"]:
            return claims["resource_access"][claims["clientId"]]["roles"][0]
    except (KeyError, TypeError, IndexError):
        return None
    return None


def _refused(words: str) -> Unauthorized:
    return Unauthorized(description=words)
