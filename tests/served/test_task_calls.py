"""Listing and cancelling tasks over HTTP; the records are made here, and no worker knows of them."""

import hashlib
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from redis import Redis

from broker.blobs import Blobs
from broker.tasks import Attempt, Tasks
from schemas.compute import Jobs, SubmitUpload
from schemas.fields import Upload
from schemas.operation import Operation
from schemas.task import Status, Task


@pytest.fixture
def tasks(redis: Redis) -> Tasks:
    redis.delete("tasks:of:somebody", "tasks:of:another")
    return Tasks(redis, lifetime=60, patience=3600)


def made(tasks: Tasks, op: Operation | None = None, *, user: str = "somebody", **facts: str) -> Task:
    op = op or Jobs()
    message = {"operation": op.task(), "parameters": op.parameters(), "shown": "", "grant": ""}
    facts = {"service": "compute", "system": "here", **facts}
    task = tasks.create(uuid4().hex, user=user, message=message, stoppable=op.route.stoppable, **facts)
    tasks.confirm(task.task_id)
    return task


def listed(client: FlaskClient, **query: str) -> list[str]:
    answer = client.get("/tasks", query_string=query)
    assert answer.status_code == 200, answer.json
    return list(answer.json["tasks"])


def test_the_list_is_newest_first_and_comes_in_pages(client: FlaskClient, tasks: Tasks) -> None:
    order = [made(tasks).task_id for _ in range(30)][::-1]

    assert listed(client) == order
    assert listed(client, pageSize="", pageNumber="") == order
    assert listed(client, pageNumber="0") == order[:25]
    assert listed(client, pageNumber="1") == order[25:]
    assert listed(client, pageSize="7", pageNumber="4") == order[28:]
    assert listed(client, pageSize="7") == order[:7]
    assert listed(client, pageSize="1000") == order
    assert listed(client, pageSize="9" * 18, pageNumber="9" * 18) == []
    assert listed(client, pageSize="2", pageNumber="1", tasks=",".join(order[5:9])) == order[7:9]


def test_the_list_is_filtered(client: FlaskClient, tasks: Tasks) -> None:
    one, two, three = made(tasks), made(tasks, system="there"), made(tasks, service="storage")
    tasks.accept(Attempt(two.task_id, 1, "me"), lease=60)
    made(tasks, user="another")

    assert listed(client, status="100") == [three.task_id, one.task_id]
    assert listed(client, status="101,200") == [two.task_id]
    assert listed(client, system="there") == [two.task_id]
    assert listed(client, service="storage", system="here") == [three.task_id]
    assert listed(client, service="nothing") == []
    assert listed(client, status="100", pageSize="1", pageNumber="1") == [one.task_id]
    assert listed(client, tasks=f"{one.task_id},{two.task_id}", status="100") == [one.task_id]


def test_the_list_starts_at_a_moment(client: FlaskClient, tasks: Tasks) -> None:
    old = made(tasks)
    time.sleep(1.1)
    new = made(tasks)
    moment = new.created_at.replace(microsecond=0)
    east = moment.astimezone(datetime.strptime("+0545", "%z").tzinfo)
    local = f"{moment.astimezone():%Y-%m-%dT%H:%M:%S}"

    assert client.get(f"/tasks/{new.task_id}").json["task"]["created_at"] == local
    for since in (local, moment.isoformat(), f"{moment:%Y%m%dT%H%M%SZ}", east.isoformat(), east.isoformat().replace("+", " ")):
        assert listed(client, since=since) == [new.task_id]
    assert listed(client, since=new.created_at.isoformat()) == [new.task_id]
    assert listed(client, since=(datetime.now(UTC) + timedelta(days=1)).isoformat()) == []
    assert listed(client, since="1970-01-02") == [new.task_id, old.task_id]
    assert listed(client, since=local, tasks=f"{old.task_id},{new.task_id}") == [new.task_id]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"pageSize": "0"}, "'pageSize' must be greater than 0"),
        ({"pageSize": "-1"}, "'pageSize' is not a whole number"),
        ({"pageSize": "x"}, "'pageSize' is not a whole number"),
        ({"pageNumber": "-1"}, "'pageNumber' is not a whole number"),
        ({"pageNumber": "1.5"}, "'pageNumber' is not a whole number"),
        ({"pageNumber": "1;2"}, "'pageNumber' has invalid char"),
        ({"status": ""}, "'status' is empty"),
        ({"status": "100,"}, "'status' holds what is not a status of tasks"),
        ({"status": "999"}, "'status' holds what is not a status of tasks"),
        ({"status": "1|2"}, "'status' has invalid char"),
        ({"service": ""}, "'service' is empty"),
        ({"system": "a;b"}, "'system' has invalid char"),
        ({"since": ""}, "'since' is empty"),
        ({"since": "yesterday"}, "'since' is not a date and time in ISO 8601"),
        ({"since": "2026-13-01"}, "'since' is not a date and time in ISO 8601"),
        ({"since": "0001-01-01T00:00:00"}, "'since' is not a date and time in ISO 8601"),
        ({"since": "9999-12-31T23:59:59-23:59"}, "'since' is not a date and time in ISO 8601"),
        ({"since": "1700000000"}, "'since' is not a date and time in ISO 8601"),
    ],
)
def test_what_no_list_can_be_made_of_is_refused(client: FlaskClient, query: dict[str, str], error: str) -> None:
    answer = client.get("/tasks", query_string=query)
    assert (answer.status_code, answer.json) == (400, {"description": "Failed to retrieve tasks information", "error": error})


