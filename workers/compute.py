"""How the job operations are performed."""

import posixpath
import re
from collections.abc import Iterable
from typing import TypeVar

from schemas.cluster import Node, Nodes, OneNode, Partition, Partitions, Reservation, Reservations
from schemas.compute import (
    AccountedJob,
    Accounting,
    Cancel,
    Job,
    JobRequest,
    Jobs,
    OneJob,
    Paged,
    Reachable,
    Readable,
    SubmitPath,
    Submitted,
    SubmitUpload,
)
from schemas.errors import CommandFailed
from schemas.fields import whole_number
from workers import access
from workers.host import Command, Host
from workers.performing import Scene, performs
from workers.schedulers import SCHEDULERS
from workers.schedulers.scheduler import Queued, Scheduler, Submission, Tails
from workers.streams import Source

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
    if host.proven():
        return
    with access.hidden():
        host.run(Command(("true",), lambda _: None, seconds=scene.limits.utilities_timeout, repeatable=True))


@performs(Readable)
def readable(op: Readable, host: Host, scene: Scene) -> None:
    """Nothing; the file can be read (contract, 1.4, "Readable-file check")."""
    with access.hidden():
        host.run(access.readable(op.target_path, seconds=scene.limits.utilities_timeout))


@performs(SubmitUpload)
def submit_upload(op: SubmitUpload, host: Host, scene: Scene) -> Submitted:
    """The job, submitted once from a folder of its own."""
    folder = job_folder(scene)
    name = re.sub(r"\s", "_", posixpath.basename(op.file.name)) or "script"
    return host.run(scheduler(scene).submit(submission(op, scene, folder=folder, script=name, content=scene.source(op.file))))


@performs(SubmitPath)
def submit_path(op: SubmitPath, host: Host, scene: Scene) -> Submitted:
    """The job, submitted once from the folder of its script."""
    folder = posixpath.dirname(op.target_path) or "."
    return host.run(scheduler(scene).submit(submission(op, scene, folder=folder, script=posixpath.basename(op.target_path), content=None)))


def job_folder(scene: Scene) -> str:
    """The task's own folder on the system."""
    return posixpath.join(scene.system.job_root, scene.user, "firecrest", scene.task_id)


def submission(request: JobRequest, scene: Scene, *, folder: str, script: str, content: Source | None) -> Submission:
    """What to submit on the system, with the site's own options."""
    return Submission(
        receipts=posixpath.join(job_folder(scene), ".firecrest"),
        folder=folder,
        script=script,
        content=content,
        request=request,
        options=scene.system.sbatch_options,
        parallel_environment=scene.system.parallel_environment,
    )


@performs(Jobs)
def jobs(op: Jobs, host: Host, scene: Scene) -> dict[str, Job]:
    """The jobs by their number on the page, with the last bytes of their output if they are the caller's."""
    if not op.user_jobs:
        found = host.run(scheduler(scene).queue(ids=op.jobs, user=None, tails=None))
        return _numbered(_without_output(job) for job in page(found, op))
    start, stop = _window(op)
    tails = Tails(scene.limits.tail_bytes, start, stop)
    mine = host.run(scheduler(scene).queue(ids=op.jobs, user=scene.user, tails=tails))
    return _numbered(map(_job, page(mine, op)))


@performs(OneJob)
def one_job(op: OneJob, host: Host, scene: Scene) -> dict[str, Job]:
    """The job, or the tasks of the array, as `Jobs` shows them."""
    found = host.run(scheduler(scene).queue(ids=op.job_id, user=scene.user, tails=Tails(scene.limits.tail_bytes)))
    return _numbered(map(_job, found))


def _numbered(found: Iterable[Job]) -> dict[str, Job]:
    return {str(number): job for number, job in enumerate(found)}


def _job(job: Queued) -> Job:
    return Job(
        **_facts(job),
        job_file=job.script or "command-not-found",
        job_file_out=job.stdout or "stdout-file-not-found",
        job_file_err=job.stderr or "stderr-file-not-found",
        job_data_out=job.output,
        job_data_err=job.errors,
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


@performs(Nodes)
def nodes(op: Nodes, host: Host, scene: Scene) -> list[Node]:
    """The nodes, as the scheduler orders them."""
    return host.run(scheduler(scene).nodes(op.nodes.split(",") if op.nodes else ()))


@performs(OneNode)
def one_node(op: OneNode, host: Host, scene: Scene) -> list[Node]:
    """The node."""
    return host.run(scheduler(scene).nodes((op.node_name,)))


@performs(Partitions)
def partitions(op: Partitions, host: Host, scene: Scene) -> list[Partition]:
    """The partitions of these names that there are."""
    return _named(op.partitions, {one.partition_name: one for one in host.run(scheduler(scene).partitions())})


@performs(Reservations)
def reservations(op: Reservations, host: Host, scene: Scene) -> list[Reservation]:
    """The reservations of these names that there are."""
    return _named(op.reservations, {one.reservation_name: one for one in host.run(scheduler(scene).reservations())})


def _named(names: str | None, found: dict[str, T]) -> list[T]:
    return [one for name, one in found.items() if names is None or name in names.split(",")]


@performs(Accounting)
def accounting(op: Accounting, host: Host, scene: Scene) -> list[AccountedJob] | dict[str, AccountedJob]:
    """The records on the page; an empty object when there is none at all."""
    found = host.run(scheduler(scene).accounting(ids=op.jobs, start=op.start_time, end=op.end_time))
    return page(found, op) if found else {}


def page(found: list[T], op: Paged) -> list[T]:
    """The part that the caller wants; raises CommandFailed when there is no such page."""
    start, stop = _window(op)
    if stop is None:
        return found
    number, last = start // (stop - start), max(0, (len(found) - 1) // (stop - start))
    if number > last:
        raise CommandFailed(f"pageNumber ({number}) is greater than total pages ({last})")
    return found[start:stop]


def _window(op: Paged) -> tuple[int, int | None]:
    """Which of the jobs are on the page, counted from 0: where it starts and where it stops, if it does."""
    if not op.page_size and not op.page_number:
        return 0, None
    size, number = whole_number(op.page_size, _PAGE), whole_number(op.page_number, 0)
    if number < 0:
        raise CommandFailed(f"pageNumber ({number}) cannot be a negative number")
    return number * size, (number + 1) * size
