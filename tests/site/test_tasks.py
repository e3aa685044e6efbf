"""Task records over HTTP, and the two calls of the first presentation as curl makes them (contract, 1.6)."""

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.real_site import Client, Site
from tests.site.conftest import Folder

KEYS = {
    "task_id", "hash_id", "user", "service", "system", "status", "description", "data", "created_at", "updated_at", "last_modify",
}  # fmt: skip


@pytest.fixture(scope="module")
def task(alice: Client) -> dict[str, Any]:
    """A finished task of alice."""
    return alice.task(alice.get("/compute/jobs"))


def test_a_task_alone_holds_everything_and_its_place(alice: Client, task: dict[str, Any]) -> None:
    assert set(task) == KEYS | {"task_url"}
    assert task["task_url"] == f"/tasks/{task['task_id']}"
    assert task["task_id"] == task["hash_id"]
    assert re.fullmatch(r"[0-9a-f]{32}", task["task_id"])
    assert (task["user"], task["service"], task["system"]) == ("fcalice", "compute", "cluster")
    assert (task["status"], task["description"]) == ("200", "Finished successfully")
    assert task["updated_at"] == task["last_modify"] >= task["created_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", task["created_at"])
    answer = alice.get(f"/tasks/{task['task_id']}")
    assert (answer.status_code, answer.json()) == (200, {"task": task})


def test_the_list_is_an_object_keyed_by_id(alice: Client, task: dict[str, Any]) -> None:
    alone = {name: value for name, value in task.items() if name != "task_url"}
    for path in ("/tasks", "/tasks/"):
        answer = alice.get(path)
        assert (answer.status_code, answer.json()["tasks"][task["task_id"]]) == (200, alone)
        assert all(set(other) == KEYS and other["user"] == "fcalice" for other in answer.json()["tasks"].values())
    assert alice.get("/tasks", params={"tasks": task["task_id"]}).json() == {"tasks": {task["task_id"]: alone}}


def test_a_task_that_was_just_made_has_data(alice: Client) -> None:
    ticket = alice.post("/compute/jobs", files={"file": ("job.sh", b"#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n")}).json()
    first = alice.get(ticket["task_url"]).json()["task"]
    assert first["data"]
    assert (first["status"], first["description"]) in {("100", "Queued"), ("101", "In progress"), ("200", "Finished successfully")}


def test_unknown_and_foreign_tasks_are_left_out_of_the_list(alice: Client, bob: Client, task: dict[str, Any]) -> None:
    foreign = bob.task(bob.get("/compute/jobs"))["task_id"]
    answer = alice.get("/tasks", params={"tasks": f"unknown,{foreign},{task['task_id']},,*"})
    assert (answer.status_code, set(answer.json()["tasks"])) == (200, {task["task_id"]})
    assert alice.get("/tasks", params={"tasks": foreign}).json() == {"tasks": {}}
    assert foreign not in alice.get("/tasks").json()["tasks"]


def test_a_foreign_task_is_forbidden_and_an_unknown_one_not_there(bob: Client, task: dict[str, Any]) -> None:
    answer = bob.get(f"/tasks/{task['task_id']}")
    assert (answer.status_code, answer.json()) == (403, {"description": "Operation not permitted. Invalid task owner."})
    for name in ("unknown", "taskslist", "of:fcalice"):
        answer = bob.get(f"/tasks/{name}")
        assert (answer.status_code, answer.json()["error"]) == (404, f"Task {name} does not exist")


@pytest.mark.parametrize(
    ("text", "reason"), [("", "is empty"), ("a;b", "has invalid char"), ("a|b", "has invalid char"), ("'", "has invalid char")]
)
def test_ids_pass_the_input_check(alice: Client, text: str, reason: str) -> None:
    answer = alice.get("/tasks", params={"tasks": text})
    words = {"description": "Failed to retrieve tasks information", "error": f"'tasks' {reason}"}
    assert (answer.status_code, answer.json()) == (400, words)


def test_tasks_need_no_system(site: Site, task: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {site.token('alice')}"}
    assert requests.get(f"{site.url}/tasks/{task['task_id']}", headers=headers, timeout=30).status_code == 200


def test_the_deployment_tells_what_it_is(alice: Client) -> None:
    systems = alice.get("/status/systems").json()
    assert systems == {
        "description": "List of systems with status and description.",
        "out": [{"system": name, "status": "available", "description": "System ready"} for name in ("cluster", "ridge")],
    }
    services = alice.get("/status/services").json()
    assert services["description"] == "List of services with status and description."
    assert {"utilities", "compute"} <= {service["service"] for service in services["out"]}
    up = {"status": "available", "status_code": 200, "description": "server up & flask running"}
    assert all(service == up | {"service": service["service"]} for service in services["out"])
    parameters = alice.get("/status/parameters").json()
    assert parameters["description"] == "Firecrest's parameters"
    assert list(parameters["out"]) == ["general", "compute", "utilities", "storage"]
    assert all(set(item) == {"name", "value", "unit", "description"} for group in parameters["out"].values() for item in group)


@pytest.fixture
def curl(site: Site) -> Callable[..., Any]:
    """What curl gets with alice's token, and prints of the status code."""

    def run(*words: str) -> tuple[str, Any]:
        header = ("-H", f"Authorization: Bearer {site.token('alice')}", "-H", f"X-Machine-Name: {site.facts['system']}")
        done = subprocess.run(
            ["curl", "-sS", "-w", "\n%{http_code}", *header, *words], capture_output=True, text=True, check=True, timeout=60
        )
        body, _, code = done.stdout.rpartition("\n")
        return code, json.loads(body)

    return run


def test_curl_lists_a_directory(site: Site, folder: Folder, curl: Callable[..., Any]) -> None:
    folder.file("shown")
    code, body = curl(f"{site.url}/utilities/ls?targetPath={folder.path}")
    assert (code, [entry["name"] for entry in body["output"]]) == ("200", ["shown"])


def test_curl_submits_a_script(site: Site, alice: Client, folder: Folder, over: Callable[[str], None], curl: Callable[..., Any]) -> None:
    script = folder.file("script.sh", f"#!/bin/sh\n#SBATCH --output=/dev/null\ntouch {folder.path}/ran\n".encode())
    code, body = curl("-X", "POST", f"{site.url}/compute/jobs", "-F", f"file=@{script}")
    assert (code, body["success"]) == ("201", "Task created")
    code, body = curl(f"{site.url}{body['task_url']}")
    assert code == "200"
    over(alice.task(_ticket(body))["data"]["jobid"])
    assert [entry["name"] for entry in alice.get("/utilities/ls", params={"targetPath": folder.path}).json()["output"]] == [
        "ran",
        "script.sh",
    ]


def _ticket(body: Any) -> Any:
    answer = requests.Response()
    answer._content = json.dumps({"task_id": body["task"]["task_id"]}).encode()
    return answer
