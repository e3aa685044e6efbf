"""Queries of tasks are held until there is something to tell; the records are made here, and no worker knows of them."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from api.app import create_app
from api.holds import Holds
from broker.gateway import Gateway
from broker.health import Health
from broker.limits import Limiter
from broker.subscription import Subscription
from broker.tasks import Attempt, Tasks
from broker.trail import LOGGER
from schemas.settings import Settings
from schemas.task import Status, Task
from tests.real_site import eventually
from tests.served.conftest import NamedCallers

# Longer than a test may take: what is not let go fails.
LONG = {"hold_seconds": 60, "longest_hold_seconds": 600}
Held = Callable[..., FlaskClient]


@pytest.fixture
def tasks(redis: Redis) -> Tasks:
    return Tasks(redis, lifetime=600, patience=0)


@pytest.fixture
def user() -> str:
    """Somebody who has called nothing yet."""
    return f"u{uuid4().hex[:20]}"


@pytest.fixture
def held(settings: Settings, gateway: Gateway, redis: Redis, user: str) -> Held:
    """The API, which holds queries for long unless it is told otherwise."""

    def client(**limits: float) -> FlaskClient:
        own = settings.limits.model_copy(update={**LONG, "calls_waiting": 0, **limits})
        app = create_app(settings.model_copy(update={"limits": own}), gateway, NamedCallers(), Health(redis), Limiter(redis, own))
        made = app.test_client()
        made.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {user}"}
        return made

    return client


@pytest.fixture
def made(tasks: Tasks, user: str) -> Callable[..., Task]:
    def make(**facts: Any) -> Task:
        message = {"operation": "compute.Jobs", "parameters": {}, "shown": "", "grant": ""}
        known = {"user": user, "service": "compute", "system": "here", "message": message, **facts}
        task = tasks.create(uuid4().hex, **known)
        tasks.confirm(task.task_id)
        return task

    return make


def attempt(task: Task, number: int = 1) -> Attempt:
    return Attempt(task.task_id, number, "me")


def listeners(redis: Redis, user: str) -> int:
    return int(redis.pubsub_numsub(f"settled:{user}")[0][1])


def looks(redis: Redis) -> int:
    return int(redis.info("commandstats")["cmdstat_hmget"]["calls"])


@contextmanager
def query(client: FlaskClient, redis: Redis, user: str, path: str, **options: Any) -> Iterator[list[TestResponse]]:
    """A query that is held when the block begins, and answered by its end, from when on the list holds its answer."""
    answers: list[TestResponse] = []
    thread = threading.Thread(target=lambda: answers.append(client.get(path, **options)))
    thread.start()
    eventually(lambda: listeners(redis, user) and client.application.extensions["holds"]._changes)
    assert not answers
    yield answers
    eventually(lambda: answers)
    thread.join()


def status(answer: TestResponse, task: Task) -> str:
    body = answer.json
    return str((body["tasks"][task.task_id] if "tasks" in body else body["task"])["status"])


@pytest.mark.parametrize("path", ["/tasks/{}", "/tasks?tasks={}"])
def test_a_query_is_held_until_its_task_has_ended_and_not_only_begun(
    held: Held, redis: Redis, tasks: Tasks, user: str, made: Callable[..., Task], path: str
) -> None:
    task = made()
    with query(held(), redis, user, path.format(task.task_id)) as answers:
        tasks.accept(attempt(task), lease=60)
        before = looks(redis)
        redis.publish(f"settled:{user}", task.task_id)
        eventually(lambda: looks(redis) > before)
        assert not answers
        tasks.advance(attempt(task), Status.SUCCESS, {"found": 1})

    assert status(answers[0], task) == "200"
    assert '"found"' in answers[0].text
    assert "Preference-Applied" not in answers[0].headers
    assert eventually(lambda: listeners(redis, user) == 0)


def test_the_form_of_an_upload_is_told_when_it_is_there(
    held: Held, redis: Redis, tasks: Tasks, user: str, made: Callable[..., Task]
) -> None:
    task, client = made(steps=True), held()
    with query(client, redis, user, f"/tasks/{task.task_id}") as answers:
        tasks.accept(attempt(task), lease=60)
        tasks.rest(attempt(task), Status.FORM_WAITED, "waiting", state={}, seconds=0)
        tasks.accept(attempt(task, 2), lease=60)
        tasks.rest(attempt(task, 2), Status.FORM_READY, {"msg": {}}, state={}, seconds=0)

    assert status(answers[0], task) == "111"
    assert status(client.get(f"/tasks/{task.task_id}"), task) == "111", "nor is it held after that"
    tasks.accept(attempt(task, 3), lease=60)
    tasks.advance(attempt(task, 3), Status.STAGED_IN)
    with query(client, redis, user, f"/tasks/{task.task_id}") as answers:
        tasks.advance(attempt(task, 3), Status.FETCHING)
        tasks.advance(attempt(task, 3), Status.FETCHED)
    assert status(answers[0], task) == "114"


def test_it_is_told_when_a_task_is_cancelled(held: Held, redis: Redis, user: str, made: Callable[..., Task]) -> None:
    task, client = made(), held()
    with query(client, redis, user, f"/tasks/{task.task_id}") as answers:
        assert client.delete(f"/tasks/{task.task_id}").status_code == 200
    assert status(answers[0], task) == "400"


def test_it_is_told_when_a_task_is_given_up(held: Held, redis: Redis, tasks: Tasks, user: str, made: Callable[..., Task]) -> None:
    task = made()
    tasks.accept(attempt(task), lease=0)
    with query(held(), redis, user, f"/tasks/{task.task_id}") as answers:
        tasks.reclaim(task.task_id, attempts=1)
    assert status(answers[0], task) == "400"


def test_of_several_tasks_the_first_that_ends_is_told_at_once(
    held: Held, redis: Redis, tasks: Tasks, user: str, made: Callable[..., Task]
) -> None:
    several, client = [made() for _ in range(3)], held()
    path = f"/tasks?tasks=nothing,{','.join(task.task_id for task in several)}"
    tasks.accept(attempt(several[1]), lease=60)
    with query(client, redis, user, path) as answers:
        tasks.cancel(made().task_id)
        tasks.advance(attempt(several[1]), Status.SUCCESS)

    assert [status(answers[0], task) for task in several] == ["100", "200", "100"]
    assert [status(client.get(path), task) for task in several] == ["100", "200", "100"]


def test_what_there_is_no_reason_to_hold_is_answered_at_once(
    held: Held, tasks: Tasks, made: Callable[..., Task], redis: Redis, user: str
) -> None:
    client, task, foreign = held(), made(), made(user="another")
    paths = "/tasks", f"/tasks?tasks={task.task_id}&status=100", "/tasks?tasks=nothing", "/tasks/nothing", f"/tasks/{foreign.task_id}"
    assert [client.get(path, headers={"Prefer": "wait=600"}).status_code for path in paths] == [200, 200, 200, 404, 403]
    for prefer in ("wait=0", "respond-async, wait=0"):
        answer = client.get(f"/tasks/{task.task_id}", headers={"Prefer": prefer})
        assert (status(answer, task), answer.headers["Preference-Applied"]) == ("100", "wait=0")
    assert status(held(hold_seconds=0).get(f"/tasks/{task.task_id}"), task) == "100"
    assert status(held(longest_hold_seconds=0).get(f"/tasks/{task.task_id}", headers={"Prefer": "wait=9"}), task) == "100"
    tasks.cancel(task.task_id)
    answer = client.get(f"/tasks/{task.task_id}", headers={"Prefer": "wait=1000"})
    assert (status(answer, task), answer.headers["Preference-Applied"]) == ("400", "wait=600")
    assert listeners(redis, user) == 0


def test_a_client_may_ask_for_more_than_is_usual(held: Held, redis: Redis, tasks: Tasks, user: str, made: Callable[..., Task]) -> None:
    task = made()
    with query(held(hold_seconds=0), redis, user, f"/tasks/{task.task_id}", headers={"Prefer": "wait=99999"}) as answers:
        tasks.cancel(task.task_id)
    assert (status(answers[0], task), answers[0].headers["Preference-Applied"]) == ("400", "wait=600")


@pytest.mark.parametrize("prefer", ["wait=x", "wait", "wait=-1", 'wait="600"', "=", "\xff"])
def test_a_preference_that_is_none_is_ignored(held: Held, made: Callable[..., Task], prefer: str) -> None:
    task = made()
    answer = held(hold_seconds=0).get(f"/tasks/{task.task_id}", headers={"Prefer": prefer})
    assert (status(answer, task), "Preference-Applied" in answer.headers) == ("100", False)


def test_when_the_time_is_up_what_is_known_is_told(
    held: Held, tasks: Tasks, made: Callable[..., Task], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    task, client = made(), held(hold_seconds=0.05)
    tasks.accept(attempt(task), lease=60)
    assert status(client.get(f"/tasks/{task.task_id}"), task) == "101"

    line = json.loads(caplog.records[-1].getMessage())
    assert line["ms"] >= line["held"] >= 50


def test_held_queries_are_no_calls_at_once_but_bounded_and_share_a_channel(
    held: Held, redis: Redis, tasks: Tasks, user: str, made: Callable[..., Task]
) -> None:
    task, client = made(), held(calls_at_once=1, holds_per_user=2)
    path = f"/tasks/{task.task_id}"
    with query(client, redis, user, path) as one, query(client, redis, user, path) as other:
        eventually(lambda: redis.zcard(f"limits:calls:{user}") == 0 and len(client.application.extensions["holds"]._changes) == 2)
        assert listeners(redis, user) == 1
        third = client.get(path, headers={"Prefer": "wait=600"}, buffered=True)
        assert (status(third, task), "Preference-Applied" in third.headers) == ("100", False)
        assert client.get("/tasks", buffered=True).status_code == 200
        tasks.cancel(task.task_id)
    assert [status(answers[0], task) for answers in (one, other)] == ["400", "400"]
    assert redis.zcard(f"limits:calls:{user}") == 0


def test_all_are_let_go_when_the_process_ends(held: Held, redis: Redis, user: str, made: Callable[..., Task]) -> None:
    task, client = made(), held()
    with query(client, redis, user, f"/tasks/{task.task_id}") as answers:
        client.application.extensions["holds"].close()
    assert status(answers[0], task) == "100"
    assert status(client.get(f"/tasks/{task.task_id}"), task) == "100", "nor is anything held after that"


def test_nothing_is_held_for_a_client_that_has_gone(held: Held, redis: Redis, user: str, made: Callable[..., Task]) -> None:
    task = made()
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with theirs, query(held(), redis, user, f"/tasks/{task.task_id}", environ_overrides={"gunicorn.socket": theirs}) as answers:
        ours.close()
    assert status(answers[0], task) == "100"


def test_a_change_while_the_subscription_is_lost_is_not_missed(
    held: Held, redis: Redis, tasks: Tasks, user: str, made: Callable[..., Task]
) -> None:
    task = made()
    with query(held(), redis, user, f"/tasks/{task.task_id}") as answers, redis.pipeline() as together:
        together.client_kill_filter(_type="pubsub")
        together.hset(f"task:{task.task_id}", mapping={"status": "200", "data": '"done"'})
        together.execute()
    assert status(answers[0], task) == "200"


def test_where_nothing_can_be_heard_what_is_known_is_told(made: Callable[..., Task], held: Held) -> None:
    task, client = made(), held(hold_seconds=0.05)
    with socket.create_server(("127.0.0.1", 0)) as deaf, Redis(port=deaf.getsockname()[1], socket_timeout=0.01) as unheard:
        subscription = Subscription(unheard)
        client.application.extensions["holds"]._subscription = subscription
        assert status(client.get(f"/tasks/{task.task_id}"), task) == "100"
        subscription.close()


def test_both_documents_tell_of_it(held: Held) -> None:
    client = held()
    swagger, openapi = (client.get(path).json["paths"] for path in ("/swagger.json", "/openapi.json"))
    for document, path in ((swagger, "/tasks"), (swagger, "/tasks/{taskid}"), (openapi, "/tasks"), (openapi, "/tasks/{taskid}")):
        (told,) = [parameter for parameter in document[path]["get"]["parameters"] if parameter["name"] == "Prefer"]
        assert (told["in"], told.get("required", False)) == ("header", False)
        assert "wait=N" in told["description"]
        assert not [parameter for parameter in document[path].get("delete", {}).get("parameters", ()) if parameter["name"] == "Prefer"]
    assert isinstance(client.application.extensions["holds"], Holds)
