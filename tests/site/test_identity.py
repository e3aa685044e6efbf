"""Who may call: tokens of every wrong kind are refused in the contract's words (contract, 1.1)."""

import hashlib
import hmac
import json
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

import api.app  # noqa: F401 (all operations)
from schemas.operation import OPERATIONS, Operation
from tests.conftest import ROOT, STATE
from tests.real_site import Client, Site, eventually, told

GENERAL = "Bad header or JWT, general exception raised"
SIGNATURE = "JWT token has invalid signature"
ALGORITHM = "JWT token has invalid signature algorithm"
EXPIRED = "JWT token has expired"
AUDIENCE = "Invalid audience in JWT token"

pytestmark = pytest.mark.usefixtures("no_task_is_made")


@dataclass(frozen=True)
class Issuer:
    """The site's issuer as a thief of its key sees it, and a stranger with a key of their own."""

    name: str
    key: RSAPrivateKey
    key_id: str
    stranger: RSAPrivateKey

    def claims(self, **others: Any) -> dict[str, Any]:
        """The claims of a good token of alice; None leaves one out."""
        now = int(time.time())
        good = {"iss": self.name, "aud": "account", "iat": now, "exp": now + 60, "preferred_username": "fcalice"}
        return {name: value for name, value in (good | others).items() if value is not None}

    def token(self, **others: Any) -> str:
        """A token signed by the issuer itself."""
        return jwt.encode(self.claims(**others), self.key, algorithm="RS256", headers={"kid": self.key_id})

    def forged(self, *, key_id: str | None = None, **others: Any) -> str:
        """A token signed by the stranger."""
        return jwt.encode(self.claims(**others), self.stranger, algorithm="RS256", headers={"kid": key_id or self.key_id})

    def unsigned(self) -> str:
        """A token without signature."""
        return jwt.encode(self.claims(), None, algorithm="none")

    def confused(self) -> str:
        """A token whose HMAC secret is the issuer's public key."""
        secret = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        head = {"alg": "HS256", "typ": "JWT", "kid": self.key_id}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, self.claims()))
        return f"{text}.{_base64(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def stranger() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def issuer(site: Site, stranger: RSAPrivateKey) -> Issuer:
    newest = max((Path(site.facts["state"]) / "data" / "issuer" / "keys").glob("*.pem"))
    key = load_pem_private_key(newest.read_bytes(), password=None)
    assert isinstance(key, RSAPrivateKey)
    return Issuer(site.facts["urls"]["issuer"], key, newest.stem, stranger)


def called(site: Site, authorization: str | None, path: str = "/utilities/whoami") -> requests.Response:
    headers = {"X-Machine-Name": site.facts["system"]} | ({} if authorization is None else {"Authorization": authorization})
    return requests.get(site.url + path, headers=headers, timeout=30)


def test_a_token_of_the_issuer_is_accepted(site: Site, issuer: Issuer) -> None:
    assert called(site, f"Bearer {issuer.token()}").json()["output"] == "fcalice"


