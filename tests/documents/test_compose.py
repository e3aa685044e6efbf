"""docker-compose.yml, the Dockerfile and deploy/ hold together; there is no engine here to start them."""

import contextlib
import fnmatch
import hashlib
import os
import re
import runpy
import shutil
import ssl
import stat
import subprocess
import sys
from typing import Any

import pytest
import yaml

from broker.celery import QUEUES
from broker.keys import opening_key, sealing_key, signing_key, verifying_key
from deploy.healthy import KINDS
from deploy.parts import PARTS
from deploy.setup import SERVERS
from deploy.setup import main as set_up
from schemas.settings import Settings
from tests.documents.sections import ROOT
from tests.real_site import not_here

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
FOLDERS = ["public", "keys-api", "keys-worker", "keys-delegation", "keys-beat", "settings", "redis", "flower", "client", *PARTS]
LASTING = {name: service for name, service in SERVICES.items() if service["restart"] != "no"}
OURS = {name: service for name, service in SERVICES.items() if service["image"] != "firecrest-servers" or name == "client"}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """What the setup leaves when it has run twice."""
    root = tmp_path_factory.mktemp("volumes")
    for name in FOLDERS:
        (root / name).mkdir()
    before = os.umask(0o077)
    set_up(root)
    first = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    set_up(root)
    assert first == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    os.umask(before)
    return root


def _mounts(service: dict[str, Any]) -> dict[str, str]:
    """Volume by volume, where a service has it."""
    return {volume.split(":")[0]: volume.split(":")[1] for volume in service.get("volumes", [])}


