"""The operations that the API answers itself, such as those on task records; `api.status` has those on the deployment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from api.holds import Holds
from broker.gateway import Caller, Gateway
from broker.health import Health
from broker.links import Links
from schemas.operation import Operation
from schemas.settings import Settings
from schemas.task import Task
from schemas.tasks import CancelTask, OneTask, Tasks

VERSION = "1.16.6+celery.0.1"


@dataclass(frozen=True)
class Office:
    """What local answers are made from."""

    gateway: Gateway
    health: Health
    settings: Settings
    links: Links
    holds: Holds


Answer = Callable[[Any, Caller, Office], Any]
ANSWERS: dict[type[Operation], Answer] = {}


def answers(operation: type[Operation]) -> Callable[[Answer], Answer]:
    """Mark the function that answers `operation`."""

    def declare(answer: Answer) -> Answer:
        ANSWERS[operation] = answer
        return answer

    return declare


@answers(Tasks)
def tasks(op: Tasks, caller: Caller, office: Office) -> dict[str, Any]:
    """The caller's tasks by id, newest first."""
    ids = None if op.tasks is None else op.tasks.split(",")
    since = op.since.timestamp() if op.since else 0
    keep = op.wants if op.filters() else None
    page = op.page(office.settings.limits.tasks_page)

    def look() -> list[Task]:
        return office.gateway.tasks.of(caller.user, ids, since=since, keep=keep, page=page)

    # what is filtered by its status would be gone when that changes
    found = look() if ids is None or keep else office.holds.settled(caller.user, look, asked=op.patience())
    return {task.task_id: office.links.opened(task).shown() for task in found}


@answers(OneTask)
def one_task(op: OneTask, caller: Caller, office: Office) -> dict[str, Any]:
    """The task, if it is the caller's."""

    def look() -> list[Task]:
        return [office.gateway.tasks.find(op.task_id, caller.user)]

    (task,) = office.holds.settled(caller.user, look, asked=op.patience())
    return _alone(office.links.opened(task))


@answers(CancelTask)
def cancel(op: CancelTask, caller: Caller, office: Office) -> dict[str, Any]:
    """The task, cancelled."""
    return _alone(office.links.opened(office.gateway.cancel(op.task_id, caller)))


def _alone(task: Task) -> dict[str, Any]:
    return {**task.shown(), "task_url": task.url()}