WRONG: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "not a token": (lambda _: "nonsense", GENERAL),
    "an empty token": (lambda _: "", GENERAL),
    "a token of another issuer with its own key": (lambda i: i.forged(iss="http://elsewhere.example/realms/x"), SIGNATURE),
    "a token with another key under a known id": (lambda i: i.forged(), SIGNATURE),
    "a token with a key of unknown id": (lambda i: i.forged(key_id="unknown"), SIGNATURE),
    "a token with a spoiled signature": (lambda i: i.token()[:-8] + "AAAAAAAA", SIGNATURE),
    "an expired token": (lambda i: i.token(exp=int(time.time()) - 1), EXPIRED),
    "an expired token with another key": (lambda i: i.forged(exp=int(time.time()) - 1), SIGNATURE),
    "a token for another audience": (lambda i: i.token(aud="other"), AUDIENCE),
    "a token for no audience": (lambda i: i.token(aud=None), AUDIENCE),
    "a token without signature": (lambda i: i.unsigned(), ALGORITHM),
    "HS256 with the public key as secret": (lambda i: i.confused(), ALGORITHM),
    "a token without exp": (lambda i: i.token(exp=None), GENERAL),
    "a token that starts tomorrow": (lambda i: i.token(nbf=int(time.time()) + 86400), GENERAL),
    "a token without user": (lambda i: i.token(preferred_username=None), GENERAL),
    "a token whose user is a path": (lambda i: i.token(preferred_username="../fcbob"), GENERAL),
    "a token whose user is an option": (lambda i: i.token(preferred_username="-oProxyCommand=x"), GENERAL),
    "a token whose user is two": (lambda i: i.token(preferred_username="fcalice,fcbob"), GENERAL),
    "a token whose user ends in a newline": (lambda i: i.token(preferred_username="fcalice\n"), GENERAL),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_token_is_refused_in_the_words_of_the_contract(site: Site, issuer: Issuer, case: str) -> None:
    make, words = WRONG[case]
    answer = called(site, f"Bearer {make(issuer)}")
    assert (answer.status_code, answer.json()) == (401, {"description": words})
    assert not told(answer.headers)


def test_a_token_without_bearer_is_refused(site: Site, issuer: Issuer) -> None:
    answer = called(site, issuer.token())
    assert (answer.status_code, answer.json()) == (401, {"description": GENERAL})


def test_a_bearer_without_token_is_refused(site: Site) -> None:
    answer = called(site, "Bearer")
    assert (answer.status_code, answer.json()) == (401, {"description": GENERAL})


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.task())
def test_every_operation_wants_a_token_before_anything_else(site: Site, operation: type[Operation]) -> None:
    for path in filter(None, (operation.route.path, operation.route.also)):
        answer = requests.request(operation.route.verb, site.url + path, timeout=30)
        assert (answer.status_code, answer.json()) == (401, {"description": "No Auth Header given"})


def test_a_service_account_is_who_its_first_role_says(site: Site, issuer: Issuer) -> None:
    token = issuer.token(
        preferred_username="service-account-x",
        clientId="x",
        realm_access={"roles": ["offline_access", "firecrest-sa"]},
        resource_access={"x": {"roles": ["fcbob", "fcalice"]}},
    )
    assert called(site, f"Bearer {token}").json()["output"] == "fcbob"


def test_roles_of_others_than_service_accounts_mean_nothing(site: Site, issuer: Issuer) -> None:
    token = issuer.token(clientId="x", realm_access={"roles": ["other"]}, resource_access={"x": {"roles": ["fcbob"]}})
    assert called(site, f"Bearer {token}").json()["output"] == "fcalice"


def test_a_new_key_of_the_issuer_is_known_without_a_restart(site: Site, alice: Client) -> None:
    log = Path(site.facts["logs"]) / "delegation.log"
    processes = [site.supervisor("pid", name) for name in ("api", "delegation")]
    earlier = site.token("alice")
    said = log.stat().st_size
    subprocess.run(
        [sys.executable, "site", "rotate-issuer-key", "--state", str(STATE)], cwd=ROOT, check=True, timeout=60, capture_output=True
    )

    token = site.token("nobody")
    assert jwt.get_unverified_header(token)["kid"] != jwt.get_unverified_header(earlier)["kid"]

    def certified() -> bool:
        """The API let the call through, and the delegation took the token (and refused its user, who is unknown)."""
        answer = called(site, f"Bearer {token}")
        with log.open() as lines:
            lines.seek(said)
            return "X-Permission-Denied" in answer.headers and "nosuchuser" in lines.read()

    # each process asks the issuer for its keys at most every two seconds
    eventually(certified, seconds=8)
    eventually(lambda: all(called(site, f"Bearer {token}", "/tasks").status_code == 200 for _ in range(8)), seconds=4)
    assert called(site, f"Bearer {earlier}").json()["output"] == alice.user
    assert [site.supervisor("pid", name) for name in ("api", "delegation")] == processes
