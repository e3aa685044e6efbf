"""The public keys of token issuers."""

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import jwt

from broker.fetching import Fetcher
from schemas.errors import ServiceUnavailable

_LOG = logging.getLogger(__name__)
_REFRESH_SECONDS = 600
_STALE_SECONDS = 86400
_COOLDOWN_SECONDS = 2
_FETCH_SECONDS = 3
_MOST_BYTES = 1024 * 1024
_NO_KEY_SET = (ValueError, TypeError, AttributeError, LookupError, RecursionError)


@dataclass(frozen=True)
class PublicKey:
    """A key, and the one algorithm that it is for, if its issuer says so."""

    key: Any
    algorithm: str | None


class KeySet:
    """The public keys of an issuer: fetched when first needed, when an unknown one is asked for, and every ten minutes.

    An issuer that has not told its keys for a day has none.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._fetcher = Fetcher(seconds=_FETCH_SECONDS, most=_MOST_BYTES)
        self._keys: dict[str | None, PublicKey] = {}
        self._tried = self._fetched = float("-inf")
        self._lock = threading.Lock()

    def find(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        """The key of that id, if it is for the algorithm.

        Raises ServiceUnavailable when the issuer has never answered, or not for long.
        """
        age = time.monotonic() - self._tried
        if age > _REFRESH_SECONDS or (key_id not in self._keys and age > _COOLDOWN_SECONDS):
            self.refresh()
        if not self._keys or time.monotonic() - self._fetched > _STALE_SECONDS:
            raise ServiceUnavailable("The token issuer cannot be reached")
        key = self._keys.get(key_id)
        return key if key and key.algorithm in (None, algorithm) else None

    def refresh(self) -> None:
        """Fetch the keys, unless that was tried just now; those of before stay where it fails."""
        with self._lock:
            if time.monotonic() - self._tried < _COOLDOWN_SECONDS:
                return
            try:
                self._keys = read_keys(self._fetcher.fetch(self._url))
                self._fetched = time.monotonic()
            except (OSError, *_NO_KEY_SET) as wrong:
                _LOG.warning("cannot fetch %s: %s", self._url, wrong)
            finally:
                self._tried = time.monotonic()


def read_keys(document: bytes) -> dict[str | None, PublicKey]:
    """The public signature keys in a JSON Web Key Set, by their ids; secrets are none. Raises one of _NO_KEY_SET."""
    found: dict[str | None, PublicKey] = {}
    for described in json.loads(document)["keys"]:
        if described.get("kty") != "oct" and described.get("use") in (None, "sig") and (key := _key(described)):
            found[described.get("kid")] = PublicKey(key, described.get("alg"))
    if not found:
        raise ValueError("there are no keys in it")
    return found


def _key(described: dict[str, Any]) -> Any:
    try:
        return jwt.PyJWK(described).key
    except jwt.PyJWTError:  # of a kind that is not known here
        return None
