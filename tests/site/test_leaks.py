"""Whatever the service is asked, no secret of the site gets into a log, Redis, Flower, an answer, or what `ps` shows."""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest
import requests

from broker.redis_users import USERS, password_file
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder, make_folder
from tests.site.test_secrecy import Witness, dump
from tests.site.transfers import at, download, send, upload

_PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+)-----END")
_SIZE = 60_000_000


def lasting(site: Site) -> dict[str, str]:
    """The secrets that the site keeps, by what they are for."""
    kept = {name: secret for name, secret in site.facts["secrets"].items() if name not in ("ceph_fsid", "s3_access_key")}
    passwords = {f"redis {user}": password_file(Path(site.facts["keys"]["redis"]), user).read_text().strip() for user in USERS}
    keys: dict[str, str] = {}
    for path in [*Path(site.facts["state"], "keys").rglob("*"), *Path(site.facts["state"], "data", "issuer").rglob("*.pem")]:
        for body in _PRIVATE.findall(path.read_bytes()) if path.is_file() else ():
            # the first line of what OpenSSH writes is the same for all keys
            keys |= {f"{path} line {number}": line for number, line in enumerate(body.decode().split()[-2:])}
    return kept | passwords | keys


def of_token(token: str) -> dict[str, str]:
    """What makes a token one: its claims and its signature."""
    _, claims, signature = token.split(".")
    return {"claims of a token": claims, "signature of a token": signature}


def of_links(*tasks: dict[str, Any]) -> dict[str, str]:
    """The signatures of the presigned requests that tasks tell their user of."""
    found = {}
    for number, task in enumerate(tasks):
        for text in re.findall(r"(?:X-Amz-Signature=|x-amz-signature[\"': =]+)([0-9a-f]{64})", unquote(str(task["data"]))):
            found[f"signature of link {number}"] = text
    return found


def leaks(secrets: dict[str, str], text: bytes) -> list[str]:
    """Which of them a text holds."""
    return [what for what, secret in secrets.items() if secret.encode() in text]


@dataclass
class Onlooker:
    """What everybody on this machine can see of its processes, which is also what they can see on the systems."""

    seen: dict[str, set[str]] = field(default_factory=dict)
    environments: set[bytes] = field(default_factory=set)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look again and again while the block runs; the tests' own programs, which are on the client's machine, are left out."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        own = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
        while not over.wait(0.01):
            ours = own | {child.pid for child in psutil.Process().children(recursive=True)}
            for entry in os.listdir("/proc"):  # noqa: PTH208
                if entry.isdigit() and int(entry) not in ours:
                    self._look(entry)

    def _look(self, pid: str) -> None:
        try:
            words = Path("/proc", pid, "cmdline").read_bytes()
            environment, process = Path("/proc", pid, "environ").read_bytes(), psutil.Process(int(pid))
            user = process.username()
            if any(parent.pid == os.getpid() for parent in process.parents()):  # begun since the tests' own were counted
                return
        except (OSError, psutil.NoSuchProcess):
            return
        self.environments.add(environment)
        self.seen.setdefault(user, set()).add(words.decode(errors="replace"))

    def text(self) -> bytes:
        """All that was seen."""
        lines = [line for found in self.seen.values() for line in found]
        return "\n".join(lines).encode() + b"\n".join(self.environments)


@dataclass
class Happened:
    """What was done, and everything that could be seen of it."""

    token: str
    links: dict[str, str]
    onlooker: Onlooker
    redis: bytes
    answers: bytes


@pytest.fixture(scope="module")
def home(alice: Client) -> Iterator[Folder]:
    """A folder of alice's for all that happens."""
    made = make_folder(alice.user)
    yield made
    shutil.rmtree(made.path)


