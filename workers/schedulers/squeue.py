"""Slurm's queue, and the ends of what its jobs have written, in one command."""

from functools import partial
from typing import Final

from schemas.errors import CommandFailed
from workers.host import Command
from workers.schedulers.fields import layout, records, separator
from workers.schedulers.job_ids import meant, whole_arrays
from workers.schedulers.scheduler import WRITTEN_ONCE_STARTED, Queued, Tails

ENDED: Final = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)

# What a user has set for commands of their own must not change what is read here.
UNSET: Final = "unset SLURM_TIME_FORMAT SQUEUE_ARRAY SQUEUE_STATES SQUEUE_USERS SQUEUE_PARTITION SQUEUE_ACCOUNT SQUEUE_NAMES SQUEUE_QOS"

_ASKED = ("JobArrayID", "Partition", "Name", "UserName", "State", "StartTime", "TimeUsed", "TimeLeft", "NumNodes", "ReasonList")
_FILES = ("Command", "STDOUT", "STDERR", "JobID", "ArrayJobID", "ArrayTaskID", "SubmitTime")
_SHOWN = (
    "jobid",
    "partition",
    "name",
    "user",
    "state",
    "start_time",
    "time",
    "time_left",
    "nodes",
    "nodelist",
    "script",
    "stdout",
    "stderr",
)
_JUST_SUBMITTED = 30

# A constant program, its data are arguments. It prints the records that the awk program below makes of what squeue prints,
# then the end of each file that awk names on descriptor 3, and what is not there, or cannot be read in time, as empty.
_QUEUE = rf"""
program=$1 token=$2 mark=$3 ended=$4 waiting=$5 ago=$6 bytes=$7 first=$8 last=$9; shift 9
{UNSET}
since=
[ -z "$ago" ] || since=$(date -d "$ago seconds ago" +%Y-%m-%dT%H:%M:%S)
queue=$("$@") || exit
{{
  printf %s "$queue" |
    LC_ALL=C awk -v RS="$token" -v mark="$mark" -v ended="$ended" -v waiting="$waiting" -v since="$since" \
      -v first="$first" -v last="$last" "$program" 3>&1 >&4 |
    timeout -k 1 10 sh -c '
      while IFS= read -r path; do
        if [ -f "$path" ] && [ -s "$path" ]; then tail -c "$2" -- "$path" 2>/dev/null; fi
        printf %s "$1"
      done' sh "$token" "$bytes"
}} 4>&1
exit 0
"""

# Reads a field per record. Prints the jobs, their file names filled in as sbatch(1) says, as far as squeue tells what to fill in,
# and then, on descriptor 3, two lines for each job between `first` and `last`: its files, or nothing if it cannot have written yet.
# Leaves out those that have ended, unless they were submitted just now.
_FILL_IN = r"""
{ field[(NR - 1) % 17] = $0 }
NR % 17 == 0 { sub(/^\n/, "", field[0]); job(field[4]) }
END { printf "%s", mark; fflush(); for (at = 0; at < files; at++) print file[at] > "/dev/fd/3" }

function job(state,    at) {
  if (among(state, ended) && field[16] < since) return
  known["u"] = field[3]; known["x"] = field[2]
  known["j"] = known["J"] = field[13]; known["a"] = field[15]
  known["A"] = number(field[15]) ? field[14] : field[13]
  field[10] = field[10] == "(null)" ? "" : field[10]
  field[11] = filled(field[11]); field[12] = filled(field[12])
  for (at = 0; at < 13; at++) printf "%s%s", field[at], RS
  if (shown >= first && (last == "" || shown < last)) { note(state, field[11]); note(state, field[12]) }
  shown++
}
function among(word, words) { return index(" " words " ", " " word " ") > 0 }
function number(text) { return text ~ /^[0-9]+$/ }
function note(state, path) { file[files++] = among(state, waiting) || path ~ /\n/ ? "" : path }
function filled(path,    name, done, width, letter, value) {
  if (path == "(null)") return ""
  name = path
  sub(/^.*\//, "", name)
  if (number(known["a"]) && name == "slurm-" known["j"] ".out")
    return substr(path, 1, length(path) - length(name)) "slurm-" known["A"] "_" known["a"] ".out"
  while (match(path, /%[0-9]*[a-zA-Z%]/)) {
    width = substr(path, RSTART + 1, RLENGTH - 2) + 0
    letter = substr(path, RSTART + RLENGTH - 1, 1)
    value = letter == "%" ? "%" : letter in known ? known[letter] : substr(path, RSTART, RLENGTH)
    if (number(value)) while (length(value) < width && length(value) < 10) value = "0" value
    done = done substr(path, 1, RSTART - 1) value
    path = substr(path, RSTART + RLENGTH)
  }
  return done path
}
"""


def queue(*, ids: str | None, user: str | None, tails: Tails | None) -> Command[list[Queued]]:
    """The jobs in the queue, of one user and with these ids if given, and the ends of their output, all in one command.

    A job that was asked for by its id and submitted just now is there even if it has ended already.
    """
    token, mark = separator(), separator()
    squeue = ["squeue", "--noheader", f"--Format={layout((*_ASKED, *_FILES), token)}"]
    squeue += [f"--user={user}"] if user else []
    squeue += [f"--jobs={whole_arrays(ids)}", "--states=all"] if ids else []
    wanted = _window(tails, ids)
    last = "" if wanted.stop is None else str(wanted.stop)
    states = (" ".join(ENDED), " ".join(WRITTEN_ONCE_STARTED), str(_JUST_SUBMITTED) if ids else "")
    facts = (_FILL_IN, token, mark, *states, str(wanted.count), str(wanted.start), last)
    parse = partial(_queued, token=token, mark=mark, wanted=wanted, ids=ids)
    return Command(("sh", "-c", _QUEUE, "sh", *facts, *squeue), parse, repeatable=True)


def _window(tails: Tails | None, ids: str | None) -> Tails:
    if tails is None:
        return Tails(0, stop=0)
    # some that Slurm shows are then left out here, and so the others are counted anew
    return Tails(tails.count) if ids and ("[" in ids or "+" in ids) else tails


def _queued(stdout: bytes, *, token: str, mark: str, wanted: Tails, ids: str | None) -> list[Queued]:
    head, marked, rest = stdout.partition(mark.encode())
    if not marked:
        raise CommandFailed("The queue could not be read")
    found = list(records(head, token, _SHOWN))
    ends = [text.decode(errors="replace").removesuffix("\n") for text in rest.split(token.encode())[:-1]]
    ends += [""] * (2 * len(found) - len(ends))
    pairs = [("", "")] * wanted.start + list(zip(ends[::2], ends[1::2], strict=False))
    jobs = [Queued(**job, output=output, errors=errors) for job, (output, errors) in zip(found, pairs, strict=False)]
    return [job for job in jobs if ids is None or meant(job.jobid, ids)]
