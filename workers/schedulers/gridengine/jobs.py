"""Jobs of Grid Engine: submitted, in the queue, cancelled."""

import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial

from schemas.compute import Submitted
from schemas.errors import CommandFailed, FirecrestError, TimedOut
from workers.failures import TIMED_OUT
from workers.host import Command
from workers.schedulers import receipts
from workers.schedulers.gridengine import programs
from workers.schedulers.gridengine.options import options
from workers.schedulers.scheduler import Queued, Submission, Tails

_ID = re.compile(r"(\d+)(?:_(\d+)|_\[(\d+-\d+)\])?", re.ASCII)
_EACH = re.compile(r":1(?!\d)")
_NO_END = 2**31
_DENIED = "you do not have the necessary privileges"
_REASONED = ("PENDING", "FAILED")

# The first letters that a state of qstat(1) holds tell what it is, in this order.
_STATES = (("d", "COMPLETING"), ("E", "FAILED"), ("q", "PENDING"), ("sST", "SUSPENDED"), ("rt", "RUNNING"))


def submit(job: Submission) -> Command[Submitted]:
    """Submit once, whatever happens: a repeated call finds the receipt of the first."""
    mark = secrets.token_hex(16)
    qsub = ["-terse", "-cwd", *job.options, *options(job), "-sync", "n", f"./{job.script}"]
    handed = receipts.environment(job) if job.request.env else ""
    variables = "".join(f"{name}\n{_one_line(value)}\n" for name, value in job.request.env.items()).encode()
    words = ("sh", "-c", programs.SUBMIT, "sh", job.folder, handed, *qsub)
    by = receipts.Submitter(words, variables, session=False, before="", show=programs.SHOW)
    return receipts.submission(job, by, partial(_submitted, mark=mark), mark=mark)


def _one_line(value: str) -> str:
    return value.replace("\\", r"\0134").replace("\n", r"\0012")


def _submitted(stdout: bytes, *, mark: str) -> Submitted:
    job_id, _, shown = stdout.decode(errors="replace").partition(f"\n{mark}\n")
    found = next(records(shown, programs.JOB_FIELDS), None)
    if found is None:
        missing = "Not available"
        return Submitted(jobid=job_id, job_file=missing, job_file_out=missing, job_file_err=missing, job_info_extra=shown.strip())
    return Submitted(jobid=job_id, job_file=found["script"], job_file_out=found["stdout"], job_file_err=found["stderr"])


def records(text: str, fields: Sequence[str]) -> Iterator[dict[str, str]]:
    """The lines of a text that hold just these fields."""
    for line in text.split("\n"):
        values = line.split(programs.SEPARATOR)
        if len(values) == len(fields):
            yield dict(zip(fields, values, strict=True))


def queue(*, ids: str | None, user: str | None, tails: Tails | None) -> Command[list[Queued]]:
    """The jobs in the queue, of one user and with these ids if given, and the ends of their output."""
    wanted = known_ids(ids)
    mark = secrets.token_hex(16)
    single = wanted[0].partition("_")[0] if len(wanted) == 1 else ""
    count, start, stop = (str(tails.count), tails.start, tails.stop) if tails else ("", 0, None)
    facts = (mark, user or "*", " ".join(wanted), single, count, str(start), str(_NO_END if stop is None else stop))
    return Command(("sh", "-c", programs.QUEUE, "sh", *facts), partial(_queued, mark=mark), repeatable=True, fails=failed)


def known_ids(ids: str | None) -> list[str]:
    """Ids as our programs take them: 12, or 12_3 for a task; what is one of several tasks stands for all of them."""
    return [number if task is None else f"{number}_{task}" for number, task, _ in _parsed(ids or "")]


def _parsed(ids: str) -> Iterator[tuple[str, str | None, str | None]]:
    """Number, task and range of tasks of each id; raises CommandFailed for what is none, such as 12+0."""
    for one in filter(None, ids.split(",")):
        match = _ID.fullmatch(one)
        if not match:
            raise CommandFailed(f"error: Invalid job id specified: {one} is no job of Grid Engine")
        yield match[1], match[2], match[3]


def _queued(stdout: bytes, *, mark: str) -> list[Queued]:
    now, *parts = stdout.decode(errors="replace").split(mark)[:-1]
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return [
        _job(record, now.strip(), output=output.removesuffix("\n"), errors=errors.removesuffix("\n"))
        for shown, output, errors in triples
        for record in records(shown, programs.JOB_FIELDS)
    ]


def _job(record: dict[str, str], now: str, *, output: str, errors: str) -> Queued:
    state = state_of(record["state"])
    ran = ran_for(record, now)
    reason = f"({record['reason']})"
    return Queued(
        jobid=job_id(record["number"], record["tasks"]),
        partition=record["partition"] or "N/A",
        name=record["name"],
        user=record["owner"],
        state=state,
        start_time=record["start_time"] or "N/A",
        time=_brief(ran),
        time_left=_left(record["limit"], ran),
        nodes=str(len(record["hosts"].split(","))),
        nodelist=reason if state in _REASONED else record["hosts"],
        script=record["script"],
        stdout=record["stdout"],
        stderr=record["stderr"],
        output=output,
        errors=errors,
    )


def state_of(letters: str) -> str:
    """Slurm's word for a state of qstat(1), which passes through when it has none."""
    return next((word for signs, word in _STATES if any(sign in letters for sign in signs)), letters)


def job_id(number: str, tasks: str) -> str:
    """The id of a job, of a task of it, or of several tasks that wait together."""
    if not tasks or tasks == "0":
        return number
    return f"{number}_{tasks}" if tasks.isdigit() else f"{number}_[{re.sub(_EACH, '', tasks)}]"


def ran_for(record: dict[str, str], now: str) -> int:
    """Seconds since the start of a job, both times being local ones of the system."""
    start = record["start_time"]
    return max(0, int((datetime.fromisoformat(now) - datetime.fromisoformat(start)).total_seconds())) if start else 0


def _left(limit: str, ran: int) -> str:
    if not limit:
        return "NOT_SET"
    return "UNLIMITED" if limit == "-1" else _brief(max(0, int(limit) - ran))


def _brief(seconds: int) -> str:
    """A time as squeue writes it: 0:07, 1:00:00, 2-00:00:00."""
    whole = spelled(seconds)
    return re.sub(r"^00:0?", "", whole) if seconds < _HOUR else whole.removeprefix("0") if seconds < _DAY else whole


def spelled(seconds: int) -> str:
    """A time as sacct writes it: 00:00:07, 2-00:00:00."""
    days, rest = divmod(seconds, _DAY)
    clock = f"{rest // _HOUR:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


_HOUR = 3600
_DAY = 24 * _HOUR


def cancel(ids: str) -> Command[str]:
    """Cancel jobs; what qdel says of it."""
    parsed = list(_parsed(ids))
    if not parsed:
        raise CommandFailed("error: Invalid job id specified")
    words = [f"{number}.{task or tasks}" if task or tasks else number for number, task, tasks in parsed]
    argv = ("sh", "-c", programs.CANCEL, "sh", " ".join(known_ids(ids)), *words)
    return Command(argv, lambda stdout: stdout.decode(errors="replace").strip(), repeatable=True, fails=_uncancelled)


def _uncancelled(code: int, message: str) -> FirecrestError:
    return CommandFailed("User does not have permission to cancel job") if _DENIED in message else failed(code, message)


def failed(code: int, message: str) -> FirecrestError:
    """A failure in Grid Engine's own words."""
    return TimedOut("Command has finished with timeout signal") if code == TIMED_OUT else CommandFailed(message)
