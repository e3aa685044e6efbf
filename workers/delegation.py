"""Delegation: alone holds the CA key, and gives certificates to those who show that a user asked for it, and to probes."""

import logging
import time
from dataclasses import dataclass

import celery
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ValidationError

from broker.celery import create_celery
from broker.compact import strictly_written
from broker.configuration import open_redis
from broker.grants import GrantVerifier, unseal
from broker.keys import opening_key, signing_key, verifying_key
from broker.replies import Answers
from broker.tasks import Tasks
from broker.tokens import TokenVerifier
from schemas.errors import AccessDenied, FirecrestError, Unauthorized
from schemas.grant import Grant, GrantError
from schemas.settings import Settings
from workers.certificates import CertificateRequest, new_serial, sign
from workers.housekeeping import let_pass

_LOG = logging.getLogger(__name__)
TASK = "delegation.Certify"
PROBE = "probe"
ALGORITHM = "EdDSA"
_FRESH_SECONDS = 60


class Petition(BaseModel):
    """What a worker signs: its name, the public key it wants certified, and either the grant it acts on or the system it probes."""

    worker: str
    public_key: str
    grant: str = ""
    probe: str = ""
    at: int


@dataclass(frozen=True)
class Delegation:
    """Decides who gets a certificate, and signs it."""

    ca: Ed25519PrivateKey
    opener: X25519PrivateKey
    worker: Ed25519PublicKey
    grants: GrantVerifier
    tokens: TokenVerifier
    settings: Settings

    def certify(self, petition: str) -> str:
        """A certificate line for a worker's petition.

        Raises GrantError when worker or API did not sign it or it is stale, AccessDenied when the user is not let in.
        """
        wanted = self._read(petition)
        user, task, system = self._probing(wanted.probe) if wanted.probe else self._granted(wanted.grant)
        if user in self.settings.delegation.denied_users:
            raise AccessDenied("User does not have permissions to access machine")
        request = CertificateRequest(wanted.public_key, user, task, wanted.worker)
        serial = new_serial()
        certificate = sign(
            self.ca,
            public_key=request.public_key,
            user=request.user,
            key_id=request.key_id(),
            serial=serial,
            seconds=self.settings.limits.certificate_seconds,
            source_addresses=self.settings.delegation.source_addresses,
        )
        _LOG.info("certificate %s: %s, for system %s", serial, request.key_id(), system)
        return certificate

    def _read(self, petition: str) -> Petition:
        if not strictly_written(petition):
            raise GrantError("not a petition of an enrolled worker: it is not strictly written")
        try:
            wanted = Petition.model_validate(jwt.decode(petition, self.worker, algorithms=[ALGORITHM]))
        except (jwt.InvalidTokenError, ValidationError, ValueError, TypeError) as wrong:
            raise GrantError(f"not a petition of an enrolled worker: {wrong}") from None
        if abs(time.time() - wanted.at) > _FRESH_SECONDS:
            raise GrantError("the petition is stale")
        return wanted

    def _granted(self, text: str) -> tuple[str, str, str]:
        """User, task and system of a grant."""
        grant = self.grants.verify(text)
        grant.check_time()
        self._check_user(grant)
        return grant.user, grant.task_id, grant.system

    def _probing(self, name: str) -> tuple[str, str, str]:
        """User, task and system of a probe: whatever the worker says, the user is the one of the settings."""
        system = self.settings.system(name)
        if system is None or not system.probe_user:
            raise GrantError("the system to probe is unknown, or has no probe_user")
        return system.probe_user, PROBE, system.name

    def _check_user(self, grant: Grant) -> None:
        try:
            user = self.tokens.user(unseal(grant, self.opener), moment=grant.accepted)
        except Unauthorized as refused:
            raise GrantError(f"the token in the grant is not valid: {refused.description}") from None
        if user != grant.user or self.settings.system(grant.system) is None:
            raise GrantError("the token in the grant is another user's, or the system is unknown")


def create_delegation(settings: Settings) -> celery.Celery:
    """The Celery application of the delegation, with its one task."""
    redis = open_redis(settings, retries=20)
    private, public = settings.keys.private, settings.keys.public
    delegation = Delegation(
        ca=signing_key(private, "ca"),
        opener=opening_key(private),
        worker=verifying_key(public, "worker"),
        grants=GrantVerifier(verifying_key(public, "api")),
        tokens=TokenVerifier(settings.issuers),
        settings=settings,
    )
    app = create_celery(settings)
    _serve(app, delegation, Answers(redis))
    let_pass(app, Tasks(redis, lifetime=settings.limits.task_seconds), "delegation")
    return app


def _serve(app: celery.Celery, delegation: Delegation, answers: Answers) -> None:
    @app.task(name=TASK, bind=True, ignore_result=True, throws=(FirecrestError, GrantError))  # type: ignore[untyped-decorator]
    def certify(self: celery.Task, petition: str, *, reply: str) -> None:
        """Answer a worker's petition."""
        try:
            certificate = delegation.certify(petition)
        except GrantError as refused:
            _LOG.warning("petition refused: %s", refused)
            answers.fail(reply, self.request.id, AccessDenied("User does not have permissions to access machine"))
            raise
        except FirecrestError as failed:
            answers.fail(reply, self.request.id, failed)
            raise
        answers.succeed(reply, self.request.id, certificate)