def test_a_cancelled_task_says_so_everywhere(client: FlaskClient, tasks: Tasks) -> None:
    task = made(tasks)
    answer = client.delete(f"/tasks/{task.task_id}")

    alone = answer.json["task"]
    assert (answer.status_code, set(answer.json)) == (200, {"task"})
    assert (alone["status"], alone["description"], alone["data"]) == ("400", "Finished with errors", "Deleted on request")
    assert client.get(f"/tasks/{task.task_id}").json == {"task": alone}
    del alone["task_url"]
    assert client.get("/tasks").json == {"tasks": {task.task_id: alone}}
    again = client.delete(f"/tasks/{task.task_id}")
    assert (again.status_code, again.json["error"]) == (400, f"Task {task.task_id} has ended already")


def test_the_file_of_a_cancelled_task_is_forgotten(client: FlaskClient, tasks: Tasks, redis: Redis) -> None:
    script = b"#!/bin/sh\n"
    key = Blobs(redis).put([script], seconds=60).key
    upload = Upload(name="job.sh", key=key, size=len(script), sha256=hashlib.sha256(script).hexdigest())
    task = made(tasks, SubmitUpload(file=upload))

    assert client.delete(f"/tasks/{task.task_id}").status_code == 200
    assert not redis.exists(f"blob:{key}")
    assert not redis.hexists(f"task:{task.task_id}", "message")


def test_a_submission_that_has_begun_goes_on(client: FlaskClient, tasks: Tasks, redis: Redis) -> None:
    key = Blobs(redis).put([b"x"], seconds=60).key
    task = made(tasks, SubmitUpload(file=Upload(name="job.sh", key=key, size=1, sha256="")))
    mine = Attempt(task.task_id, 1, "me")
    tasks.accept(mine, lease=60)
    before = redis.hgetall(f"task:{task.task_id}")

    answer = client.delete(f"/tasks/{task.task_id}")
    words = {"description": "Failed to delete task", "error": f"Task {task.task_id} has started and cannot be stopped"}
    assert (answer.status_code, answer.json) == (400, words)
    assert redis.hgetall(f"task:{task.task_id}") == before
    assert redis.exists(f"blob:{key}")
    assert tasks.advance(mine, Status.SUCCESS, "done")


def test_only_its_owner_cancels_a_task(client: FlaskClient, tasks: Tasks) -> None:
    task = made(tasks, user="another")

    answer = client.delete(f"/tasks/{task.task_id}")
    assert (answer.status_code, answer.json) == (403, {"description": "Operation not permitted. Invalid task owner."})
    assert tasks.find(task.task_id, "another") == task
    answer = client.delete("/tasks/nothing")
    assert (answer.status_code, answer.json["error"]) == (404, "Task nothing does not exist")
    assert client.delete(f"/tasks/{task.task_id}", headers={"Authorization": ""}).status_code != 200
