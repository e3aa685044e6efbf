"""Uploads and downloads that a patient client takes to their end, whatever is gone meanwhile, and what tells how far they are."""

import hashlib
import json
import os
import shlex
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests
from redis import Redis

from tests.faults.moves import Moves
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from workers.staging.client import Client as Store

FINAL = ("114", "115", "117", "118", "200", "400")
MB = 1024 * 1024
# What 400 says of failures that are no answer to what was asked.
_PASSING = ("X-Machine-Not-Available", "X-Timeout")
# A call that was cut off may still be on its way for so long after the API answers again.
_SETTLED = 8


class Refused(AssertionError):
    """The service has said no to what is in order."""


class Content:
    """A file's content: made once, known by its checksum."""

    def __init__(self, size: int, folder: Path, there: Folder) -> None:
        data = os.urandom(size)
        self.md5 = hashlib.md5(data).hexdigest()
        self.local = folder / f"content-{size}"
        self.local.write_bytes(data)
        self.remote = Path(there.file(f"content-{size}", data))


class Transfer(ABC):
    """One transfer of a user with a name of its own."""

    direction: str
    ends_with: str

    def __init__(self, site: Site, content: Content, *, local: Path, folder: Folder, moves: Moves, seconds: float) -> None:
        self.redis = site.redis()
        self.client = Client(site, "alice")
        self.content = content
        self.name = f"{self.direction}-{uuid4().hex}"
        self.local = local / self.name
        self.folder = folder
        self.moves = moves
        self.there = Path(folder.path, self.name)
        self.deadline = time.monotonic() + seconds
        self.task_id = ""
        self.doing = ""
        self.seen: list[str] = []
        self.last: dict[str, Any] = {}

    @abstractmethod
    def transfer(self) -> None:
        """Take it to its end. Raises AssertionError when it does not get there, or what is there is not what was sent."""

    @abstractmethod
    def _ask(self) -> requests.Response:
        """Ask for it."""

    @abstractmethod
    def _source(self) -> str:
        """What its task names as source."""

    @abstractmethod
    def appearances(self) -> int:
        """How often it has put a file into its place."""

    def tasks(self) -> int:
        """How many tasks there are for it: one, unless it was made twice."""
        return len(self.among(self._patiently(lambda: self.client.get("/tasks", timeout=20)).json()["tasks"]))

    def _begin(self) -> None:
        self.doing = "asking"
        while not self.task_id:
            self._in_time()
            with suppress(requests.RequestException):
                answer = self._ask()
                if answer.status_code == 201:
                    self.task_id = str(answer.json()["task_id"])
                    break
                _check_passing(answer)
                if answer.status_code == 400:
                    time.sleep(0.5)
                    continue
            # nobody has said whether the task was made
            found = self._tasks_of_it()
            self.task_id = found[0] if found else ""
        self.doing = ""

    def _tasks_of_it(self) -> list[str]:
        """Its tasks, once the API has answered for a while and has told of each task what it is."""
        since = 0.0
        while True:
            tasks = self._patiently(lambda: self.client.get("/tasks", timeout=20)).json()["tasks"]
            since = since or time.monotonic()
            found = self.among(tasks)
            if found or (time.monotonic() - since > _SETTLED and not any(task["status"] == "100" for task in tasks.values())):
                return found
            time.sleep(0.5)

    def among(self, tasks: dict[str, Any]) -> list[str]:
        """Those of the tasks that are its own."""
        return [one for one, task in tasks.items() if isinstance(task["data"], dict) and task["data"].get("source") == self._source()]

    def _until(self, *statuses: str) -> dict[str, Any]:
        while True:
            self._in_time()
            answer = self._patiently(lambda: self.client.get(f"/tasks/{self.task_id}", timeout=20))
            self.last = dict(answer.json()["task"])
            if self.last["status"] not in self.seen[-1:]:
                self.seen.append(self.last["status"])
            if self.last["status"] in (*statuses, *FINAL):
                return self.last
            time.sleep(0.3)

    def _patiently(self, call: Callable[[], requests.Response], status: int = 200) -> requests.Response:
        while True:
            self._in_time()
            with suppress(requests.RequestException):
                answer = call()
                if answer.status_code == status:
                    return answer
                _check_passing(answer)
            time.sleep(0.5)

    def _in_time(self) -> None:
        assert time.monotonic() < self.deadline, f"it is not over in time: {self.seen}, {self.last.get('data')}"

    def _check_end(self) -> None:
        assert self.last["status"] == self.ends_with, f"it has ended otherwise: {self.last}"
        assert self.seen == sorted(self.seen), f"its status went back: {self.seen}"

    def check_still(self) -> None:
        """Check that nothing has happened to its task since it ended."""
        task = self._patiently(lambda: self.client.get(f"/tasks/{self.task_id}", timeout=20)).json()["task"]
        assert task == self.last, f"it has changed after its end: {self.last}, {task}"

    def leftovers(self, store: Store) -> list[str]:
        """What there is of it that should not be: hidden files, folders, processes, things in the object store, open tasks."""
        user = self.client.user
        staged = [str(entry.object_name) for entry in store.list_objects(user, recursive=True)]
        parts = [f"{place.key} (unfinished)" for place, _, _ in store.unfinished_uploads(user)]
        files = [str(entry) for folder in (f"/home/{user}/firecrest", self.folder.path) for entry in Path(folder).iterdir()]
        found = [name for name in (*staged, *parts, *files, *_working()) if self.task_id in name]
        return found + [f"{key} in Redis" for key in _open(self.redis, self.task_id)]

    def step(self) -> str:
        """How far it is, as an onlooker sees it."""
        if not self.task_id:
            return "asking" if self.doing else "not begun"
        status, state, cleaning = self.redis.hmget(f"task:{self.task_id}", ["status", "state", "cleaning"])
        kept, text = json.loads(state or "{}").get("state", {}), (status or b"").decode()
        if text in FINAL:
            return "cleaning" if cleaning == b"1" else self.doing or "over"
        if kept.get("verdict"):
            return "cleaning"
        if not kept.get("version") and self.direction == "download":
            return "116 measuring"
        return self._step(text, _outcome(self.client.user, self.task_id))

    @abstractmethod
    def _step(self, status: str, outcome: str) -> str:
        """How far it is, by its status and what the copy has left."""


