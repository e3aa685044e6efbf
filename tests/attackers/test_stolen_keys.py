"""Who has stolen a key, a grant or a certificate: what it opens, for whom, for how long, and from where (docs/security.md)."""

import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.public import PublicKey, SealedBox

from broker.grants import sign_claims
from broker.keys import sealing_key
from schemas.errors import AccessDenied
from schemas.operation import digest
from tests.attackers.arms import Insider, certificate_facts
from tests.attackers.conftest import Folder, Forger
from tests.hosts.own_sshd import OwnSshd
from tests.real_site import Client, Site
from tests.site.test_secrecy import canary
from workers.certificates import Statement, UserKey, sign


@pytest.fixture
def insider(site: Site) -> Insider:
    return Insider(site)


def run(transport: paramiko.Transport, command: str) -> str:
    """What a command prints."""
    session = transport.open_session()
    session.exec_command(command)
    return session.makefile().read().decode().strip()


# the worker's key


def test_a_workers_key_enters_as_the_probe_user_and_without_a_grant_as_nobody_else(insider: Insider) -> None:
    petitioner, key = insider.petitioner(), UserKey()
    facts = certificate_facts(petitioner.certify_probe(key.public_line(), insider.system().name))
    assert facts.principals == [insider.system().probe_user]
    for nothing in ("", "x", "a.b.c", sign_claims({"user": "fcalice", "system": "cluster"}, insider.key("worker"))):
        with pytest.raises(AccessDenied):
            petitioner.certify(key.public_line(), nothing)
    for name in ("cluster,elsewhere", "fcalice", "../cluster", ""):
        with pytest.raises(AccessDenied):
            insider.ask(public_key=key.public_line(), probe=name)
    for claims in ({"user": "fcalice"}, {"principal": "fcalice"}, {"probe_user": "fcalice"}, {"principals": ["root"]}):
        found = certificate_facts(insider.ask(public_key=key.public_line(), probe=insider.system().name, **claims))
        assert found.principals == [insider.system().probe_user]


def test_with_a_grant_that_it_has_seen_it_enters_as_that_user_alone_for_minutes(insider: Insider, mkdir: Forger) -> None:
    key, asked = UserKey(), time.time()
    certificate = insider.petitioner().certify(key.public_line(), mkdir.kwargs["grant"])
    assert certificate_facts(certificate).valid_before <= asked + 301
    with closing(insider.enter("fcalice", key, certificate)) as transport:
        assert run(transport, "id -un") == "fcalice"
    for other in ("fcbob", "root", "fcprobe", "fcalice,fcbob", "daemon"):
        with pytest.raises(paramiko.SSHException):
            insider.enter(other, key, certificate)
    with pytest.raises(paramiko.AuthenticationException):
        insider.enter("fcalice", UserKey(), certificate)


def test_it_cannot_make_grants_nor_change_those_it_has(insider: Insider, mkdir: Forger, folder: Folder) -> None:
    """The worker's key signs petitions; whoever takes it for the API's refuses."""
    path = canary(folder)
    parameters = mkdir.parameters | {"targetPath": path}
    claims = mkdir.claims() | {"parameters": digest(parameters)}
    for changed in (claims, claims | {"user": "fcbob"}, claims | {"expires": int(time.time()) + 99999}):
        forged = sign_claims(changed, insider.key("worker"))
        with pytest.raises(AccessDenied):
            insider.petitioner().certify(UserKey().public_line(), forged)
        mkdir.send(parameters=parameters, grant=forged)
    mkdir.refused()
    assert not Path(path).exists()


# a live certificate with its key


@pytest.fixture
def live(insider: Insider, mkdir: Forger) -> tuple[UserKey, str]:
    """What is in a worker's memory while alice works: a key, and a certificate for it."""
    key = UserKey()
    return key, insider.petitioner().certify(key.public_line(), mkdir.kwargs["grant"])


