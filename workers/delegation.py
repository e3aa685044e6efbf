"""Delegation: alone holds the CA key, and gives certificates to those who show that a user asked for it."""

import logging
import time
from dataclasses import dataclass

import celery
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ValidationError

from broker.celery import create_celery
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
ALGORITHM = "EdDSA"
_FRESH_SECONDS = 60


class Petition(BaseModel):
    """What a worker signs: its name, the public key it wants certified, and the grant it acts on."""

    worker: str
    public_key: str
    grant: str
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
        grant = self.grants.verify(wanted.grant)
        grant.check_time()
        self._check_user(grant)
        request = CertificateRequest(wanted.public_key, grant.user, grant.task_id, wanted.worker)
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
        _LOG.info("certificate %s: %s, for system %s", serial, request.key_id(), grant.system)
        return certificate

    def _read(self, petition: str) -> Petition:
        try:
            wanted = Petition.model_validate(jwt.decode(petition, self.worker, algorithms=[ALGORITHM]))
        except (jwt.InvalidTokenError, ValidationError, ValueError, TypeError) as wrong:
            raise GrantError(f"not a petition of an enrolled worker: {wrong}") from None
        if abs(time.time() - wanted.at) > _FRESH_SECONDS:
            raise GrantError("the petition is stale")
        return wanted

    def _check_user(self, grant: Grant) -> None:
        try:
            user = self.tokens.user(unseal(grant, self.opener), moment=grant.accepted)
        except Unauthorized as refused:
            raise GrantError(f"the token in the grant is not valid: {refused.description}") from None
        if user != grant.user or self.settings.system(grant.system) is None:
            raise GrantError("the token in the grant is another user's, or the system is unknown")
        if user in self.settings.delegation.denied_users:
            raise AccessDenied("User does not have permissions to access machine")


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
