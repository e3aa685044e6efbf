"""Short-lived OpenSSH user certificates, made and used in memory only."""

import copy
import io
import ipaddress
import re
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import paramiko
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)
from paramiko.pkey import PublicBlob

from schemas.errors import AccessDenied

MAX_SECONDS: Final = 300
CLOCK_SKEW: Final = 60

_CERTIFICATE: Final = "ssh-ed25519-cert-v01@openssh.com"
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


class Certificate(NamedTuple):
    """What identifies a certificate, here and in sshd's log."""

    serial: int
    key_id: str


@dataclass(frozen=True)
class CertificateRequest:
    """Who asks to enter which system as whom, for which task.

    Raises AccessDenied for what is not one plain user name, ValueError for a system, task or worker that is not one plain word.
    """

    public_key: str
    user: str
    system: str
    task: str
    worker: str

    def __post_init__(self) -> None:
        """Refuse what could be read as something else in a certificate or a log."""
        check_user(self.user)
        if not all(_WORD.fullmatch(word) for word in (self.system, self.task, self.worker)):
            raise ValueError("system, task and worker must be plain words")

    def key_id(self) -> str:
        """What sshd's log says of whoever enters with the certificate."""
        return f"firecrest user={self.user} system={self.system} task={self.task} worker={self.worker}"


@dataclass(frozen=True)
class Statement:
    """What a certificate states: the key of this user only, for `seconds` in all, from these addresses (CIDR; any when empty).

    With a `command` it is good for that command line alone.
    Raises AccessDenied for what is not one plain user name, ValueError for a lifetime beyond five minutes.
    """

    public_key: str
    user: str
    key_id: str
    serial: int
    seconds: int
    source_addresses: Sequence[str] = ()
    command: str = ""

    def __post_init__(self) -> None:
        """Hold the bounds, whoever asks."""
        check_user(self.user)
        if not 0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"certificates live between 1 and {MAX_SECONDS} seconds")

    def options(self) -> dict[str, str]:
        """The critical options, which sshd must know and hold, or else refuses the certificate."""
        stated = {"force-command": self.command, "source-address": _networks(self.source_addresses)}
        return {name: value for name, value in stated.items() if value}


class Authority(Protocol):
    """Whoever holds the private key of the certificate authority."""

    def public_line(self) -> str:
        """Its public key as OpenSSH writes it: type and base64, no comment."""

    def sign(self, data: bytes) -> bytes:
        """The signature blob of SSH (RFC 8709, 5656); raises ServiceUnavailable when the key is out of reach."""


def check_user(user: str) -> None:
    """Raise AccessDenied unless this is one plain POSIX user name (`useradd`'s own rule, and dots)."""
    if not _USER.fullmatch(user):
        raise AccessDenied("User does not have permissions to access machine")


def new_serial() -> int:
    """An unguessable serial number of 64 bits, never 0, which means "none"."""
    return secrets.randbelow(2**64 - 1) + 1


def sign(ca: Authority, stated: Statement) -> str:
    """The line of a user certificate: one user, no pty, no forwarding, no user rc, as those are extensions, and it has none.

    The first fifth of its time, up to a minute, is already over: clocks differ. Raises ValueError for a key that is not ed25519,
    a malformed address, and an authority whose signature is not that of its public key.
    """
    start = int(time.time()) - min(CLOCK_SKEW, stated.seconds // 5)
    authority = b64decode(ca.public_line().split()[1])
    message = paramiko.Message()
    message.add_string(_CERTIFICATE)
    message.add_string(secrets.token_bytes(32))
    message.add_string(_ed25519(stated.public_key).public_bytes_raw())
    message.add_int64(stated.serial)
    message.add_int(SSHCertificateType.USER.value)
    message.add_string(stated.key_id)
    message.add_string(_strings(stated.user))
    message.add_int64(start)
    message.add_int64(start + stated.seconds)
    message.add_string(b"".join(_strings(name) + _nested(value) for name, value in sorted(stated.options().items())))
    message.add_string(b"")
    message.add_string(b"")
    message.add_string(authority)
    message.add_string(ca.sign(message.asbytes()))
    line = f"{_CERTIFICATE} {b64encode(message.asbytes()).decode()}"
    _check(line, authority)
    return line


def _strings(text: str) -> bytes:
    message = paramiko.Message()
    message.add_string(text)
    return message.asbytes()


def _nested(value: str) -> bytes:
    message = paramiko.Message()
    message.add_string(_strings(value))
    return message.asbytes()


def _check(line: str, authority: bytes) -> None:
    made = load_ssh_public_identity(line.encode())
    if not isinstance(made, SSHCertificate):
        raise ValueError("not a certificate")  # noqa: TRY004 - the text is at fault, not its type
    try:
        made.verify_cert_signature()
    except InvalidSignature:
        raise ValueError("the signature of the certificate is not that of the authority") from None
    if b64decode(made.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]) != authority:
        raise ValueError("the certificate names another authority")


def expiry(certificate: str) -> int:
    """When a certificate ends, as seconds since the epoch. Raises ValueError for what is none."""
    identity = load_ssh_public_identity(certificate.encode())
    if not isinstance(identity, SSHCertificate):
        raise ValueError("not a certificate")  # noqa: TRY004 - the text is at fault, not its type
    return identity.valid_before


def carried(key: paramiko.PKey) -> Certificate | None:
    """The certificate that is shown together with the key, if there is one."""
    blob = key.public_blob
    if blob is None:
        return None
    identity = load_ssh_public_identity(b" ".join((blob.key_type.encode(), b64encode(blob.key_blob))))
    return Certificate(identity.serial, identity.key_id.decode()) if isinstance(identity, SSHCertificate) else None


def _ed25519(line: str) -> Ed25519PublicKey:
    if len(line) > 200 or not line.startswith("ssh-ed25519 "):
        raise ValueError("only ed25519 keys are certified")
    key = load_ssh_public_identity(line.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("only ed25519 keys are certified")  # noqa: TRY004 - the text is at fault, not its type
    return key


def _networks(addresses: Sequence[str]) -> str:
    return ",".join(str(ipaddress.ip_network(address, strict=False)) for address in addresses)
