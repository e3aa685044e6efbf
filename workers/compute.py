"""How the job operations are performed."""

import posixpath
import re
import secrets
from collections.abc import Sequence
from typing import TypeVar

from schemas.compute import (
    AccountedJob,
    Accounting,
    Cancel,
    Job,
    Jobs,
    OneJob,
    Paged,
    Reachable,
    Readable,
    SubmitPath,
    Submitted,
    SubmitUpload,
)
from schemas.errors import (
    AccessDenied,
    AccessHidden,
    ADirectory,
    CommandFailed,
    FirecrestError,
    InvalidPath,
    PermissionDenied,
    TimedOut,
)
from schemas.fields import whole_number
from workers.failures import TIMED_OUT
from workers.host import Command, Host
from workers.performing import Scene, performs
from workers.schedulers import SCHEDULERS
from workers.schedulers.scheduler import Queued, Scheduler, Submission

_SHOWN = "Job info returned successfully"
_HIDDEN = "File information is not available when `userJobs` is False"
_PAGE = 25

T = TypeVar("T")


def scheduler(scene: Scene) -> Scheduler:
    """The workload manager of the system."""
    return SCHEDULERS[scene.system.scheduler]


@performs(Reachable)
def reachable(op: Reachable, host: Host, scene: Scene) -> None:
    """Nothing; the system lets the user in. Raises AccessHidden where utilities would raise AccessDenied."""
    try:
        host.run(Command(("true",), lambda _: None, seconds=scene.limits.utilities_timeout, repeatable=True))
    except AccessDenied:
        raise AccessHidden from None


@performs(Readable)
def readable(op: Readable, host: Host, scene: Scene) -> None:
    """Nothing; the file can be read (contract, 1.4, "Readable-file check")."""

    def refusal(code: int, message: str) -> FirecrestError:
        if code == TIMED_OUT:
            return TimedOut()
        if "No such file" in message:
            return InvalidPath(says=f"{op.target_path} is an invalid path.")
        if "Permission denied" in message:
            return PermissionDenied(says="User does not have permissions to access machine or path")
        if "directory" in message:
            return ADirectory(says=f"{op.target_path} is a directory")
        return CommandFailed(says=message)

    words = ("head", "-c", "1", "--", op.target_path)
    try:
        host.run(Command(words, lambda _: None, seconds=scene.limits.utilities_timeout, repeatable=True, fails=refusal))
    except AccessDenied:
        raise AccessHidden from None


@performs(SubmitUpload)
def submit_upload(op: SubmitUpload, host: Host, scene: Scene) -> Submitted:
    """The job, submitted once from a folder of its own."""
    folder = _folder(scene)
    name = re.sub(r"\s", "_", posixpath.basename(op.file.name)) or "script"
    return host.run(scheduler(scene).submit(_submission(op, scene, folder=folder, script=name, content=scene.read(op.file))))


@performs(SubmitPath)
def submit_path(op: SubmitPath, host: Host, scene: Scene) -> Submitted:
    """The job, submitted once from the folder of its script."""
    folder = posixpath.dirname(op.target_path) or "."
    return host.run(scheduler(scene).submit(_submission(op, scene, folder=folder, script=posixpath.basename(op.target_path), content=None)))


def _folder(scene: Scene) -> str:
    return posixpath.join(scene.system.job_root, scene.user, "firecrest", scene.task_id)


def _submission(op: SubmitUpload | SubmitPath, scene: Scene, *, folder: str, script: str, content: bytes | None) -> Submission:
    return Submission(
        receipts=posixpath.join(_folder(scene), ".firecrest"),
        folder=folder,
        script=script,
        content=content,
        request=op,
        options=scene.system.sbatch_options,
        parallel_environment=scene.system.parallel_environment,
    )


