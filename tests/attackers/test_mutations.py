"""Ten thousand mutated tokens, grants and petitions, each: all refused, and nothing breaks; a sample goes the way that real ones go."""

import json
import random
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from api.identity import BearerTokens
from broker.grants import GrantSigner, GrantVerifier, sign_claims
from broker.key_rings import KeyRing
from broker.keys import verifying_key
from broker.once import Once
from broker.tokens import TokenVerifier
from schemas.errors import Unauthorized
from schemas.grant import GrantError
from schemas.operation import digest
from schemas.settings import Settings
from schemas.utilities import Ls
from tests.attackers.mutations import Attacker
from tests.real_site import Client, Site
from tests.site.conftest import Folder
from tests.site.raw_http import Connection, Request
from tests.site.test_secrecy import Forger, canary
from workers.authorities import KeyAuthority
from workers.certificate_log import CertificateLog
from workers.certificates import UserKey
from workers.delegation import Delegation
from workers.policy import Policy

SEED, COUNT, SAMPLE = 20261129, 10_000, 400
API, WORKER, CA = (Ed25519PrivateKey.generate() for _ in range(3))
OPENER = X25519PrivateKey.generate()
ISSUER = generate_private_key(65537, 2048)
KEY = UserKey()


class Keys(BaseHTTPRequestHandler):
    """The issuer's keys, as it serves them."""

    def do_GET(self) -> None:
        shown = jwt.algorithms.RSAAlgorithm.to_jwk(ISSUER.public_key(), as_dict=True)
        content = json.dumps({"keys": [shown | {"kid": "genuine", "use": "sig", "alg": "RS256"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
        pass


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with HTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Settings.model_validate(
            {
                "systems": [{"name": "cluster", "host": "127.0.0.1", "host_keys": ["none"]}],
                "issuers": [{"issuer": "tests", "audience": "account", "jwks_url": f"http://127.0.0.1:{server.server_port}/keys"}],
                "broker": {"url": "redis://127.0.0.1:9"},
                "keys": {"private": "/none", "public": "/none"},
            }
        )
        server.shutdown()


def genuine_token() -> str:
    """A token of alice that is good for an hour."""
    now = int(time.time())
    claims = {"iss": "tests", "aud": ["account", "x"], "iat": now, "exp": now + 3600, "preferred_username": "fcalice", "scope": "openid"}
    return jwt.encode(claims, ISSUER, algorithm="RS256", headers={"kid": "genuine"})


@pytest.fixture(scope="module")
def token() -> str:
    return genuine_token()


@pytest.fixture(scope="module")
def grant(token: str) -> str:
    parameters, who = Ls.model_validate({"targetPath": "/home"}).parameters(), {"user": "fcalice", "system": "cluster", "token": token}
    return GrantSigner(API, OPENER.public_key()).grant(Ls.task(), parameters, task_id="0a1b", seconds=3600, **who)


def certifier(settings: Settings) -> Delegation:
    return Delegation(
        authority=lambda: KeyAuthority(CA),
        openers=lambda: [OPENER],
        workers=KeyRing(WORKER.public_key(), name="worker"),
        grants=GrantVerifier(API.public_key()),
        tokens=TokenVerifier(settings.issuers),
        policy=Policy(settings.delegation, seconds=300),
        log=CertificateLog(Path(tempfile.mkdtemp(), "log")),
        once=Once(None, "petition"),
        settings=settings,
    )


def petition(grant: str) -> str:
    asked = {"call": uuid4().hex, "worker": "compute.1", "public_key": KEY.public_line(), "grant": grant, "at": int(time.time())}
    return sign_claims(asked, WORKER)


def verdicts(verify: Callable[[str], Any], forged: list[str], refusal: type[Exception]) -> Counter[str]:
    """How often each was refused, and the others; what else is raised flies."""
    found: Counter[str] = Counter()
    for text in forged:
        try:
            verify(text)
        except refusal:
            found["refused"] += 1
        else:
            found[f"ACCEPTED {text!r}"] += 1
    return found


def test_what_is_mutated_is_genuine_to_begin_with(settings: Settings, token: str, grant: str) -> None:
    assert TokenVerifier(settings.issuers).bearer(token).user == "fcalice"
    assert GrantVerifier(API.public_key()).verify(grant).user == "fcalice"
    assert certifier(settings).certify(petition(grant)).startswith("ssh-ed25519-cert")


def test_ten_thousand_mutated_tokens_are_refused(settings: Settings, token: str) -> None:
    forged = Attacker.armed(token, ISSUER.public_key(), SEED).statements(COUNT)
    assert token not in forged
    assert verdicts(TokenVerifier(settings.issuers).bearer, forged, Unauthorized) == {"refused": COUNT}


def test_ten_thousand_mutated_headers_are_refused(settings: Settings, token: str) -> None:
    """As the API reads them, `Bearer ` and all; what surrounds a token in blanks is the token still, as HTTP has it."""
    identity = BearerTokens(TokenVerifier(settings.issuers))
    forged = [text for text in Attacker.armed(token, ISSUER.public_key(), SEED + 1).statements(COUNT) if text.strip() != token]
    assert len(forged) > 0.99 * COUNT
    assert verdicts(lambda text: identity.caller({"Authorization": f"Bearer {text}"}), forged, Unauthorized) == {"refused": len(forged)}  # type: ignore[arg-type]


def test_ten_thousand_mutated_grants_are_refused(grant: str) -> None:
    forged = Attacker.armed(grant, API.public_key(), SEED + 2).statements(COUNT)
    assert grant not in forged
    assert verdicts(GrantVerifier(API.public_key()).verify, forged, GrantError) == {"refused": COUNT}


def test_no_mutated_grant_yields_a_certificate_though_an_enrolled_worker_asks(settings: Settings, grant: str) -> None:
    forged = [text for text in Attacker.armed(grant, API.public_key(), SEED + 3).statements(COUNT) if text.isprintable()]
    delegation = certifier(settings)
    assert len(forged) > 0.9 * COUNT
    assert verdicts(lambda text: delegation.certify(petition(text)), forged, GrantError) == {"refused": len(forged)}


def test_ten_thousand_mutated_petitions_are_refused(settings: Settings, grant: str) -> None:
    genuine = petition(grant)
    forged = Attacker.armed(genuine, WORKER.public_key(), SEED + 4).statements(COUNT)
    assert verdicts(certifier(settings).certify, forged, GrantError) == {"refused": COUNT}


def test_a_token_sealed_to_another_delegation_or_changed_in_its_seal_is_refused(settings: Settings, grant: str) -> None:
    """The API's key alone: it can sign any grant, but has no token to seal in it."""
    delegation, chance = certifier(settings), random.Random(SEED)
    claims = jwt.decode(grant, options={"verify_signature": False})
    for _ in range(500):
        seal = bytearray(claims["seal"].encode())
        seal[chance.randrange(len(seal) - 2)] = chance.choice(b"ABCDEFGHIJ+/=!_-.")
        if seal.decode() == claims["seal"]:
            continue
        stated = sign_claims(claims | {"seal": seal.decode()}, API)
        with pytest.raises(GrantError):
            delegation.certify(petition(stated))


def test_mutated_tokens_are_refused_over_http(site: Site, records: Callable[[], set[bytes]]) -> None:
    """Byte by byte, on connections that are kept: 401 in the contract's form, whatever was sent, and no task."""
    genuine = site.token("alice")
    forged = [text for text in Attacker.armed(genuine, ISSUER.public_key(), SEED + 5).statements(2 * SAMPLE) if _sendable(text, genuine)]
    before, connection, answers = records(), Connection(site.url), Counter[int]()
    for text in forged[:SAMPLE]:
        headers = [("X-Machine-Name", site.facts["system"].encode()), ("Authorization", b"Bearer " + text.encode())]
        answer = connection.send(Request("GET", b"/utilities/whoami", headers))
        answers[answer.status] += 1
        # a header line of more than 8190 bytes is refused before anybody reads what it says
        assert answer.status == 401 or (answer.status in (400, 431) and len(text) > 8000), (answer, text)
        assert set(json.loads(answer.body)) <= {"description", "error"}, answer
    connection.close()
    assert answers[401] > 0.9 * SAMPLE
    assert sum(answers.values()) == SAMPLE
    assert records() <= before


def _sendable(text: str, genuine: str) -> bool:
    """Whether HTTP can carry it, and not as the token itself."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return text.strip() != genuine and not set(text) & set("\r\n\0")


def test_mutated_grants_are_refused_by_the_workers(site: Site, mkdir: Forger, folder: Folder) -> None:
    """Through the real queue, each with a canary of its own under the grant that it is sent with."""
    public = verifying_key(Path(site.facts["keys"]["public"]), "api")
    forged = Attacker.armed(mkdir.kwargs["grant"], public, SEED + 6).statements(100)
    path = canary(folder)
    for text in forged:
        parameters = mkdir.parameters | {"targetPath": f"{path}-{secrets.token_hex(4)}"}
        stated = _with_digest(text, parameters)
        mkdir.send(parameters=parameters, grant=stated or "-")
    mkdir.refused()
    assert sorted(entry.name for entry in Path(folder.path).iterdir()) == ["made"]


def _with_digest(grant: str, parameters: dict[str, Any]) -> str:
    """The grant; if its claims can be read, for these parameters."""
    try:
        head, body, signature = grant.split(".")
        claims = jwt.utils.base64url_decode(body)
        stated = json.loads(claims) | {"parameters": digest(parameters)}
        return f"{head}.{jwt.utils.base64url_encode(json.dumps(stated).encode()).decode()}.{signature}"
    except (ValueError, TypeError, RecursionError, UnicodeEncodeError):
        return grant


def test_after_all_that_real_calls_are_answered(alice: Client, folder: Folder) -> None:
    assert alice.get("/utilities/ls", params={"targetPath": folder.path}).json()["output"] == []
