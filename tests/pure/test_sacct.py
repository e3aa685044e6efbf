"""The accounting: what sacct and squeue of Slurm 22.05 print, recorded, put together by the gateway."""

import re
from pathlib import Path

import pytest

from schemas.compute import AccountedJob
from workers.host import Command
from workers.schedulers.sacct import accounting

RECORDED = Path(__file__).parent / "recorded"
NOW = "2026-11-22T20:01:41"


def read(sacct: str, squeue: str = "", *, now: str = NOW, **filters: str) -> list[AccountedJob]:
    """What is made of two recordings."""
    command: Command[list[AccountedJob]] = accounting(**{"ids": "", "start": "", "end": "", **filters})
    mark, token = command.argv[4], command.argv[5].rpartition(":")[2]
    told = f"{now}\n".encode() + ((RECORDED / squeue).read_bytes() if squeue else b"") if command.argv[6] else b""
    found = (RECORDED / sacct).read_bytes() if sacct else b""
    return command.parse((told + mark.encode() + found).replace(b"@SEP@", token.encode()))


def test_accounting_is_read_whatever_names_hold() -> None:
    jobs = read("sacct.txt")

    assert jobs[0].name == "na|me .:. é\nx"
    assert (jobs[0].state, jobs[-1].state, jobs[-1].exit_code) == ("CANCELLED by 1001", "COMPLETED", "0:0")
    assert all(job.time == job.cpu_time and job.time_left == job.termination_time for job in jobs)


def test_no_records_are_no_jobs() -> None:
    assert read("") == []


def test_what_slurmdbd_does_not_know_yet_is_told_by_slurmctld() -> None:
    jobs = {job.jobid: job for job in read("sacct-early.txt", "squeue-early.txt", ids="63,65,67,68")}

    assert {job: (found.state, found.name) for job, found in jobs.items()} == {
        "67": ("FAILED", "failed"),
        "63_[2-3%1]": ("PENDING", "arr"),
        "68_[1-2]": ("PENDING", "held"),
        "63_1": ("RUNNING", "arr"),
        "65": ("RUNNING", "na|me .:. é\nx"),
    }
    failed, held, running = (jobs[job] for job in ("67", "68_[1-2]", "65"))
    assert (failed.exit_code, failed.start_time, failed.termination_time) == ("3:0", NOW, NOW)
    assert (held.start_time, held.termination_time, held.nodelist, held.nodes) == ("Unknown", "Unknown", "None assigned", "1")
    assert (running.start_time, running.termination_time, running.elapsed_time) == ("2026-11-22T20:01:40", "Unknown", "00:00:01")
    assert all(job.user == "fcalice" and job.partition == "normal" and job.exit_code.endswith(":0") for job in jobs.values())


def test_what_has_ended_is_told_by_slurmdbd() -> None:
    (before,) = [job for job in read("sacct-early.txt") if job.jobid == "67"]
    settled = (RECORDED / "sacct-early.txt").read_text().replace("67@SEP@@SEP@allocation", "67@SEP@debug@SEP@as told")

    assert before.name == "allocation"
    command = accounting(ids="67", start="", end="")
    mark, token = command.argv[4], command.argv[5].rpartition(":")[2]
    text = f"{NOW}\n{(RECORDED / 'squeue-early.txt').read_text()}{mark}{settled}".replace("@SEP@", token)
    assert [job.name for job in command.parse(text.encode()) if job.jobid == "67"] == ["as told"]


@pytest.mark.parametrize(
    ("filters", "now", "ids"),
    [
        ({}, NOW, {"63_[2-3%1]", "63_1", "65", "67", "68_[1-2]"}),
        ({}, "2026-11-23T00:00:00", set()),
        ({"end": "2026-11-23"}, NOW, set()),
        ({"start": "2026-11-22"}, NOW, set()),
        ({"start": "2026-11-22", "ids": "63,67"}, NOW, {"63_[2-3%1]", "63_1", "65", "67", "68_[1-2]"}),
        ({"start": "2026-11-22", "ids": "63,67"}, "2026-11-22T20:02:42", {"63_[2-3%1]", "63_1", "65", "68_[1-2]"}),
        ({"ids": "63_[2-2],68"}, NOW, {"63_[2-3%1]", "65", "67", "68_[1-2]"}),
    ],
)
def test_slurmctld_adds_what_was_asked_for(filters: dict[str, str], now: str, ids: set[str]) -> None:
    assert {job.jobid for job in read("", "squeue-early.txt", now=now, **filters)} == ids


def test_filters_are_words_of_their_own() -> None:
    both, ended = accounting(ids="1,2_[1-3]", start="2026-01-01", end="").argv, accounting(ids="1", start="", end="2026-01-01").argv

    assert both[6] == "--jobs=1,2"
    assert {"--jobs=1,2", "--starttime=2026-01-01"} < set(both)
    assert not any(word.startswith("--endtime") for word in both)
    assert ended[6] == ""
    assert accounting(ids="", start="", end="").argv[6] == "--me"
    assert re.fullmatch(r"JobArrayID:[0-9a-f]{16},.*,TimeUsed:[0-9a-f]{16}", both[5])
