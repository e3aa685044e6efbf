"""Certificates for probes: whoever holds a worker's key gets in as the probe user of the settings, and as nobody else."""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from broker.grants import GrantVerifier, sign_claims
from broker.key_rings import KeyRing
from broker.once import Once
from broker.tokens import TokenVerifier
from schemas.errors import AccessDenied, ServiceUnavailable
from schemas.grant import GrantError
from schemas.settings import Settings
from workers.authorities import KeyAuthority
from workers.certificate_log import CertificateLog
from workers.certificates import UserKey
from workers.delegation import Delegation
from workers.policy import Policy

CA, WORKER, API = (Ed25519PrivateKey.generate() for _ in range(3))
KEY = UserKey()


def system(name: str, probe_user: str) -> dict:
    return {"name": name, "host": "localhost", "host_keys": ["none"], "probe_user": probe_user}


SETTINGS = Settings.model_validate(
    {
        "systems": [system("probed", "prober"), system("unprobed", ""), system("careless", "root"), system("crooked", "-x")],
        "issuers": [{"jwks_url": "http://127.0.0.1:9/none"}],
        "broker": {"url": "redis://127.0.0.1:9"},
        "keys": {"private": "/none", "public": "/none"},
        "limits": {"certificate_seconds": 120},
        "delegation": {"source_addresses": ["192.0.2.0/24"]},
    }
)
DELEGATION = Delegation(
    authority=lambda: KeyAuthority(CA),
    openers=lambda: [X25519PrivateKey.generate()],
    workers=KeyRing(WORKER.public_key(), name="worker"),
    grants=GrantVerifier(API.public_key()),
    tokens=TokenVerifier(SETTINGS.issuers),
    policy=Policy(SETTINGS.delegation, seconds=SETTINGS.limits.certificate_seconds),
    log=CertificateLog(Path(tempfile.mkdtemp(), "log")),
    once=Once(None, "petition"),
    settings=SETTINGS,
)


def petition(key: Ed25519PrivateKey = WORKER, **claims: str | int) -> str:
    """What a worker signs."""
    asked = {"call": uuid4().hex, "worker": "housekeeping.1", "public_key": KEY.public_line(), "at": int(time.time()), **claims}
    return sign_claims(asked, key)


def test_a_probe_enters_as_the_probe_user_like_any_user_does() -> None:
    found = load_ssh_public_identity(DELEGATION.certify(petition(probe="probed")).encode())
    assert isinstance(found, SSHCertificate)
    found.verify_cert_signature()
    assert found.valid_principals == [b"prober"]
    assert found.key_id == b"firecrest user=prober system=probed task=probe worker=worker:housekeeping.1"
    assert (found.extensions, found.critical_options) == ({}, {b"source-address": b"192.0.2.0/24"})
    assert found.valid_before - found.valid_after == 120


def test_a_worker_cannot_choose_whom_a_probe_enters_as() -> None:
    text = petition(probe="probed", user="fcalice", probe_user="fcalice", task_id="x", system="careless")
    found = load_ssh_public_identity(DELEGATION.certify(text).encode())
    assert isinstance(found, SSHCertificate)
    assert found.valid_principals == [b"prober"]


@pytest.mark.parametrize("name", ["unprobed", "elsewhere", "", "probed "])
def test_what_has_no_probe_user_is_not_probed(name: str) -> None:
    with pytest.raises(GrantError):
        DELEGATION.certify(petition(probe=name))


@pytest.mark.parametrize("name", ["careless", "crooked"])
def test_denied_and_odd_users_are_not_let_in_as_probes_either(name: str) -> None:
    with pytest.raises(AccessDenied):
        DELEGATION.certify(petition(probe=name))


@pytest.mark.parametrize("key", [API, CA, Ed25519PrivateKey.generate()])
def test_only_enrolled_workers_probe(key: Ed25519PrivateKey) -> None:
    with pytest.raises(GrantError, match="not a petition of an enrolled worker"):
        DELEGATION.certify(petition(key, probe="probed"))


