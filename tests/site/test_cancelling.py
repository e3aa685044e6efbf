"""DELETE /tasks/{id} on the real site: what waits never runs, what runs is stopped where it can be, a submission goes on."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from broker.blobs import Blobs
from broker.celery import create_celery
from broker.configuration import settings_in
from broker.gateway import Caller, Gateway
from broker.grants import GrantSigner
from broker.keys import sealing_key, signing_key
from broker.replies import Replies
from broker.tasks import Tasks
from schemas.compute import SubmitUpload
from schemas.fields import Upload
from schemas.rights import EVERY_RIGHT
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder

CANCELLED = ("400", "Finished with errors", "Deleted on request")
SCRIPT = "#!/bin/sh\n#SBATCH --output=/dev/null\necho $SLURM_JOB_ID >>{mark}\n"


@contextmanager
def standing_still(site: Site, *programs: str) -> Iterator[None]:
    """Programs of the site, with all that they have started, stand still while the block runs."""
    servers = [psutil.Process(int(site.supervisor("pid", program))) for program in programs]
    processes = [process for server in servers for process in (server, *server.children(recursive=True))]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def told(client: Client, task_id: str) -> tuple[str, str, Any]:
    """What the client is told of a task: status, its description, data."""
    task = client.get(f"/tasks/{task_id}").json()["task"]
    return task["status"], task["description"], task["data"]


def commands(program: str) -> list[psutil.Process]:
    """What alice runs of a program on the system, which is this machine."""
    found = psutil.process_iter(["username", "name"])
    return [process for process in found if (process.info["username"], process.info["name"]) == ("fcalice", program)]


def under_way(client: Client, task_id: str, program: str) -> None:
    """Return once the task runs a program on the system."""
    eventually(lambda: commands(program))
    assert told(client, task_id)[0] == "101"


@pytest.fixture
def gateway(site: Site) -> Iterator[Gateway]:
    """The API's way to the workers, without the probe that the API makes before it defers a submission."""
    settings = settings_in(Path(site.facts["settings"]), "api")
    with site.redis() as redis:
        replies = Replies(redis)
        signer = GrantSigner(signing_key(settings.keys.private, "api"), sealing_key(settings.keys.public))
        tasks = Tasks(redis, lifetime=600)
        yield Gateway(create_celery(settings), tasks=tasks, blobs=Blobs(redis), replies=replies, signer=signer, limits=settings.limits)
        replies.close()


def submission(gateway: Gateway, site: Site, script: bytes) -> tuple[str, str]:
    """The ids of a task that submits a script, and of the script's content."""
    key = uuid4().hex
    op = SubmitUpload(file=Upload(name="job.sh", key=key, size=len(script), sha256=hashlib.sha256(script).hexdigest()))
    gateway.keep(op, [script])
    return gateway.defer(op, Caller("fcalice", site.token("alice"), EVERY_RIGHT), "cluster").task_id, key


def test_a_submission_that_waits_is_cancelled_and_never_runs(site: Site, alice: Client, gateway: Gateway, folder: Folder) -> None:
    marks = [f"{folder.path}/first", f"{folder.path}/second"]
    with standing_still(site, "worker-1", "worker-2"):
        first, key = submission(gateway, site, SCRIPT.format(mark=marks[0]).encode())
        assert told(alice, first) == ("100", "Queued", "Queued")
        answer = alice.delete(f"/tasks/{first}")
        assert (answer.status_code, told(alice, first)) == (200, CANCELLED)
        assert answer.json() == alice.get(f"/tasks/{first}").json()
        assert not site.redis().exists(f"blob:{key}")
        second, _ = submission(gateway, site, SCRIPT.format(mark=marks[1]).encode())
    eventually(lambda: told(alice, second)[0] == "200")
    eventually(lambda: Path(marks[1]).exists())
    assert told(alice, first) == CANCELLED
    assert not Path(marks[0]).exists()
    assert not Path(f"/home/fcalice/firecrest/{first}").exists(), "the system has never heard of it"


def test_a_query_that_runs_is_stopped_on_the_system_at_once(site: Site, alice: Client) -> None:
    with standing_still(site, "slurmctld"):
        task_id = alice.get("/compute/jobs").json()["task_id"]
        under_way(alice, task_id, "squeue")
        answer = alice.delete(f"/tasks/{task_id}")
        assert (answer.status_code, told(alice, task_id)) == (200, CANCELLED)
        eventually(lambda: not commands("squeue"), seconds=3)
        again = alice.delete(f"/tasks/{task_id}")
        assert (again.status_code, again.json()["error"]) == (400, f"Task {task_id} has ended already")
    assert alice.task(alice.get("/compute/jobs"))["status"] == "200"
    assert told(alice, task_id) == CANCELLED


def test_of_many_queries_just_the_cancelled_ones_are_stopped(site: Site, alice: Client) -> None:
    with standing_still(site, "slurmctld"):
        tasks = [alice.get("/compute/jobs", params={"pageSize": size}).json()["task_id"] for size in range(100, 104)]
        eventually(lambda: len(commands("squeue")) == 4)
        for task_id in tasks[:2]:
            assert alice.delete(f"/tasks/{task_id}").status_code == 200
        eventually(lambda: len(commands("squeue")) == 2, seconds=3)
    for task_id in tasks[2:]:
        eventually(lambda task_id=task_id: told(alice, task_id)[0] == "200")
    assert {told(alice, task_id) for task_id in tasks[:2]} == {CANCELLED}


def test_a_submission_that_has_begun_is_not_cancelled(site: Site, alice: Client, folder: Folder, over: Any) -> None:
    mark = Path(folder.path, "mark")
    with standing_still(site, "slurmctld"):
        ticket = alice.post("/compute/jobs", files={"file": ("job.sh", SCRIPT.format(mark=mark).encode())})
        task_id = ticket.json()["task_id"]
        under_way(alice, task_id, "sbatch")
        answer = alice.delete(f"/tasks/{task_id}")
        words = {"description": "Failed to delete task", "error": f"Task {task_id} has started and cannot be stopped"}
        assert (answer.status_code, answer.json()) == (400, words)
        assert told(alice, task_id)[0] == "101"
    job = alice.task(ticket)["data"]["jobid"]
    over(job)
    assert mark.read_text() == f"{job}\n"


def test_only_its_owner_cancels_a_task(alice: Client, bob: Client) -> None:
    task_id = alice.task(alice.get("/compute/jobs"))["task_id"]
    answer = bob.delete(f"/tasks/{task_id}")
    assert (answer.status_code, answer.json()) == (403, {"description": "Operation not permitted. Invalid task owner."})
    for name in ("unknown", "of:fcalice", "*", "status"):
        answer = bob.delete(f"/tasks/{name}")
        assert (answer.status_code, answer.json()["error"]) == (404, f"Task {name} does not exist")