def test_compose_follows_the_compose_specification() -> None:
    checker = shutil.which("check-jsonschema", path=str(ROOT / ".venv" / "bin"))
    if checker is None:
        not_here("check-jsonschema is not installed")
    words = [checker, "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_passes_hadolint() -> None:
    linter = shutil.which("hadolint", path=str(ROOT / ".venv" / "bin"))
    if linter is None:
        not_here("hadolint is not installed")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_everything_copied_is_there_and_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    sources = [word for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for word in words.split()[:-1]]
    assert sources
    assert not [source for source in sources if not (ROOT / source).exists() or source.split("/")[0] not in allowed]
    assert not [source for source in sources for line in ignore if "/" in line and fnmatch.fnmatch(source, line)]


def test_every_image_is_a_target_of_the_dockerfile() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    assert {service["build"]["target"] for service in SERVICES.values()} <= targets


def test_every_lasting_service_has_a_health_check_and_comes_back() -> None:
    assert [name for name, service in LASTING.items() if "test" not in service["healthcheck"]] == []
    assert {service["restart"] for service in LASTING.values()} == {"unless-stopped"}


def test_every_health_check_is_of_a_known_kind() -> None:
    tests = {name: service["healthcheck"]["test"] for name, service in LASTING.items() if name != "redis"}
    assert {test[:4] == ["CMD", "python", "-m", "deploy.healthy"] for test in tests.values()} == {True}
    assert {test[4] for test in tests.values()} == set(KINDS)


def test_a_worker_is_pinged_by_the_name_it_has() -> None:
    named = {name: service["healthcheck"]["test"][5] for name, service in LASTING.items() if "worker" in service["healthcheck"]["test"]}
    assert {name: f"--hostname={pinged}@%h" in SERVICES[name]["command"] for name, pinged in named.items()} == dict.fromkeys(named, True)


def test_services_wait_for_what_they_need() -> None:
    conditions = [
        (name, other, wait["condition"]) for name, service in SERVICES.items() for other, wait in service.get("depends_on", {}).items()
    ]
    for name, other, condition in conditions:
        assert condition == ("service_completed_successfully" if other == "setup" else "service_healthy"), (name, other)
    assert all("setup" in SERVICES[name]["depends_on"] for name in LASTING)


def test_every_queue_is_consumed() -> None:
    options = [word for service in SERVICES.values() for word in service.get("command", []) if word.startswith("--queues=")]
    assert sorted(queue for option in options for queue in option.removeprefix("--queues=").split(",")) == sorted(QUEUES)


def test_only_the_delegation_consumes_its_queue_and_has_its_keys() -> None:
    holders = {volume: [name for name, service in SERVICES.items() if volume in _mounts(service)] for volume in COMPOSE["volumes"]}
    assert holders["keys-delegation"] == ["setup", "delegation"]
    assert "--queues=delegation" in SERVICES["delegation"]["command"]
    assert holders["keys-api"] == ["setup", "api"]
    assert holders["keys-worker"] == ["setup", "utilities", "compute", "storage-worker", "reservations", "housekeeping"]


def test_volumes_are_declared_and_used_and_keys_are_read_only() -> None:
    assert {volume for service in SERVICES.values() for volume in _mounts(service)} == set(COMPOSE["volumes"])
    lines = [volume for name, service in SERVICES.items() if name != "setup" for volume in service.get("volumes", [])]
    writable = {line.split(":")[0] for line in lines if not line.endswith(":ro")}
    assert writable == {"redis-data", "uploads", "certificates", "home", *(f"{part}-state" for part in PARTS)}


def test_every_mount_point_of_a_volume_is_made_in_the_image() -> None:
    points = {point for service in SERVICES.values() for point in _mounts(service).values() if point.startswith("/volumes/")}
    assert not [point for point in points if not re.search(rf"{point}(?![\w-])", DOCKERFILE)]


def test_only_the_api_and_flower_are_published_and_only_on_the_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"api", "flower"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_our_own_services_are_confined() -> None:
    for name, service in OURS.items():
        assert service["user"] == "10001:10001", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    assert all("no-new-privileges:true" in service["security_opt"] for service in SERVICES.values())


SECRET = re.compile(r"(?i)(pass|secret|token|key|auth)\w*[\"']?\s*[=:]\s*[\"']?\w{4,}")


def test_no_secret_is_written_down() -> None:
    assert SECRET.search("REDIS_PASSWORD: hunter2")
    assert SECRET.search("--basic-auth=admin:admin")
    text = DOCKERFILE + (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in lines if SECRET.search(line)]


def test_the_setup_writes_valid_settings(volumes) -> None:
    settings = Settings.model_validate(yaml.safe_load((volumes / "settings" / "settings.yaml").read_text()))
    (system,) = settings.systems
    assert (system.host, system.port) == ("cluster", PARTS["cluster"].shown)
    assert settings.broker.url == "rediss://redis:6379/0"
    assert settings.storage.private_url.startswith("https://")
    assert str(settings.broker.ca) == str(settings.storage.ca) == settings.storage.systems_ca == "/volumes/public/tls.pem"
    assert str(settings.broker.passwords) == "/volumes/keys"
    assert {system.host, "issuer", "storage", "redis"} <= set(SERVICES)


def test_each_holder_gets_its_keys_and_they_fit(volumes) -> None:
    held = {name: sorted(path.name for path in (volumes / name).iterdir()) for name in (*FOLDERS[:5], "flower")}
    assert held == {
        "public": ["api.pub", "ca.pub", "delegation.pub", "links.pub", "tls.pem", "worker.pub"],
        "keys-api": ["api.key", "api.password", "links.key", "tls.key", "tls.pem"],
        "keys-worker": ["probe.password", "worker.key", "worker.password"],
        "keys-delegation": ["ca.key", "delegation.key", "delegation.password", "probe.password"],
        "keys-beat": ["beat.password", "probe.password"],
        "flower": ["flower.login", "flower.password"],
    }
    signer = signing_key(volumes / "keys-api", "api")
    assert signer.public_key() == verifying_key(volumes / "public", "api")
    assert opening_key(volumes / "keys-delegation").public_key() == sealing_key(volumes / "public")
    assert opening_key(volumes / "keys-api", "links").public_key() == sealing_key(volumes / "public", "links")


def test_private_files_are_their_owners_only(volumes) -> None:
    files = [path for path in volumes.rglob("*") if path.is_file() and path.parent.name != "public"]
    assert not [path for path in files if stat.S_IMODE(path.stat().st_mode) != 0o600]


def test_every_service_finds_the_password_of_its_own_user_of_redis(volumes) -> None:
    users = {"api": "api", "flower": "flower", "beat": "beat", "delegation": "delegation"}
    for name, service in SERVICES.items():
        user = users.get(name, "worker" if "--app=workers.main" in service.get("command", []) else "")
        if user:
            held = volumes / next(volume for volume, point in _mounts(service).items() if point == "/volumes/keys")
            known = (held / f"{user}.password").read_text()
            (line,) = (line for line in (volumes / "redis" / "users.acl").read_text().splitlines() if line.startswith(f"user {user} "))
            assert f"#{hashlib.sha256(known.encode()).hexdigest()}" in line
            assert not (held / "admin.password").exists()


def test_redis_takes_the_users_that_the_setup_writes(volumes, tmp_path) -> None:
    program = shutil.which("redis-server")
    if program is None:
        not_here("redis-server is missing")
    configuration = (volumes / "redis" / "redis.conf").read_text()
    assert "\nport 0\ntls-port 6379\n" in configuration
    users, socket = str(volumes / "redis" / "users.acl"), str(tmp_path / "s")
    words = [program, "--port", "0", "--unixsocket", socket, "--aclfile", users, "--dir", str(tmp_path), "--save", ""]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        said = []
        for line in server.stdout:
            said.append(line)
            if "ready to accept" in line:
                server.terminate()
    assert server.returncode == 0, "".join(said)


def test_every_server_has_a_certificate_for_its_name_that_the_ca_vouches_for(volumes, tmp_path) -> None:
    """A handshake with each, as clients make it; whoever does not know the CA makes none."""
    for name, holder in SERVERS.items():
        assert name in SERVICES
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(volumes / holder / "tls.pem", volumes / holder / "tls.key")
        for host in (name, "127.0.0.1"):
            _shake_hands(served, ssl.create_default_context(cafile=volumes / "public" / "tls.pem"), host)
        for context, host in (
            (ssl.create_default_context(), name),
            (ssl.create_default_context(cafile=volumes / "public" / "tls.pem"), "x"),
        ):
            with pytest.raises(ssl.SSLCertVerificationError):
                _shake_hands(served, context, host)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = client.wrap_bio(to_client, to_server, server_hostname=host)
    answers = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asks, answers, asks, answers):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()


