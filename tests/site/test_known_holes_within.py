"""The holes that FirecREST v1 and v2 are known for (contract, 8.2), each tried for real: keys, certificates, tokens, host keys, sources."""

import ast
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
import requests
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from schemas.errors import AccessDenied, MachineNotAvailable, ServiceUnavailable, Unauthorized
from schemas.settings import Delegation, Issuer, Limits, Settings
from schemas.settings import System as SystemSettings
from tests.attackers.arms import Insider, certificate_facts
from tests.attackers.issuers import KeyServer
from tests.conftest import ROOT
from tests.hosts.own_sshd import OwnSshd
from tests.real_site import Client, Site
from tests.site.test_secrecy import Forger, Witness, mkdir, witness  # noqa: F401 (fixtures)
from workers.certificates import CertificateRequest, UserKey
from workers.host import Command
from workers.ssh import SSHPool

PRODUCT = ("api", "broker", "schemas", "workers", "deploy")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the product."""
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


# S9: certificates for days, for several users, with everything on, from anywhere, with one key for all


def test_s9_a_certificate_is_for_minutes_for_one_user_and_says_who_asked(site: Site, mkdir: Forger) -> None:  # noqa: F811
    insider = Insider(site)
    key, asked = UserKey(), time.time()
    facts = certificate_facts(insider.petitioner().certify(key.public_line(), mkdir.kwargs["grant"]))
    assert facts.principals == ["fcalice"]
    assert 0 < facts.valid_before - facts.valid_after <= 300
    assert facts.valid_before <= asked + 301
    assert facts.extensions == {}, "no pty, no forwarding of ports, agent or X11, no user rc"
    for word in ("user=fcalice", "system=cluster", f"task={mkdir.message['headers']['id']}", "worker=worker:intruder.1"):
        assert word in facts.key_id
    assert facts.serial > 0
    assert facts.public_key == key.public_line()


@pytest.mark.parametrize(
    "claims", [{"exptime": 2793000000}, {"seconds": 604800}, {"user": "root"}, {"principals": ["root"]}, {"option": "x"}]
)
def test_s9_who_asks_does_not_choose(site: Site, mkdir: Forger, claims: dict[str, Any]) -> None:  # noqa: F811
    """An enrolled worker that asks for more gets what is due to the grant, or nothing."""
    insider = Insider(site)
    try:
        line = insider.ask(grant=mkdir.kwargs["grant"], public_key=UserKey().public_line(), **claims)
    except AccessDenied:
        return
    facts = certificate_facts(line)
    assert (facts.principals, facts.extensions) == (["fcalice"], {})
    assert facts.valid_before - facts.valid_after <= 300


@pytest.mark.parametrize("user", ["alice,root", "root", "fcalice\nroot", "*", "", "fcalice ", "Root", "../root"])
def test_s9_a_name_is_one_plain_name(user: str) -> None:
    if user == "root":
        assert user in Delegation().denied_users
    else:
        with pytest.raises(AccessDenied):
            CertificateRequest(UserKey().public_line(), user, "cluster", "0a1b", "worker")
    for seconds in (301, 604800):
        with pytest.raises(ValidationError):
            Limits(certificate_seconds=seconds)


def test_s9_every_process_has_a_key_of_its_own_in_memory_only(site: Site) -> None:
    assert UserKey().public_line() != UserKey().public_line()
    kept = {path.name for path in Path(site.facts["keys"]["private"]).rglob("*") if path.is_file()}
    assert not [name for name in kept if "user" in name or "id_" in name], "no key pair of users is on any disk"


# S10: whoever reaches the certificator gets a certificate


@pytest.mark.parametrize("path", ["/certificator", "/certificator/", "/cert", "/", "/delegation", "/delegation/Certify"])
def test_s10_no_url_gives_certificates(site: Site, alice: Client, path: str) -> None:
    headers = {"Authorization": alice.authorization(), "X-Machine-Name": site.facts["system"]}
    for verb in ("GET", "POST"):
        answer = requests.request(verb, f"{site.url}{path}?command=id&cluster=cluster", headers=headers, timeout=30)
        assert "ssh-" not in answer.text
        assert answer.status_code in (404, 405) or path == "/"


def test_s10_a_token_alone_gives_no_certificate_not_even_to_who_reaches_the_queue(site: Site, alice: Client) -> None:
    token = alice.authorization().removeprefix("Bearer ")
    line, insider = UserKey().public_line(), Insider(site)
    for petitioner in (insider.petitioner(Ed25519PrivateKey.generate()), insider.petitioner()):
        with pytest.raises(AccessDenied):
            petitioner.certify(line, token)


# S11, and v2: host keys are not checked


@pytest.fixture
def impostor() -> Iterator[OwnSshd]:
    """A server that lets alice's certificates in, but does not have the key that is pinned."""
    server = OwnSshd("fcalice")
    server.start()
    yield server
    server.remove()


