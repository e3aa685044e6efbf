"""All of a gateway over TLS, as `site start --with-tls` has it: API, Redis and object store; whoever connects verifies the certificate."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as NotConnected

from broker.celery import create_celery
from broker.configuration import open_redis, settings_in
from deploy.certificates import make_missing
from schemas.errors import StorageNotAvailable
from schemas.settings import Settings
from tests.conftest import started
from tests.real_site import Client, Site
from tests.site.conftest import Folder, make_folder
from tests.site.transfers import at, download, send, upload
from workers.staging.client import Client as ObjectStore
from workers.staging.client import asking

STORE = "radosgw_tls"


@pytest.fixture(scope="module")
def encrypted() -> Site:
    """The site with its gateway on TLS."""
    return started("--with-tls").on(STORE)


@pytest.fixture(scope="module")
def settings(encrypted: Site) -> Settings:
    return settings_in(Path(encrypted.facts["settings"]), "api")


@pytest.fixture
def caller(encrypted: Site, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Alice, who knows the CA, as curl on her machine does."""
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(variable, encrypted.facts["ca"])
    return Client(encrypted, "alice")


@pytest.fixture
def home(caller: Client) -> Iterator[Folder]:
    made = make_folder(caller.user)
    yield made
    for path in Path(made.path).iterdir():
        path.unlink()
    Path(made.path).rmdir()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another CA, which vouches for none of the servers."""
    folder = tmp_path_factory.mktemp("tls")
    make_missing(folder, [])
    return folder / "ca.pem"


def test_the_settings_name_nothing_that_is_not_encrypted(settings: Settings) -> None:
    assert settings.storage is not None
    urls = (settings.broker.url, settings.storage.private_url, settings.storage.public_url)
    assert {urlsplit(url).scheme for url in urls} == {"rediss", "https"}


def test_a_waited_call_and_a_job_go_their_whole_way(caller: Client, home: Folder) -> None:
    told = caller.get("/utilities/whoami")
    assert told.json()["output"] == caller.user
    assert told.headers["Strict-Transport-Security"] == "max-age=31536000"
    ticket = caller.post("/compute/jobs", files={"file": ("job.sh", b"#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n")})
    assert caller.task(ticket)["status"] == "200"


def test_a_file_goes_to_the_system_and_back(caller: Client, home: Folder, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "file.bin").write_bytes(content)
    ticket = upload(caller, home.path, str(tmp_path / "file.bin"))
    ready = at(caller, ticket, "111")
    assert "https://" in ready["data"]["msg"]["command"]
    send(ready)
    at(caller, ticket, "114")
    assert Path(home.path, "file.bin").read_bytes() == content
    offered = at(caller, download(caller, f"{home.path}/file.bin"), "117")
    link = offered["data"]["url"]
    assert link.startswith("https://")
    assert requests.get(link, timeout=30).content == content


def test_whoever_does_not_know_the_ca_does_not_call_the_api(encrypted: Site, stranger: Path) -> None:
    for known in ("/etc/ssl/certs/ca-certificates.crt", str(stranger)):
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{encrypted.url}/tasks", verify=known, timeout=10)


def test_the_api_speaks_no_plain_http_and_no_old_tls(encrypted: Site) -> None:
    url = urlsplit(encrypted.url)
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"http://{url.netloc}/tasks", timeout=10)
    ends = {}
    for most in ("1.1", "1.2"):
        words = ["curl", "-q", "-sS", "--cacert", encrypted.facts["ca"], "--tls-max", most, f"{encrypted.url}/tasks"]
        ends[most] = subprocess.run(words, capture_output=True, check=False, timeout=30).returncode
    assert ends == {"1.1": 35, "1.2": 0}


@pytest.mark.parametrize("known", ["its own", "another", "no"])
def test_redis_is_spoken_to_only_when_a_known_ca_vouches_for_it(settings: Settings, stranger: Path, known: str) -> None:
    ca = {"its own": settings.broker.ca, "another": stranger, "no": None}[known]
    changed = settings.model_copy(update={"broker": settings.broker.model_copy(update={"ca": ca})})
    with open_redis(changed, retries=0) as redis, create_celery(changed) as celery, celery.connection_for_write() as broker:
        if known == "its own":
            assert redis.ping()
            assert broker.ensure_connection(max_retries=1)
            return
        with pytest.raises(NotConnected, match="CERTIFICATE_VERIFY_FAILED"):
            redis.ping()
        with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
            broker.ensure_connection(max_retries=1, interval_start=0)


@pytest.mark.parametrize("known", ["its own", "another", "no"])
def test_so_is_the_object_store(settings: Settings, stranger: Path, known: str) -> None:
    assert settings.storage is not None
    ca = {"its own": settings.storage.ca, "another": stranger, "no": None}[known]
    client = ObjectStore(settings.storage.model_copy(update={"ca": ca}))
    if known == "its own":
        with asking():
            client.owned_buckets()
        return
    with pytest.raises(StorageNotAvailable) as refused, asking():
        client.owned_buckets()
    assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)


def test_no_process_of_that_gateway_has_a_plain_connection(encrypted: Site, caller: Client) -> None:
    assert caller.get("/utilities/whoami").status_code == 200
    ports = encrypted.facts["ports"]
    ours = [process for process in psutil.process_iter() if _setting(process) == encrypted.facts["settings"]]
    ends = {entry.raddr.port for process in ours for entry in process.net_connections("tcp4") if entry.raddr}
    assert len(ours) >= 5
    assert ports["redis_tls"] in ends
    assert not ends & {ports["redis"], ports["radosgw"], ports["api"]}


def _setting(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("FIRECREST_SETTINGS", ""))
    except psutil.Error:
        return ""
