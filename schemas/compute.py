"""Jobs of the workload manager, answered through a task."""

import json
import re
from functools import partial
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, field_validator

from schemas.fields import Flag, JobId, JobIds, Path, Refusal, Text, Upload, harmless, saying, whole_number
from schemas.job_fields import Account, Begin, Constraint, Dependency, Duration, Gpus, Indices, Memory, Name, NodeCount, Number
from schemas.moments import Moment
from schemas.operation import Course, Operation, internal, operation
from schemas.places import NotOnSystem
from schemas.rights import EVERY_RIGHT, Right

FAILED = "Failed to retrieve jobs information"


class Submitted(BaseModel):
    """A job that the scheduler has taken; `job_data_*` are empty until `GET /compute/jobs` fills them."""

    result: str = "Job submitted"
    jobid: str
    job_file: str
    job_file_out: str
    job_file_err: str
    job_data_out: str = ""
    job_data_err: str = ""
    job_info_extra: str = "Job info returned successfully"


class Job(BaseModel):
    """A job in the queue; `job_data_*` are the last bytes of its output, `time` is the time it has run."""

    jobid: str
    partition: str
    name: str
    user: str
    state: str
    start_time: str
    time: str
    time_left: str
    nodes: str
    nodelist: str
    job_file: str
    job_file_out: str
    job_file_err: str
    job_data_out: str
    job_data_err: str
    job_info_extra: str


class AccountedJob(BaseModel):
    """A job in the accounting records; `time` is its CPU time, `time_left` the time of its end."""

    jobid: str
    partition: str
    name: str
    user: str
    state: str
    start_time: str
    time: str
    cpu_time: str
    elapsed_time: str
    termination_time: str
    time_left: str
    nodes: str
    nodelist: str
    exit_code: str


@internal("compute", None, fails=FAILED, open_to=EVERY_RIGHT)
class Reachable(Operation):
    """Enter the system and do nothing; `purpose` is what is said when that fails."""

    purpose: str = FAILED

    def fails(self) -> str:
        """What is said of this call when it fails."""
        return self.purpose


@internal("compute", None, fails="Failed to submit job", open_to=frozenset({Right.SUBMIT}))
class Readable(Operation):
    """Check that a file is there and can be read."""

    target_path: Path


def _reachable(_: Operation) -> Reachable:
    return Reachable()


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_HALF_A_LETTER = re.compile("[\\ud800-\\udfff]")


def _environment(text: Any, *, refusal: str) -> dict[str, str]:
    """The variables in a JSON object of texts or numbers."""
    if isinstance(text, dict):
        return text
    try:
        variables = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError) as wrong:
        raise saying(refusal.format(why=wrong)) from None
    if not isinstance(variables, dict):
        raise saying(refusal.format(why="not an object"))
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise saying(refusal.format(why=f"{name!r} is not a variable name"))
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not _carriable(str(value)):
            raise saying(refusal.format(why=f"the value of {name!r} is not a text or a number"))
    return {name: str(value) for name, value in variables.items()}


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _carriable(value: str) -> bool:
    return "\0" not in value and not _HALF_A_LETTER.search(value)


_UPLOAD_ENVIRONMENT = BeforeValidator(partial(_environment, refusal="Invalid JSON in 'env' variable ({why})"))
_PATH_ENVIRONMENT = BeforeValidator(partial(_environment, refusal="Invalid JSON environment provided"))
_TEXT = WithJsonSchema({"type": "string"})
_ENVIRONMENT_REFUSAL = Refusal("Failed to submit job", status=404)
_ENVIRONMENT: Any = Field(default_factory=dict, description="JSON object of environment variables for the job")


class _Charged(Operation):
    account: Account = Field(None, description="Account that the job is charged to")


_OF_THE_JOB = NotOnSystem("the job opens it, and a batch script may open whatever its user may")


class JobRequest(_Charged):
    """What a job may ask for, whatever its script says: one field per common option of sbatch."""

    job_name: Name = Field(None, description="Name of the job")
    partition: Name = Field(None, description="Partition, or queue, or a comma-separated list of them")
    time: Duration = Field(None, description="Time limit: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S")
    nodes: NodeCount = Field(None, description="Number of nodes, or a range such as 2-4")
    ntasks: Number = Field(None, description="Number of tasks")
    cpus_per_task: Number = Field(None, description="CPUs of every task")
    memory: Memory = Field(None, description="Memory of every node: a number and K, M, G or T; M if there is none")
    gpus: Gpus = Field(None, description="GPUs of the job: a number, or type:number")
    qos: Name = Field(None, description="Quality of service")
    reservation: Name = Field(None, description="Reservation to run in")
    constraint: Constraint = Field(None, description="Features that nodes must have")
    dependency: Dependency = Field(None, description="Jobs to wait for, such as afterok:12:13")
    array: Indices = Field(None, description="Indices of a job array, such as 0-15%4")
    begin: Begin = Field(None, description="Not before this time, such as 2026-11-22T10:00 or now+1hour")
    output: Annotated[Name, _OF_THE_JOB] = Field(None, description="File for the standard output, with the scheduler's patterns")
    error: Annotated[Name, _OF_THE_JOB] = Field(None, description="File for the standard error, with the scheduler's patterns")
    env: dict[str, str] = Field(default_factory=dict, description="JSON object of environment variables for the job")


