"""What attackers hold: keys of parts that they broke into, and the ways to use them against the running site."""

import json
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import paramiko
from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, SSHCertificate, load_ssh_public_identity
from redis import Redis

from broker.celery import create_celery
from broker.configuration import open_redis, settings_in
from broker.gateway import ask
from broker.grants import sign_claims
from broker.keys import authority_key, signing_key
from broker.replies import Replies
from schemas.settings import Settings, System
from tests.real_site import Site
from workers.authorities import KeyAuthority
from workers.certificates import UserKey


@dataclass(frozen=True)
class Insider:
    """Somebody on the site's network who has what the parts have, as far as a test lets them use it."""

    site: Site

    @cached_property
    def settings(self) -> Settings:
        """The gateway's settings, with a worker's way into Redis."""
        return self.settings_of("worker")

    def settings_of(self, user: str) -> Settings:
        """The gateway's settings, with the way into Redis of one of its users."""
        return settings_in(Path(self.site.facts["settings"]), user)

    def redis(self, user: str) -> Redis:
        """Redis, as one of its users."""
        return open_redis(self.settings_of(user))

    @cached_property
    def app(self) -> Celery:
        """A way to send messages."""
        return create_celery(self.settings)

    def key(self, part: str) -> Ed25519PrivateKey:
        """The private key of a part: api or worker."""
        return signing_key(Path(self.site.facts["keys"]["private"]), part)

    def authority(self) -> KeyAuthority:
        """The certificate authority, with its private key."""
        return KeyAuthority(authority_key(Path(self.site.facts["keys"]["private"])))

    def system(self) -> System:
        """The system that the tests are about."""
        found = self.settings.system(self.site.facts["system"])
        assert found
        return found

    def petitioner(self, key: Ed25519PrivateKey | None = None) -> "Asking":
        """Asks the delegation for certificates, with the worker's key or another."""
        return Asking(self, key or self.key("worker"))

    def ask(self, *, key: Ed25519PrivateKey | None = None, **claims: Any) -> str:
        """What the delegation answers to a petition of any claims; raises what it refuses with."""
        stated = {"call": uuid4().hex, "worker": "intruder.1", "at": int(time.time()), **claims}
        return self.send(sign_claims(stated, key or self.key("worker")))

    def send(self, petition: str) -> str:
        """What the delegation answers to a petition; raises what it refuses with."""
        call_id = uuid4().hex
        with closing(Replies(open_redis(self.settings))) as replies:
            return str(json.loads(ask(self.app, replies, "delegation.Certify", petition, task_id=call_id, shown="intruder", seconds=30)))

    def enter(self, user: str, key: UserKey, certificate: str, *, source: str = "127.0.0.1") -> paramiko.Transport:
        """A connection to the system as that user, from that address; raises paramiko.AuthenticationException."""
        system = self.system()
        sock = socket.create_connection((system.host, system.port), timeout=20, source_address=(source, 0))
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=20)
            transport.auth_publickey(user, key.paramiko(certificate))
        except BaseException:
            transport.close()
            raise
        return transport


@dataclass(frozen=True)
class Asking:
    """A thief of the worker's key, or somebody with another key, who asks as a worker does."""

    insider: Insider
    key: Ed25519PrivateKey

    def certify(self, public_key: str, grant: str) -> str:
        """A certificate on the strength of a grant; raises AccessDenied."""
        return self.insider.ask(key=self.key, public_key=public_key, grant=grant)

    def certify_probe(self, public_key: str, system: str) -> str:
        """A certificate for a probe; raises AccessDenied."""
        return self.insider.ask(key=self.key, public_key=public_key, probe=system)


@dataclass(frozen=True)
class CertificateFacts:
    """What stands in a certificate."""

    principals: list[str]
    key_id: str
    serial: int
    valid_after: int
    valid_before: int
    extensions: dict[bytes, bytes]
    critical_options: dict[bytes, bytes]
    public_key: str


def certificate_facts(line: str) -> CertificateFacts:
    """What stands in a certificate line that a CA has signed."""
    found = load_ssh_public_identity(line.encode())
    assert isinstance(found, SSHCertificate)
    found.verify_cert_signature()
    return CertificateFacts(
        [one.decode() for one in found.valid_principals],
        found.key_id.decode(),
        found.serial,
        found.valid_after,
        found.valid_before,
        found.extensions,
        found.critical_options,
        found.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
    )
