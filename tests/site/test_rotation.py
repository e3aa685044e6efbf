"""Every key of the service is rotated while it is used, and nobody notices."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from broker.celery import create_celery
from broker.configuration import open_redis, settings_in
from broker.grants import GrantSigner
from broker.key_rings import Watched
from broker.keys import signing_key
from broker.replies import Replies
from schemas.settings import Settings
from schemas.utilities import Whoami
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.site.transfers import at, reached, send, upload
from workers.certificate_log import verified
from workers.host import Command
from workers.petitions import Petitioner
from workers.ssh import SSHPool

# a process sees a change of its keys within a second
SEEN = 2.0
WHO = Command(("id", "-un"), lambda output: output.decode().strip())


def rotate(site: Site, step: str, part: str) -> None:
    """A step of a rotation, as an operator makes it."""
    keys = site.facts["keys"]
    subprocess.run([sys.executable, "-m", "broker.keys", step, part, keys["private"], keys["public"]], check=True, timeout=60)
    time.sleep(SEEN)


@pytest.fixture(autouse=True)
def one_of_each(site: Site) -> Iterator[None]:
    """However a test ends, the next finds one key of each kind."""
    yield
    for path in Path(site.facts["keys"]["public"]).glob("*.next.pub"):
        rotate(site, "take", path.name.partition(".")[0])
    for path in Path(site.facts["keys"]["public"]).glob("*.former.pub"):
        rotate(site, "retire", path.name.partition(".")[0])


class Visitors:
    """Those who do the same again and again meanwhile: how often it went well, and what did not."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.failures: list[str] = []
        self._over = threading.Event()

    @contextmanager
    def visiting(self, *visits: Callable[[], str]) -> Iterator[None]:
        """While the block runs; each visit returns its name, or raises."""
        threads = [threading.Thread(target=self._visit, args=(visit,)) for visit in visits]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def often(self, name: str) -> int:
        """How often it went well; nothing must have failed."""
        assert not self.failures
        return self.done.get(name, 0)

    def _visit(self, visit: Callable[[], str]) -> None:
        while not self._over.is_set():
            try:
                name = visit()
                self.done[name] = self.done.get(name, 0) + 1
            except Exception as failed:  # noqa: BLE001 (all are counted)
                self.failures.append(repr(failed))
            time.sleep(0.05)


@pytest.fixture
def settings(site: Site) -> Settings:
    return settings_in(Path(site.facts["settings"]), "worker")


@pytest.fixture
def entering(site: Site, settings: Settings) -> Iterator[Callable[[], str]]:
    """A worker that enters the system anew each time, with a certificate of its own: all four keys at once."""
    keys, system = settings.keys, settings.system("cluster")
    assert system
    replies, signer = Replies(open_redis(settings)), GrantSigner.of(keys)
    worker = Watched(keys.private, lambda: signing_key(keys.private, "worker"))
    petitioner = Petitioner(create_celery(settings), replies, worker.now, worker="tests.1")

    def enter() -> str:
        who = {"user": "fcbob", "system": "cluster", "token": site.token("bob")}
        grant = signer.grant(Whoami.task(), Whoami().parameters(), task_id=uuid4().hex, seconds=60, **who)
        pool = SSHPool(settings.limits)
        try:
            assert pool.host(system, "fcbob", lambda key: petitioner.certify(key, grant)).run(WHO) == "fcbob"
        finally:
            pool.close()
        return "entered"

    yield enter
    replies.close()


def test_whom_sshd_lets_in_is_in_the_log_of_certificates(site: Site, entering: Callable[[], str]) -> None:
    log, sshd = Path(site.facts["certificate_log"]), Path(site.facts["sshd"]["log"])
    before = log.stat().st_size
    entering()
    verified(log)
    with log.open("rb") as lines:
        lines.seek(before)
        entries = [json.loads(line) for line in lines]
    (mine,) = (entry for entry in entries if entry["worker"].endswith(":tests.1"))
    assert (mine["user"], mine["system"]) == ("fcbob", "cluster")
    assert f"ID {mine['key_id']} (serial {mine['serial']})" in sshd.read_text(errors="replace")
    assert log.stat().st_mode & 0o777 == 0o600


def test_every_key_is_rotated_without_a_failed_call_and_under_an_open_transfer(
    site: Site, alice: Client, entering: Callable[[], str], folder: Folder, local: Callable[..., str]
) -> None:
    caller = Client(site, "alice")

    def call() -> str:
        answer = caller.get("/utilities/whoami")
        assert (answer.status_code, answer.json()["output"]) == (200, "fcalice"), answer.text
        return "called"

    ticket = upload(alice, folder.path, local(b"content"))
    ready = at(alice, ticket, "111")
    public = Path(site.facts["keys"]["public"])
    parts = ("api", "worker", "delegation", "links", "ca")
    before = {part: (public / f"{part}.pub").read_bytes() for part in parts}
    visitors = Visitors()
    with visitors.visiting(call, entering):
        for step in ("next", "take"):
            for part in parts:
                rotate(site, step, part)
        send(ready)
        reached(alice, ready["task_id"], "114")
        for part in parts:
            rotate(site, "retire", part)
        names = ("called", "entered")
        so_far = {name: visitors.often(name) for name in names}
        eventually(lambda: all(visitors.often(name) > so_far[name] + 2 for name in names), seconds=60)
    assert visitors.failures == []
    assert visitors.done["entered"] > len(parts)
    assert all((public / f"{part}.pub").read_bytes() != before[part] for part in parts)
    assert sorted(path.name for path in public.glob("*.pub")) == sorted(f"{part}.pub" for part in parts)


def test_a_transfer_whose_api_key_is_taken_away_ends_with_an_error(
    site: Site, alice: Client, folder: Folder, local: Callable[..., str]
) -> None:
    ticket = upload(alice, folder.path, local(b"content"))
    ready = at(alice, ticket, "111")
    for step in ("next", "take", "retire"):
        rotate(site, step, "api")
    send(ready)
    task = reached(alice, ready["task_id"], "400", seconds=90)
    assert task["data"] == "The grant of the task is not valid any more"
    assert not Path(folder.path, "local.bin").exists()
    tasks = site.redis()
    eventually(lambda: tasks.zscore("tasks:open", ready["task_id"]) is None, seconds=90)
