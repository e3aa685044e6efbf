"""What the API answers itself about transfers."""

from api.local import Office, answers
from broker.gateway import Caller
from schemas.errors import FirecrestError, ForeignTask, InvalidParameter, UnknownResource
from schemas.task import Status, Task
from schemas.transfers import Invalidate, Unstage


@answers(Invalidate)
def invalidate(op: Invalidate, caller: Caller, office: Office) -> str:
    """That the file is gone. Raises InvalidParameter for what is not a download of the caller that has put one there."""
    task = _download(op, caller, office)
    unstaging = Unstage(task_id=task.task_id, source_path=task.data.get("archive", task.data["source"]))
    try:
        office.gateway.call(unstaging, caller, task.system or "")
    except FirecrestError as failed:
        if failed.transient:
            raise
        raise InvalidParameter("Could not invalidate URL") from failed
    office.gateway.tasks.unstaged(task.task_id, caller.user)
    return "URL invalidated successfully"


def _download(op: Invalidate, caller: Caller, office: Office) -> Task:
    try:
        task = office.gateway.tasks.find(op.task_id, caller.user)
    except (ForeignTask, UnknownResource):
        raise InvalidParameter("Invalid X-Task-Id") from None
    if task.status is not Status.STAGED_OUT:
        raise InvalidParameter("Could not invalidate URL")
    return task
