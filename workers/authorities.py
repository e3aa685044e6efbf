"""Where the private key of the certificate authority is: in a file, in an ssh-agent, or in a token that speaks PKCS#11."""

import contextlib
import logging
import socket
import struct
import threading
from base64 import b64decode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import paramiko
import pkcs11
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_identity

from broker.key_rings import Watched
from broker.keys import AuthorityKey, KeyFileError, authority_key, secret
from schemas.errors import ServiceUnavailable
from schemas.settings import CertificateAuthority, Settings
from workers.certificates import Authority

_LOG = logging.getLogger(__name__)
_SIGN_REQUEST: Final = 13
_SIGN_RESPONSE: Final = 14
_PATIENCE: Final = 5.0
_CURVES: Final = {
    "secp256r1": ("ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": ("ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": ("ecdsa-sha2-nistp521", hashes.SHA512()),
}


def authority(settings: Settings) -> Callable[[], Authority]:
    """The authority of the deployment, to be asked for anew for each certificate, as its key may be rotated. Raises KeyFileError."""
    where, private, public = settings.delegation.authority, settings.keys.private, settings.keys.public
    if where.kind == "file":
        return Watched(private, lambda: KeyAuthority(authority_key(private))).now
    if where.kind == "agent":
        return Watched(public, lambda: AgentAuthority(where.agent_socket, _line(public))).now
    return Watched(public, lambda: TokenAuthority(token_of(where), _line(public))).now


class KeyAuthority:
    """An authority whose key is in the memory of this process."""

    def __init__(self, key: AuthorityKey) -> None:
        """Raises KeyFileError for a curve that SSH does not know."""
        if not isinstance(key, Ed25519PrivateKey) and key.curve.name not in _CURVES:
            raise KeyFileError(f"ca.key is on {key.curve.name}, which SSH does not know")
        self._key = key
        self._line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def public_line(self) -> str:
        """Its public key as OpenSSH writes it."""
        return self._line

    def sign(self, data: bytes) -> bytes:
        """The signature blob of SSH (RFC 8709, 5656)."""
        if isinstance(self._key, Ed25519PrivateKey):
            return _blob(b"ssh-ed25519", self._key.sign(data))
        kind, algorithm = _CURVES[self._key.curve.name]
        return _ecdsa_blob(kind, *decode_dss_signature(self._key.sign(data, ECDSA(algorithm))))


class AgentAuthority:
    """An authority whose key an ssh-agent holds (draft-ietf-sshm-ssh-agent); which one of its keys, the public key says."""

    def __init__(self, path: str, public_line: str) -> None:
        self._path = path
        self._line = public_line

    def public_line(self) -> str:
        """Its public key as OpenSSH writes it."""
        return self._line

    def sign(self, data: bytes) -> bytes:
        """The signature blob of SSH; raises ServiceUnavailable when the agent does not answer, or has no such key."""
        request = bytes([_SIGN_REQUEST]) + _blob(b64decode(self._line.split()[1]), data) + struct.pack(">I", 0)
        try:
            answer = self._asked(request)
        except (OSError, struct.error) as failed:
            raise _unavailable("the ssh-agent does not answer") from failed
        if answer.get_byte() != bytes([_SIGN_RESPONSE]):
            raise _unavailable("the ssh-agent has not signed: has it the key of ca.pub?")
        return answer.get_string()

    def _asked(self, request: bytes) -> paramiko.Message:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(_PATIENCE)
            agent.connect(self._path)
            agent.sendall(struct.pack(">I", len(request)) + request)
            with agent.makefile("rb") as stream:
                (length,) = struct.unpack(">I", stream.read(4))
                return paramiko.Message(stream.read(length))


class Token:
    """A token that speaks PKCS#11: one session, used by one thread at a time, and opened anew after it has failed."""

    def __init__(self, where: CertificateAuthority) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._session: Any = None

    def sign(self, point: bytes, data: bytes, mechanism: pkcs11.Mechanism) -> bytes:
        """The bare signature by the key whose public half is that point; raises ServiceUnavailable."""
        with self._lock:
            try:
                self._session = self._session or self._opened()
                signature: bytes = self._key(point).sign(data, mechanism=mechanism)
            except (pkcs11.PKCS11Error, KeyFileError, OSError) as failed:
                self._forget()
                raise _unavailable("the token has not signed: is it there, and has it the key of ca.pub?") from failed
            return signature

    def _opened(self) -> Any:
        pin = secret(Path(self._where.pin_file)).decode().strip()
        return pkcs11.lib(self._where.module).get_token(token_label=self._where.token).open(user_pin=pin)

    def _key(self, point: bytes) -> Any:
        wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY}
        for public in list(self._session.get_objects(wanted)):
            if public[pkcs11.Attribute.EC_POINT] in (point, _octets(point)):
                identity = public[pkcs11.Attribute.ID]
                return self._session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, id=identity)
        raise pkcs11.NoSuchKey

    def close(self) -> None:
        """End the session."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        with contextlib.suppress(pkcs11.PKCS11Error):
            if self._session:
                self._session.close()
        self._session = None


@cache
def token_of(where: CertificateAuthority) -> Token:
    """The token of the settings: the same for the whole process, as whether somebody has logged in is, too."""
    return Token(where)


class TokenAuthority:
    """An authority whose key a token holds; which one of its keys, the public key says."""

    def __init__(self, token: Token, public_line: str) -> None:
        """Raises KeyFileError for a public key that is neither Ed25519 nor ECDSA."""
        self._token = token
        self._line = public_line
        self._public = load_ssh_public_identity(public_line.encode())
        if not isinstance(self._public, Ed25519PublicKey | EllipticCurvePublicKey):
            raise KeyFileError("ca.pub is neither an Ed25519 nor an ECDSA key")

    def public_line(self) -> str:
        """Its public key as OpenSSH writes it."""
        return self._line

    def sign(self, data: bytes) -> bytes:
        """The signature blob of SSH (RFC 8709, 5656); raises ServiceUnavailable."""
        if isinstance(self._public, Ed25519PublicKey):
            return _blob(b"ssh-ed25519", self._token.sign(self._public.public_bytes_raw(), data, pkcs11.Mechanism.EDDSA))
        assert isinstance(self._public, EllipticCurvePublicKey)
        kind, algorithm = _CURVES[self._public.curve.name]
        digest = hashes.Hash(algorithm)
        digest.update(data)
        point = self._public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        pair = self._token.sign(point, digest.finalize(), pkcs11.Mechanism.ECDSA)
        return _ecdsa_blob(kind, int.from_bytes(pair[: len(pair) // 2]), int.from_bytes(pair[len(pair) // 2 :]))


def _line(public: Path) -> str:
    """The line of `ca.pub`, without its comment."""
    try:
        return " ".join((public / "ca.pub").read_text(encoding="utf-8").split()[:2])
    except OSError as missing:
        raise KeyFileError(f"{public}/ca.pub cannot be read, which says which key is the authority's") from missing


def _blob(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _ecdsa_blob(kind: str, *numbers: int) -> bytes:
    message = paramiko.Message()
    for number in numbers:
        message.add_mpint(number)
    return _blob(kind.encode(), message.asbytes())


def _octets(point: bytes) -> bytes:
    """As PKCS#11 wants points: in an OCTET STRING of DER."""
    length = bytes([len(point)]) if len(point) < 128 else bytes([0x81, len(point)])
    return b"\x04" + length + point


def _unavailable(why: str) -> ServiceUnavailable:
    _LOG.error("no certificate can be signed: %s", why)
    return ServiceUnavailable("The certificate authority cannot be reached")
