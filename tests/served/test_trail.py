"""What a call leaves in the audit trail, from the request to the worker."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from redis import Redis

from broker.gateway import Caller, Gateway
from broker.trail import LOGGER, LONGEST_LINE
from schemas.operation import operation_named
from schemas.rights import EVERY_RIGHT
from tests.real_site import eventually

Lines = Callable[..., list[dict[str, Any]]]
HOSTILE = '" }\n{"part": "api", "user": "root"}\r\n\x00\x1b[2J \u2028 é 😀'


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines with these facts, once there are so many."""
    caplog.set_level(logging.INFO, LOGGER)

    def found(count: int = 1, **facts: Any) -> list[dict[str, Any]]:
        def those() -> list[dict[str, Any]]:
            texts = [record.getMessage() for record in caplog.records if record.name == LOGGER]
            assert all(len(text) < LONGEST_LINE and text.isascii() and text.isprintable() for text in texts)
            told = [json.loads(text) for text in texts]
            return [line for line in told if facts.items() <= line.items()]

        return eventually(lambda: chosen if len(chosen := those()) >= count else None)

    return found


def test_a_waited_call_has_a_line_of_the_api_and_one_of_the_worker_that_bear_its_id(
    client: FlaskClient, lines: Lines, tmp_path: Path
) -> None:
    answer = client.get("/utilities/ls", query_string={"targetPath": str(tmp_path)}, headers={"X-Request-ID": "my-own.id_1"})

    (ours,) = lines(part="api", request="my-own.id_1")
    (theirs,) = lines(part="worker", request="my-own.id_1")
    assert answer.headers["X-Request-ID"] == "my-own.id_1"
    who = {"user": "somebody", "system": "here", "operation": "utilities.Ls", "task": theirs["task"]}
    assert ours.items() >= {**who, "method": "GET", "path": "/utilities/ls", "status": 200, "client": "127.0.0.1"}.items()
    assert theirs.items() >= {**who, "result": "done", "paths": {"targetPath": str(tmp_path)}}.items()
    assert {"time", "ms", "agent"} <= ours.keys()
    assert {"time", "ms", "worker"} <= theirs.keys()


@pytest.mark.parametrize("sent", ["", " ", "a b", "a" * 65, "-dash", "é", 'x"y', "x/../y", "{}", "x,y"])
def test_an_id_that_is_no_plain_word_is_replaced(client: FlaskClient, lines: Lines, sent: str) -> None:
    answer = client.get("/status/services", headers={"X-Request-ID": sent})

    given = answer.headers["X-Request-ID"]
    assert len(given) == 32
    assert given.isalnum()
    assert lines(part="api", request=given)


def test_two_requests_have_two_ids(client: FlaskClient) -> None:
    assert len({client.get("/nowhere").headers["X-Request-ID"] for _ in range(5)}) == 5


def test_what_is_refused_has_a_line_that_says_why(client: FlaskClient, lines: Lines) -> None:
    unknown = client.application.test_client().get("/utilities/ls")
    elsewhere = client.get("/utilities/ls", headers={"X-Machine-Name": "nowhere"})
    unfit = client.get("/utilities/ls", query_string={"targetPath": "/a;b"})
    lost = client.get("/no/such")
    wrong = client.patch("/utilities/ls")

    def line(answer: Any) -> dict[str, Any]:
        return lines(part="api", request=answer.headers["X-Request-ID"])[0]

    assert line(unknown).items() >= {"status": 401, "error": "Unauthorized", "operation": "utilities.Ls"}.items()
    assert "user" not in line(unknown)
    assert line(elsewhere).items() >= {"status": 400, "error": "MachineDoesNotExist", "user": "somebody"}.items()
    assert line(unfit).items() >= {"status": 400, "error": "InvalidParameter", "system": "here"}.items()
    assert line(lost).items() >= {"status": 404, "error": "NotFound", "path": "/no/such"}.items()
    assert line(wrong).items() >= {"status": 405, "error": "MethodNotAllowed"}.items()


def test_a_failure_is_told_by_its_kind_on_both_sides(client: FlaskClient, lines: Lines, tmp_path: Path) -> None:
    given = client.get("/utilities/ls", query_string={"targetPath": str(tmp_path / "nothing")}).headers["X-Request-ID"]

    assert lines(part="api", request=given)[0].items() >= {"status": 400, "error": "InvalidPath"}.items()
    assert lines(part="worker", request=given)[0].items() >= {"result": "failed", "error": "InvalidPath"}.items()


