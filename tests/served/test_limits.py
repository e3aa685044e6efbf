"""What a user may call and have open, by the exact words and headers that tell it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from api.app import create_app
from broker.gateway import Gateway
from broker.health import Health
from broker.limits import Limiter
from broker.tasks import UNLIMITED, Allowance, Attempt, Fate, Tasks
from schemas.errors import StagedLimit, TooManyRequests
from schemas.settings import Settings
from schemas.task import Status
from tests.real_site import eventually
from tests.served.conftest import NamedCallers
from workers.shares import Shares

MESSAGE = {"operation": "compute.Jobs", "parameters": {}, "shown": "", "grant": ""}
Limited = Callable[..., FlaskClient]


class Taker(FlaskClient):
    """Takes the whole answer, as HTTP clients do, unless told otherwise."""

    def open(self, *args: Any, **options: Any) -> TestResponse:
        """Make the call."""
        return super().open(*args, **{"buffered": True, **options})


@pytest.fixture
def user() -> str:
    """Somebody who has called nothing yet."""
    return f"u{uuid4().hex[:20]}"


@pytest.fixture
def limited(settings: Settings, gateway: Gateway, redis: Redis, worker: None, user: str) -> Limited:
    """The API with limits, as one more process of it."""

    def client(*, seconds: float = 15, store: Redis = redis, **limits: float) -> FlaskClient:
        own = settings.limits.model_copy(update={"calls_waiting": 0, **limits})
        limiter = Limiter(store, own, seconds=seconds)
        app = create_app(settings.model_copy(update={"limits": own}), gateway, NamedCallers(), Health(redis), limiter)
        app.test_client_class = Taker
        made = app.test_client()
        made.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {user}", "HTTP_X_MACHINE_NAME": "here"}
        return made

    return client


def rates(answer: TestResponse) -> tuple[str | None, ...]:
    return tuple(answer.headers.get(name) for name in ("Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"))


def test_a_burst_is_let_in_and_what_comes_after_it_is_told_when_to_come_again(limited: Limited, user: str) -> None:
    one, other = (limited(calls_per_second=0.1, calls_burst=3) for _ in range(2))
    answers = [one.get("/utilities/whoami"), other.get("/tasks"), one.get("/tasks/nothing"), other.get("/utilities/whoami")]

    assert [answer.status_code for answer in answers] == [200, 200, 404, 429]
    assert [rates(answer) for answer in answers[:2]] == [(None, "3", "2", "10"), (None, "3", "1", "20")]
    assert rates(answers[2]) == (None, "3", "0", "30")
    wait, limit, left, reset = rates(answers[3])
    assert (limit, left) == ("3", "0")
    assert 5 <= int(wait or 0) <= 10
    assert 25 <= int(reset or 0) <= 30
    assert answers[3].json == {"description": "Error on whoami operation", "error": "Too many requests: at most 0.1 per second"}
    assert one.get("/utilities/whoami", headers={"Authorization": "Bearer another"}).status_code == 200


def test_what_is_too_much_is_refused_before_anything_of_it_is_read(limited: Limited) -> None:
    client = limited(calls_per_second=0.01, calls_burst=1)
    client.get("/tasks")
    nowhere = {"X-Machine-Name": "nowhere", "Content-Type": "multipart/form-data; boundary=x"}

    assert client.post("/utilities/upload", headers=nowhere, data=b"no form").status_code == 429


def test_who_waits_as_told_is_let_in(limited: Limited) -> None:
    client = limited(calls_per_second=0.5, calls_burst=1)
    client.get("/tasks")
    refused = client.get("/tasks")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")

    time.sleep(2)
    assert client.get("/tasks").status_code == 200


@contextmanager
def slow_call(client: FlaskClient, folder: Path) -> Iterator[None]:
    """A call is under way, which ends with the block."""
    pipe = folder / uuid4().hex
    os.mkfifo(pipe)
    thread = threading.Thread(target=client.get, args=("/utilities/head",), kwargs={"query_string": {"targetPath": str(pipe)}})
    thread.start()
    writer = eventually(lambda: _opened(pipe))
    yield
    os.close(writer)
    thread.join()


def _opened(pipe: Path) -> int | None:
    """The writing end of a pipe that somebody reads."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_calls_at_once_are_counted_over_processes_and_end(limited: Limited, tmp_path: Path) -> None:
    one, other = (limited(calls_at_once=1) for _ in range(2))
    with slow_call(one, tmp_path):
        refused = other.get("/utilities/whoami")
        assert other.get("/utilities/whoami", headers={"Authorization": "Bearer another"}).status_code == 200

    assert refused.status_code == 429
    assert rates(refused) == ("1", None, None, None)
    assert refused.json == {"description": "Error on whoami operation", "error": "Too many requests at once: at most 1"}
    assert other.get("/utilities/whoami").status_code == 200


