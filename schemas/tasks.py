"""The records of deferred operations, as their owner sees them."""

from typing import Any

from pydantic import BaseModel, Field

from schemas.fields import Text
from schemas.operation import Course, Operation, operation


class TaskShown(BaseModel):
    """A task; `data` depends on the operation and on how far it is."""

    hash_id: str
    task_id: str
    user: str
    service: str
    system: str | None
    status: str
    description: str
    data: Any
    created_at: str
    updated_at: str
    last_modify: str


class TaskAlone(TaskShown):
    """A task with its place."""

    task_url: str


_LOCAL: dict[str, Any] = {"course": Course.LOCAL, "on_system": False, "fails": "Failed to retrieve tasks information"}


@operation("GET /tasks", dict[str, TaskShown], envelope="tasks", **_LOCAL)
class Tasks(Operation):
    """List the caller's tasks, newest first."""

    tasks: Text | None = Field(None, description="Comma-separated task ids; unknown ones are left out")


@operation("GET /tasks/{taskid}", TaskAlone, envelope="task", **_LOCAL)
class OneTask(Operation):
    """Show a task of the caller."""

    task_id: str = Field(alias="taskid", description="Task id")
