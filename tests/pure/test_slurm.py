"""What Slurm 22.05 prints, recorded, as the gateway reads it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from schemas.compute import JobRequest
from schemas.errors import CommandFailed, StillUnderWay
from workers.host import Command, Finished
from workers.schedulers import slurm
from workers.schedulers.scheduler import Submission
from workers.streams import Source

RECORDED = Path(__file__).parent / "recorded"


def submission(**changes) -> Submission:
    facts = {
        "receipts": "/r",
        "folder": "/f",
        "script": "s.sh",
        "content": Source.of(b"#!"),
        "request": JobRequest(account="a", env={"A": "x, y"}),
        "options": (),
    }
    return Submission(**{**facts, **changes})


def test_a_submission_passes_everything_as_words() -> None:
    command = slurm.submit(submission(script="it's; odd", options=("--nohome",)))

    assert command.argv[-5:] == ("--account=a", "--chdir=/f", "--nohome", "--", "it's; odd")
    assert not any("A=x, y" in word for word in command.argv)
    assert (command.source().whole(), command.repeatable) == (b"A=x, y\0#!", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with stand-ins for sbatch and scontrol, which only these tests of the program around them use."""
    for name, text in {
        "sbatch": f'echo called >>{tmp_path}/calls; echo warning; echo "Submitted batch job 42"',
        "scontrol": 'echo "   Command=/c"; echo "   StdOut=/o"; echo "   StdErr=/e"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def run(command: Command, folder: Path, *, stdin: bytes | None = None) -> Finished:
    path = f"{folder}:{os.environ['PATH']}"
    content = command.source().whole() if stdin is None else stdin
    done = subprocess.run(command.argv, input=content, capture_output=True, check=False, env={**os.environ, "PATH": path})
    return Finished(done.returncode, done.stdout, done.stderr)


def in_folder(folder: Path, **changes) -> Command:
    return slurm.submit(submission(receipts=f"{folder}/job/.firecrest", folder=f"{folder}/job", **changes))


def calls(folder: Path) -> int:
    found = folder / "calls"
    return len(found.read_text().splitlines()) if found.exists() else 0


def answering(folder: Path, *, squeue: str, sacct: str) -> Path:
    """The folder with stand-ins for squeue and sacct too."""
    for name, text in {"squeue": squeue, "sacct": sacct}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.mark.parametrize(
    ("squeue", "sacct", "why"),
    [
        ("echo PENDING; echo RUNNING; echo COMPLETED", "exit 9", ""),
        (FORGOTTEN, "echo COMPLETED", ""),
        (":", "echo COMPLETED", ""),
        ("echo RUNNING; echo FAILED", "echo RUNNING", "Job dependency problem: job 12 has ended: FAILED"),
        (FORGOTTEN, "echo COMPLETED; echo 'CANCELLED by 1'", "Job dependency problem: job 12 has ended: CANCELLED by 1"),
        (FORGOTTEN, "", "Job dependency problem: job 12 is not known"),
        (FORGOTTEN, "echo 'Slurm accounting storage is disabled' >&2; exit 1", "Slurm accounting storage is disabled"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "echo COMPLETED", "Unable to contact slurm controller"),
    ],
    ids=["known", "forgotten", "forgotten task", "failed", "forgotten and cancelled", "unknown", "no accounting", "no controller"],
)
def test_a_job_waits_only_for_jobs_that_may_end_well(folder: Path, squeue: str, sacct: str, why: str) -> None:
    answering(folder, squeue=squeue, sacct=sacct)
    command = in_folder(folder, request=JobRequest(), after=("12_*", "13"))
    if not why:
        assert (command.read(run(command, folder)).jobid, calls(folder)) == ("42", 1)
        return
    with pytest.raises(CommandFailed) as failed:
        command.read(run(command, folder))
    assert (failed.value.text, calls(folder)) == (why, 0)


def test_a_repeated_submission_finds_the_receipt_of_the_first(folder: Path) -> None:
    command = in_folder(folder, request=JobRequest())

    first, again = command.read(run(command, folder)), command.read(run(command, folder))

    assert (first.jobid, first.job_file_out) == ("42", "/o")
    assert first == again
    assert calls(folder) == 1


def test_a_script_that_came_in_part_is_not_submitted(folder: Path) -> None:
    content = b"#!/bin/sh\n" + b"x" * 100_000
    command = in_folder(folder, content=Source.of(content))

    with pytest.raises(StillUnderWay, match="only a part"):
        command.read(run(command, folder, stdin=command.source().whole()[:40_000]))
    assert calls(folder) == 0
    assert command.read(run(command, folder)).jobid == "42"
    assert (folder / "job" / "s.sh").read_bytes() == content
    assert sorted(path.name for path in (folder / "job" / ".firecrest").iterdir()) == ["lock", "receipt", "refused"]


def receipt(command: Command, said: str, record: str) -> bytes:
    mark = re.search(r"[0-9a-f]{32}", " ".join(command.argv))[0]
    return f"{said}\n{mark}\n{record}".encode()


def test_a_submission_is_read_with_the_paths_of_the_job() -> None:
    command = slurm.submit(submission())
    record = (RECORDED / "scontrol-show-job.txt").read_text()

    done = command.parse(receipt(command, "79", record))

    assert (done.jobid, done.result, done.job_info_extra) == ("79", "Job submitted", "Job info returned successfully")
    assert done.job_file_out.startswith("/home/fcalice/")


def test_a_job_that_cannot_be_shown_is_submitted_all_the_same() -> None:
    command = slurm.submit(submission())

    done = command.parse(receipt(command, "7", "slurm_load_jobs error: Unable to contact slurm controller"))

    assert (done.jobid, done.job_file_out, done.job_info_extra) == (
        "7",
        "Not available",
        "slurm_load_jobs error: Unable to contact slurm controller",
    )


@pytest.mark.parametrize(("code", "message", "kind"), [(1, "sbatch: error: invalid partition", CommandFailed), (75, "wait", StillUnderWay)])
def test_a_refusal_is_told_in_slurms_own_words(code: int, message: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=message):
        slurm.submit(submission()).read(Finished(code, b"", message.encode()))


def test_a_cancel_that_slurm_refuses_is_an_error_in_its_words() -> None:
    command = slurm.cancel("1,2")

    assert command.parse(b"scancel: Terminating job 1\n") == "scancel: Terminating job 1"
    with pytest.raises(CommandFailed, match="Invalid job id"):
        command.parse(b"scancel: Terminating job 2\nscancel: error: Kill job error on job id 2: Invalid job id specified\n")
    with pytest.raises(CommandFailed, match="User does not have permission to cancel job"):
        command.read(Finished(210, b"", b"denied"))


@pytest.mark.parametrize(
    ("printed", "up"),
    [
        (b"Slurmctld(primary) at vm is UP\n", True),
        (b"Slurmctld(primary) at vm is DOWN\n", False),
        (b"Slurmctld(primary) at one is DOWN\nSlurmctld(backup) at two is UP\n", True),
        (b"", False),
    ],
)
def test_the_scheduler_is_there_when_one_of_its_controllers_is(printed: bytes, up: bool) -> None:
    assert slurm.ping().argv == ("scontrol", "ping")
    assert slurm.ping().parse(printed) is up