def test_calls_beyond_the_limit_wait_for_their_turn_as_far_as_there_is_room(
    limited: Limited, tmp_path: Path, redis: Redis, user: str
) -> None:
    client = limited(calls_at_once=1, calls_waiting=2)
    answers: list[int] = []
    calls = [threading.Thread(target=lambda: answers.append(client.get("/utilities/whoami").status_code)) for _ in range(3)]
    with slow_call(client, tmp_path):
        for call in calls:
            call.start()
        eventually(lambda: answers == [429])
    for call in calls:
        call.join()
    assert answers == [429, 200, 200]


def test_a_rate_is_waited_for_while_that_is_short(limited: Limited) -> None:
    client = limited(calls_per_second=20, calls_burst=1, calls_waiting=1)
    begun = time.monotonic()
    assert [client.get("/tasks").status_code for _ in range(11)] == [200] * 11
    assert time.monotonic() - begun > 0.45

    slow = limited(calls_per_second=0.1, calls_burst=1, calls_waiting=1)
    slow.get("/tasks", headers={"Authorization": "Bearer slow"})
    assert slow.get("/tasks", headers={"Authorization": "Bearer slow"}).status_code == 429


def test_a_download_counts_until_it_has_been_sent_or_its_client_leaves(limited: Limited, tmp_path: Path) -> None:
    client = limited(calls_at_once=1)
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    sent = client.get("/utilities/download", query_string={"sourcePath": str(tmp_path / "file")}, buffered=False)

    assert sent.status_code == 200
    assert client.get("/tasks").status_code == 429
    sent.close()
    assert client.get("/tasks").status_code == 200


def test_refused_calls_end_too(limited: Limited) -> None:
    client = limited(calls_at_once=1)

    assert [client.get(path).status_code for path in ("/tasks/nothing", "/utilities/ls", "/utilities/whoami")] == [404, 400, 200]


def test_the_calls_of_a_process_that_was_killed_end_by_themselves(limited: Limited, settings: Settings, redis: Redis, user: str) -> None:
    killed = Limiter(redis, settings.limits.model_copy(update={"calls_at_once": 1}), seconds=4)
    assert killed.enter(user, "call").verdict == "in"
    client = limited(calls_at_once=1)
    assert client.get("/tasks").status_code == 429

    eventually(lambda: client.get("/tasks").status_code == 200, seconds=20)


def test_a_call_counts_for_as_long_as_it_takes(limited: Limited, tmp_path: Path) -> None:
    one, other = limited(calls_at_once=1, seconds=1.5), limited(calls_at_once=1)
    with slow_call(one, tmp_path):
        time.sleep(2.5)
        assert other.get("/tasks").status_code == 429
    assert other.get("/tasks").status_code == 200


def test_without_redis_nobody_is_let_in(limited: Limited) -> None:
    answer = limited(calls_at_once=1, store=Redis(port=9)).get("/tasks")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


def test_a_body_larger_than_a_form_may_be_is_refused(limited: Limited, tmp_path: Path) -> None:
    client = limited(form_bytes=2000)
    body = {"targetPath": str(tmp_path / "made"), "p": "x" * 2000}
    answer = client.post("/utilities/mkdir", data=body)

    assert answer.status_code == 413
    assert answer.json == {"description": "Error on mkdir operation", "error": "The request is over 2000 bytes"}
    assert client.post("/utilities/mkdir", data={"targetPath": str(tmp_path / "made")}).status_code == 201


def test_a_list_of_tasks_is_never_longer_than_a_page_may_be(limited: Limited, tasks: Tasks, user: str) -> None:
    ids = [made(tasks, user) for _ in range(5)][::-1]
    client = limited(tasks_page=2)

    assert list(client.get("/tasks").json["tasks"]) == ids[:2]
    assert list(client.get("/tasks?pageSize=1000").json["tasks"]) == ids[:2]
    assert list(client.get("/tasks?pageSize=1000&pageNumber=1").json["tasks"]) == ids[2:4]
    assert list(client.get("/tasks?pageNumber=2").json["tasks"]) == ids[4:]
    assert list(client.get(f"/tasks?tasks={','.join(ids)}").json["tasks"]) == ids[:2]