@pytest.fixture(scope="module")
def happened(site: Site, home: Folder, tmp_path_factory: pytest.TempPathFactory) -> Happened:
    """A waited call, a job, an upload, a download, and calls that fail in every way, watched from all sides."""
    alice, onlooker, witness = Client(site, "alice"), Onlooker(), Witness(site.redis())
    local = tmp_path_factory.mktemp("local") / "file.bin"
    local.write_bytes(os.urandom(1000) * (_SIZE // 1000))
    answers, kept = [], []
    with onlooker.watching(), witness.watching():
        answers.append(alice.get("/utilities/whoami"))
        job = {"file": ("job.sh", b"#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n")}
        assert alice.task(alice.post("/compute/jobs", files=job))["status"] == "200"
        ticket = upload(alice, home.path, str(local))
        ready = at(alice, ticket, "111")
        send(ready)
        at(alice, ticket, "114", seconds=90)
        offered = at(alice, download(alice, f"{home.path}/file.bin"), "117", seconds=90)
        kept.append(dump(site.redis()))
        answers += list(failures(alice))
    text = b"".join(answer.content + str(answer.headers).encode() for answer in answers)
    token = str(alice.headers["Authorization"]).removeprefix("Bearer ")
    return Happened(token, of_links(ready, offered), onlooker, witness.text().encode() + kept[0], text)


def failures(alice: Client) -> Iterator[requests.Response]:
    """Calls that are refused or fail, each in its own way."""
    yield alice.get("/utilities/ls", params={"targetPath": "/root/none"})
    yield alice.get("/utilities/ls", params={"targetPath": "a;b"})
    yield alice.get("/utilities/ls", headers={"X-Machine-Name": "elsewhere"})
    yield alice.get("/nowhere")
    yield alice.request("PATCH", "/tasks")
    yield alice.get("/tasks/none")
    yield alice.post("/compute/jobs", files={"file": ("job.sh", b"x" * 7_000_000)})
    yield alice.post("/compute/jobs", files={"file": ("job.sh", b"#!/bin/sh\n#SBATCH --partition=none\n")})
    yield alice.post("/storage/xfer-external/upload", data={"targetPath": "/root", "sourcePath": "x"})
    yield alice.post("/storage/announcements", data=b"{}")
    yield requests.get(f"{alice.site.url}/tasks", headers={"Authorization": f"Bearer {alice.site.token('alice')[:-4]}AAAA"}, timeout=30)


def test_the_search_finds_what_is_there(site: Site, happened: Happened) -> None:
    """The proof that a leak would be seen: what is no secret is found in all these places."""
    secrets = lasting(site)
    assert len(secrets) > 25
    assert leaks(secrets, b"... " + secrets["redis worker"].encode() + b" ...") == ["redis worker"]
    assert len(happened.links) == 2
    assert any("sh" in words for words in happened.onlooker.seen["fcalice"])
    assert any("curl" in words for words in happened.onlooker.seen["fcalice"]), "curl was seen at its work"
    assert b"FIRECREST_SETTINGS" in happened.onlooker.text(), "environments were seen"
    assert b"storage.StageIn" in happened.redis
    assert b"X-Permission-Denied" in happened.answers or b"X-Invalid-Path" in happened.answers


def test_ps_on_the_systems_shows_no_secret(site: Site, happened: Happened) -> None:
    """Neither do the environments of processes, which their own user and root can read."""
    secrets = lasting(site) | of_token(happened.token) | happened.links
    assert leaks(secrets, happened.onlooker.text()) == []
    assert "X-Amz-" not in happened.onlooker.text().decode(errors="replace")


def test_no_log_holds_a_secret(site: Site, happened: Happened) -> None:
    """Of no process, from the first start of the site on."""
    secrets = lasting(site) | of_token(happened.token) | happened.links
    logs = [path for path in Path(site.facts["logs"]).iterdir() if path.is_file()]
    assert {"api.log", "worker-1.log", "delegation.log", "flower.log", "redis.log", "radosgw.log"} <= {path.name for path in logs}
    assert {path.name: found for path in logs if (found := leaks(secrets, path.read_bytes()))} == {}


def test_redis_holds_no_secret_of_the_site(site: Site, happened: Happened) -> None:
    assert leaks(lasting(site) | of_token(happened.token) | happened.links, happened.redis) == []


def test_no_answer_holds_a_secret(site: Site, happened: Happened) -> None:
    assert leaks(lasting(site) | of_token(happened.token), happened.answers) == []
    for word in (b"Traceback", b"redis://", b"/var/lib/firecrest", b"gunicorn/"):
        assert word not in happened.answers


PAGES = ("/", "/workers", "/tasks", "/broker", "/api/tasks?limit=1000", "/api/workers", "/api/queues/length", "/api/task/types", "/metrics")


def test_flower_shows_no_secret(site: Site, happened: Happened) -> None:
    login = tuple(site.facts["flower_login"].split(":"))
    secrets = lasting(site) | of_token(happened.token) | happened.links

    def shown() -> bytes:
        text = b"".join(requests.get(site.facts["urls"]["flower"] + page, auth=login, timeout=30).content for page in PAGES)
        return text if b"storage.StageIn" in text else b""

    text = eventually(shown)
    ids = re.findall(rb'"uuid": "([0-9a-f]{32})"', text)
    assert ids
    for task in ids[:50]:
        text += requests.get(f"{site.facts['urls']['flower']}/task/{task.decode()}", auth=login, timeout=30).content
    assert leaks(secrets, text) == []
    assert b"eyJ" not in text


@pytest.mark.parametrize("page", [page for page in PAGES if page != "/metrics"])
def test_flower_shows_nothing_to_those_who_do_not_know_the_login(site: Site, page: str) -> None:
    for login in (None, ("admin", "admin"), ("admin", "")):
        assert requests.get(site.facts["urls"]["flower"] + page, auth=login, timeout=30).status_code == 401


def test_flowers_metrics_are_for_everybody_and_name_no_user(site: Site, happened: Happened) -> None:
    text = requests.get(site.facts["urls"]["flower"] + "/metrics", timeout=30).text
    assert 'task="utilities.Whoami"' in text
    assert "fcalice" not in text


CONTROLS = (
    "worker/shutdown/worker-1@localhost", "worker/pool/restart/worker-1@localhost", "worker/pool/grow/worker-1@localhost",
    "worker/queue/add-consumer/worker-1@localhost?queue=x", "worker/queue/cancel-consumer/worker-1@localhost?queue=utilities",
    "task/revoke/x", "task/abort/x", "task/timeout/utilities.Ls", "task/rate-limit/utilities.Ls", "task/send-task/utilities.Ls",
    "task/apply/utilities.Ls", "task/async-apply/utilities.Ls",
)  # fmt: skip


@pytest.mark.parametrize("control", CONTROLS)
def test_flower_controls_nothing(site: Site, control: str) -> None:
    login = tuple(site.facts["flower_login"].split(":"))
    before = site.supervisor("pid", "worker-1")
    answer = requests.post(f"{site.facts['urls']['flower']}/api/{control}", auth=login, timeout=30)
    assert answer.status_code == 403
    assert "Read only" in answer.text
    assert site.supervisor("pid", "worker-1") == before


def test_what_flower_would_send_no_worker_obeys(site: Site) -> None:
    """Not even from the administrator of Redis."""
    from celery import Celery

    before = site.supervisor("pid", "worker-1")
    # a connection of its own: the pool of the process holds some to a Redis that other tests have killed
    with Celery(broker=site.facts["urls"]["redis"], set_as_current=False) as celery, celery.connection_for_write() as connection:
        inspect = celery.control.inspect(destination=["worker-1@localhost"], timeout=5, connection=connection)
        assert inspect.ping()
        celery.control.broadcast("shutdown", destination=["worker-1@localhost"], connection=connection)
        for asked in ("stats", "conf", "active"):
            assert getattr(inspect, asked)() == {"worker-1@localhost": {"error": f"KeyError('{asked}')"}}
        assert inspect.ping()
    assert site.supervisor("pid", "worker-1") == before


def test_links_are_told_to_their_user_alone(site: Site, happened: Happened) -> None:
    assert happened.links
    bob = Client(site, "bob")
    text = bob.get("/tasks").text
    assert leaks(happened.links, text.encode()) == []
