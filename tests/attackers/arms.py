"""What attackers hold: keys of parts that they broke into, and the ways to use them against the running site."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, SSHCertificate, load_ssh_public_identity

from broker.celery import create_celery
from broker.configuration import open_redis, settings_in
from broker.gateway import send
from broker.grants import sign_claims
from broker.keys import signing_key
from broker.replies import Replies
from schemas.settings import Settings
from tests.real_site import Site
from workers.petitions import Petitioner


@dataclass(frozen=True)
class Insider:
    """Somebody on the site's network who has what the parts have, as far as a test lets them use it."""

    site: Site

    @cached_property
    def settings(self) -> Settings:
        """The gateway's settings."""
        return settings_in(Path(self.site.facts["settings"]), "worker")

    @cached_property
    def app(self) -> Celery:
        """A way to send messages."""
        return create_celery(self.settings)

    def key(self, part: str) -> Ed25519PrivateKey:
        """The private key of a part: api, worker or ca."""
        return signing_key(Path(self.site.facts["keys"]["private"]), part)

    def petitioner(self, key: Ed25519PrivateKey | None = None, *, worker: str = "intruder.1") -> Petitioner:
        """Asks the delegation for certificates, with the worker's key or another."""
        known = key or self.key("worker")
        return Petitioner(self.app, Replies(open_redis(self.settings)), lambda: known, worker=worker)

    def ask(self, *, key: Ed25519PrivateKey | None = None, **claims: Any) -> str:
        """What the delegation answers to a petition of any claims; raises what it refuses with."""
        stated = {"call": uuid4().hex, "worker": "intruder.1", "at": int(time.time()), **claims}
        return self.send(sign_claims(stated, key or self.key("worker")))

    def send(self, petition: str) -> str:
        """What the delegation answers to a petition; raises what it refuses with."""
        replies, call_id = Replies(open_redis(self.settings)), uuid4().hex
        with replies.expected(call_id) as answer:
            kwargs = {"reply": replies.channel}
            send(self.app, "delegation.Certify", petition, task_id=call_id, shown="intruder", kwargs=kwargs, expires=20)
            return str(replies.wait(answer, seconds=20))


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