@pytest.fixture
def tasks(redis: Redis) -> Tasks:
    """Records that no worker knows of."""
    return Tasks(redis, lifetime=60, patience=3600)


def made(tasks: Tasks, user: str, allowance: Allowance = UNLIMITED, *, steps: bool = False) -> str:
    """The id of a task that has been sent."""
    task = tasks.create(uuid4().hex, user=user, service="compute", system="here", message=MESSAGE, steps=steps, allowance=allowance)
    tasks.confirm(task.task_id)
    return task.task_id


def test_a_task_more_than_may_be_open_is_not_made_until_another_has_ended(tasks: Tasks, user: str) -> None:
    two = Allowance(2, -1, 0)
    first, _ = made(tasks, user, two), made(tasks, user, two)
    made(tasks, f"{user}2", two)
    with pytest.raises(TooManyRequests):
        made(tasks, user, two)
    assert len(tasks.of(user)) == 2

    tasks.cancel(first)
    made(tasks, user, two)
    with pytest.raises(TooManyRequests):
        made(tasks, user, two)


def test_a_user_with_too_many_open_tasks_is_told_so(
    settings: Settings, gateway: Gateway, redis: Redis, limited: Limited, tasks: Tasks, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_limits", settings.limits.model_copy(update={"open_tasks_per_user": 1}))
    open_task, client = made(tasks, user), limited()
    answer = client.get("/compute/jobs")

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
    assert answer.json == {"description": "Failed to retrieve jobs information", "error": "Too many open tasks: at most 1 per user"}
    tasks.cancel(open_task)
    assert client.get("/compute/jobs").status_code == 200


def test_what_is_staged_counts_from_the_promise_to_the_end_of_the_task(tasks: Tasks, user: str) -> None:
    up = made(tasks, user, Allowance(9, 60, 100), steps=True)
    with pytest.raises(StagedLimit) as refused:
        made(tasks, user, Allowance(9, 41, 100), steps=True)
    unknown = made(tasks, user, Allowance(9, 0, 100), steps=True)

    assert refused.value.headers() == {"X-Size-Limit": "Staged files exceed size limit"}
    assert tasks.stageable(unknown, user, most=100) == 40
    with pytest.raises(StagedLimit):
        tasks.stage(unknown, user, 41, most=100)
    tasks.stage(unknown, user, 40, most=100)
    tasks.stage(unknown, user, 40, most=100)
    with pytest.raises(StagedLimit):
        made(tasks, user, Allowance(9, 0, 100), steps=True)
    tasks.cancel(up)
    made(tasks, user, Allowance(9, 60, 100), steps=True)


def test_what_was_downloaded_counts_until_it_is_invalidated_though_its_task_has_ended(tasks: Tasks, user: str) -> None:
    down = made(tasks, user, Allowance(1, 0, 100), steps=True)
    mine = Attempt(down, 1, "me")
    tasks.accept(mine, lease=60)
    tasks.stage(down, user, 100, most=100)
    tasks.advance(mine, Status.STAGED_OUT, {})

    with pytest.raises(StagedLimit):
        made(tasks, user, Allowance(1, 1, 100), steps=True)
    tasks.unstaged(down, user)
    made(tasks, user, Allowance(1, 1, 100), steps=True)


def test_no_user_has_more_tasks_under_way_in_a_process_than_their_share() -> None:
    shares = Shares(1)
    with shares.one("ann") as first, shares.one("ann") as second, shares.one("bob") as other:
        assert (first, second, other) == (True, False, True)
    with shares.one("ann") as again:
        assert again


def test_a_task_whose_turn_has_not_come_is_sent_again_later_and_later(tasks: Tasks, user: str) -> None:
    task = made(tasks, user)
    assert not tasks.put_off(Attempt(task, 2, "me"))
    assert tasks.put_off(Attempt(task, 1, "me"))

    assert tasks.reclaim(task, attempts=1) is Fate.HELD
    assert eventually(lambda: tasks.reclaim(task, attempts=1) is Fate.RESTED, seconds=5)
    assert tasks.message(task) == (MESSAGE, 2)
    assert tasks.find(task, user).status is Status.QUEUED
    begun = time.monotonic()
    assert tasks.put_off(Attempt(task, 2, "me"))
    eventually(lambda: tasks.reclaim(task, attempts=1) is Fate.RESTED, seconds=10)
    assert time.monotonic() - begun >= 0.9
    assert tasks.accept(Attempt(task, 3, "me"), lease=60)
    assert not tasks.put_off(Attempt(task, 3, "other"))