@performs(Jobs)
def jobs(op: Jobs, host: Host, scene: Scene) -> dict[str, Job]:
    """The jobs by their number on the page, with the last bytes of their output if they are the caller's."""
    found = host.run(scheduler(scene).queue(ids=op.jobs, user=scene.user if op.user_jobs else None, tails=None))
    shown = page(found, op)
    return _numbered(_with_output(shown, host, scene) if op.user_jobs else [_without_output(job) for job in shown])


@performs(OneJob)
def one_job(op: OneJob, host: Host, scene: Scene) -> dict[str, Job]:
    """The job, or the tasks of the array, as `Jobs` shows them."""
    return _numbered(_with_output(host.run(scheduler(scene).queue(ids=op.job_id, user=scene.user, tails=None)), host, scene))


def _numbered(found: list[Job]) -> dict[str, Job]:
    return {str(number): job for number, job in enumerate(found)}


def _with_output(found: list[Queued], host: Host, scene: Scene) -> list[Job]:
    paths = [path or "/dev/null" for job in found if job.has_output for path in (job.stdout, job.stderr)]
    found_ends: list[str] = host.run(tails(paths, count=scene.limits.tail_bytes)) if paths else []
    ends = iter(found_ends)
    return [_job(job, out=next(ends), err=next(ends)) if job.has_output else _job(job, out="", err="") for job in found]


# Prints the last bytes of each file, each followed by a mark; what cannot be read counts as empty.
_TAILS = (
    'mark=$1 bytes=$2; shift 2; for path; do [ -f "$path" ] && timeout 5 tail -c "$bytes" -- "$path" 2>/dev/null; printf %s "$mark"; done'
)


def tails(paths: Sequence[str], *, count: int) -> Command[list[str]]:
    """The last `count` bytes of each file, without the final newline."""
    mark = secrets.token_hex(16)

    def parse(stdout: bytes) -> list[str]:
        return [text.removesuffix("\n") for text in stdout.decode(errors="replace").split(mark)[:-1]]

    return Command(("sh", "-c", _TAILS, "sh", mark, str(count), *paths), parse, repeatable=True)


def _job(job: Queued, *, out: str, err: str) -> Job:
    return Job(
        **_facts(job),
        job_file=job.script or "command-not-found",
        job_file_out=job.stdout or "stdout-file-not-found",
        job_file_err=job.stderr or "stderr-file-not-found",
        job_data_out=out,
        job_data_err=err,
        job_info_extra=_SHOWN,
    )


def _without_output(job: Queued) -> Job:
    return Job(**_facts(job), job_file="", job_file_out="", job_file_err="", job_data_out="", job_data_err="", job_info_extra=_HIDDEN)


def _facts(job: Queued) -> dict[str, str]:
    names = ("jobid", "partition", "name", "user", "state", "start_time", "time", "time_left", "nodes", "nodelist")
    return {name: getattr(job, name) for name in names}


@performs(Cancel)
def cancel(op: Cancel, host: Host, scene: Scene) -> str:
    """What the scheduler says."""
    return host.run(scheduler(scene).cancel(op.job_id))


@performs(Accounting)
def accounting(op: Accounting, host: Host, scene: Scene) -> list[AccountedJob] | dict[str, AccountedJob]:
    """The records on the page; an empty object when there is none at all."""
    found = host.run(scheduler(scene).accounting(ids=op.jobs, start=op.start_time, end=op.end_time))
    return page(found, op) if found else {}


def page(found: list[T], op: Paged) -> list[T]:
    """The part that the caller wants; raises CommandFailed when there is no such page."""
    if not op.page_size and not op.page_number:
        return found
    size, number = whole_number(op.page_size, _PAGE), whole_number(op.page_number, 0)
    last = max(0, (len(found) - 1) // size)
    if number < 0:
        raise CommandFailed(f"pageNumber ({number}) cannot be a negative number")
    if number > last:
        raise CommandFailed(f"pageNumber ({number}) is greater than total pages ({last})")
    return found[number * size : (number + 1) * size]