def test_a_petition_is_answered_once() -> None:
    text = petition(probe="probed")
    assert DELEGATION.certify(text)
    with pytest.raises(GrantError, match="answered"):
        DELEGATION.certify(text)


def test_every_certificate_is_in_the_log_and_without_the_log_there_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    delegation = replace(DELEGATION, log=CertificateLog(folder / "log"))
    found = load_ssh_public_identity(delegation.certify(petition(probe="probed")).encode())
    assert isinstance(found, SSHCertificate)
    (line,) = (folder / "log").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["serial"], entry["key_id"], entry["user"]) == (str(found.serial), found.key_id.decode(), "prober")
    assert (entry["system"], entry["source-address"], entry["expires"]) == ("probed", "192.0.2.0/24", found.valid_before)
    (folder / "log").unlink()
    folder.rmdir()
    with pytest.raises(ServiceUnavailable):
        delegation.certify(petition(probe="probed"))


def granted(**claims: object) -> str:
    now = int(time.time())
    stated = {"task_id": "a", "user": "ann", "system": "probed", "operation": "o", "parameters": "p", "seal": "", "accepted": now}
    return sign_claims(stated | {"expires": now + 9} | claims, API)


@pytest.mark.parametrize("accepted", [-(10 * 86400), -3800, 100])
def test_a_grant_that_says_it_was_accepted_at_an_odd_time_is_refused(accepted: int) -> None:
    with pytest.raises(GrantError, match="accepted in the future, or longer ago"):
        DELEGATION.certify(petition(grant=granted(accepted=int(time.time()) + accepted)))
    with pytest.raises(GrantError, match="sealed"):
        DELEGATION.certify(petition(grant=granted()))


def test_a_stale_petition_is_refused() -> None:
    with pytest.raises(GrantError, match="stale"):
        DELEGATION.certify(petition(probe="probed", at=int(time.time()) - 61))


def test_a_petition_without_grant_and_probe_is_refused() -> None:
    with pytest.raises(GrantError, match="not a grant"):
        DELEGATION.certify(petition())


FORCED = "/usr/local/libexec/firecrest-command"
FORCED_SYSTEM = SETTINGS.systems[0].model_copy(update={"forced_command": FORCED})


def at_forced_site(**claims: str) -> SSHCertificate:
    """What the delegation answers where `probed` is a forced-command site."""
    delegation = replace(DELEGATION, settings=SETTINGS.model_copy(update={"systems": (FORCED_SYSTEM,)}))
    found = load_ssh_public_identity(delegation.certify(petition(probe="probed", **claims)).encode())
    assert isinstance(found, SSHCertificate)
    return found


def test_where_a_command_is_forced_the_certificate_names_it_beside_all_other_bounds() -> None:
    found = at_forced_site(command="eyJhcmd2Ijo")
    found.verify_cert_signature()
    assert found.critical_options == {b"force-command": f"{FORCED} eyJhcmd2Ijo".encode(), b"source-address": b"192.0.2.0/24"}
    assert (found.valid_principals, found.extensions) == ([b"prober"], {})


@pytest.mark.parametrize("command", ["", " ", "id", "a b", "a;id", "a\n", "$(id)", "/bin/sh", "a=", "é", "x" * 100_001])
def test_where_a_command_is_forced_nothing_is_certified_without_one_or_for_what_is_no_plain_word(command: str) -> None:
    if command == "id":  # which the wrapper refuses
        assert at_forced_site(command=command).critical_options[b"force-command"] == f"{FORCED} id".encode()
        return
    with pytest.raises(GrantError, match="command"):
        at_forced_site(command=command)


def test_where_no_command_is_forced_none_is_certified() -> None:
    with pytest.raises(GrantError, match="for one command"):
        DELEGATION.certify(petition(probe="probed", command="eyJhcmd2Ijo"))
