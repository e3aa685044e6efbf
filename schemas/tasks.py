"""The records of deferred operations, as their owner sees them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, field_validator

from schemas.fields import Absent, Count, Text, because, harmless, saying
from schemas.operation import Course, Operation, operation
from schemas.preferences import wait_seconds
from schemas.rights import EVERY_RIGHT, Right
from schemas.task import Status, Task


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


_LOCAL: dict[str, Any] = {
    "course": Course.LOCAL,
    "on_system": False,
    "open_to": EVERY_RIGHT,
    "fails": "Failed to retrieve tasks information",
}


_PAGE = 25
_FARTHEST = 2**53


def _codes(text: str) -> str:
    if not set(harmless(text).split(",")) <= {status.value for status in Status}:
        raise because("holds what is not a status of tasks")
    return text


def _moment(text: str) -> datetime:
    # the "+" of a time zone arrives as a blank where the client did not encode it
    date, mark, time = harmless(text).partition("T")
    try:
        return datetime.fromisoformat(f"{date}{mark}{time.replace(' ', '+')}").astimezone()
    except (ValueError, OverflowError):
        raise because("is not a date and time in ISO 8601") from None


class _Query(Operation):
    """What is asked of tasks, and held while there is nothing new to tell of them."""

    in_header = frozenset({"Prefer"})

    prefer: str = Field(
        "",
        alias="Prefer",
        description="`wait=N` (RFC 7240): answer as soon as one of the tasks that are asked for has ended, or the form of its upload is "
        "there, or when N seconds are over",
    )

    def patience(self) -> int | None:
        """How many seconds the client would wait for tasks to settle, if it says."""
        return wait_seconds(self.prefer)


@operation("GET /tasks", dict[str, TaskShown], envelope="tasks", **_LOCAL)
class Tasks(_Query):
    """List the caller's tasks, newest first."""

    tasks: Text | None = Field(None, description="Comma-separated task ids; unknown ones are left out")
    status: Annotated[str | None, BeforeValidator(_codes)] = Field(None, description="Comma-separated statuses, such as 100,101")
    service: Text | None = Field(None, description="Only tasks of this service")
    system: Text | None = Field(None, description="Only tasks on this system")
    since: Annotated[datetime | None, BeforeValidator(_moment)] = Field(
        None, description="Only tasks created then or later; ISO 8601, in the server's time zone where none is given"
    )
    page_size: Annotated[Count | None, Absent] = Field(
        None, description="Tasks on a page; 25 when only pageNumber is given", json_schema_extra={"minimum": 1}
    )
    page_number: Annotated[Count | None, Absent] = Field(None, description="Page to show, from 0; the newest tasks when neither is given")

    @field_validator("page_size")
    @classmethod
    def _positive(cls, size: int | None) -> int | None:
        if size == 0:
            raise saying("'pageSize' must be greater than 0")
        return size

    def page(self, most: int) -> slice:
        """The part of the list that is wanted, which is never more than so many."""
        if self.page_size is None and self.page_number is None:
            return slice(0, most)
        size, number = min(self.page_size or _PAGE, most), self.page_number or 0
        start = min(size * number, _FARTHEST)
        return slice(start, start + size)

    def filters(self) -> bool:
        """Whether a task can only be known to be wanted when it has been read."""
        return any(wanted is not None for wanted in (self.status, self.service, self.system))

    def wants(self, task: Task) -> bool:
        """Whether the task is of the wanted status, service and system."""
        return (
            (self.status is None or task.status in self.status.split(","))
            and self.service in (None, task.service)
            and self.system in (None, task.system)
        )


@operation("GET /tasks/{taskid}", TaskAlone, envelope="task", **_LOCAL)
class OneTask(_Query):
    """Show a task of the caller."""

    task_id: str = Field(alias="taskid", description="Task id")


@operation(
    "DELETE /tasks/{taskid}",
    TaskAlone,
    envelope="task",
    **{**_LOCAL, "open_to": frozenset({Right.WRITE, Right.SUBMIT}), "fails": "Failed to delete task"},
)
class CancelTask(Operation):
    """Cancel a task of the caller that has not ended yet."""

    task_id: str = Field(alias="taskid", description="Task id")
