"""Accounting of Grid Engine, made whole with the jobs still in the queue and those cancelled through us."""

import secrets
from collections.abc import Container
from datetime import datetime
from functools import partial

from schemas.compute import AccountedJob
from schemas.moments import time_format
from workers.host import Command
from workers.schedulers.gridengine import programs
from workers.schedulers.gridengine.jobs import failed, job_id, known_ids, ran_for, records, spelled, state_of

_UNKNOWN = "Unknown"
_RAN_TOO_LONG = "37"
_REQUEUED = ("24", "25")
_SIGNALLED = 128

_Record = dict[str, str]


def accounting(*, ids: str, start: str, end: str) -> Command[list[AccountedJob]]:
    """The jobs in the accounting records, by the meanings that sacct gives to ids and times."""
    mark = secrets.token_hex(16)
    words = ("sh", "-c", programs.ACCOUNTING, "sh", mark, " ".join(known_ids(ids)), _moment(start), _moment(end))
    return Command(words, partial(_accounted, mark=mark, ids=ids), repeatable=True, fails=failed)


def _moment(text: str) -> str:
    """A moment as date(1) reads it, "Y" standing for this year; a time without a day is today's."""
    form = time_format(text) if text else None
    if form is None:
        return ""
    dated, timed = "%y" in form.lower(), "%M" in form
    read = datetime.strptime(text if dated else f"2000 {text}", form if dated else f"%Y {form}")  # noqa: DTZ007 (the system knows its zone)
    day = f"{read:%Y-%m-%d}" if dated else f"Y-{read:%m-%d}" if "%d" in form else ""
    return f"{day} {read:%H:%M:%S}".strip() if timed else day


def _accounted(stdout: bytes, *, mark: str, ids: str) -> list[AccountedJob]:
    window, ended, waiting, cancelled_text, _ = stdout.decode(errors="replace").split(mark)
    start, end, now = window.split()
    cancelled = list(records(cancelled_text, programs.CANCELLED_FIELDS))
    killed = {(record["number"], record["submitted"]) for record in cancelled}
    found = {_key(record): _ended(record, killed) for record in records(ended, programs.RECORD_FIELDS)}
    numbers = {one.partition("_")[0] for one in known_ids(ids)}
    for record in cancelled:
        never_started = "q" in record["state"] and (not numbers or record["number"] in numbers)
        if never_started and int(record["cancelled"]) >= int(start) and int(record["submitted"]) <= int(end):
            found.setdefault(_key(record), _never_started(record))
    for record in records(waiting, programs.JOB_FIELDS):
        if int(record["submitted"]) <= int(end):
            found[_key(record)] = _unended(record, now)
    return [found[key] for key in sorted(found)]


def _key(record: _Record) -> tuple[int, int, str]:
    task = record["task"] if "task" in record else record["tasks"]
    return int(record["number"]), int(task) if task.isdigit() else 0, "" if task.isdigit() else task


def _ended(record: _Record, killed: Container[tuple[str, str]]) -> AccountedJob:
    state, code = _outcome(record["failed"], int(record["exit"]))
    if (record["number"], record["submitted"]) in killed and state == "FAILED":
        state = "CANCELLED"
    return _account(
        jobid=job_id(record["number"], record["task"]),
        partition=record["partition"],
        name=record["name"],
        user=record["owner"],
        state=state,
        start_time=record["start_time"] if int(record["start"]) else _UNKNOWN,
        end=record["end_time"] if int(record["end"]) else _UNKNOWN,
        elapsed=int(float(record["elapsed"])),
        slots=int(record["slots"]),
        hosts=record["host"],
        exit_code=code,
    )


def _outcome(failed_: str, exit_status: int) -> tuple[str, str]:
    """State and exit code, in Slurm's words, for two fields of accounting(5)."""
    code = f"0:{exit_status - _SIGNALLED}" if failed_ != "0" and exit_status > _SIGNALLED else f"{exit_status}:0"
    if failed_ == _RAN_TOO_LONG:
        return "TIMEOUT", code
    if failed_ in _REQUEUED:
        return "REQUEUED", code
    return "COMPLETED" if failed_ == "0" and exit_status == 0 else "FAILED", code


def _never_started(record: _Record) -> AccountedJob:
    return _account(
        jobid=job_id(record["number"], record["tasks"]),
        partition=record["partition"],
        name=record["name"],
        user=record["owner"],
        state="CANCELLED",
        start_time=_UNKNOWN,
        end=record["end_time"],
    )


def _unended(record: _Record, now: str) -> AccountedJob:
    return _account(
        jobid=job_id(record["number"], record["tasks"]),
        partition=record["partition"],
        name=record["name"],
        user=record["owner"],
        state=state_of(record["state"]),
        start_time=record["start_time"] or _UNKNOWN,
        elapsed=ran_for(record, now),
        slots=int(record["slots"]),
        hosts=record["hosts"],
    )


def _account(
    *, start_time: str, end: str = _UNKNOWN, elapsed: int = 0, slots: int = 1, hosts: str = "", exit_code: str = "0:0", **facts: str
) -> AccountedJob:
    cpu_time = spelled(elapsed * slots)
    return AccountedJob(
        **{**facts, "partition": facts["partition"] or "N/A"},
        start_time=start_time,
        time=cpu_time,
        cpu_time=cpu_time,
        elapsed_time=spelled(elapsed),
        termination_time=end,
        time_left=end,
        nodes=str(len(hosts.split(","))),
        nodelist=hosts or "None assigned",
        exit_code=exit_code,
    )