def test_a_stolen_certificate_is_of_no_use_from_another_address(insider: Insider, live: tuple[UserKey, str]) -> None:
    key, certificate = live
    assert certificate_facts(certificate).critical_options == {b"source-address": b"127.0.0.1/32"}
    with pytest.raises(paramiko.AuthenticationException):
        insider.enter("fcalice", key, certificate, source="127.0.0.2")
    with closing(insider.enter("fcalice", key, certificate)) as transport:
        assert run(transport, "id -un") == "fcalice"


def test_a_stolen_certificate_opens_no_terminal_and_no_way_through(insider: Insider, live: tuple[UserKey, str]) -> None:
    with closing(insider.enter("fcalice", *live)) as transport:
        with pytest.raises(paramiko.SSHException):
            transport.open_session().get_pty()
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", insider.system().port), ("127.0.0.1", 1))
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("127.0.0.1", 0)


def test_a_stolen_certificate_is_over_when_its_minutes_are(insider: Insider) -> None:
    """On the real system, with the real CA: two seconds, so that nobody has to wait for five minutes."""
    key, ca = UserKey(), insider.authority()

    def certificate(seconds: int) -> str:
        return sign(ca, Statement(key.public_line(), "fcalice", "tests", 7, seconds, ("127.0.0.1/32",)))

    short = certificate(2)
    time.sleep(2.5)
    with pytest.raises(paramiko.AuthenticationException):
        insider.enter("fcalice", key, short)
    insider.enter("fcalice", key, certificate(60)).close()


# the API's key


@pytest.fixture
def seal(insider: Insider) -> Callable[[str], str]:
    """Seals to the delegation, whose public key is no secret."""
    box = SealedBox(PublicKey(sealing_key(insider.settings.keys.public).public_bytes_raw()))
    return lambda token: b64encode(box.encrypt(token.encode())).decode()


def grants(insider: Insider, mkdir: Forger, **claims: Any) -> str:
    """What the API's key can sign."""
    now = int(time.time())
    stated = mkdir.claims() | {"task_id": uuid4().hex, "accepted": now, "expires": now + 600} | claims
    return sign_claims(stated, insider.key("api"))


def test_the_apis_key_alone_gives_no_certificate(
    insider: Insider, alice: Client, mkdir: Forger, seal: Callable[[str], str], site: Site
) -> None:
    """Not even to who has a worker's key too: a token of that very user, valid when the call was accepted, is missing."""
    token = alice.authorization().removeprefix("Bearer ")
    petitioner, line = insider.petitioner(), UserKey().public_line()
    assert certificate_facts(petitioner.certify(line, grants(insider, mkdir, seal=seal(token)))).principals == ["fcalice"]
    wrong = {
        "no seal": {"seal": ""},
        "no token": {"seal": seal("")},
        "nonsense": {"seal": seal("a.b.c")},
        "bob with alice's token": {"user": "fcbob", "seal": seal(token)},
        "bob with alice's seal": {"user": "fcbob"},
        "root": {"user": "root", "seal": seal(site.token("root"))},
        "before the token was": {"seal": seal(token), "accepted": int(time.time()) - 365 * 86400},
        "after the token is": {"seal": seal(token), "accepted": int(time.time()) + 3600},
        "a spoiled token": {"seal": seal(token[:-4] + "AAAA")},
        "another system": {"seal": seal(token), "system": "elsewhere"},
        "expired": {"seal": seal(token), "expires": int(time.time()) - 1},
    }
    accepted = []
    for case, claims in wrong.items():
        try:
            petitioner.certify(line, grants(insider, mkdir, **claims))
        except AccessDenied:
            continue
        accepted.append(case)
    assert accepted == []


def test_the_apis_key_signs_no_petition(insider: Insider, mkdir: Forger) -> None:
    for key in (insider.key("api"), Ed25519PrivateKey.generate()):
        with pytest.raises(AccessDenied):
            insider.petitioner(key).certify(UserKey().public_line(), mkdir.kwargs["grant"])


# grants


