"""What the tests of transfers do: ask for one, follow it, send its file, and get in its way."""

import fcntl
import os
import pwd
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from tests.real_site import Client, Site, eventually

UPLOAD, DOWNLOAD, INVALIDATE = (f"/storage/xfer-external/{name}" for name in ("upload", "download", "invalidate"))
MB = 1024 * 1024
FOLDERS = "/home/fcalice/firecrest"
_FINAL = ("114", "115", "117", "118", "400")

Local = Callable[..., str]


def names(folder: str) -> list[str]:
    """What a folder holds; nothing when it is not there."""
    return sorted(entry.name for entry in Path(folder).iterdir()) if Path(folder).exists() else []


def upload(alice: Client, target: str, source: str, **more: Any) -> requests.Response:
    """Ask for an upload."""
    return alice.post(UPLOAD, data={"targetPath": target, "sourcePath": source, **more})


def download(alice: Client, source: str) -> requests.Response:
    """Ask for a download."""
    return alice.post(DOWNLOAD, data={"sourcePath": source})


def invalidate(client: Client, task_id: str) -> requests.Response:
    """Have the link of a download invalidated."""
    return client.post(INVALIDATE, headers={"X-Task-Id": task_id, "X-Machine-Name": ""})


def at(alice: Client, ticket: requests.Response, *statuses: str, seconds: float = 40) -> dict[str, Any]:
    """The task, once it has one of the statuses."""
    assert ticket.status_code == 201, ticket.text
    return reached(alice, ticket.json()["task_id"], *statuses, seconds=seconds)


def reached(alice: Client, task_id: str, *statuses: str, seconds: float = 40) -> dict[str, Any]:
    """The task of this id, once it has one of the statuses."""

    def there() -> dict[str, Any] | None:
        task: dict[str, Any] = alice.get(f"/tasks/{task_id}", headers={"Prefer": "wait=0"}).json()["task"]
        assert task["status"] in statuses or task["status"] not in _FINAL, task
        return task if task["status"] in statuses else None

    return eventually(there, seconds=seconds, pause=0.05)


def sent(ready: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The command of a task at 111, as pyfirecrest runs it."""
    command = shlex.split(ready["data"]["msg"]["command"])
    return subprocess.run(command, capture_output=True, text=True, check=False)


def send(ready: dict[str, Any]) -> None:
    """Send the file of a task at 111."""
    done = sent(ready)
    assert done.returncode == 0, done.stderr


def complete(parts: dict[str, Any], tags: dict[int, str]) -> requests.Response:
    """Complete an upload in parts, of which these have arrived."""
    body = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in tags.items())
    document = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>"
    return requests.post(parts["complete"]["url"], data=document, headers=parts["complete"]["headers"], timeout=60)


def send_part(parts: dict[str, Any], number: int, content: bytes) -> str:
    """Send a part of a file of that content; its ETag."""
    start, part = (number - 1) * parts["part_size"], parts["parts"][number - 1]
    answer = requests.put(part["url"], data=content[start : start + part["size"]], timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.headers["ETag"]


def working_for(task_id: str) -> list[int]:
    """The processes that work in the folder of a transfer on the system."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if Path(FOLDERS, task_id) == Path(str((entry / "cwd").readlink()).removesuffix(" (deleted)")):
                found.append(int(entry.name))
    return found


@contextmanager
def held_back(task_id: str) -> Iterator[None]:
    """While this lasts the copy of the transfer seems to be running, but for its bytes."""
    for folder in (Path(FOLDERS), Path(FOLDERS, task_id)):
        folder.mkdir(mode=0o755, exist_ok=True)
        _give(folder)
    path = Path(FOLDERS, task_id, "lock")
    with path.open("a") as lock:
        _give(path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def held_from_its_start(site: Site, begin: Callable[[], str]) -> Iterator[str]:
    """Begin a transfer whose copy is held back from the start; gives its id."""
    with ExitStack() as stack:
        with frozen_store(site):
            task_id = begin()
            stack.enter_context(held_back(task_id))
        yield task_id


def _give(path: Path) -> None:
    entry = pwd.getpwnam("fcalice")
    os.chown(path, entry.pw_uid, entry.pw_gid)


@contextmanager
def frozen_store(site: Site) -> Iterator[None]:
    """While this lasts the object store does not answer."""
    pid = int(site.supervisor("pid", site.facts["storage_program"]))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def slow_store(site: Site, share: float = 0.04) -> Iterator[None]:
    """While this lasts the object store works only for a share of the time."""
    pid, over = int(site.supervisor("pid", site.facts["storage_program"])), threading.Event()

    def slow_down() -> None:
        while not over.wait(0.1 * share):
            os.kill(pid, signal.SIGSTOP)
            over.wait(0.1 * (1 - share))
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=slow_down)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