def test_s11_v2_a_system_with_another_host_key_gets_no_login_and_no_command(impostor: OwnSshd) -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    pool = SSHPool(Limits())
    for known in ((other,), (f"[127.0.0.1]:{impostor.port} {other}",)):
        host = pool.host(impostor.system(host_keys=known), "fcalice", impostor.certify)
        with pytest.raises(MachineNotAvailable):
            host.run(Command(("id",), bytes))
    assert impostor.logins() == 0
    assert pool.host(impostor.system(), "fcalice", impostor.certify).run(Command(("id", "-un"), bytes)) == b"fcalice\n"
    pool.close()


@pytest.mark.parametrize("keys", [[], None, "", ["*"]])
def test_s11_v2_there_is_no_system_without_a_pinned_key(keys: Any) -> None:
    with pytest.raises((ValidationError, ValueError)):
        _pins(SystemSettings.model_validate({"name": "x", "host": "x", "host_keys": keys}))


def _pins(system: SystemSettings) -> None:
    from workers.connections import pinned

    assert pinned(system.host_keys)


def test_s11_v2_no_source_accepts_unknown_host_keys() -> None:
    for path, _ in sources():
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not re.search(r"AutoAddPolicy|WarningPolicy|set_missing_host_key_policy|SSHClient|StrictHostKeyChecking", text), path


# S12: without keys, or with a public secret, tokens are as anybody wants them


@pytest.mark.parametrize("algorithm", ["HS256", "HS512", "none", "", None])
def test_s12_there_is_no_deployment_without_keys_or_with_shared_secrets(algorithm: str | None) -> None:
    whole = {
        "systems": [{"name": "x", "host": "x", "host_keys": ["x"]}],
        "broker": {"url": "redis://x"},
        "keys": {"private": "/none", "public": "/none"},
    }
    assert Settings.model_validate(whole | {"issuers": [{"jwks_url": "https://x", "algorithms": ["RS256"]}]})
    for issuers in ([], [{}], [{"jwks_url": "https://x", "algorithms": [algorithm]}]):
        with pytest.raises(ValidationError):
            Settings.model_validate(whole | {"issuers": issuers})


def test_s12_an_issuer_that_shows_no_keys_lets_nobody_in() -> None:
    with KeyServer({}) as server, pytest.raises(ServiceUnavailable):
        server.verifier(Issuer(jwks_url=server.url)).bearer(server.token("fcalice", "RS256"))


