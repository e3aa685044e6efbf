"""The keys of the parts, each in a file of its own.

| part | private | public | kind | used for |
|---|---|---|---|---|
| API | api.key | api.pub | Ed25519 | signing grants |
| worker | worker.key | worker.pub, worker-NAME.pub | Ed25519 | signing requests for certificates, and what transfers keep between steps |
| delegation | delegation.key | delegation.pub | X25519 | opening sealed tokens |
| API | links.key | links.pub | X25519 | opening the sealed links of transfers |
| delegation | ca.key | ca.pub | ECDSA (P-256), or Ed25519 | signing SSH user certificates |

`python -m broker.keys PRIVATE PUBLIC` makes those that are missing, `python -m broker.keys STEP PART PRIVATE PUBLIC` rotates one.
The CA's is ECDSA: for a login by a certificate that Ed25519 has signed, OpenSSH (9.2) takes 11 ms of CPU more (docs/performance.md).
Beside each, while it is rotated, the one that comes (`api.next.key`, `api.next.pub`) or the one that goes (`api.former.pub`).
"""

import hashlib
import json
import os
import re
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
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

AuthorityKey = Ed25519PrivateKey | EllipticCurvePrivateKey
Private = AuthorityKey | X25519PrivateKey

PARTS: Final[dict[str, Callable[[], Private]]] = {
    "api": Ed25519PrivateKey.generate,
    "worker": Ed25519PrivateKey.generate,
    "delegation": X25519PrivateKey.generate,
    "links": X25519PrivateKey.generate,
    "ca": partial(generate_private_key, SECP256R1()),
}
# What is sealed may have to be opened later: the private half is kept as long as the public half of a signer.
OPENERS: Final = ("delegation", "links")
NEXT: Final = ".next"
FORMER: Final = ".former"
_NAME: Final = "[a-z0-9][a-z0-9_-]{0,62}"


class KeyFileError(Exception):
    """A key file is missing, readable by others, or of another kind."""


def key_id(key: Ed25519PublicKey) -> str:
    """The name by which a signature says whose it is: the thumbprint of RFC 7638."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _base64(key.public_bytes_raw())}
    return _base64(hashlib.sha256(json.dumps(jwk, separators=(",", ":")).encode()).digest())


def key_names(folder: Path, part: str) -> Iterator[tuple[str, str]]:
    """The files of the public keys of a part, without `.pub`, each with the name of the holder: `worker-login1.next` is login1's."""
    name = f"(?:-({_NAME}))?" if part == "worker" else "()"
    pattern = re.compile(rf"{part}{name}(?:\.next|\.former)?\.pub")
    for path in sorted(folder.glob(f"{part}*.pub")):
        if match := pattern.fullmatch(path.name):
            yield path.name.removesuffix(".pub"), match[1] or part


def signing_key(folder: Path, part: str) -> Ed25519PrivateKey:
    """The Ed25519 private key of a part; raises KeyFileError."""
    key = load_pem_private_key(secret(folder / f"{part}.key"), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{part}.key is not an Ed25519 key")
    return key


def authority_key(folder: Path) -> AuthorityKey:
    """The private key of the certificate authority; raises KeyFileError."""
    key = load_pem_private_key(secret(folder / "ca.key"), password=None)
    if not isinstance(key, AuthorityKey):
        raise KeyFileError("ca.key is neither an Ed25519 nor an ECDSA key")
    return key


def verifying_key(folder: Path, part: str) -> Ed25519PublicKey:
    """The Ed25519 public key of a part; raises KeyFileError."""
    key = load_pem_public_key(_text(folder / f"{part}.pub"))
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{part}.pub is not an Ed25519 key")
    return key


def opening_key(folder: Path, part: str = "delegation") -> X25519PrivateKey:
    """The X25519 private key of a part, which opens what was sealed to it; raises KeyFileError."""
    key = load_pem_private_key(secret(folder / f"{part}.key"), password=None)
    if not isinstance(key, X25519PrivateKey):
        raise KeyFileError(f"{part}.key is not an X25519 key")
    return key


def opening_keys(folder: Path, part: str = "delegation") -> list[X25519PrivateKey]:
    """All that open what was sealed to a part: the one in use, and the one that comes or goes; raises KeyFileError."""
    others = [f"{part}{standing}" for standing in (NEXT, FORMER) if (folder / f"{part}{standing}.key").exists()]
    return [opening_key(folder, name) for name in (part, *others)]


def sealing_key(folder: Path, part: str = "delegation") -> X25519PublicKey:
    """The X25519 public key of a part, to which is sealed what only it may read; raises KeyFileError."""
    key = load_pem_public_key(_text(folder / f"{part}.pub"))
    if not isinstance(key, X25519PublicKey):
        raise KeyFileError(f"{part}.pub is not an X25519 key")
    return key


def make_missing(private: Path, public: Path) -> None:
    """Make the key pairs that are not there yet, in folders that are made too."""
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    public.mkdir(mode=0o755, parents=True, exist_ok=True)
    for part, generate in PARTS.items():
        if not (private / f"{part}.key").exists():
            write_pair(generate(), private=private / f"{part}.key", public=public / f"{part}.pub")
    trust(public)


def write_pair(key: Private, *, private: Path, public: Path) -> None:
    """Write a new key pair: the public half first, so that a private half is never without it."""
    if public.name.startswith("ca."):
        shown = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" firecrest-user-ca\n"
    else:
        shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write(public, shown, mode=0o644)
    _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)


def trust(public: Path) -> None:
    """Write `ca.trusted`, which sshd's TrustedUserCAKeys is to name: the public key of the CA, and the one that comes or goes."""
    _write(public / "ca.trusted", b"".join(path.read_bytes() for path in sorted(public.glob("ca*.pub"))), mode=0o644)


def secret(path: Path) -> bytes:
    """What a file holds that only its owner, this process or root, can read; raises KeyFileError."""
    text = _text(path)
    stat = path.stat()
    if stat.st_mode & 0o077 or stat.st_uid not in (0, os.geteuid()):
        raise KeyFileError(f"{path} can be read by others, or is somebody else's")
    return text


def _write(path: Path, text: bytes, *, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(text)
    fresh.replace(path)


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyFileError(f"{path} is missing") from None


if __name__ == "__main__":
    from broker.key_rotation import main

    sys.exit(main(sys.argv[1:]))
