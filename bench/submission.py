"""What submitting a job costs, until the task is final."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.api import POLL_SECONDS, Api
from bench.contest import Way, contest
from bench.series import CallFailedError, Series
from bench.stage import Stage
from bench.tables import Part, failures, timings
from schemas.compute import JobRequest
from workers.schedulers.scheduler import Submission
from workers.schedulers.slurm import submit
from workers.streams import Source

_NAME = "firecrest-bench"
# held: what is measured is the submission, and no job may run beside it
SCRIPT = f"#!/bin/sh\n#SBATCH --job-name={_NAME} --hold --time=1 --output=/dev/null\ntrue\n".encode()
_FLOOR = "`ssh … sbatch` over a ControlMaster"


def submission(stage: Stage, *, rounds: int, calls: int) -> Part:
    """The times from the request to the final task, and of raw sbatch, in turn."""
    with folders_of_jobs(stage) as folders:
        api, parts = Api(stage.address()), (Series(), Series())
        ways: dict[str, Way] = {
            f"API: POST, then GET /tasks/{{id}} every {POLL_SECONDS * 1000:.0f} ms, to the final task": lambda: _through_api(
                api, folders, parts
            ),
            _FLOOR: lambda: sbatch(stage),
            "the gateway's script over a warm shell, in process": lambda: _in_process(stage, folders),
            "`whoami` through the API (a waited call, as the probe of a submission)": api.whoami,
        }
        found = contest(ways, rounds=rounds, calls=calls, warm_up=3)
        api.close()
    counted = len(next(iter(found.values())).seconds)
    posts, finals = (Series(part.seconds[-counted:]) for part in parts)  # without those that warmed up
    shown = dict(list(found.items())[:1]) | {"… of which POST to 201": posts, "… of which 201 to final": finals} | found
    return Part("submission", timings(shown, floor=_FLOOR), failures(*found.values()))


def _through_api(api: Api, folders: list[str], parts: tuple[Series, Series]) -> None:
    begun = time.perf_counter()
    task_id = api.submit(SCRIPT)
    accepted = time.perf_counter()
    folders.append(task_id)
    api.outcome(task_id)
    parts[0].seconds.append(accepted - begun)
    parts[1].seconds.append(time.perf_counter() - accepted)


def sbatch(stage: Stage) -> None:
    """One raw `sbatch`. Raises CallFailedError."""
    if b"Submitted batch job" not in stage.master.run("sbatch", stdin=SCRIPT):
        raise CallFailedError("sbatch did not tell a job id")


def _in_process(stage: Stage, folders: list[str]) -> None:
    scene = stage.scene()
    folders.append(scene.task_id)
    folder = f"{stage.system.job_root}/{stage.user}/firecrest/{scene.task_id}"
    job = Submission(receipts=folder, folder=folder, script="bench.sh", content=Source.of(SCRIPT), request=JobRequest(), options=())
    stage.host.run(submit(job))


@contextmanager
def folders_of_jobs(stage: Stage) -> Iterator[list[str]]:
    """The task ids whose job folders, and all of whose jobs, are removed at the end."""
    folders: list[str] = []
    try:
        yield folders
    finally:
        stage.master.run("scancel", f"--name={_NAME}", f"--user={stage.user}")
        paths = [f"{stage.system.job_root}/{stage.user}/firecrest/{task_id}" for task_id in folders]
        stage.master.run("rm", "-rf", "--", *paths)
