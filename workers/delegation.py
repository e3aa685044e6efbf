"""Delegation: alone holds the CA key, and gives certificates to those who show that a user asked for it, and to probes."""

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import celery
import jwt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ValidationError

import schemas.catalogue  # noqa: F401 (every operation that a grant may be for)
from broker.celery import create_celery
from broker.configuration import open_redis
from broker.grants import GrantVerifier, unseal, verified_claims
from broker.key_rings import KeyRing, Watched
from broker.keys import opening_keys
from broker.once import Once
from broker.replies import Answers
from broker.tasks import Tasks
from broker.tokens import TokenVerifier
from schemas.errors import AccessDenied, FirecrestError, ServiceUnavailable, Unauthorized
from schemas.grant import Grant, GrantError
from schemas.operation import operation_named
from schemas.rights import Right
from schemas.settings import Settings
from workers.authorities import authority
from workers.certificate_log import CertificateLog
from workers.certificates import Authority, CertificateRequest, Statement, expiry, sign
from workers.housekeeping import let_pass
from workers.policy import Policy

_LOG = logging.getLogger(__name__)
TASK = "delegation.Certify"
PROBE = "probe"
_FRESH_SECONDS = 60
# What no shell could take for anything but one word, and not more than a certificate can carry.
SPELLING = re.compile(r"[A-Za-z0-9_-]{1,100000}")


class AnsweredError(GrantError):
    """The petition came before; whoever waits for the answer has it, or gets it."""


class Petition(BaseModel):
    """What a worker signs: its process, the public key it wants certified, and either the grant it acts on or the system it probes.

    And the command that the certificate is to be for (`workers.forced.spelled`), where the system wants one.
    """

    call: str
    worker: str
    public_key: str
    grant: str = ""
    probe: str = ""
    command: str = ""
    at: int


