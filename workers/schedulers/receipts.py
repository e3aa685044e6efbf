"""Submitting at most once, whatever the scheduler: the program that runs on the system, and the reading of its failures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from schemas.errors import CommandFailed, FirecrestError, StillUnderWay
from workers.failures import failure
from workers.host import Command
from workers.schedulers.scheduler import Submission
from workers.streams import Source

T = TypeVar("T")

_STILL_SUBMITTING = 75
_REFUSED = 76


# Runs at most one submission per receipts folder however often it is called: a constant program, its data are arguments and
# stdin (the variables, then the script), or INPUT, which is taken only whole. A lost connection must not stop it between submission and
# receipt, hence the trap; the receipt's block is written beforehand, so that no full disk can keep the job id out of it;
# LC_ALL is the gateway's, not the job's. What shows the job has no limit, which takes a process, until it has once taken too long.
_SUBMIT = r"""
receipts=$1 folder=$2 script=$3 given=$4 mark=$5 variables=$6 size=$7 session=$8 before=$9; shift 9
show=$1 limit=; shift
trap '' HUP PIPE TERM
receipt() {
  id=
  [ -f "$receipts/receipt" ] || return 1
  while IFS= read -r line; do
    case $line in $before[0-9]*) id=${line##$before} id=${id%%[!0-9]*} ;; esac
  done <"$receipts/receipt"
  [ -n "$id" ]
}
[ -d "$receipts" ] || mkdir -p -- "$receipts" || exit
incoming=$receipts/incoming.$$ environment=$receipts/environment
clear() { [ "$variables" = 0 ] || rm -f -- "$incoming" "$environment"; }
take() {
  if [ -n "${_firecrest_input+x}" ]; then
    printf %s "$_firecrest_input" >"$1" 2>/dev/null && return
    said=$(printf %s "$_firecrest_input" | dd bs=64k of="$1" 2>&1)
  else
    said=$(dd bs=64k of="$1" 2>&1)
  fi || { printf '%s\n' "$said" >&2; return 1; }
  case $said in *"
$size byte"*) ;; *) rm -f -- "$1"; echo 'only a part of the script came' >&2; exit 75 ;; esac
}
if [ "$variables" -gt 0 ]; then (umask 077; take "$incoming") || exit; fi
exec 9>"$receipts/lock" || exit
flock -w 30 -E 75 9 || { code=$?; clear; echo 'the lock cannot be had' >&2; exit $code; }
if ! receipt; then
  if [ "$given" = 1 ] && [ "$variables" = 0 ]; then
    take "$folder/$script" || exit
  elif [ "$given" = 1 ]; then
    tail -c "+$((variables + 1))" <"$incoming" >"$folder/$script" || exit
  fi
  unset LC_ALL
  if [ "$variables" -gt 0 ]; then
    (umask 077; { [ "$session" = 0 ] || env -0; } >"$environment" && head -c "$variables" <"$incoming" >>"$environment") || exit
  fi
  printf '%4096s\n' '' >"$receipts/receipt" || exit
  "$@" 1<>"$receipts/receipt" 2>"$receipts/refused" </dev/null 9>&- ||
    { clear; cat "$receipts/refused" >&2; exit 76; }
  receipt || { echo 'the scheduler did not tell the job id' >&2; cat "$receipts/refused" >&2; exit 76; }
else
  limit='timeout 10'
fi
clear
printf '%s\n%s\n' "$id" "$mark"
set -- "$id"
eval "$limit $show" 2>&1 || :
"""


@dataclass(frozen=True)
class Submitter:
    """What the program must be told of a scheduler.

    `words` submit; they find the variables in the file `environment` of the receipts folder, behind those of the session if
    `session` says so. The job id is the number that follows `before`, a pattern of the shell, in a line that they print.
    `show` is a program and its words that print the facts of the job whose id is `$1`.
    """

    words: Sequence[str]
    variables: bytes
    session: bool
    before: str
    show: str


def environment(job: Submission) -> str:
    """Path of the file that holds the variables while the job is submitted."""
    return f"{job.receipts}/environment"


def submission(job: Submission, by: Submitter, parse: Callable[[bytes], T], *, mark: str) -> Command[T]:
    """A command that submits once; `parse` is given the job id, a line of its own, the mark likewise, and what `show` printed."""
    script = job.content or Source(0, tuple)
    stdin = Source(len(by.variables) + script.size, lambda: chain((by.variables,), script.pieces()))
    given = "0" if job.content is None else "1"
    facts = (job.receipts, job.folder, job.script, given, mark, str(len(by.variables)), str(stdin.size), str(int(by.session)), by.before)
    return Command(
        ("sh", "-c", _SUBMIT, "sh", *facts, by.show, *by.words), parse, stdin=stdin, repeatable=True, sparing=True, fails=_refused
    )


def _refused(code: int, message: str) -> FirecrestError:
    if code == _STILL_SUBMITTING:
        return StillUnderWay(message)
    return CommandFailed(message) if code == _REFUSED else failure(code, message)