@pytest.mark.parametrize("secret", [b"", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", b"secret", b"\0" * 32, b"None"])
def test_s12_no_secret_that_anybody_knows_signs_a_token(site: Site, secret: bytes) -> None:
    known = jwt.get_unverified_header(site.token("alice"))
    claims = jwt.decode(site.token("alice"), options={"verify_signature": False})
    text = KeyServer.with_secret(claims | {"exp": int(time.time()) + 60}, secret, kid=known["kid"])
    answer = requests.get(f"{site.url}/tasks", headers={"Authorization": f"Bearer {text}"}, timeout=30)
    assert (answer.status_code, answer.json()) == (401, {"description": "JWT token has invalid signature algorithm"})


# S13: of several keys with several algorithms only the first works


def test_s13_every_key_and_every_issuer_of_several_works_and_only_its_own() -> None:
    with KeyServer.of("RS256", "RS256") as first, KeyServer.of("ES256", "EdDSA") as second:
        issuers = [
            Issuer(issuer="first", jwks_url=first.url),
            Issuer(issuer="second", jwks_url=second.url, algorithms=("ES256",)),
            Issuer(issuer="third", jwks_url=second.url, algorithms=("EdDSA",)),
        ]
        verifier = first.verifier(*issuers)
        assert [verifier.bearer(first.token("fcalice", "RS256", number=n, iss="first")).user for n in (0, 1)] == ["fcalice"] * 2
        assert verifier.bearer(second.token("fcbob", "ES256", iss="second")).user == "fcbob"
        assert verifier.bearer(second.token("fcbob", "EdDSA", number=1, iss="third")).user == "fcbob"
        for text in (
            second.token("fcbob", "ES256", iss="first"),
            first.token("fcalice", "RS256", iss="second"),
            second.token("fcbob", "ES256", iss="third"),
            second.token("fcbob", "EdDSA", number=1, iss="second"),
            first.token("fcalice", "RS256", iss="fourth"),
        ):
            with pytest.raises(Unauthorized):
                verifier.bearer(text)


# S15: private keys and passwords are in the repository


def tracked() -> list[Path]:
    """The files of the repository; where there is none, those that are here."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    skipped = {".venv", "node_modules", ".git", ".site", ".site-test"}
    found = [ROOT / name for name in names if name] or [p for p in ROOT.rglob("*") if not set(p.relative_to(ROOT).parts) & skipped]
    return [path for path in found if path.is_file()]


def test_s15_no_file_of_the_repository_is_a_private_key_or_holds_one() -> None:
    files = tracked()
    assert len(files) > 200
    for path in files:
        text = path.read_bytes()
        assert not re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{40}", text), path
        assert path.suffix not in (".pem", ".key", ".p12", ".jks", ".pfx", ".crt"), path
        assert not path.name.startswith("id_"), path
        for url in re.findall(rb"rediss?://[^\s:/@{}$'\"]*:([^\s@/{}'\"]{4,})@", text):
            assert url in (b"password", b"secret") or path.is_relative_to(ROOT / "tests"), (path, url)


def test_s15_compose_holds_no_secret_and_shows_the_host_no_port_but_to_itself() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    for name, service in compose["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            assert not re.search("PASSWORD|SECRET|TOKEN|KEY$", variable) or str(value).startswith("/"), (name, variable)
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), (name, port)
    for name in ("redis", "delegation"):
        assert not compose["services"][name].get("ports"), name


# v2: quoted paths are spliced into shell lines


def test_v2_every_program_for_a_shell_is_a_constant_and_values_are_its_arguments() -> None:
    """Whatever stands behind `sh -c` is a name in capitals, or text; no f-string, no sum, no format, no variable."""
    found = 0
    for path, tree in sources():
        if path.name == "command_lists.py":
            continue  # rules for the wrapper of forced commands, which name programs by their digests
        for node in ast.walk(tree):
            if not isinstance(node, ast.Tuple | ast.List):
                continue
            for shell, option, program in zip(node.elts, node.elts[1:], node.elts[2:], strict=False):
                if _text(shell) in ("sh", "bash", "/bin/sh", "/bin/bash") and _text(option) == "-c":
                    found += 1
                    assert _is_constant(program), f"{path}:{program.lineno}: {ast.unparse(program)}"
    assert found > 15


def _is_constant(program: ast.expr) -> bool:
    if isinstance(program, ast.Constant):
        return True
    # the one line that a shell reads is made by Command.line(), which quotes every word
    name = program.attr if isinstance(program, ast.Attribute) else program.id if isinstance(program, ast.Name) else ""
    return bool(re.fullmatch("_?[A-Z][A-Z_]*", name)) or ast.unparse(program) == "command.line()"


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_v2_words_become_a_line_in_one_place() -> None:
    calls: dict[str, set[str]] = {}
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                calls.setdefault(ast.unparse(node.func).rpartition("session.")[2], set()).add(str(path))
            if isinstance(node, ast.keyword) and node.arg == "shell":
                pytest.fail(f"{path}:{node.value.lineno} asks for a shell")
    assert calls.get("exec_command") == {"workers/connections.py", "workers/shells.py"}
    assert not {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "eval", "exec"} & calls.keys()
    hostile = f'a\'b $(touch {uuid4().hex}) "c" `d` \\ \n; e'
    line = Command(("echo", hostile), bytes).line()
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == hostile + "\n"
