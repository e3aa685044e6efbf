"""Transfer jobs over HTTP: whose their tasks are, where they run, and how they are refused."""

import pytest
from flask.testing import FlaskClient

PATH = "/storage/xfer-internal/cp"
FORM = {"sourcePath": "/s", "targetPath": "/t"}


@pytest.mark.parametrize(("system", "runs_on"), [("here", "here"), ("remote", "here"), ("tooled", "tooled")])
def test_the_task_is_compute_s_on_the_system_that_runs_such_jobs(client: FlaskClient, system: str, runs_on: str) -> None:
    answer = client.post(PATH, data=FORM, headers={"X-Machine-Name": system})
    assert (answer.status_code, answer.json) == (201, {"success": "Task created", "task_id": answer.json["task_id"]})

    task = client.get(f"/tasks/{answer.json['task_id']}").json["task"]

    assert (task["service"], task["system"]) == ("compute", runs_on)
    client.delete(f"/tasks/{task['task_id']}")


def test_an_unknown_system_is_refused_as_storage_does(client: FlaskClient) -> None:
    answer = client.post(PATH, headers={"X-Machine-Name": "nowhere"})

    assert (answer.status_code, answer.json) == (400, {"description": "Failed operation", "error": "Machine does not exists"})
    assert answer.headers["X-Machine-Does-Not-Exists"] == "Machine does not exists"


def test_no_system_is_refused(client: FlaskClient) -> None:
    answer = client.post(PATH, data=FORM, headers={"X-Machine-Name": ""})

    assert (answer.status_code, answer.json) == (400, {"description": "No machine name given"})


def test_a_time_that_is_none_is_refused_without_description(client: FlaskClient) -> None:
    answer = client.post(PATH, data={**FORM, "time": "soon"})

    assert (answer.status_code, answer.json) == (400, {"error": "Not supported time format"})
