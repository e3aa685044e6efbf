"""How transfers inside a system are performed: each is a batch script of one command, submitted once."""

from dataclasses import replace

from schemas.compute import JobRequest, Submitted
from schemas.transfer_jobs import CompressJob, CopyJob, ExtractJob, MoveJob, RemoveJob, RsyncJob, TransferJob
from workers.archives import as_file, packing, unpacking
from workers.compute import job_folder, scheduler, submission
from workers.host import Command, Host
from workers.performing import Scene, performs
from workers.streams import Source
from workers.utilities import copying, line, moving

_NAME = "sbatch-job.sh"
# Relative paths start at the home directory, as those of utilities do.
_SCRIPT = """\
#!/bin/bash
set -o pipefail
cd &&
{}
"""
# tar takes a compressed file of few bytes that is no archive for an empty one
_UNLESS_EMPTY = " | { grep -a '' || { echo 'There are no files in the archive' >&2; exit 1; }; }"


@performs(CopyJob)
def copy_job(op: CopyJob, host: Host, scene: Scene) -> Submitted:
    """The job that copies."""
    return _submit(op, host, scene, _script(scene, copying(op.source_path, op.target_path)))


@performs(MoveJob)
def move_job(op: MoveJob, host: Host, scene: Scene) -> Submitted:
    """The job that moves."""
    return _submit(op, host, scene, _script(scene, moving(op.source_path, op.target_path)))


@performs(RsyncJob)
def rsync_job(op: RsyncJob, host: Host, scene: Scene) -> Submitted:
    """The job that runs rsync."""
    return _submit(op, host, scene, _script(scene, syncing(op.source_path, op.target_path)))


@performs(RemoveJob)
def remove_job(op: RemoveJob, host: Host, scene: Scene) -> Submitted:
    """The job that deletes; it has nothing to do where nothing is."""
    return _submit(op, host, scene, _script(scene, deleting(op.target_path)))


@performs(CompressJob)
def compress_job(op: CompressJob, host: Host, scene: Scene) -> Submitted:
    """The job that packs."""
    return _submit(op, host, scene, _script(scene, packing(op.source_path, op.target_path, dereference=op.dereference)))


@performs(ExtractJob)
def extract_job(op: ExtractJob, host: Host, scene: Scene) -> Submitted:
    """The job that unpacks, and fails when there is nothing in the archive."""
    return _submit(op, host, scene, _script(scene, unpacking(op.source_path, op.target_path, kind=op.format()), then=_UNLESS_EMPTY))


def deleting(target: str) -> tuple[str, ...]:
    """The command that deletes with all that is in it, if it is there: a job that is run again must not fail (contract, 4.6)."""
    return ("rm", "-rf", "--", target)


def syncing(source: str, target: str) -> tuple[str, ...]:
    """The command that makes the target like the source; a colon in a name is no host."""
    return ("rsync", "-av", "--", as_file(source), as_file(target))


def _script(scene: Scene, words: tuple[str, ...], *, then: str = "") -> str:
    # what is true when it is submitted may not be when it runs
    return script(scene.bounds.words(words), then=then)


def script(words: tuple[str, ...], *, then: str = "") -> str:
    """The batch script of a command, the exit status of which is its own; `then` is a constant line behind it.

    Raises InvalidParameter for a character that no command line can carry.
    """
    return _SCRIPT.format(Command(words, lambda _: None).line() + then)


def _submit(op: TransferJob, host: Host, scene: Scene, text: str) -> Submitted:
    content = Source.of(text.encode(errors="surrogateescape"))
    request = wishes(op, scene, account=op.account or _default_account(host, scene))
    job = submission(request, scene, folder=job_folder(scene), script=_NAME, content=content)
    return host.run(scheduler(scene).submit(replace(job, after=op.stage_out_job_id.split(":") if op.stage_out_job_id else ())))


def _default_account(host: Host, scene: Scene) -> str | None:
    if not scene.system.primary_group_account:
        return None
    return host.run(Command(("id", "-gn"), line, seconds=scene.limits.utilities_timeout, repeatable=True))


def wishes(op: TransferJob, scene: Scene, *, account: str | None) -> JobRequest:
    """What the job asks for; all of it has been checked, or is the site's own."""
    return JobRequest.model_construct(
        job_name=op.job_name or f"{op.command()}-job",
        time=op.time,
        partition=scene.system.transfer_partition or None,
        constraint=scene.system.transfer_constraint or None,
        account=account,
        ntasks=1,
        output=f"job-{scheduler(scene).JOB_ID}.out",
        error=f"job-{scheduler(scene).JOB_ID}.err",
    )
