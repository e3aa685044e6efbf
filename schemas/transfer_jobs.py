"""Transfers inside a system, each a job that runs one command where transfers are to run."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from schemas.compute import Reachable, Submitted
from schemas.fields import Entry, Path, Refusal, Text
from schemas.job_fields import Account, Awaited, Limit
from schemas.operation import Course, Operation, operation
from schemas.utilities import Compress, Copy, Extract, Rename, Rm

Model = TypeVar("Model", bound=type[Operation])


class TransferJob(Operation):
    """What may be said of the job itself."""

    job_name: Annotated[Text | None, Refusal("Invalid {field}")] = Field(None, description="Name of the job; cp-job, mv-job … when absent")
    time: Limit = Field("02:00:00", description="Time limit: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S")
    stage_out_job_id: Awaited = Field(None, description="Job to wait for, or several with ':' between; it must end well")
    account: Account = Field(None, description="Account that the job is charged to")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, sent: dict[str, Any]) -> dict[str, Any]:
        # pyfirecrest's asynchronous client writes it so
        return {"jobName": sent["jobname"], **sent} if "jobname" in sent else sent

    @classmethod
    def command(cls) -> str:
        """What it is called in its path, such as `cp`."""
        return cls.route.path.rpartition("/")[2]


def _transfer_job(call: str) -> Callable[[Model], Model]:
    name = call.rpartition("/")[2]
    return operation(
        call,
        Submitted,
        transfer_job=True,
        once=True,
        says="Task created",
        fails=f"Error on {name} operation",
        status=201,
        course=Course.DEFERRED,
        probe=lambda _: Reachable(purpose=f"Failed to submit {name} job"),
    )


class _Sync(Operation):
    target_path: Path = Field(description="Path of the copy, or of the directory that it is put into")
    source_path: Entry = Field(description="Path of the file or directory; with '/' at its end, what the directory holds")


# Their bases in this order: what is to be done is checked before what is said of the job.
@_transfer_job("POST /storage/xfer-internal/cp")
class CopyJob(TransferJob, Copy):
    """Submit a job that copies a file or a directory with all it holds."""


@_transfer_job("POST /storage/xfer-internal/mv")
class MoveJob(TransferJob, Rename):
    """Submit a job that renames or moves a file or a directory."""


@_transfer_job("POST /storage/xfer-internal/rsync")
class RsyncJob(TransferJob, _Sync):
    """Submit a job that copies with rsync what differs."""


@_transfer_job("POST /storage/xfer-internal/rm")
class RemoveJob(TransferJob, Rm):
    """Submit a job that deletes a file or a directory with all it holds."""


@_transfer_job("POST /storage/xfer-internal/compress")
class CompressJob(TransferJob, Compress):
    """Submit a job that packs a file or a directory into a tar archive compressed with gzip."""


@_transfer_job("POST /storage/xfer-internal/extract")
class ExtractJob(TransferJob, Extract):
    """Submit a job that unpacks an archive: zip, or tar as it is or compressed with gzip, bzip2 or xz."""
