"""Slurm: each function is a command together with the reading of its output.

Fields are separated by a token that nobody can guess, since job names may hold any character.
"""

import posixpath
import re
import secrets
from collections.abc import Iterator
from functools import partial

from schemas.compute import AccountedJob, Submitted
from schemas.errors import CommandFailed, FirecrestError
from workers.host import Command
from workers.schedulers import receipts
from workers.schedulers.scheduler import Queued, Submission, Tails

_NONE = "(null)"
_WIDEST = 10  # of the numbers in file names, says sbatch(1)


_SHOW = 'scontrol show job "$1"'


def submit(job: Submission) -> Command[Submitted]:
    """Submit once, whatever happens: a repeated call finds the receipt of the first."""
    mark = secrets.token_hex(16)
    account = [f"--account={job.request.account}"] if job.request.account else []
    handed = [f"--export-file={receipts.environment(job)}"] if job.request.env else []
    words = ["sbatch", *handed, *account, f"--chdir={job.folder}", *job.options, "--", job.script]
    variables = "".join(f"{name}={value}\0" for name, value in job.request.env.items()).encode()
    by = receipts.Submitter(words, variables, session=True, before="*[Ss]ubmitted batch job ", show=_SHOW)
    return receipts.submission(job, by, partial(_submitted, mark=mark), mark=mark)


def _submitted(stdout: bytes, *, mark: str) -> Submitted:
    job_id, _, record = stdout.decode(errors="replace").partition(f"\n{mark}\n")
    paths = _paths(record)
    if "Command" not in paths and "StdOut" not in paths:
        missing = "Not available"
        return Submitted(jobid=job_id, job_file=missing, job_file_out=missing, job_file_err=missing, job_info_extra=record.strip())
    return Submitted(
        jobid=job_id,
        job_file=paths.get("Command", "command-not-found"),
        job_file_out=paths.get("StdOut", "stdout-file-not-found"),
        job_file_err=paths.get("StdErr", "stderr-file-not-found"),
    )


def _paths(record: str) -> dict[str, str]:
    """The attributes of `scontrol show job` that have a line to themselves, the last of a name winning."""
    return dict(re.findall(r"^   (Command|StdOut|StdErr)=(.*)$", record, re.MULTILINE))


_QUEUE = ("JobArrayID", "Partition", "Name", "UserName", "State", "StartTime", "TimeUsed", "TimeLeft", "NumNodes", "ReasonList")
_SHOWN = ("jobid", "partition", "name", "user", "state", "start_time", "time", "time_left", "nodes", "nodelist")
_FILES = ("Command", "STDOUT", "STDERR", "JobID", "ArrayJobID", "ArrayTaskID")


def _whole_arrays(ids: str) -> str:
    # squeue prints 5_[1-3] for tasks that wait together, but neither it nor sacct takes it
    return re.sub(r"_\[[\d-]+\]", "", ids)


def _separator() -> str:
    # squeue --Format takes leading digits for the width of the field
    return secrets.choice("abcdef") + secrets.token_hex(8)[1:]


def queue(*, ids: str | None, user: str | None, tails: Tails | None) -> Command[list[Queued]]:
    """The jobs in the queue, of one user and with these ids if given."""
    separator = _separator()
    words = ["squeue", "--noheader", f"--Format={','.join(f'{field}:{separator}' for field in (*_QUEUE, *_FILES))}"]
    words += [f"--user={user}"] if user else []
    words += [f"--jobs={_whole_arrays(ids)}"] if ids else []
    return Command(tuple(words), partial(_queued, separator=separator), repeatable=True)


def _queued(stdout: bytes, *, separator: str) -> list[Queued]:
    return [_job(record) for record in _records(stdout, separator, len(_QUEUE) + len(_FILES))]


def _job(record: list[str]) -> Queued:
    queue_fields, (script, stdout, stderr, job_id, array_id, array_task) = record[: len(_QUEUE)], record[len(_QUEUE) :]
    shown = dict(zip(_SHOWN, queue_fields, strict=True))
    known = {"A": array_id if array_task.isdigit() else job_id, "a": array_task, "j": job_id, "J": job_id}
    known |= {"u": shown["user"], "x": shown["name"]}
    script = "" if script == _NONE else script
    return Queued(**shown, script=script, stdout=_filled(stdout, known), stderr=_filled(stderr, known))


def _filled(path: str, known: dict[str, str]) -> str:
    """A file name with the patterns of sbatch(1) filled in, as far as squeue tells them."""
    if path == _NONE:
        return ""
    folder, name = posixpath.split(path)
    if known["a"].isdigit() and name == f"slurm-{known['j']}.out":
        return posixpath.join(folder, f"slurm-{known['A']}_{known['a']}.out")

    def value(match: re.Match[str]) -> str:
        width, letter = match.groups()
        if letter == "%":
            return "%"
        found = known.get(letter)
        return match[0] if found is None else found.zfill(min(int(width or 0), _WIDEST)) if found.isdigit() else found

    return re.sub(r"%(\d{0,9})([a-zA-Z%])", value, path)


def cancel(ids: str) -> Command[str]:
    """Cancel jobs; what scancel says of it."""
    words = ("sh", "-c", 'scancel -v -- "$@" 2>&1', "sh", *ids.split(","))
    return Command(words, _cancelled, repeatable=True, fails=_uncancelled)


def _cancelled(stdout: bytes) -> str:
    said = stdout.decode(errors="replace").strip()
    if "error" in said:
        raise CommandFailed(said)
    return said


def _uncancelled(code: int, message: str) -> FirecrestError:
    return CommandFailed("User does not have permission to cancel job" if code == _NOT_ALLOWED else message)


_NOT_ALLOWED = 210

_ACCOUNTING = ("jobid", "partition", "jobname", "user", "state", "start", "cputime", "end", "nnodes", "nodelist", "exitcode", "elapsed")


def accounting(*, ids: str, start: str, end: str) -> Command[list[AccountedJob]]:
    """The jobs in the accounting records."""
    separator = _separator()
    words = ["sacct", "-X", "--noheader", "--parsable", f"--delimiter={separator}", f"--format={','.join(_ACCOUNTING)}"]
    options = {"--jobs": _whole_arrays(ids), "--starttime": start, "--endtime": end}
    words += [f"{option}={value}" for option, value in options.items() if value]
    return Command(tuple(words), partial(_accounted, separator=separator), repeatable=True)


def _accounted(stdout: bytes, *, separator: str) -> list[AccountedJob]:
    return [_account(dict(zip(_ACCOUNTING, record, strict=True))) for record in _records(stdout, separator, len(_ACCOUNTING))]


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


def _records(stdout: bytes, separator: str, width: int) -> Iterator[list[str]]:
    """Records of `width` fields, every field followed by the separator, every record by a newline."""
    fields = stdout.decode(errors="replace").split(separator)
    for start in range(0, len(fields) - width, width):
        first, *others = fields[start : start + width]
        yield [first.removeprefix("\n"), *others]
