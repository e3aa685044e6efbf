"""Hostile values in every field of every operation: the contract's errors, no fault of the service, no command of the attacker's."""

import json
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import api.app  # noqa: F401 (all operations)
from schemas.operation import OPERATIONS, Course, Operation
from schemas.task import FINAL_CODES, Status
from tests.real_site import Client, Site, eventually, told
from tests.site.conftest import make_folder
from tests.site.hostile_cases import Call, Case, Scenery, hostile, scenery
from tests.site.hostile_values import CARELESS, INJECTIONS, Canaries, Value
from tests.site.raw_http import Answer, Connection

pytestmark = pytest.mark.timeout(3600)

THREADS = 8
LOGS = ("api", "worker-1", "worker-2", "housekeeping", "delegation")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TELLTALE = re.compile(rb"Traceback|Error handling request|File \\?\"/[^\"]*\.py")
_FAULT = re.compile(r"Traceback|the request failed|Error handling request|Socket error processing")


class Sender:
    """Sends cases as a user, on a connection per thread."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._connections: list[Connection] = []

    def send(self, case: Case) -> Answer:
        """What the API answers."""
        if case.field != "Authorization":
            with self._lock:
                case.request.headers.insert(0, ("Authorization", self._client.authorization().encode()))
        if not hasattr(self._mine, "connection"):
            self._mine.connection = Connection(self._client.site.url)
            self._connections.append(self._mine.connection)
        try:
            answer: Answer = self._mine.connection.send(case.request)
        except (OSError, HTTPException) as lost:
            self._mine.connection.close()
            answer = Answer(0, [], repr(lost).encode())
        return answer

    def close(self) -> None:
        """End all connections."""
        for connection in self._connections:
            connection.close()


@dataclass
class Campaign:
    """All that was sent, and what came of it."""

    operations: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    tasks: dict[str, Case] = field(default_factory=dict)
    ends: dict[str, Any] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    def note(self, case: Case, answer: Answer) -> None:
        """Judge an answer."""
        self.operations[case.operation.task()] += 1
        if fault := fault_of(case, answer):
            self.faults.setdefault(case.operation.task(), []).append(f"{case}: {fault}: {answer.status} {answer.body[:300]!r}")
        elif answer.status < 300 and case.operation.route.course is Course.DEFERRED:
            self.tasks[parsed(answer)["task_id"]] = case


def fault_of(case: Case, answer: Answer) -> str:
    """What is wrong with an answer, "" when nothing is."""
    kinds = [value for name, value in answer.headers if name.lower() == "content-type"]
    if answer.status < 200 or answer.status >= 500 or answer.status == 429 or 300 <= answer.status < 400:
        return "a status that nobody deserves"
    if any(name.lower() == "x-injected" or _CONTROL.search(value) for name, value in answer.headers):
        return f"a header of the attacker's: {answer.headers}"
    if _TELLTALE.search(answer.body):
        return "the inside shows"
    if answer.status < 300:
        return fault_of_success(case.operation, answer, kinds)
    if kinds != ["application/json"]:
        return f"not JSON but {kinds}"
    told = [text for name, text in parsed(answer).items() if name in ("description", "error")]
    return "" if told and all(isinstance(text, str) for text in told) else "not the contract's error"


def parsed(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer, empty when it is none."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def fault_of_success(operation: type[Operation], answer: Answer, kinds: list[str]) -> str:
    """What is wrong with the answer of a call that went well."""
    if answer.status != operation.route.status:
        return f"not {operation.route.status}"
    if operation.route.output is None:
        return "a body where none may be" if answer.body else ""
    if operation.route.output is bytes:
        return "" if kinds == ["application/octet-stream"] else f"{kinds}"
    return "" if kinds == ["application/json"] and parsed(answer) else "not JSON"


class Logs:
    """What the processes of the gateway have logged since."""

    def __init__(self, site: Site) -> None:
        self._files = [Path(site.facts["logs"]) / f"{name}.log" for name in LOGS]
        self._read = [file.stat().st_size for file in self._files]

    def faults(self) -> list[str]:
        """The lines that tell of faults, with some that follow."""
        texts = [file.read_bytes()[start:].decode(errors="replace") for file, start in zip(self._files, self._read, strict=True)]
        return [text[found.start() : found.start() + 1500] for text in texts for found in _FAULT.finditer(text)]


@pytest.fixture(scope="module")
def canaries(mallory: Client) -> Iterator[Canaries]:
    """Canaries in a folder that everybody may write to, and in mallory's home."""
    folder = Path(f"/tmp/canaries-{uuid4().hex[:8]}")
    folder.mkdir()
    folder.chmod(0o1777)
    yield Canaries(str(folder), home=f"/home/{mallory.user}")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def stage(site: Site, mallory: Client) -> Iterator[Scenery]:
    """What is in order, in mallory's home."""
    with scenery(site, mallory) as made:
        yield made


