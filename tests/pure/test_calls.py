"""Messages of calls, as a worker handles them."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Ignore
from celery.worker import state

from workers.calls import strategy


class Task:
    name = "utilities.Whoami"
    throws = (LookupError,)

    def __init__(self, failure: Exception | None = None) -> None:
        self.performed: list[Any] = []
        self._failure = failure

    def perform(self, task_id: str, parameters: Any, *, reply: str) -> None:
        self.performed.append((task_id, parameters, reply))
        if self._failure:
            raise self._failure


def told(task: Task, task_id: str = "one") -> list[str]:
    """The events of a message."""
    events: list[str] = []
    consumer = SimpleNamespace(event_dispatcher=SimpleNamespace(send=lambda what, **_: events.append(what)))
    message = SimpleNamespace(headers={"id": task_id, "argsrepr": "{}"}, payload=[[{"a": 1}], {"reply": "here"}, {}])
    strategy(task, None, consumer)(message)
    assert task_id not in state.requests
    return events


def test_a_call_is_performed_and_told() -> None:
    task = Task()

    assert told(task) == ["task-received", "task-started", "task-succeeded"]
    assert task.performed == [("one", {"a": 1}, "here")]


@pytest.mark.parametrize("failure", [LookupError(), ZeroDivisionError()])
def test_a_failure_is_told(failure: Exception) -> None:
    assert told(Task(failure)) == ["task-received", "task-started", "task-failed"]


def test_what_is_not_due_has_no_end_of_its_own() -> None:
    assert told(Task(Ignore())) == ["task-received", "task-started"]


def test_what_was_revoked_is_not_performed() -> None:
    task = Task()
    state.revoked.add("two")
    try:
        assert told(task, "two") == ["task-received", "task-revoked"]
    finally:
        state.revoked.discard("two")
    assert not task.performed