@dataclass(frozen=True)
class Delegation:
    """Decides whether a petition is genuine, has the policy decide on it, and signs the certificate."""

    authority: Callable[[], Authority]
    openers: Callable[[], Sequence[X25519PrivateKey]]
    workers: KeyRing
    grants: GrantVerifier
    tokens: TokenVerifier
    policy: Policy
    log: CertificateLog
    once: Once
    settings: Settings

    def certify(self, petition: str) -> str:
        """A certificate line for a worker's petition.

        Raises GrantError when worker or API did not sign it or it is stale, AccessDenied when the user is not let in,
        TooManyRequests when they have been given too many, ServiceUnavailable when the certificate cannot be signed or noted.
        """
        wanted, enrolled = self._read(petition)
        user, system, task, call = self._probing(wanted.probe) if wanted.probe else self._granted(wanted.grant)
        try:
            request = CertificateRequest(wanted.public_key, user, system, task, f"{enrolled}:{wanted.worker}")
        except ValueError as wrong:
            raise GrantError(str(wrong)) from None
        stated = self.policy.statement(request, enrolled=enrolled, command=self._command_line(system, wanted.command))
        certificate = sign(self.authority(), stated)
        self._note(request, stated, certificate, call=call)
        return certificate

    def _note(self, request: CertificateRequest, stated: Statement, certificate: str, *, call: str) -> None:
        """Have the certificate in the log before anybody gets it; raises ServiceUnavailable."""
        told = {name: getattr(request, name) for name in ("user", "system", "task", "worker", "public_key")}
        # The serial as text, since many readers of JSON know no whole numbers of 64 bits.
        entry = {
            "serial": str(stated.serial),
            "request": call,
            "key_id": stated.key_id,
            **told,
            "expires": expiry(certificate),
            **stated.options(),
        }
        try:
            line = self.log.append(entry)
        except OSError as failed:
            _LOG.exception("no certificate is given that cannot be noted")
            raise ServiceUnavailable("The delegation cannot write its log") from failed
        _LOG.info("certificate %s: %s, noted in line %s", stated.serial, stated.key_id, line)

    def _read(self, petition: str) -> tuple[Petition, str]:
        """The petition, and the name of the enrolled worker who signed it."""
        try:
            claims, worker = verified_claims(petition, self.workers)
            wanted = Petition.model_validate(claims)
        except (jwt.PyJWTError, ValidationError, ValueError, TypeError, RecursionError) as wrong:
            raise GrantError(f"not a petition of an enrolled worker: {wrong}") from None
        if abs(time.time() - wanted.at) > _FRESH_SECONDS:
            raise GrantError("the petition is stale")
        if not self.once.first(wanted.call, seconds=2 * _FRESH_SECONDS):
            raise AnsweredError("the petition has been answered")
        return wanted, worker.name

    def _granted(self, text: str) -> tuple[str, str, str, str]:
        """User, system, task and HTTP request of a grant."""
        grant = self.grants.verify(text)
        grant.check_time()
        if not 0 <= time.time() + _FRESH_SECONDS - grant.accepted <= self.settings.longest_grant() + 2 * _FRESH_SECONDS:
            raise GrantError("the grant was accepted in the future, or longer ago than any that is still good")
        self._check_user(grant)
        return grant.user, grant.system, grant.task_id, grant.request

    def _probing(self, name: str) -> tuple[str, str, str, str]:
        """User, system and task of a probe, which is of no request: whatever the worker says, the user is the one of the settings."""
        system = self.settings.system(name)
        if system is None or not system.probe_user:
            raise GrantError("the system to probe is unknown, or has no probe_user")
        return system.probe_user, system.name, PROBE, ""

    def _command_line(self, name: str, command: str) -> str:
        """What sshd of the system is to run, whatever it is asked to; empty when anything. Raises GrantError."""
        system = self.settings.system(name)
        wrapper = system.forced_command if system else ""
        if bool(wrapper) != bool(command):
            raise GrantError(f"certificates for {name} are for one command" if wrapper else f"{name} takes no certificates for one command")
        if command and not SPELLING.fullmatch(command):
            raise GrantError("the command is not spelled as commands are")
        return f"{wrapper} {command}" if wrapper else ""

    def _check_user(self, grant: Grant) -> None:
        try:
            bearer = self.tokens.bearer(unseal(grant, *self.openers()), moment=grant.accepted)
        except Unauthorized as refused:
            raise GrantError(f"the token in the grant is not valid: {refused.description}") from None
        if bearer.user != grant.user or self.settings.system(grant.system) is None:
            raise GrantError("the token in the grant is another user's, or the system is unknown")
        if not bearer.rights & _rights(grant):
            raise GrantError(f"the token in the grant does not allow {grant.operation}")


def _rights(grant: Grant) -> frozenset[Right]:
    try:
        return operation_named(grant.operation).route.rights
    except KeyError:
        raise GrantError("the grant is for no operation that there is") from None


def create_delegation(settings: Settings) -> celery.Celery:
    """The Celery application of the delegation, with its one task."""
    redis = open_redis(settings, retries=20)
    private, public = settings.keys.private, settings.keys.public
    delegation = Delegation(
        authority=authority(settings),
        openers=Watched(private, lambda: opening_keys(private)).now,
        workers=KeyRing.of(public, "worker"),
        grants=GrantVerifier.of(settings.keys),
        tokens=TokenVerifier(settings.issuers),
        policy=Policy(settings.delegation, seconds=settings.limits.certificate_seconds),
        log=CertificateLog(settings.delegation.certificate_log),
        once=Once(redis, "petition"),
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
        except AnsweredError:
            raise
        except GrantError as refused:
            _LOG.warning("petition refused: %s", refused)
            answers.fail(reply, self.request.id, AccessDenied("User does not have permissions to access machine"))
            raise
        except FirecrestError as failed:
            answers.fail(reply, self.request.id, failed)
            raise
        answers.succeed(reply, self.request.id, json.dumps(certificate).encode())