class Upload(Transfer):
    """From this machine to the system."""

    direction = "upload"
    ends_with = "114"

    def transfer(self) -> None:
        os.link(self.content.local, self.local)
        self._begin()
        ready = self._until("111")
        if ready["status"] == "111":
            self._send(ready["data"]["msg"]["command"])
            self._until()
        self._check_end()
        assert _md5(self.there) == self.content.md5, "its file is not what was sent"

    def _ask(self) -> requests.Response:
        form = {"targetPath": str(self.there), "sourcePath": str(self.local)}
        return self.client.post("/storage/xfer-external/upload", data=form, timeout=20)

    def _source(self) -> str:
        return self.name

    def _send(self, command: str) -> None:
        self.doing = "sending"
        while self._until("111", "112", "113")["status"] == "111":
            if subprocess.run(shlex.split(command), capture_output=True, check=False).returncode == 0:
                break
            time.sleep(1)
        self.doing = ""

    def appearances(self) -> int:
        """How often a file was moved to the target."""
        return self.moves.onto(self.name)

    def _step(self, status: str, outcome: str) -> str:
        if status in ("100", "110"):
            return "110 offering"
        if status == "111":
            return "111 client sends" if self.doing else "111 waiting"
        return "113 placing" if outcome.startswith("whole") else "113 fetching"


class Download(Transfer):
    """From the system to this machine."""

    direction = "download"
    ends_with = "117"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.times_stored: set[Any] = set()

    def transfer(self) -> None:
        os.link(self.content.remote, self.there)
        self._begin()
        done = self._until()
        self._check_end()
        self.doing = "taking"
        got = self._patiently(lambda: requests.get(done["data"]["url"], timeout=40))
        assert hashlib.md5(got.content).hexdigest() == self.content.md5, "what the link leads to is not the file"
        self.times_stored = {got.headers["Last-Modified"]}
        time.sleep(0.5)
        self.times_stored.add(self._patiently(lambda: requests.get(done["data"]["url"], timeout=40)).headers["Last-Modified"])
        self.doing = "invalidating"
        self._patiently(lambda: self.client.post("/storage/xfer-external/invalidate", headers={"X-Task-Id": self.task_id}, timeout=20), 201)
        self._patiently(lambda: requests.get(done["data"]["url"], timeout=40), 404)
        self.doing = ""

    def _ask(self) -> requests.Response:
        return self.client.post("/storage/xfer-external/download", data={"sourcePath": str(self.there)}, timeout=20)

    def _source(self) -> str:
        return str(self.there)

    def appearances(self) -> int:
        """How many objects the link has led to."""
        return len(self.times_stored)

    def _step(self, status: str, outcome: str) -> str:
        return f"{status} completing" if outcome.startswith("whole") else f"{status} storing"


def _check_passing(answer: requests.Response) -> None:
    """Raises Refused for an answer that no client would take for a reason to try again."""
    passing = answer.status_code in (429, 502, 503, 504) or any(name in answer.headers for name in _PASSING)
    if not passing and "try again later" not in answer.text:
        raise Refused(f"{answer.status_code} {answer.text[:300]} {answer.headers}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _outcome(user: str, task_id: str) -> str:
    """What the copy says of its last run."""
    for entry in sorted(Path(f"/home/{user}/firecrest/{task_id}").glob("outcome.[0-9]*"), reverse=True):
        with suppress(OSError):
            return entry.read_text(errors="replace")
    return ""


def _working() -> Iterator[str]:
    """What works in the folders of transfers."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield f"process {entry.name} in {(entry / 'cwd').readlink()}"


def _open(redis: Redis, task_id: str) -> list[str]:
    """What Redis keeps for those alone that are not over."""
    fields = [name for name in ("message", "state", "cleaning") if redis.hexists(f"task:{task_id}", name)]
    waits = [topic.decode() for topic in redis.smembers("awaited") if redis.sismember(f"awaited:{topic.decode()}", task_id)]
    return [*fields, *waits, *(["tasks:open"] if redis.zscore("tasks:open", task_id) is not None else [])]


def settled(found: Callable[[], list[str]], *, seconds: float) -> list[str]:
    """What is found still when `seconds` are over; nothing as soon as nothing is."""
    last: list[str] = []

    def none() -> bool:
        last[:] = found()
        return not last

    with suppress(AssertionError):
        eventually(none, seconds=seconds, pause=0.5)
    return last
