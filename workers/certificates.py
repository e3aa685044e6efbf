"""Short-lived OpenSSH user certificates, made and used in memory only."""

import copy
import io
import ipaddress
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_identity,
)
from paramiko.pkey import PublicBlob

from schemas.errors import AccessDenied

MAX_SECONDS: Final = 300
CLOCK_SKEW: Final = 60

_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}")


class UserKey:
    """The key pair that a worker proves certificates with: made here, never written anywhere."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        text = self._private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        self._signer = paramiko.Ed25519Key.from_private_key(io.StringIO(text))

    def public_line(self) -> str:
        """The public key as OpenSSH writes it: type and base64, no comment."""
        return self._private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def paramiko(self, certificate: str) -> paramiko.PKey:
        """The key as paramiko uses it together with a certificate line."""
        key = copy.copy(self._signer)
        # Not load_certificate(): that would first look for a file of this name.
        key.public_blob = PublicBlob.from_string(certificate)  # type: ignore[assignment]  # its stub knows only None
        return key


@dataclass(frozen=True)
class CertificateRequest:
    """Who asks to enter as whom, for which task.

    Raises AccessDenied for what is not one plain user name, ValueError for a task or worker that is not one plain word.
    """

    public_key: str
    user: str
    task: str
    worker: str

    def __post_init__(self) -> None:
        """Refuse what could be read as something else in a certificate or a log."""
        check_user(self.user)
        if not _WORD.fullmatch(self.task) or not _WORD.fullmatch(self.worker):
            raise ValueError("task and worker must be plain words")

    def key_id(self) -> str:
        """What sshd's log says of whoever enters with the certificate."""
        return f"firecrest user={self.user} task={self.task} worker={self.worker}"


def check_user(user: str) -> None:
    """Raise AccessDenied unless this is one plain POSIX user name (`useradd`'s own rule, and dots)."""
    if not _USER.fullmatch(user):
        raise AccessDenied("User does not have permissions to access machine")


def new_serial() -> int:
    """An unguessable serial number of 64 bits, never 0, which means "none"."""
    return secrets.randbelow(2**64 - 1) + 1


def sign(
    ca: Ed25519PrivateKey,
    *,
    public_key: str,
    user: str,
    key_id: str,
    serial: int,
    seconds: int,
    source_addresses: Sequence[str] = (),
) -> str:
    """The line of a user certificate: this user only, no pty, no forwarding, no user rc, from these addresses (CIDR; any when empty).

    Valid for `seconds` in all, the first fifth of which, up to a minute, is already over: clocks differ.
    Raises AccessDenied for what is not one plain user name, ValueError for a lifetime beyond five minutes, a key that is not
    ed25519 or a malformed address.
    """
    check_user(user)
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"certificates live between 1 and {MAX_SECONDS} seconds")
    start = int(time.time()) - min(CLOCK_SKEW, seconds // 5)
    builder = (
        SSHCertificateBuilder()
        .public_key(_ed25519(public_key))
        .type(SSHCertificateType.USER)
        .serial(serial)
        .key_id(key_id.encode())
        .valid_principals([user.encode()])
        .valid_after(start)
        .valid_before(start + seconds)
    )
    if source_addresses:
        builder = builder.add_critical_option(b"source-address", _networks(source_addresses))
    return builder.sign(ca).public_bytes().decode()


def expiry(certificate: str) -> int:
    """When a certificate ends, as seconds since the epoch. Raises ValueError for what is none."""
    identity = load_ssh_public_identity(certificate.encode())
    if not isinstance(identity, SSHCertificate):
        raise ValueError("not a certificate")  # noqa: TRY004 - the text is at fault, not its type
    return identity.valid_before


def _ed25519(line: str) -> Ed25519PublicKey:
    if len(line) > 200 or not line.startswith("ssh-ed25519 "):
        raise ValueError("only ed25519 keys are certified")
    key = load_ssh_public_identity(line.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("only ed25519 keys are certified")  # noqa: TRY004 - the text is at fault, not its type
    return key


def _networks(addresses: Sequence[str]) -> bytes:
    return ",".join(str(ipaddress.ip_network(address, strict=False)) for address in addresses).encode()
