"""What Slurm 22.05 prints, recorded, as the gateway reads it."""

import re
from pathlib import Path

import pytest

from schemas.errors import CommandFailed, StillUnderWay
from workers.host import Command, Finished
from workers.schedulers import slurm
from workers.schedulers.scheduler import Submission

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str, command: Command) -> bytes:
    """A recording with the separator that the command asks for."""
    separator = re.search(r"[0-9a-f]{16}", " ".join(command.argv))
    return (RECORDED / name).read_bytes().replace(b"@SEP@", separator[0].encode())


def test_the_queue_is_read_whatever_names_hold() -> None:
    command = slurm.queue(ids=None, user="fcalice")

    pending, running, defaulted, odd = command.parse(recorded("squeue.txt", command))

    assert (pending.state, pending.has_output, pending.nodelist) == ("PENDING", False, "(JobArrayTaskLimit)")
    assert (running.state, running.has_output, running.nodelist) == ("RUNNING", True, "n1")
    assert (running.start_time, running.time, running.time_left, running.nodes) == ("2026-11-22T17:12:44", "0:01", "23:59:59", "1")
    assert running.script == ""
    assert running.stdout == "/home/fcalice/arr-0001-83.out"
    assert defaulted.stdout == defaulted.stderr == "/home/fcalice/slurm-84_7.out"
    assert (odd.name, odd.stdout) == ("na|me .:. é\nx", "/home/fcalice/slurm-85.out")


def test_an_empty_queue_has_no_jobs() -> None:
    assert slurm.queue(ids=None, user=None).parse(b"") == []
    assert slurm.accounting(ids="", start="", end="").parse(b"") == []


def test_accounting_is_read_whatever_names_hold() -> None:
    command = slurm.accounting(ids="", start="", end="")

    jobs = command.parse(recorded("sacct.txt", command))

    assert jobs[0].name == "na|me .:. é\nx"
    assert (jobs[0].state, jobs[-1].state, jobs[-1].exit_code) == ("CANCELLED by 1001", "COMPLETED", "0:0")
    assert all(job.time == job.cpu_time and job.time_left == job.termination_time for job in jobs)


def test_filters_are_words_of_their_own() -> None:
    queue, accounting = slurm.queue(ids="1,2", user="ann"), slurm.accounting(ids="1", start="2026-01-01", end="")

    assert {"--jobs=1,2", "--user=ann"} < set(queue.argv)
    assert {"--jobs=1", "--starttime=2026-01-01"} < set(accounting.argv)
    assert not any(word.startswith("--endtime") for word in accounting.argv)


def submission(**changes) -> Submission:
    facts = {
        "receipts": "/r",
        "folder": "/f",
        "script": "s.sh",
        "content": b"#!",
        "account": "a",
        "environment": {"A": "x, y"},
        "options": (),
    }
    return Submission(**{**facts, **changes})


def test_a_submission_passes_everything_as_words() -> None:
    command = slurm.submit(submission(script="it's; odd", options=("--nohome",)))

    assert command.argv[-5:] == ("--account=a", "--chdir=/f", "--nohome", "--", "it's; odd")
    assert "A=x, y" in command.argv
    assert (command.stdin, command.repeatable) == (b"#!", True)


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
