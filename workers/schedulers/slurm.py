"""Slurm: each function is a command together with the reading of its output."""

import re
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

from pydantic import ValidationError

from schemas.cluster import Node, Partition, Reservation
from schemas.compute import JobRequest, Submitted
from schemas.errors import CommandFailed, FirecrestError, StillUnderWay
from workers.failures import failure
from workers.host import Command
from workers.schedulers.job_ids import listed
from workers.schedulers.sacct import accounting
from workers.schedulers.scheduler import Submission
from workers.schedulers.scontrol import records
from workers.schedulers.squeue import queue
from workers.streams import Source

__all__ = ["accounting", "cancel", "nodes", "partitions", "queue", "reservations", "submit"]

_STILL_SUBMITTING = 75

T = TypeVar("T")


# Runs at most one sbatch per receipts folder however often it is called: a constant program, its data are arguments and
# stdin (the variables, then the script), which is taken only whole. A lost connection must not stop it between sbatch and
# receipt, hence the trap; the receipt's block is written beforehand, so that no full disk can keep the job id out of it;
# LC_ALL is the gateway's, not the job's.
_SUBMIT = r"""
receipts=$1 folder=$2 script=$3 given=$4 mark=$5 variables=$6 size=$7; shift 7
trap '' HUP PIPE TERM
receipt() {
  id=
  [ -f "$receipts/receipt" ] || return 1
  while IFS= read -r line; do
    case $line in *[Ss]'ubmitted batch job '[0-9]*) id=${line##*'ubmitted batch job '} id=${id%%[!0-9]*} ;; esac
  done <"$receipts/receipt"
  [ -n "$id" ]
}
[ -d "$receipts" ] || mkdir -p -- "$receipts" || exit
incoming=$receipts/incoming.$$ environment=$receipts/environment
if [ "$size" -gt 0 ]; then
  (umask 077; cat >"$incoming") || exit
  [ "$(wc -c <"$incoming")" -eq "$size" ] || { rm -f -- "$incoming"; echo 'only a part of the script came' >&2; exit 75; }
fi
exec 9>"$receipts/lock" || exit
flock -w 30 -E 75 9 || { code=$?; rm -f -- "$incoming"; echo 'the lock cannot be had' >&2; exit $code; }
if ! receipt; then
  if [ "$given" = 1 ]; then tail -c "+$((variables + 1))" <"$incoming" >"$folder/$script" || exit; fi
  unset LC_ALL
  if [ "$variables" -gt 0 ]; then
    (umask 077; { env -0 && head -c "$variables" <"$incoming"; } >"$environment") || exit
    sbatch=$1; shift
    set -- "$sbatch" "--export-file=$environment" "$@"
  fi
  printf '%4096s\n' '' >"$receipts/receipt" || exit
  "$@" 1<>"$receipts/receipt" 2>"$receipts/refused" </dev/null 9>&- ||
    { code=$?; rm -f -- "$incoming" "$environment"; cat "$receipts/refused" >&2; exit $code; }
  receipt || { echo 'sbatch did not tell the job id' >&2; exit 1; }
fi
rm -f -- "$incoming" "$environment"
printf '%s\n%s\n' "$id" "$mark"
timeout 10 scontrol show job "$id" 2>&1 || :
"""


def submit(job: Submission) -> Command[Submitted]:
    """Submit once, whatever happens: a repeated call finds the receipt of the first."""
    mark = secrets.token_hex(16)
    sbatch = ["sbatch", *_asked(job.request), f"--chdir={job.folder}", *job.options, "--", job.script]
    variables = "".join(f"{name}={value}\0" for name, value in job.request.env.items()).encode()
    script = job.content or Source(0, tuple)
    stdin = Source(len(variables) + script.size, lambda: chain((variables,), script.pieces()))
    given = "0" if job.content is None else "1"
    facts = (job.receipts, job.folder, job.script, given, mark, str(len(variables)), str(stdin.size))
    words = ("sh", "-c", _SUBMIT, "sh", *facts, *sbatch)
    return Command(words, partial(_submitted, mark=mark), stdin=stdin, repeatable=True, fails=_refused)


_OTHER_NAMES = {"memory": "mem"}


def _asked(request: JobRequest) -> list[str]:
    """What the caller asks for, as words for sbatch, which heeds them more than what the script says."""
    asked = {name: value for name in JobRequest.model_fields if name != "env" and (value := getattr(request, name)) is not None}
    return [f"--{_OTHER_NAMES.get(name, name).replace('_', '-')}={value}" for name, value in asked.items()]


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


def _refused(code: int, message: str) -> FirecrestError:
    if code == _STILL_SUBMITTING:
        return StillUnderWay(message)
    return CommandFailed(message) if "sbatch" in message else failure(code, message)


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
