"""Events for Flower: one for a task that began and ended between two sendings."""

from typing import Any

import pytest
from celery.events.state import State

from broker.events import joined

Event = dict[str, Any]


def event(what: str, at: float, *, uuid: str = "one", **facts: Any) -> Event:
    return {"type": f"task-{what}", "uuid": uuid, "timestamp": at, "hostname": "w@x", "clock": int(at), "local_received": at, **facts}


RECEIVED = event("received", 1, name="utilities.Ls", args="{'targetPath': '/'}", kwargs="{}")
STARTED = event("started", 2)
SUCCEEDED = event("succeeded", 3, result="None", runtime=1.0)


def test_of_a_task_that_began_and_ended_one_event_tells_all_that_three_would() -> None:
    (one,) = joined([RECEIVED, STARTED, SUCCEEDED])
    seen, expected = State(), State()
    seen.event(dict(one))
    for told in (RECEIVED, STARTED, SUCCEEDED):
        expected.event(dict(told))

    facts = ("state", "name", "args", "kwargs", "received", "started", "succeeded", "runtime", "result", "timestamp")
    assert [getattr(seen.tasks["one"], name) for name in facts] == [getattr(expected.tasks["one"], name) for name in facts]
    assert seen.tasks["one"].worker.hostname == "w@x"
    assert list(seen.tasks_by_type["utilities.Ls"]) == [seen.tasks["one"]]


def test_a_failure_is_told_with_what_failed() -> None:
    (one,) = joined([RECEIVED, STARTED, event("failed", 4, exception="NotFound()", traceback="")])

    assert one.items() >= {"type": "task-failed", "name": "utilities.Ls", "received": 1, "started": 2, "exception": "NotFound()"}.items()


@pytest.mark.parametrize(
    "events",
    [
        [RECEIVED, STARTED],
        [STARTED, SUCCEEDED],
        [SUCCEEDED],
        [RECEIVED, event("revoked", 2, expired=True)],
        [event("received", 1, uuid="two"), SUCCEEDED],
        [],
    ],
)
def test_what_has_not_both_ends_is_told_as_it_came(events: list[Event]) -> None:
    assert joined(events) == events


def test_tasks_are_told_apart() -> None:
    others = [event("received", 1, uuid="two"), event("succeeded", 2, uuid="two", runtime=1.0)]

    told = joined([RECEIVED, others[0], STARTED, others[1], SUCCEEDED, event("received", 5, uuid="three")])

    assert [(one["uuid"], one["type"]) for one in told] == [
        ("one", "task-succeeded"),
        ("two", "task-succeeded"),
        ("three", "task-received"),
    ]
