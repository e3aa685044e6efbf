"""The CA's key in an ssh-agent and in a token: a real sshd lets in whom they certify."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError

from broker.keys import KeyFileError
from schemas.errors import ServiceUnavailable
from schemas.settings import CertificateAuthority, Settings
from tests.hosts.own_sshd import OwnSshd
from tests.real_site import not_here
from workers.authorities import authority, token_of
from workers.certificates import Authority, CertificateRequest, Statement, UserKey, new_serial, sign
from workers.host import Command
from workers.ssh import SSHPool

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
KINDS = ("ed25519", "secp256r1", "secp384r1")


@dataclass
class Deployment:
    """A folder of public keys, and the settings that say where the CA's key is."""

    folder: Path

    def settings(self, **where: str) -> Settings:
        return Settings.model_validate(
            {
                "systems": [{"name": "own", "host": "127.0.0.1", "host_keys": ["none"]}],
                "issuers": [{"jwks_url": "http://127.0.0.1:9/none"}],
                "broker": {"url": "redis://127.0.0.1:9"},
                "keys": {"private": self.folder, "public": self.folder},
                "delegation": {"authority": where},
            }
        )

    def trust(self, line: str) -> None:
        fresh = self.folder / "new"
        fresh.write_text(f"{line} firecrest-user-ca\n")
        fresh.replace(self.folder / "ca.pub")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    (tmp_path / "keys").mkdir()
    return Deployment(tmp_path / "keys")


def made(kind: str) -> Any:
    curves: dict[str, ec.EllipticCurve] = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}
    return Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(curves[kind])


def line(public: Any) -> str:
    return str(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


@dataclass
class Agent:
    """A real ssh-agent."""

    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def socket(self) -> str:
        return str(self.folder / "agent")

    def add(self, key: Any) -> None:
        file = self.folder / "key"
        file.touch(mode=0o600)
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        subprocess.run(["ssh-add", "-q", file], env={**os.environ, "SSH_AUTH_SOCK": self.socket}, check=True)
        file.unlink()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    program = shutil.which("ssh-agent")
    if program is None:
        not_here("openssh-client is not installed")
    folder = tmp_path / "agent"
    folder.mkdir()
    with subprocess.Popen([program, "-D", "-a", folder / "agent"], stdout=subprocess.DEVNULL) as process:
        found = Agent(folder, process)
        while not Path(found.socket).exists():
            assert process.poll() is None
        yield found
        process.terminate()


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a SoftHSM with a token `firecrest`; the module reads where it is once in a process."""
    if not Path(MODULE).exists():
        not_here("softhsm2 is not installed")
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "conf")
    words = ["--init-token", "--free", "--label", "firecrest", "--so-pin", "123456", "--pin", "654321"]
    subprocess.run(["softhsm2-util", *words], check=True, stdout=subprocess.DEVNULL)
    (folder / "pin").touch(mode=0o600)
    (folder / "pin").write_text("654321\n")
    return folder


# In another process, as it is done in life: whether somebody has logged in is the same for all of a process.
MAKE = """
import sys, pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
kind, number, edwards = sys.argv[1], int(sys.argv[2]), sys.argv[1] == "ed25519"
parameters = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("1.3.101.112" if edwards else kind)}
with pkcs11.lib(sys.argv[3]).get_token(token_label="firecrest").open(rw=True, user_pin="654321") as session:
    domain = session.create_domain_parameters(pkcs11.KeyType.EC_EDWARDS if edwards else pkcs11.KeyType.EC, parameters, local=True)
    more = {"mechanism": pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN} if edwards else {}
    public, private = domain.generate_keypair(store=True, label="ca", id=bytes([number]), **more)
    print(bytes(public[pkcs11.Attribute.EC_POINT]).hex())
