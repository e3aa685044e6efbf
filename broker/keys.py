"""The keys of the parts, each in a file of its own: `python -m broker.keys PRIVATE PUBLIC` makes those that are missing.

| part | private | public | kind | used for |
|---|---|---|---|---|
| API | api.key | api.pub | Ed25519 | signing grants |
| worker | worker.key | worker.pub | Ed25519 | signing requests for certificates, and what transfers keep between steps |
| delegation | delegation.key | delegation.pub | X25519 | opening sealed tokens |
| delegation | ca.key | ca.pub | Ed25519 | signing SSH user certificates |
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

Private = Ed25519PrivateKey | X25519PrivateKey

_PARTS: dict[str, Callable[[], Private]] = {
    "api": Ed25519PrivateKey.generate,
    "worker": Ed25519PrivateKey.generate,
    "delegation": X25519PrivateKey.generate,
    "ca": Ed25519PrivateKey.generate,
}


class KeyFileError(Exception):
    """A key file is missing, readable by others, or of another kind."""


def make_missing(private: Path, public: Path) -> None:
    """Make the key pairs that are not there yet, in folders that are made too."""
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    public.mkdir(mode=0o755, parents=True, exist_ok=True)
    for part, generate in _PARTS.items():
        if not (private / f"{part}.key").exists():
            _write(part, generate(), private=private, public=public)


def signing_key(folder: Path, part: str) -> Ed25519PrivateKey:
    """The Ed25519 private key of a part; raises KeyFileError."""
    key = load_pem_private_key(_secret(folder / f"{part}.key"), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{part}.key is not an Ed25519 key")
    return key


def verifying_key(folder: Path, part: str) -> Ed25519PublicKey:
    """The Ed25519 public key of a part; raises KeyFileError."""
    key = load_pem_public_key(_text(folder / f"{part}.pub"))
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{part}.pub is not an Ed25519 key")
    return key


def opening_key(folder: Path) -> X25519PrivateKey:
    """The private key that opens sealed tokens; raises KeyFileError."""
    key = load_pem_private_key(_secret(folder / "delegation.key"), password=None)
    if not isinstance(key, X25519PrivateKey):
        raise KeyFileError("delegation.key is not an X25519 key")
    return key


def sealing_key(folder: Path) -> X25519PublicKey:
    """The public key that tokens are sealed to; raises KeyFileError."""
    key = load_pem_public_key(_text(folder / "delegation.pub"))
    if not isinstance(key, X25519PublicKey):
        raise KeyFileError("delegation.pub is not an X25519 key")
    return key


def _write(part: str, key: Private, *, private: Path, public: Path) -> None:
    if part == "ca":
        shown = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" firecrest-user-ca\n"
    else:
        shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (public / f"{part}.pub").write_bytes(shown)
    hidden = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.open(private / f"{part}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(hidden)


def _secret(path: Path) -> bytes:
    text = _text(path)
    if path.stat().st_mode & 0o077:
        raise KeyFileError(f"{path} can be read by others")
    return text


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyFileError(f"{path} is missing") from None


if __name__ == "__main__":
    make_missing(Path(sys.argv[1]), Path(sys.argv[2]))