def test_a_deferred_call_has_a_line_at_the_end_of_its_task_with_its_status(client: FlaskClient, lines: Lines, tmp_path: Path) -> None:
    answer = client.post("/compute/jobs/path", data={"targetPath": str(tmp_path / "nothing.sh")})
    (probe,) = lines(part="worker", request=answer.headers["X-Request-ID"])
    assert (answer.status_code, probe["operation"], probe["error"]) == (400, "compute.Readable", "InvalidPath")

    told = client.get("/compute/nodes")  # there is no Slurm here
    task = told.json["task_id"]

    (ours,) = lines(part="api", request=told.headers["X-Request-ID"])
    (theirs,) = lines(part="worker", task=task)
    assert ours["task"] == task
    assert theirs.items() >= {"request": told.headers["X-Request-ID"], "attempt": 1, "result": "failed", "status": "400"}.items()


def test_the_cancelling_of_a_task_names_the_task(client: FlaskClient, lines: Lines) -> None:
    told = client.get("/compute/nodes")
    lines(part="worker", task=told.json["task_id"])

    late = client.delete(told.json["task_url"])

    (line,) = lines(part="api", request=late.headers["X-Request-ID"])
    assert line.items() >= {"operation": "tasks.CancelTask", "task": told.json["task_id"], "error": "NotCancellable"}.items()


def test_hostile_words_break_no_line_and_make_none(client: FlaskClient, lines: Lines) -> None:
    headers = {"User-Agent": HOSTILE.replace("\r", "").replace("\n", "") * 200, "X-Request-ID": "x" * 5000}
    first = client.get("/utilities/ls/" + "%0a%7b%22part%22%3a%22api%22%7d" * 300, headers=headers)
    second = client.open("/", method="SPLIT\nTING")

    (one,) = lines(part="api", request=first.headers["X-Request-ID"])
    (two,) = lines(part="api", request=second.headers["X-Request-ID"])
    assert "\n" in one["path"]
    assert one["agent"].startswith('" }{"part"')
    assert two["method"] == "SPLIT\nTING"


def test_a_forged_message_leaves_a_line_that_names_nobody(
    gateway: Gateway, client: FlaskClient, redis: Redis, lines: Lines, tmp_path: Path
) -> None:
    task, op = uuid4().hex, operation_named("utilities.Ls").model_validate({"targetPath": str(tmp_path)})
    gateway._celery.send_task(op.task(), (op.parameters(),), task_id=task, kwargs={"grant": HOSTILE, "reply": "nobody"})

    (line,) = lines(part="worker", task=task)
    assert line.items() >= {"result": "refused", "operation": "utilities.Ls"}.items()
    assert not {"user", "request", "paths"} & line.keys()


def test_the_client_s_id_is_signed_into_the_grant(gateway: Gateway, client: FlaskClient, lines: Lines, tmp_path: Path) -> None:
    op = operation_named("utilities.Ls").model_validate({"targetPath": str(tmp_path)})
    gateway.call(op, Caller("ann", "a token", EVERY_RIGHT, "an-id"), "here", task_id="1" * 32)

    (line,) = lines(part="worker", request="an-id")
    assert (line["task"], line["user"]) == ("1" * 32, "ann")


def test_no_content_and_no_token_is_in_any_line(
    client: FlaskClient, lines: Lines, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import io

    form = {"targetPath": str(tmp_path), "file": (io.BytesIO(b"the content"), "name")}
    up = client.post("/utilities/upload", data=form, headers={"Authorization": "Bearer nobody-s-secret"})
    job = client.post(
        "/compute/jobs", data={"file": (io.BytesIO(b"#!/bin/sh\nthe content\n"), "job.sh"), "env": '{"PASSWORD": "the password"}'}
    )

    for answer in (up, job):
        assert answer.status_code == 201
        lines(part="worker", request=answer.headers["X-Request-ID"])
    said = "\n".join(record.getMessage() for record in caplog.records if record.name == LOGGER)
    for secret in ("the content", "the password", "PASSWORD", "Bearer"):
        assert secret not in said
