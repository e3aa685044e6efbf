"""Keys as running processes use them: read again when their files change, so that rotation needs no restart."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.keys import KeyFileError, key_id, key_names, verifying_key

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS: Final = 1.0

T = TypeVar("T")


class Watched(Generic[T]):
    """What the files of a folder hold; a change is seen within a second, and one that cannot be read is logged and left out."""

    def __init__(self, folder: Path, read: Callable[[], T]) -> None:
        """Raises what `read` raises: what a process starts with must be in order."""
        self._folder = folder
        self._read = read
        self._seen = self._state()
        self._value = read()
        self._looked = time.monotonic()

    def now(self) -> T:
        """What the files hold."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self.look()
        return self._value

    def look(self) -> bool:
        """See at once whether the files have changed, and read them if so."""
        self._looked = time.monotonic()
        if (state := self._state()) == self._seen:
            return False
        self._seen = state
        try:
            self._value = self._read()
        except (KeyFileError, OSError, ValueError):
            _LOG.exception("the keys in %s are left as they were", self._folder)
        return True

    def _state(self) -> frozenset[tuple[str, int, int]]:
        return frozenset((path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in self._folder.glob("*.*") if path.exists())


class Enrolled(NamedTuple):
    """A public key, and the name of whose it is."""

    name: str
    key: Ed25519PublicKey


class KeyRing:
    """The public keys of a part that are good now, by their ids."""

    def __init__(self, *keys: Ed25519PublicKey, name: str = "") -> None:
        """A ring that never changes, all of its keys of one name."""
        kept = {key_id(key): Enrolled(name, key) for key in keys}
        self._keys: Callable[[], Mapping[str, Enrolled]] = lambda: kept
        self._look: Callable[[], bool] = lambda: False

    @classmethod
    def of(cls, folder: Path, part: str) -> "KeyRing":
        """The ring of a folder of public keys, each part's own key and those before and after it; raises KeyFileError."""
        watched = Watched(folder, lambda: _ring(folder, part))
        if not watched.now():
            raise KeyFileError(f"{folder} holds no public key of {part}")
        ring = cls()
        ring._keys, ring._look = watched.now, watched.look
        return ring

    def named(self, identity: str) -> Enrolled:
        """The key of that id; raises KeyError for one that is not good, or not any more."""
        if identity not in self._keys():
            self._look()
        return self._keys()[identity]


def _ring(folder: Path, part: str) -> dict[str, Enrolled]:
    ring = {}
    for file, name in key_names(folder, part):
        try:
            key = verifying_key(folder, file)
        except (KeyFileError, OSError, ValueError):
            _LOG.exception("%s/%s.pub is no key and is left out", folder, file)
        else:
            ring[key_id(key)] = Enrolled(name, key)
    return ring
