"""Uploads and downloads while what carries them out is killed, or gone for a while: none is lost, and none leaves anything."""

import os
import random
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from schemas.settings import Storage
from tests.faults.conftest import WORKERS
from tests.faults.test_lost_servers import stop_sshd
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder, make_folder
from workers.staging.client import Client as Store

pytestmark = pytest.mark.timeout(3600)
FINAL = ("114", "115", "117", "118", "400")
BOUND = 90
SIZE = 60 * 1024 * 1024
CONTENT = os.urandom(SIZE)


@dataclass
class Transfers:
    """Transfers of one user, which a patient client takes to their end."""

    client: Client
    folder: Folder
    local: Path
    source: str
    ended: list[dict[str, Any]] = field(default_factory=list)

    def up(self, number: int) -> None:
        """Upload a file, and see it at its place."""
        name = f"up-{number}"
        task = self._begun("upload", targetPath=f"{self.folder.path}/{name}", sourcePath=str(self.local))
        ready = self._until(task, "111")
        if ready["status"] == "111":
            command = shlex.split(ready["data"]["msg"]["command"])
            eventually(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, seconds=BOUND, pause=0.5)
            ready = self._until(task, *FINAL)
        self.ended.append(ready)
        assert ready["status"] == "114", ready
        assert Path(self.folder.path, name).read_bytes() == CONTENT

    def down(self, _: int) -> None:
        """Download a file, and remove it from the object store."""
        task = self._begun("download", sourcePath=self.source)
        done = self._until(task, *FINAL)
        self.ended.append(done)
        assert done["status"] == "117", done
        assert self._patiently(lambda: requests.get(done["data"]["url"], timeout=30), 200).content == CONTENT
        self._patiently(lambda: self.client.post("/storage/xfer-external/invalidate", headers={"X-Task-Id": task}), 201)

    def _begun(self, kind: str, **form: str) -> str:
        return str(self._patiently(lambda: self.client.post(f"/storage/xfer-external/{kind}", data=form), 201).json()["task_id"])

    def _until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            with suppress(requests.RequestException):
                answer = self.client.get(f"/tasks/{task_id}")
                if answer.status_code == 200 and answer.json()["task"]["status"] in (*statuses, *FINAL):
                    return dict(answer.json()["task"])
            return None

        return eventually(there, seconds=BOUND)

    def _patiently(self, call: Callable[[], requests.Response], status: int) -> requests.Response:
        def answered() -> requests.Response | None:
            with suppress(requests.RequestException):
                answer = call()
                if answer.status_code == status:
                    return answer
            return None

        return eventually(answered, seconds=BOUND, pause=0.5)


@pytest.fixture
def transfers(site: Site, tmp_path: Path) -> Iterator[Transfers]:
    """No transfers yet; nothing may be left of them at the end."""
    alice, folder = Client(site, "alice"), make_folder("fcalice")
    (tmp_path / "local").write_bytes(CONTENT)
    store = Store(Storage.model_validate(site.facts["stores"]["radosgw"]))
    made = Transfers(alice, folder, tmp_path / "local", folder.file("source", CONTENT))
    yield made
    tasks = {task["task_id"] for task in made.ended}

    def leftovers() -> list[str]:
        staged = [str(entry.object_name) for entry in store.list_objects(alice.user, recursive=True)]
        parts = [place.key for place, _, _ in store.unfinished_uploads(alice.user)]
        folders = [entry.name for entry in Path(f"/home/{alice.user}/firecrest").iterdir()]
        return [name for name in (*staged, *parts, *folders) if tasks & set(name.split("/"))]

    eventually(lambda: leftovers() == [], seconds=30)
    assert not [entry.name for entry in Path(folder.path).iterdir() if entry.name.startswith(".firecrest")]
    shutil.rmtree(folder.path)


def kill(*programs: str) -> Callable[[Site], None]:
    """Kill programs, which come back by themselves."""

    def kill_them(site: Site) -> None:
        for program in programs:
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(site.supervisor("pid", program)), signal.SIGKILL)

    return kill_them


def stop(program: str, seconds: float) -> Callable[[Site], None]:
    """Have a server gone for a while."""

    def stop_it(site: Site) -> None:
        if program == "sshd":
            stop_sshd(site)
        else:
            kill(program)(site)
            site.supervisor("stop", program)
        time.sleep(seconds)
        site.supervisor("start", program)

    return stop_it


def end_copies(_: Site) -> None:
    """Kill all that works in the folder of a transfer on the system."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str((entry / "cwd").readlink()).startswith("/home/fcalice/firecrest/"):
                os.kill(int(entry.name), signal.SIGKILL)


FAULTS: dict[str, Callable[[Site], None]] = {
    "a worker": kill(WORKERS[0]),
    "all workers": kill(*WORKERS),
    "housekeeping and beat": kill("housekeeping", "beat"),
    "the API": kill("api"),
    "Redis": stop("redis", 1),
    "sshd": stop("sshd", 4),
    "the object store": stop("radosgw", 4),
    "the copies themselves": end_copies,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_transfer_is_lost_when_something_is_gone_for_a_while(
    site: Site, transfers: Transfers, seeded: random.Random, request: pytest.FixtureRequest, fault: str
) -> None:
    rounds = 20 if request.config.getoption("--faults-long") else 1
    for number in range(rounds):
        breaking = threading.Timer(seeded.uniform(0.1, 3), FAULTS[fault], (site,))
        breaking.start()
        with ThreadPoolExecutor(4) as pool:
            under_way = [pool.submit(transfer, 2 * number + k) for k in range(2) for transfer in (transfers.up, transfers.down)]
            for one in under_way:
                one.result()
        breaking.join()

    assert len(transfers.ended) == 4 * rounds