@pytest.fixture(scope="module")
def campaign(site: Site, mallory: Client, stage: Scenery, canaries: Canaries, pytestconfig: pytest.Config) -> Campaign:
    """Every hostile case, sent; its tasks and jobs over."""
    logs, done = Logs(site), Campaign()
    # deferred ones last: the list of tasks grows with them
    operations = sorted(OPERATIONS, key=lambda operation: operation.route.course is Course.DEFERRED)
    options: dict[str, Any] = {"system": site.facts["system"], "whole": pytestconfig.getoption("--hostile-whole")}
    cases = [case for operation in operations for case in hostile(operation, stage, canaries, **options)]
    with closing(Sender(mallory)) as sender, ThreadPoolExecutor(THREADS) as pool:
        for case, answer in zip(cases, pool.map(sender.send, cases), strict=True):
            done.note(case, answer)
    done.ends = ends(mallory, list(done.tasks))
    eventually(lambda: not under_way(site, mallory.user), seconds=120)
    done.found, done.logged = canaries.found(), logs.faults()
    return done


def under_way(site: Site, user: str) -> list[str]:
    """The user's jobs that run, or only wait for their turn: others asked to wait for what never comes."""
    rows = site.slurm("squeue", "--noheader", "--format=%T %r", f"--user={user}").splitlines()
    return [row for row in rows if not row.startswith("PENDING ") or row.split()[1] in ("None", "Priority", "Resources")]


def ends(client: Client, task_ids: list[str]) -> dict[str, Any]:
    """The tasks, once all are final; uploads that wait for their file are cancelled."""
    final: dict[str, Any] = {}

    def over() -> bool:
        missing = [task_id for task_id in task_ids if task_id not in final]
        for start in range(0, len(missing), 100):
            tasks = client.get("/tasks", params={"tasks": ",".join(missing[start : start + 100])}).json()["tasks"]
            final.update({task_id: task for task_id, task in tasks.items() if task["status"] in FINAL_CODES})
            for task_id in (task_id for task_id, task in tasks.items() if task["status"] == Status.FORM_READY):
                client.delete(f"/tasks/{task_id}")
        return len(final) == len(task_ids)

    eventually(over, seconds=240, pause=1)
    return final


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.task())
def test_every_answer_is_the_contracts(campaign: Campaign, operation: type[Operation]) -> None:
    assert campaign.operations[operation.task()] > 50
    faults = campaign.faults.get(operation.task(), [])
    assert not faults, f"{len(faults)} answers are wrong, such as\n" + "\n".join(faults[:15])


def test_no_command_of_the_attackers_was_run(campaign: Campaign, record_property: Callable[[str, object], None]) -> None:
    record_property("hostile cases", campaign.operations.total())
    record_property("canaries found", len(campaign.found))
    assert campaign.found == []


def test_every_task_of_a_hostile_call_ends(campaign: Campaign) -> None:
    assert campaign.ends.keys() == campaign.tasks.keys()
    faults = [
        f"{campaign.tasks[key]}: {task}" for key, task in campaign.ends.items() if task["data"] is None or task["data"] == "Internal error"
    ]
    assert not faults, "\n".join(faults[:10])


def test_the_service_logs_no_fault(campaign: Campaign) -> None:
    assert not campaign.logged, f"{len(campaign.logged)} faults, such as\n" + "\n".join(campaign.logged[:5])


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.route.on_system], ids=lambda operation: operation.task())
def test_what_is_in_order_reaches_the_system(site: Site, mallory: Client, stage: Scenery, operation: type[Operation]) -> None:
    """Or else nothing hostile beside it would."""
    call = Call(operation, operation.route.path, stage, site.facts["system"])
    with closing(Sender(mallory)) as sender:
        answer = sender.send(Case(operation, "nothing", Value(b""), call.in_order()))
    on_system = bool(told(dict(answer.headers)))
    assert answer.status < 300 or on_system, (answer.status, answer.body)


@pytest.mark.parametrize("home", [False, True], ids=["with its path", "at home"])
@pytest.mark.parametrize("template", INJECTIONS)
def test_a_careless_program_runs_the_command(site: Site, mallory: Client, template: str, home: bool) -> None:
    """The proof that what the corpus holds is harmful, and that harm is seen."""
    folder = make_folder(mallory.user)
    own = Canaries(folder.folder("all"), home=folder.path)
    text = own.value(template, home=home).text.decode()
    for place in CARELESS:
        if not own.found():
            as_mallory(site, mallory, place.format(text) + "\n:", folder.path)
    eventually(own.found, seconds=30)
    shutil.rmtree(folder.path)


def as_mallory(site: Site, mallory: Client, line: str, folder: str) -> None:
    """Run a shell line as the user."""
    words = ["setpriv", f"--reuid={mallory.user}", f"--regid={mallory.user}", "--init-groups", "--", "bash", "-c", line]
    environment = {"PATH": "/usr/bin:/bin", "SLURM_CONF": site.facts["slurm_conf"], "HOME": folder}
    subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=False, timeout=30)
