"""The record that a client polls while an operation is under way."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel


class Status(StrEnum):
    """Where a task is; codes and wording are FirecREST's (contract, 2.1)."""

    QUEUED = "100"
    PROGRESS = "101"
    FORM_WAITED = "110"
    FORM_READY = "111"
    STAGED_IN = "112"
    FETCHING = "113"
    FETCHED = "114"
    FETCH_FAILED = "115"
    STAGING_OUT = "116"
    STAGED_OUT = "117"
    STAGING_OUT_FAILED = "118"
    SUCCESS = "200"
    ERROR = "400"

    @property
    def description(self) -> str:
        """The wire text of the status."""
        return _DESCRIPTIONS[self]

    @property
    def final(self) -> bool:
        """Whether no step can follow."""
        return self in _FINAL

    @property
    def pending(self) -> bool:
        """Whether there is nothing for its owner to do but to wait: it is neither final nor the form of an upload there."""
        return self not in _SETTLED


_DESCRIPTIONS = {
    Status.QUEUED: "Queued",
    Status.PROGRESS: "In progress",
    Status.FORM_WAITED: "Waiting for Form URL from Object Storage to be retrieved",
    Status.FORM_READY: "Form URL from Object Storage received",
    Status.STAGED_IN: "Object Storage confirms that upload to Object Storage has finished",
    Status.FETCHING: "Download from Object Storage to server has started",
    Status.FETCHED: "Download from Object Storage to server has finished",
    Status.FETCH_FAILED: "Download from Object Storage error",
    Status.STAGING_OUT: "Started upload from filesystem to Object Storage",
    Status.STAGED_OUT: "Upload from filesystem to Object Storage has finished succesfully",
    Status.STAGING_OUT_FAILED: "Upload from filesystem to Object Storage has finished with errors",
    Status.SUCCESS: "Finished successfully",
    Status.ERROR: "Finished with errors",
}

_FINAL = {
    Status.FETCHED,
    Status.FETCH_FAILED,
    Status.STAGED_OUT,
    Status.STAGING_OUT_FAILED,
    Status.SUCCESS,
    Status.ERROR,
}

_SETTLED = {*_FINAL, Status.FORM_READY}

FINAL_CODES = tuple(sorted(_FINAL))
SETTLED_CODES = tuple(sorted(_SETTLED))


class Task(BaseModel):
    """One task as clients see it.

    `data` is the result of a finished operation, the text of its error, or the description of its status.
    """

    task_id: str
    user: str
    service: str
    system: str | None
    status: Status
    data: Any
    created_at: datetime
    updated_at: datetime

    def shown(self) -> dict[str, Any]:
        """The task as in the list of tasks (contract, 2.2)."""
        return {
            "hash_id": self.task_id,
            "task_id": self.task_id,
            "user": self.user,
            "service": self.service,
            "system": self.system,
            "status": self.status.value,
            "description": self.status.description,
            "data": self.data,
            "created_at": _stamp(self.created_at),
            "updated_at": _stamp(self.updated_at),
            "last_modify": _stamp(self.updated_at),
        }

    def url(self) -> str:
        """Where the task is found, relative to the API's root."""
        return f"/tasks/{self.task_id}"


def _stamp(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%dT%H:%M:%S")