def test_an_expired_grant_opens_nothing_and_does_nothing(insider: Insider, mkdir: Forger, folder: Folder) -> None:
    path, task_id = canary(folder), uuid4().hex
    parameters = mkdir.parameters | {"targetPath": path}
    now = int(time.time())
    expired = grants(insider, mkdir, task_id=task_id, parameters=digest(parameters), accepted=now - 20, expires=now - 1)
    with pytest.raises(AccessDenied):
        insider.petitioner().certify(UserKey().public_line(), expired)
    mkdir.send(task_id=task_id, parameters=parameters, grant=expired)
    mkdir.refused()
    assert not Path(path).exists()


def test_another_users_grant_is_good_for_that_user_and_call_alone(insider: Insider, mkdir: Forger, folder: Folder) -> None:
    """Alice's grant, in the hands of mallory: no other task, no other parameters, no other operation, and alice's name on it."""
    path, grant = canary(folder), mkdir.kwargs["grant"]
    mkdir.send(task_id=uuid4().hex)
    mkdir.send(parameters=mkdir.parameters | {"targetPath": path})
    mkdir.send(operation="utilities.Rm", parameters={"targetPath": f"{folder.path}/made"})
    mkdir.refused()
    assert not Path(path).exists()
    assert Path(folder.path, "made").is_dir()
    assert certificate_facts(insider.petitioner().certify(UserKey().public_line(), grant)).principals == ["fcalice"]


# forged key ids


@pytest.mark.parametrize("worker", ["x user=root", "x\nuser=root", "x task=1 worker=y", "é", "x" * 500, "a b", "x\0"])
def test_no_worker_puts_words_into_the_key_id(insider: Insider, mkdir: Forger, worker: str) -> None:
    """What sshd's log and the certificate log say of who came is the delegation's to say."""
    with pytest.raises(AccessDenied):
        insider.ask(public_key=UserKey().public_line(), grant=mkdir.kwargs["grant"], worker=worker)


@pytest.mark.parametrize("kid", ["", "worker", "../worker", "/dev/null", "x" * 5000, None, 7, ["worker"], {"kid": "x"}])
def test_the_id_of_a_key_is_no_path_and_no_excuse(insider: Insider, mkdir: Forger, kid: Any) -> None:
    """A petition names the key that signed it: by a name that no enrolled worker has, it is nobody's."""
    stated = {"call": uuid4().hex, "worker": "intruder.1", "at": int(time.time()), "public_key": UserKey().public_line()}
    body = _base64(json.dumps(stated | {"grant": mkdir.kwargs["grant"]}).encode())
    head = _base64(json.dumps({"alg": "EdDSA", "typ": "JWT", "kid": kid}).encode())
    for key in (Ed25519PrivateKey.generate(), insider.key("worker")):
        with pytest.raises(AccessDenied):
            insider.send(f"{head}.{body}.{_base64(key.sign(f'{head}.{body}'.encode()))}")


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


# the CA's key: whoever owns the delegation


def test_the_ca_enters_as_any_user_but_not_as_root(insider: Insider) -> None:
    """The gain is as large as docs/security.md says: any user that the systems' sshd lets in."""
    key, ca = UserKey(), insider.authority()
    for user in ("fcalice", "fcbob"):
        with closing(insider.enter(user, key, sign(ca, Statement(key.public_line(), user, "tests", 7, 60)))) as transport:
            assert run(transport, "id -un") == user
    with pytest.raises(AccessDenied):
        Statement(key.public_line(), "root,fcalice", "tests", 7, 60)
    with pytest.raises(paramiko.AuthenticationException):
        insider.enter("root", key, sign(ca, Statement(key.public_line(), "root", "tests", 7, 60)))


@pytest.fixture
def other() -> Iterator[OwnSshd]:
    server = OwnSshd("fcalice")
    server.start()
    yield server
    server.remove()


def test_a_ca_of_ones_own_enters_nowhere(insider: Insider, other: OwnSshd) -> None:
    key = UserKey()
    with pytest.raises(paramiko.AuthenticationException):
        insider.enter("fcalice", key, other.certify(key.public_line()))