def test_whoever_asks_over_tls_has_the_ca() -> None:
    needing = ("api", "utilities", "delegation", "beat", "flower", "redis", "storage", "cluster", "client", "housekeeping")
    assert {name: _mounts(SERVICES[name]).get("public") for name in needing} == dict.fromkeys(needing, "/volumes/public")


def test_the_delegation_shares_its_networks_with_redis_and_the_issuer_alone() -> None:
    own = set(SERVICES["delegation"]["networks"])
    assert {name for name, service in SERVICES.items() if own & set(service.get("networks", []))} == {"delegation", "redis", "issuer"}
    assert all(COMPOSE["networks"][name]["internal"] for name in own)
    assert not set(SERVICES["api"]["networks"]) & set(SERVICES["utilities"]["networks"])


def test_redis_is_reached_by_our_own_processes_alone() -> None:
    nets = set(SERVICES["redis"]["networks"])
    reaching = {name for name, service in SERVICES.items() if nets & set(service.get("networks", []))}
    assert reaching == set(OURS) - {"setup", "client"}
    assert all(COMPOSE["networks"][name]["internal"] for name in nets)


def test_flower_is_read_only_and_asks_for_a_login(volumes, monkeypatch) -> None:
    command = SERVICES["flower"]["command"]
    assert "--conf=/opt/firecrest/deploy/flower_options.py" in command
    assert not [word for word in command if "auth" in word]
    monkeypatch.setenv("FIRECREST_FLOWER_LOGIN", str(volumes / "flower" / "flower.login"))
    options = runpy.run_path(str(ROOT / "deploy" / "flower_options.py"))
    assert options["read_only"] is True
    assert options["basic_auth"] == [(volumes / "flower" / "flower.login").read_text()]


def test_the_parts_of_the_demo_centre_are_programs_of_the_site() -> None:
    program = """
import importlib, json, sys
sys.path[:0] = ["site"]
from deploy.parts import PARTS
import facts, people
assert all(hasattr(importlib.import_module(module), "programs") for part in PARTS.values() for module in part.modules)
assert all(part.port in facts.PORTS for part in PARTS.values())
import deploy.servers
clients = {person.client for person in people.PEOPLE}
import deploy.setup
assert set(deploy.setup.CLIENTS.values()) <= clients
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