class _Script(Operation):
    target_path: Path = Field(description="Path of the batch script")


class _Batch(_Charged):
    file: Annotated[Upload, Refusal(error="No batch file part")] = Field(description="The batch script")

    @field_validator("file")
    @classmethod
    def _filled(cls, file: Upload) -> Upload:
        if not file.name:
            raise saying("No batch file selected")
        if not file.size:
            raise saying("Batch file is empty")
        return file


@operation(
    "POST /compute/jobs/upload",
    Submitted,
    also="/compute/jobs",
    once=True,
    says="Task created",
    fails="Failed to submit job file",
    status=201,
    course=Course.DEFERRED,
    probe=_reachable,
)
class SubmitUpload(JobRequest, _Batch):
    """Submit a batch script that comes with the call."""

    hidden = frozenset({"env"})

    env: Annotated[dict[str, str], _UPLOAD_ENVIRONMENT, _ENVIRONMENT_REFUSAL, _TEXT] = _ENVIRONMENT


@operation(
    "POST /compute/jobs/path",
    Submitted,
    unnamed_is_error=True,
    once=True,
    says="Task created",
    fails="Failed to submit job",
    status=201,
    course=Course.DEFERRED,
    probe=lambda op: Readable(target_path=op.target_path),
)
class SubmitPath(JobRequest, _Script):
    """Submit a batch script that is on the system."""

    hidden = frozenset({"env"})

    env: Annotated[dict[str, str], _PATH_ENVIRONMENT, _ENVIRONMENT_REFUSAL, _TEXT] = _ENVIRONMENT


class Paged(Operation):
    """A list that can be had in pages; giving either parameter turns paging on."""

    page_size: str = Field("", description="Jobs on a page; 25 when only pageNumber is given")
    page_number: str = Field("", description="Page to show, from 0")

    @field_validator("page_size")
    @classmethod
    def _positive(cls, text: str) -> str:
        if whole_number(text, 1) < 1:
            raise saying("'pageSize' must be greater than 0")
        return text


@operation(
    "GET /compute/jobs",
    dict[str, Job],
    says="Task created",
    fails=FAILED,
    course=Course.DEFERRED,
    shared=True,
    probe=_reachable,
)
class Jobs(Paged):
    """List jobs in the queue, with the last bytes of their output."""

    jobs: Annotated[JobIds | None, Refusal("Failed to retrieve job information")] = Field(
        None, description="Comma-separated job ids; all when absent"
    )
    user_jobs: Flag = Field(True, description="Only the caller's jobs; the output of others' is not shown")


@operation(
    "GET /compute/jobs/{jobid}",
    dict[str, Job],
    says="Task created",
    fails="Failed to retrieve job information",
    course=Course.DEFERRED,
    shared=True,
    probe=_reachable,
)
class OneJob(Operation):
    """Show a job in the queue, with the last bytes of its output."""

    job_id: JobId = Field(alias="jobid", description="Job id")


@operation(
    "DELETE /compute/jobs/{jobid}",
    str,
    says="Task created",
    fails="Failed to delete job",
    course=Course.DEFERRED,
    probe=_reachable,
)
class Cancel(Operation):
    """Cancel a job, or several."""

    job_id: Text = Field(alias="jobid", description="Job id, or a comma-separated list of them")


@operation(
    "GET /compute/acct",
    list[AccountedJob] | dict[Literal[""], AccountedJob],
    says="Task created",
    fails="Failed to retrieve account information",
    course=Course.DEFERRED,
    shared=True,
    probe=_reachable,
)
class Accounting(Paged):
    """List jobs in the accounting records."""

    jobs: str = Field("", description="Comma-separated job ids; all of today when absent")
    start_time: Moment = Field("", alias="starttime", description="Jobs that ended after this time, such as 2026-11-22 or 2026-11-22T10:00")
    end_time: Moment = Field("", alias="endtime", description="Jobs that started before this time")

    @field_validator("jobs")
    @classmethod
    def _harmless(cls, text: str) -> str:
        return text and harmless(text)
