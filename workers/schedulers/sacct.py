"""Slurm's accounting records, and what slurmctld knows before they do, in one command."""

import re
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from schemas.compute import AccountedJob
from workers.host import Command
from workers.schedulers.fields import layout, records, separator
from workers.schedulers.job_ids import meant, root, whole_arrays
from workers.schedulers.squeue import ENDED, UNSET

_ACCOUNTED = ("jobid", "partition", "jobname", "user", "state", "start", "cputime", "end", "nnodes", "nodelist", "exitcode", "elapsed")
_LIVE = (
    *("JobArrayID", "Partition", "Name", "UserName", "State", "StartTime", "EndTime", "SubmitTime"),
    *("NumCPUs", "NumNodes", "NodeList", "exit_code", "TimeUsed"),
)
_LAG = timedelta(minutes=1)
_DAY = 86400

# slurmctld tells slurmdbd what happens some seconds later; a slurmctld that does not answer is done without.
_BOTH: Final = f"""
mark=$1 format=$2 whose=$3; shift 3
{UNSET}
if [ -n "$whose" ]; then
  date +%Y-%m-%dT%H:%M:%S
  timeout 10 squeue --noheader --states=all "--Format=$format" "$whose" 2>/dev/null
fi
printf %s "$mark"
exec "$@"
"""


def accounting(*, ids: str, start: str, end: str) -> Command[list[AccountedJob]]:
    """The jobs in the accounting records; those that have not ended as slurmctld knows them, unless times say which are wanted."""
    token, mark = separator(), separator()
    sacct = ["sacct", "-X", "--noheader", "--parsable", f"--delimiter={token}", f"--format={','.join(_ACCOUNTED)}"]
    options = {"--jobs": whole_arrays(ids), "--starttime": start, "--endtime": end}
    sacct += [f"{option}={value}" for option, value in options.items() if value]
    whose = "" if end or (start and not ids) else f"--jobs={whole_arrays(ids)}" if ids else "--me"
    parse = partial(_accounted, token=token, mark=mark, ids=ids, lately=bool(start))
    return Command(("sh", "-c", _BOTH, "sh", mark, layout(_LIVE, token), whose, *sacct), parse, repeatable=True)


def _accounted(stdout: bytes, *, token: str, mark: str, ids: str, lately: bool) -> list[AccountedJob]:
    head, _, tail = stdout.partition(mark.encode())
    now, _, queue = head.partition(b"\n")
    known = [_account(record) for record in records(tail, token, _ACCOUNTED)]
    live = [_live(record) for record in records(queue, token, _LIVE) if ids or record["SubmitTime"][:10] == now[:10].decode()]
    if lately and live:
        since = (datetime.fromisoformat(now.decode()) - _LAG).isoformat()
        live = [job for job in live if not _ended(job) or job.termination_time > since]
    return [job for job in _merged(known, live) if not ids or meant(job.jobid, ids)]


def _account(record: dict[str, str]) -> AccountedJob:
    return AccountedJob(
        **{name: record[name] for name in ("jobid", "partition", "user", "state", "nodelist")},
        name=record["jobname"],
        start_time=record["start"],
        time=record["cputime"],
        cpu_time=record["cputime"],
        elapsed_time=record["elapsed"],
        termination_time=record["end"],
        time_left=record["end"],
        nodes=record["nnodes"],
        exit_code=record["exitcode"],
    )


def _live(record: dict[str, str]) -> AccountedJob:
    """A job of the queue in the words of sacct."""
    seconds, status, waits = _seconds(record["TimeUsed"]), _number(record["exit_code"]), record["State"] == "PENDING"
    return _account(
        {
            "jobid": record["JobArrayID"],
            "partition": record["Partition"],
            "jobname": record["Name"],
            "user": record["UserName"],
            "state": record["State"],
            "start": "Unknown" if waits else record["StartTime"],
            "end": record["EndTime"] if record["State"] in ENDED else "Unknown",
            "elapsed": _clock(seconds),
            "cputime": _clock(seconds * _number(record["NumCPUs"])),
            "nnodes": record["NumNodes"],
            "nodelist": record["NodeList"] or "None assigned",
            "exitcode": f"{status >> 8}:{status & 127}",
        }
    )


def _number(text: str) -> int:
    digits = re.match(r"\d+", text, re.ASCII)
    return int(digits[0]) if digits else 0


def _seconds(text: str) -> int:
    """The seconds of `[days-][hours:]minutes:seconds`; 0 of what squeue says when clocks differ."""
    time = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text, re.ASCII)
    days, hours, minutes, seconds = map(int, time.groups("0")) if time else (0, 0, 0, 0)
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, _DAY)
    return f"{f'{days}-' if days else ''}{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _merged(known: list[AccountedJob], live: list[AccountedJob]) -> list[AccountedJob]:
    """What is settled as the accounting has it, everything else as slurmctld has it, if it does."""
    settled = [job for job in known if _settled(job)]
    told = {job.jobid for job in settled} | {root(job.jobid) for job in settled if "[" in job.jobid}
    news = [job for job in live if job.jobid not in told]
    roots = {root(job.jobid) for job in news}
    return [job for job in known if _settled(job) or root(job.jobid) not in roots] + news


def _settled(job: AccountedJob) -> bool:
    """Whether nothing more will be told; slurmdbd has jobs without partition and name until it hears of their submission."""
    return _ended(job) and bool(job.partition)


def _ended(job: AccountedJob) -> bool:
    return job.state.partition(" ")[0] in ENDED
