"""Where the private key of the certificate authority is."""

from collections.abc import Callable

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.key_rings import Watched
from broker.keys import signing_key
from schemas.settings import Settings
from workers.certificates import Authority


class KeyAuthority:
    """An authority whose Ed25519 key is in the memory of this process."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def public_line(self) -> str:
        """Its public key as OpenSSH writes it."""
        return self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def sign(self, data: bytes) -> bytes:
        """The signature blob of SSH (RFC 8709)."""
        return signature_blob("ssh-ed25519", self._key.sign(data))


def signature_blob(kind: str, signature: bytes) -> bytes:
    """A signature as SSH writes it: its kind, then itself."""
    message = paramiko.Message()
    message.add_string(kind)
    message.add_string(signature)
    return message.asbytes()


def authority(settings: Settings) -> Callable[[], Authority]:
    """The authority of the deployment, asked anew for each certificate, as its key may be rotated. Raises KeyFileError."""
    private = settings.keys.private
    return Watched(private, lambda: KeyAuthority(signing_key(private, "ca"))).now