"""


def in_token(kind: str, number: int) -> str:
    """The line of a new key in the token."""
    words = [sys.executable, "-c", MAKE, kind, str(number), MODULE]
    point = bytes.fromhex(subprocess.run(words, check=True, capture_output=True, text=True).stdout)[2:]
    if kind == "ed25519":
        return line(Ed25519PublicKey.from_public_bytes(point))
    return line(ec.EllipticCurvePublicKey.from_encoded_point({"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}[kind], point))


@contextmanager
def signing(settings: Settings) -> Iterator[Callable[[], Authority]]:
    """The authority of a deployment, whose token is given back."""
    try:
        yield authority(settings)
    finally:
        token_of(settings.delegation.authority).close()


def lets_in(sshd: OwnSshd, settings: Settings, ca: Callable[[], Authority]) -> None:
    """A user enters a real server, which trusts the authority, with its certificate."""
    (sshd.folder / "ca.pub").write_text(ca().public_line() + "\n")
    pool = SSHPool(settings.limits)

    def certify(public_key: str) -> str:
        request = CertificateRequest(public_key, sshd.user, "own", "0a1b", "tests")
        return sign(ca(), Statement(public_key, sshd.user, request.key_id(), new_serial(), 300))

    try:
        who = pool.host(sshd.system(), sshd.user, certify).run(Command(("id", "-un"), bytes.decode))
    finally:
        pool.close()
    assert who.strip() == sshd.user


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_signs_with_the_key_that_ca_pub_names(sshd: OwnSshd, deployment: Deployment, agent: Agent, kind: str) -> None:
    for key in (other := made(kind), chosen := made(kind)):
        agent.add(key)
    deployment.trust(line(chosen.public_key()))
    settings = deployment.settings(kind="agent", agent_socket=agent.socket)
    ca = authority(settings)
    lets_in(sshd, settings, ca)
    deployment.trust(line(other.public_key()))
    until = threading.Event()
    while ca().public_line() != line(other.public_key()):
        until.wait(0.1)
    lets_in(sshd, settings, ca)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_signs_with_the_key_that_ca_pub_names(sshd: OwnSshd, deployment: Deployment, token: Path, kind: str) -> None:
    in_token(kind, 10 + KINDS.index(kind))
    deployment.trust(in_token(kind, 20 + KINDS.index(kind)))
    settings = deployment.settings(kind="pkcs11", module=MODULE, token="firecrest", pin_file=str(token / "pin"))
    with signing(settings) as ca:
        lets_in(sshd, settings, ca)


def a_certificate(ca: Authority) -> str:
    return sign(ca, Statement(UserKey().public_line(), "fcalice", "x", 1, 60))


def test_a_token_signs_for_many_threads_at_once(deployment: Deployment, token: Path) -> None:
    deployment.trust(in_token("ed25519", 30))
    signed: list[str] = []
    with signing(deployment.settings(kind="pkcs11", module=MODULE, token="firecrest", pin_file=str(token / "pin"))) as ca:
        threads = [threading.Thread(target=lambda: signed.extend(a_certificate(ca()) for _ in range(5))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(signed)) == 40


def test_without_agent_or_without_its_key_nothing_is_signed(deployment: Deployment, agent: Agent) -> None:
    deployment.trust(line(made("ed25519").public_key()))
    ca = authority(deployment.settings(kind="agent", agent_socket=agent.socket))
    with pytest.raises(ServiceUnavailable, match="certificate authority"):
        a_certificate(ca())
    agent.process.terminate()
    agent.process.wait()
    with pytest.raises(ServiceUnavailable, match="certificate authority"):
        a_certificate(ca())


def test_without_the_tokens_key_or_pin_nothing_is_signed(deployment: Deployment, token: Path, tmp_path: Path) -> None:
    deployment.trust(line(made("ed25519").public_key()))
    where = {"kind": "pkcs11", "module": MODULE, "token": "firecrest"}
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text("000000")
    for file in (token / "pin", pin):
        with signing(deployment.settings(**where, pin_file=str(file))) as ca, pytest.raises(ServiceUnavailable, match="authority"):
            a_certificate(ca())
    deployment.trust(in_token("ed25519", 40))
    pin.write_text("654321")
    pin.chmod(0o644)
    with signing(deployment.settings(**where, pin_file=str(pin))) as ca:
        with pytest.raises(ServiceUnavailable, match="authority"):
            a_certificate(ca())
        pin.chmod(0o600)
        assert a_certificate(ca())


def test_an_authority_that_signs_with_another_key_than_it_shows_gives_nothing() -> None:
    class Liar:
        def public_line(self) -> str:
            return line(made("ed25519").public_key())

        def sign(self, data: bytes) -> bytes:
            return b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + made("ed25519").sign(data)

    with pytest.raises(ValueError, match="not that of the authority"):
        a_certificate(Liar())


@pytest.mark.parametrize(
    "where", [{"kind": "agent"}, {"kind": "pkcs11"}, {"kind": "pkcs11", "module": "x", "token": "y"}, {"kind": "cloud"}]
)
def test_an_authority_that_is_half_described_is_refused(where: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CertificateAuthority.model_validate(where)


def test_a_public_key_that_says_which_must_be_there(deployment: Deployment) -> None:
    with pytest.raises(KeyFileError, match=r"ca\.pub"):
        authority(deployment.settings(kind="agent", agent_socket="/nowhere"))
