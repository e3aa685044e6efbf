"""What the tests of the wire need beside the site: folders on the system, tokens that are wrong, and a look at the records."""

import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from schemas.settings import Storage
from tests.real_site import Client, Site, eventually
from tests.site.transfers import FOLDERS, names, working_for
from tests.systems import System
from workers.staging.client import Client as ObjectStore


@dataclass(frozen=True)
class Folder:
    """A folder of a user on the system, which is this machine."""

    path: str
    user: str

    def file(self, name: str, content: bytes = b"", *, mode: int = 0o644) -> str:
        """Path of a new file of the user."""
        place = f"{self.path}/{name}"
        Path(place).write_bytes(content)
        return self._own(place, mode)

    def folder(self, name: str, *, mode: int = 0o755) -> str:
        """Path of a new folder of the user."""
        place = f"{self.path}/{name}"
        Path(place).mkdir()
        return self._own(place, mode)

    def _own(self, place: str, mode: int) -> str:
        entry = pwd.getpwnam(self.user)
        os.chown(place, entry.pw_uid, entry.pw_gid)
        Path(place).chmod(mode)
        return place


def make_folder(user: str) -> Folder:
    """A new folder in the user's home."""
    home = Folder(f"/home/{user}", user)
    return Folder(home.folder(f"test-{uuid4().hex}"), user)


def directly(site: Site, *options: str, user: str = "fcalice", wrap: str = "sleep 600") -> str:
    """The id of a job that a user submits to Slurm on the system itself."""
    words = ("sbatch", "--parsable", f"--chdir=/home/{user}", "--output=/dev/null", *options, f"--wrap={wrap}")
    return site.slurm(*words, user=user)


@pytest.fixture
def folder(alice: Client) -> Iterator[Folder]:
    """An empty folder of alice."""
    made = make_folder(alice.user)
    yield made
    shutil.rmtree(made.path)


@pytest.fixture(scope="session")
def records(site: Site) -> Callable[[], set[bytes]]:
    """The keys of all task records that there are."""
    redis = site.redis()
    return lambda: set(redis.scan_iter("task:*", count=10_000))


@pytest.fixture(scope="module")
def no_task_is_listed(alice: Client) -> Iterator[None]:
    """Whatever the tests of the module ask for, the list of alice's tasks stays as it is."""
    before = set(alice.get("/tasks").json()["tasks"])
    yield
    assert set(alice.get("/tasks").json()["tasks"]) <= before


@pytest.fixture
def no_task_is_made(no_task_is_listed: None, records: Callable[[], set[bytes]]) -> Iterator[None]:
    """Whatever the test asks for leaves no task record behind."""
    before = records()
    yield
    assert records() <= before


@pytest.fixture
def submitted(alice: Client) -> Callable[..., dict[str, str]]:
    """Submits a batch script of alice; gives the task's data."""

    def submit(script: str, **form: str) -> dict[str, str]:
        ticket = alice.post("/compute/jobs/upload", files={"file": ("job.sh", script.encode())}, data=form)
        assert ticket.status_code == 201, ticket.text
        task = alice.task(ticket)
        assert task["status"] == "200", task
        return dict(task["data"])

    return submit


@pytest.fixture
def running(system: System) -> Callable[[str], None]:
    """Waits until a job runs."""
    return lambda job: eventually(lambda: system.state(job) == "RUNNING") and None


@pytest.fixture
def over(system: System) -> Callable[[str], None]:
    """Waits until a job is over."""
    return lambda job: eventually(lambda: system.is_over(job), seconds=40) and None


@pytest.fixture
def accounted(system: System) -> Callable[..., list[tuple[str, str]]]:
    """User and project of jobs, once all of them are accounted for as ended."""

    def wait(*jobs: str) -> list[tuple[str, str]]:
        return eventually(lambda: found if len(found := system.ended(*jobs)) >= len(jobs) else None, seconds=40)

    return wait


@pytest.fixture(scope="session")
def object_store(site: Site) -> ObjectStore:
    """The object store as its administrator sees it."""
    return ObjectStore(Storage.model_validate(site.facts["storage"]))


@pytest.fixture(scope="session")
def staged(object_store: ObjectStore, alice: Client) -> Callable[[], list[str]]:
    """The keys of all that is in alice's bucket, unfinished uploads too."""

    def keys() -> list[str]:
        if not object_store.bucket_exists(alice.user):
            return []
        whole = [str(entry.object_name) for entry in object_store.list_objects(alice.user, recursive=True)]
        return [*whole, *(place.key for place, _, _ in object_store.unfinished_uploads(alice.user))]

    return keys


@pytest.fixture
def nothing_is_left(staged: Callable[[], list[str]], folder: Folder, alice: Client) -> Iterator[None]:
    """Whatever the test does, nothing of it stays in the bucket, in the job folders, at work, or as a hidden file at the target."""
    tasks, before = set(alice.get("/tasks").json()["tasks"]), set(staged())
    yield
    new = set(alice.get("/tasks").json()["tasks"]) - tasks
    # other sites on this machine have the same users
    eventually(lambda: set(staged()) <= before and not new & set(names(FOLDERS)), seconds=30)
    eventually(lambda: not any(map(working_for, new)), seconds=5)
    assert list(Path(folder.path).rglob(".firecrest*")) == []


@pytest.fixture
def local(tmp_path: Path) -> Callable[..., str]:
    """Makes a file on the client's machine."""

    def make(content: bytes, name: str = "local.bin") -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return make
