"""What it costs to list a user's jobs with the ends of their output."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from bench.api import POLL_SECONDS, Api
from bench.contest import Way, contest
from bench.masters import Master
from bench.series import CallFailedError
from bench.stage import Stage
from bench.tables import Part, digits, failures, table, timings
from schemas.compute import Jobs
from workers.compute import jobs as perform
from workers.host import Command, Host

JOBS = 20
_COUNTED = 20
_FLOOR = "`ssh … squeue` over a ControlMaster, without output"

T = TypeVar("T")


@dataclass
class _Counting:
    """A host that counts the commands that are run on it, each of which uses one SSH channel once."""

    host: Host
    commands: int = 0

    def run(self, command: Command[T]) -> T:
        """What the host does."""
        self.commands += 1
        return self.host.run(command)


def jobs(stage: Stage, *, rounds: int, calls: int) -> Part:
    """The times of listing so many jobs, every way of it in turn, and how much is asked of the system for it."""
    with running_jobs(stage.master) as folder:
        api, host = Api(stage.address()), _Counting(stage.host)
        ways: dict[str, Way] = {
            f"API: GET, then GET /tasks/{{id}} every {POLL_SECONDS * 1000:.0f} ms, to the final task": lambda: _through_api(api, folder),
            "the gateway's command over a warm shell, in process": lambda: _in_process(stage, host, folder),
            _FLOOR: lambda: listed(stage.master),
            f"… and an `ssh … tail` for each of the {2 * JOBS} files": lambda: _one_by_one(stage.master, folder),
        }
        found = contest(ways, rounds=rounds, calls=calls, warm_up=2)
        counts = table(("", "a call"), [*_commands(stage, host, folder), *_questions(stage, api, folder)])
        api.close()
    return Part("jobs", f"{timings(found, floor=_FLOOR)}\n\n{counts}", failures(*found.values()))


def _commands(stage: Stage, host: _Counting, folder: str) -> list[tuple[str, str]]:
    before = host.commands
    for _ in range(_COUNTED):
        _in_process(stage, host, folder)
    return [
        (f"commands over SSH for the {JOBS} jobs and their output, as the host counts them", digits((host.commands - before) / _COUNTED))
    ]


def _questions(stage: Stage, api: Api, folder: str) -> list[tuple[str, str]]:
    before = _asked(stage)
    for _ in range(_COUNTED):
        _through_api(api, folder)
    return [("questions for jobs through the API, as slurmctld counts them", digits((_asked(stage) - before) / _COUNTED))]


def _asked(stage: Stage) -> int:
    return sum(map(int, re.findall(r"REQUEST_JOB_(?:USER_)?INFO(?:_SINGLE)? .*count:(\d+)", stage.site.slurm("sdiag"))))


def _through_api(api: Api, folder: str) -> None:
    found = api.outcome(str(api.get("/compute/jobs")["task_id"]))
    _check([(job["jobid"], job["job_data_out"], job["job_data_err"]) for job in found.values() if job["job_file_out"].startswith(folder)])


def _in_process(stage: Stage, host: Host, folder: str) -> None:
    found = perform(Jobs(), host, stage.scene()).values()
    _check([(job.jobid, job.job_data_out, job.job_data_err) for job in found if job.job_file_out.startswith(folder)])


def _one_by_one(master: Master, folder: str) -> None:
    tails = [
        (job, *(master.run("tail", "-c", "1000", f"{folder}/{job}.{kind}").decode().strip() for kind in ("out", "err")))
        for job in listed(master)
    ]
    _check(tails)


def listed(master: Master) -> list[str]:
    """The ids of the jobs by raw `squeue`. Raises CallFailedError when they are not that many."""
    found = master.run("squeue", "--noheader", f"--user={master.user}", "--name=bench-jobs", "--format=%i").decode().split()
    if len(found) != JOBS:
        raise CallFailedError(f"squeue lists {len(found)} jobs")
    return found


def _check(tails: list[tuple[str, str, str]]) -> None:
    if len(tails) != JOBS or any((out, err) != (f"out {job}", f"err {job}") for job, out, err in tails):
        raise CallFailedError(f"{len(tails)} jobs are told, or not the ends of their output")


@contextmanager
def running_jobs(master: Master) -> Iterator[str]:
    """A folder in which so many jobs have written, which go on."""
    folder = master.run("mktemp", "-d", "/tmp/firecrest-bench.XXXXXXXX").decode().strip()  # noqa: S108 (mktemp's)
    script = b"#!/bin/sh\necho out $SLURM_JOB_ID; echo err $SLURM_JOB_ID >&2; sleep 3600\n"
    words = ("sbatch", "--job-name=bench-jobs", "--mem=1", f"--output={folder}/%j.out", f"--error={folder}/%j.err")
    try:
        for _ in range(JOBS):
            master.run(*words, stdin=script)
        while master.run("find", folder, "-name", "*.err", "-size", "+0").count(b"\n") < JOBS:
            time.sleep(0.2)
        yield folder
    finally:
        master.run("scancel", f"--user={master.user}", "--name=bench-jobs")
        master.run("rm", "-r", "--", folder)
