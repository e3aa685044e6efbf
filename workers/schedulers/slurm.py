"""Slurm: each function is a command together with the reading of its output."""

import re
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from pydantic import ValidationError

from schemas.cluster import Node, Partition, Reservation
from schemas.compute import JobRequest, Submitted
from schemas.errors import CommandFailed, FirecrestError
from workers.host import Command
from workers.schedulers import receipts
from workers.schedulers.job_ids import listed
from workers.schedulers.sacct import accounting
from workers.schedulers.scheduler import Submission
from workers.schedulers.scontrol import records
from workers.schedulers.squeue import ENDED, UNSET, queue

__all__ = ["JOB_ID", "accounting", "cancel", "nodes", "partitions", "ping", "queue", "reservations", "submit"]

T = TypeVar("T")

JOB_ID = "%j"

_SHOW = 'scontrol show job "$1"'

# Runs sbatch and the words behind it unless one of the jobs before it is known not to have ended well, or not known at all.
# Slurm would drop a dependency on a job that its controller has forgotten (MinJobAge), and start at once; its accounting
# records know better.
_AFTER = rf"""
refuse() {{ printf 'Job dependency problem: job %s %s\n' "$1" "$2" >&2; exit 1; }}
while [ "$1" != sbatch ]; do
  id=${{1%_\*}}; shift
  said=$({UNSET}; squeue --noheader --states=all --format=%T --jobs="$id" 2>&1) ||
    case $said in *'Invalid job id'*) said= ;; *) printf '%s\n' "$said" >&2; exit 1 ;; esac
  if [ -n "$said" ]; then
    bad=$(printf '%s\n' "$said" | grep -m 1 -xE '{"|".join(state for state in ENDED if state != "COMPLETED")}')
  else
    states=$(sacct --allusers --allocations --noheader --parsable2 --format=State --jobs="$id") || exit
    [ -n "$states" ] || refuse "$id" 'is not known'
    bad=$(printf '%s\n' "$states" | grep -m 1 -vx COMPLETED)
  fi
  [ -z "$bad" ] || refuse "$id" "has ended: $bad"
done
exec "$@"
"""


def submit(job: Submission) -> Command[Submitted]:
    """Submit once, whatever happens: a repeated call finds the receipt of the first."""
    mark = secrets.token_hex(16)
    handed = [f"--export-file={receipts.environment(job)}"] if job.request.env else []
    checking = ["sh", "-c", _AFTER, "sh", *job.after] if job.after else []
    waiting = [f"--dependency=afterok:{':'.join(job.after)}", "--kill-on-invalid-dep=yes"] if job.after else []
    words = [*checking, "sbatch", *handed, *_asked(job.request), *waiting, f"--chdir={job.folder}", *job.options, "--", job.script]
    variables = "".join(f"{name}={value}\0" for name, value in job.request.env.items()).encode()
    by = receipts.Submitter(words, variables, session=True, before="*[Ss]ubmitted batch job ", show=_SHOW)
    return receipts.submission(job, by, partial(_submitted, mark=mark), mark=mark)


_OTHER_NAMES = {"memory": "mem"}


def _asked(request: JobRequest) -> list[str]:
    """What the caller asks for, as words for sbatch, which heeds them more than what the script says."""
    asked = {name: value for name in JobRequest.model_fields if name != "env" and (value := getattr(request, name)) is not None}
    return [f"--{option_name(name)}={value}" for name, value in asked.items()]


def option_name(field: str) -> str:
    """The word of sbatch for a field of the request."""
    return _OTHER_NAMES.get(field, field).replace("_", "-")


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


def cancel(ids: str) -> Command[str]:
    """Cancel jobs; what scancel says of it."""
    words = ("sh", "-c", 'scancel -v -- "$@" 2>&1', "sh", *listed(ids))
    return Command(words, _cancelled, repeatable=True, fails=_uncancelled)


def _cancelled(stdout: bytes) -> str:
    said = stdout.decode(errors="replace").strip()
    if "error" in said:
        raise CommandFailed(said)
    return said


_NOT_ALLOWED = 210


def _uncancelled(code: int, message: str) -> FirecrestError:
    return CommandFailed("User does not have permission to cancel job" if code == _NOT_ALLOWED else message)


def nodes(names: Sequence[str]) -> Command[list[Node]]:
    """The nodes of these names, all when there are none."""
    return _shown("nodes", *(("--", ",".join(names)) if names else ()), reading=_node)


def partitions() -> Command[list[Partition]]:
    """All partitions."""
    return _shown("partitions", reading=Partition.model_validate)


def reservations() -> Command[list[Reservation]]:
    """All reservations."""
    return _shown("reservations", reading=_reservation)


def _shown(*what: str, reading: Callable[[dict[str, str]], T]) -> Command[list[T]]:
    def parse(stdout: bytes) -> list[T]:
        try:
            return [reading(record) for record in records(stdout)]
        except ValidationError as wrong:
            missing = ", ".join(str(error["loc"][0]) for error in wrong.errors())
            raise CommandFailed(f"Slurm did not tell {missing} of {what[0]}") from None

    words = ("env", "SLURM_TIME_FORMAT=standard", "scontrol", "--all", "--oneliner", "show", *what)
    return Command(words, parse, repeatable=True, fails=_unshown)


def _unshown(_: int, said: str) -> FirecrestError:
    """What scontrol says, which it prints among the records of what there is."""
    return CommandFailed("\n".join(line for line in said.splitlines() if not re.match(r"\w+Name=", line)))


def _node(record: dict[str, str]) -> Node:
    return Node(
        node_name=record["NodeName"],
        active_features=_split(record.get("ActiveFeatures"), ","),
        partitions=_split(record.get("Partitions"), ","),
        state=_split(record.get("State"), "+"),
    )


def _reservation(record: dict[str, str]) -> Reservation:
    return Reservation.model_validate({**record, "Features": _split(record.get("Features"), "&")})


def _split(text: str | None, mark: str) -> list[str] | None:
    return None if text is None else [] if text in ("", "(null)") else text.split(mark)


def ping() -> Command[bool]:
    """Whether a controller, the primary one or a backup, is up."""
    return Command(("scontrol", "ping"), lambda stdout: b" is UP" in stdout, repeatable=True)
