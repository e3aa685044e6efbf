"""Copies between a system and the object store that the system makes by itself: how one is started, watched and ended.

A copy lives in a folder of its own, under a lock that its processes hold. It is made in runs: each goes on where the one
before was cut off, writes an `outcome` of its own, and is started once however often that is asked for. The requests hold
what lets the bearer in, and are told to curl by files that only the user may read.
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import CommandFailed, FirecrestError, StillUnderWay
from workers.failures import failure
from workers.host import Command

_AGAIN = 75
_MOST = 65536  # bytes of an outcome: what a thousand parts need, whatever users write there


class Fate(StrEnum):
    """What has become of a run."""

    RUNNING = "running"
    LOST = "lost"
    WHOLE = "whole"
    FAILED = "failed"
    CUT = "cut"


@dataclass(frozen=True)
class Found:
    """A run as it was found.

    The bytes that it has moved while it is running, the MD5 sums of the parts when all are there, or the words of what
    went wrong, with curl's exit status.
    """

    fate: Fate
    moved: int = 0
    sums: tuple[str, ...] = ()
    code: int = 0
    text: str = ""

    def can_go_on(self) -> bool:
        """Whether another run may do better: not when the object store says that there is no such thing, or not this one."""
        refused = any(self.text.endswith(status) for status in ("400", "404", "405", "409", "411", "412", "413"))
        return self.fate in (Fate.LOST, Fate.CUT) and not (self.code == _HTTP and refused)

    def names_nothing(self) -> bool:
        """Whether the object store said that there is no such thing."""
        return self.fate is Fate.CUT and self.code == _HTTP and self.text.endswith("404")


_HTTP = 22  # curl's exit status for the refusals of a server


@dataclass(frozen=True)
class Run:
    """One run of a copy: the folder of the copy, the run's number, and how the file of `size` bytes is cut into parts.

    `ca` is a file on the system with the CAs that may vouch for the object store's certificate; curl knows some when it is empty.
    """

    folder: str
    number: int
    size: int
    part_size: int
    ca: str = ""


# Leaves behind a process that outlives the session; the lock is handed on to it. `mask` is for what it makes at the target.
_START = r"""
folder=$1 number=$2 size=$3 program=$4; shift 4
mask=$(umask) && export mask && umask 077
mkdir -p -- "$folder" && cd -- "$folder" || exit
exec 9>>lock || exit
flock -n 9 || exit 0
[ ! -e "outcome.$number" ] || exit 0
cat >requests || exit
[ "$(wc -c <requests)" -eq "$size" ] || { echo 'only a part of the requests came' >&2; exit 75; }
setsid sh -c "$program" sh "$number" "$@" </dev/null >log 2>&1 &
"""

# What all programs begin with. The watcher ends the copy when it is to stop, wherever among several login nodes it runs;
# the function `counted`, where there is one, prints how many bytes have gone out.
BEGIN = r"""
number=$1 size=$2 part=$3 ca=$4; shift 4
trap '' HUP
stream=
finish() { printf '%s\n' "$@" >outcome.new && mv -f outcome.new "outcome.$number"; exit; }
(
  exec 9>&-
  while sleep 1 && kill -0 "$$"; do
    [ ! -e stop ] || kill -s TERM -- "-$$"
    counted >moved.new && mv -f moved.new moved
  done
) 2>/dev/null &
"""

# What both directions go on with.
PARTS = r"""
touch sums
parts=$(( (size + part - 1) / part )); [ "$parts" -gt 0 ] || parts=1
done=$(wc -l <sums)
[ "$done" -lt "$parts" ] || finish whole "$(cat sums)"
offset=$((done * part))
length() { [ $((size - offset)) -lt "$part" ] && echo $((size - offset)) || echo "$part"; }
fetch() {
  curl -q -sS -f -g -K "$@" ${ca:+--cacert "$ca"} --connect-timeout 10 --speed-limit 1 --speed-time 30 2>"errors$stream"
}
cut_off() { finish cut "$1" "$(tr -s '\n' ' ' <errors)"; }
"""

# curl writes to the file itself, and the sums are made of what has come into it: no byte passes through more pipes than it must.
_FETCH = (
    BEGIN
    + PARTS
    + r"""
temporary=$1 etag=$2
rm -f code
arrived() { stat -c %s -- "$temporary" 2>/dev/null || echo 0; }
come() {
  while [ "$wanted" -gt 0 ]; do
    over=$(cat code 2>/dev/null)
    ready=$(($(arrived) - offset))
    [ "$ready" -lt "$wanted" ] || ready=$wanted
    if [ "$ready" -eq "$wanted" ] || [ "$ready" -ge 16777216 ] || { [ -n "$over" ] && [ "$ready" -gt 0 ]; }; then
      dd bs=1M iflag=skip_bytes,count_bytes skip="$offset" count="$ready" if="$temporary" 2>/dev/null || return
      offset=$((offset + ready)) wanted=$((wanted - ready))
    else
      [ -z "$over" ] || return
      sleep 0.1
    fi
  done
}
# where others may write, they must not have put something there before
if [ ! -s made ] || [ -L "$temporary" ] || [ "$(stat -c %i -- "$temporary" 2>/dev/null)" != "$(cat made)" ]; then
  rm -f -- "$temporary" 2>writing && dd if=/dev/null of="$temporary" conv=excl 2>writing || finish failed "$(head -n 1 writing)"
  stat -c %i -- "$temporary" >made
fi
[ "$(arrived)" -ge "$offset" ] || { offset=0; : >sums; }
truncate -s "$offset" -- "$temporary" 2>writing || finish failed "$(cat writing)"
if [ "$size" -gt 0 ]; then
  { fetch requests -r "$offset-" -H "If-Match: \"$etag\""; echo $? >code.new; mv -f code.new code; } >>"$temporary" &
fi
while :; do
  wanted=$(length)
  come | md5sum >sum
  [ "$(arrived)" -ge $((offset + wanted)) ] || break
  cut -c 1-32 sum >>sums
  offset=$((offset + wanted))
  [ "$offset" -lt "$size" ] || break
done
[ "$size" -eq 0 ] || wait $!
if [ "$(wc -l <sums)" -eq "$parts" ]; then
  [ "$(arrived)" -eq "$size" ] || finish failed 'The object store has sent more than the file'
  finish whole "$(cat sums)"
fi
# curl does not say why it could not write
more() { dd bs=1M count=1 if=/dev/zero of="$temporary" oflag=append conv=notrunc 2>writing; }
[ "$(cat code)" -ne 23 ] || more || finish failed "$(head -n 1 writing)"
cut_off "$(cat code)"
"""
)

# Several streams at a time send every so many parts. What the descriptor 3 has passed has been sent, and what those have read
# who feed the streams is on its way.
_SEND = (
    r"""
place() { sed -n 's/^pos:[[:space:]]*//p' "/proc/$1/fdinfo/$2"; }
counted() {
  sent=$(place "$$" 3)
  for feeder in feeder.*; do
    if read -r pid start <"$feeder" && at=$(place "$pid" 0) && [ "${at:-0}" -gt "$start" ]; then sent=$((sent + at - start)); fi
  done
  echo "$sent"
}
"""
    + BEGIN
    + PARTS
    + r"""
path=$1 version=$2 streams=4
[ -r "$path" ] || finish failed "$path cannot be read"
exec 3<"$path" || exit
end() { printf '%s\n' "$@" >"ended$stream" && mv -f "ended$stream" ended; kill -s TERM -- "-$$"; exit 1; }
content() {
  exec sh -c 'echo "$$ $2" >"$1"; exec dd bs=1M iflag=skip_bytes,count_bytes skip="$2" count="$3" if=/dev/fd/3' sh \
    "$1$stream" "$offset" "$wanted" 2>/dev/null
}
unchanged() { [ "$(stat -L -c '%s %i %.Y' - <&3)" = "$version" ] || end failed 'The file has changed while it was read'; }
pass() { dd iflag=skip_bytes skip="$1" count=0 <&3 2>/dev/null; }
send() {
  offset=$(($1 * part - part))
  wanted=$(length)
  sed -n "$1s/.*/url = \"&\"/p" requests >"request$stream"
  content hashed | md5sum >"sum$stream" &
  content feeder | fetch "request$stream" -T - -H 'Transfer-Encoding:' -H "Content-Length: $wanted" -D "headers$stream" -o "answer$stream"
  code=$?
  wait $!
  unchanged
  [ "$code" -eq 0 ] || end cut "$code" "$(tr -s '\n' ' ' <"errors$stream")"
  sum=$(cut -c 1-32 "sum$stream")
  grep -qi "^etag: *\"*$sum" "headers$stream" || end cut 0 'The object store has got other bytes than the file has'
  printf '%s\n' "$sum" >"sum$stream" && mv -f "sum$stream" "part.$1"
  pass "$wanted"
}
gather() {
  while [ -e "part.$((done + 1))" ]; do done=$((done + 1)); cat "part.$done" >>sums; done
}
rm -f ended
gather
pass $((done * part))
trap : TERM
running=
for first in $(seq $((done + 1)) $((done + streams))); do
  stream=.$first
  (
    unchanged
    for next in $(seq "$first" "$streams" "$parts"); do [ -e "part.$next" ] || send "$next"; done
  ) &
  running="$running $!"
done
for one in $running; do wait "$one" || break; done
gather
[ "$done" -lt "$parts" ] || finish whole "$(cat sums)"
kill -s TERM -- "-$$"
wait
[ -e ended ] || exit
mv -f ended "outcome.$number"
"""
)

_LOOK = r"""
folder=$1 number=$2 temporary=$3
cd -- "$folder" 2>/dev/null || { echo lost; exit 0; }
if [ ! -e "outcome.$number" ]; then
  exec 9>>lock || exit
  if ! flock -n 9; then
    echo running
    if [ -n "$temporary" ]; then stat -c %s -- "$temporary" 2>/dev/null; else cat moved 2>/dev/null; fi
    exit 0
  fi
fi
[ -e "outcome.$number" ] && cat "outcome.$number" || echo lost
"""

# The permissions are those of what was there before, or what the user's umask leaves.
_PLACE = r"""
folder=$1 temporary=$2 target=$3
refuse() { printf '%s: %s\n' "$target" "$1" >&2; exit 1; }
cd -- "$folder" || exit
[ -e "$temporary" ] || { [ -e placing ] && exit 0; echo "$temporary is gone" >&2; exit 1; }
[ ! -d "$target" ] || refuse 'Is a directory'
[ ! -e "$target" ] || [ -f "$target" ] || refuse 'Not a regular file'
[ ! -e "$target" ] || [ -w "$target" ] || refuse 'Permission denied'
if [ -e "$target" ]; then
  cp --attributes-only --preserve=mode,ownership -- "$target" "$temporary" || exit
else
  chmod "$(printf %o "$((0666 & ~$(umask)))")" -- "$temporary" || exit
fi
touch placing || exit
mv -fT -- "$temporary" "$target"
"""

_CLEAR = r"""
folder=$1 temporary=$2
if [ -d "$folder" ]; then
  cd -- "$folder" && touch stop || exit
  exec 9>>lock || exit
  flock -w 5 9 || { echo 'the copy does not end' >&2; exit 75; }
fi
if [ -d "$temporary" ] && [ ! -L "$temporary" ]; then chmod -R u+rwx -- "$temporary"; fi
[ -z "$temporary" ] || rm -rf -- "$temporary" || exit
# the watcher may be just writing for the last time
rm -rf -- "$folder" 2>/dev/null || { sleep 1; rm -rf -- "$folder"; }
"""


def fetch(run: Run, url: str, *, temporary: str, etag: str, seconds: float) -> Command[None]:
    """Start to copy from the URL to a temporary file."""
    return started(run, _FETCH, f'url = "{url}"\n', temporary, etag, seconds=seconds)


def send(run: Run, urls: Sequence[str], *, path: str, version: str, seconds: float) -> Command[None]:
    """Start to copy a file of that `version` (see `measure`) to the URLs, a part to each."""
    return started(run, _SEND, "".join(f"{url}\n" for url in urls), path, version, seconds=seconds)


def started(run: Run, program: str, requests: str, *words: str, seconds: float) -> Command[None]:
    """Start a program, unless that was done, with the requests beside it and these words behind number, size, part size and CA."""
    argv = (
        "sh",
        "-c",
        _START,
        "sh",
        run.folder,
        str(run.number),
        str(len(requests.encode())),
        program,
        str(run.size),
        str(max(1, run.part_size)),
        run.ca,
        *words,
    )
    return command(argv, stdin=requests.encode(), seconds=seconds)


def look(run: Run, *, temporary: str = "", seconds: float) -> Command[Found]:
    """See what has become of a run; a fetching one is measured by its temporary file."""
    argv = ("sh", "-c", _LOOK, "sh", run.folder, str(run.number), temporary)
    return Command(argv, _found, seconds=seconds, repeatable=True, fails=_failure)


def _found(output: bytes) -> Found:
    kind, *lines = output[:_MOST].decode(errors="replace").splitlines() or [""]
    fate = Fate(kind)
    if fate is Fate.RUNNING:
        return Found(fate, moved=int(lines[0]) if lines and lines[0].isdigit() else 0)
    if fate is Fate.WHOLE:
        return Found(fate, sums=tuple(lines))
    if fate is Fate.CUT:
        code, text = (*lines, "", "")[:2]
        return Found(fate, code=int(code) if code.isdigit() else 0, text=text.strip())
    return Found(fate, text="\n".join(lines))


def place(folder: str, *, temporary: str, target: str, seconds: float) -> Command[None]:
    """Put the temporary file where it belongs, in place of what is there."""
    return command(("sh", "-c", _PLACE, "sh", folder, temporary, target), seconds=seconds)


def clear(folder: str, *, temporary: str = "", seconds: float) -> Command[None]:
    """End a copy that is still running, and remove all that is left of it but the file itself."""
    return command(("sh", "-c", _CLEAR, "sh", folder, temporary), seconds=seconds)


def command(argv: tuple[str, ...], *, stdin: bytes = b"", seconds: float) -> Command[None]:
    """What prints nothing and may be run twice."""
    return Command(argv, lambda _: None, stdin=stdin, seconds=seconds, repeatable=True, fails=_failure)


def _failure(code: int, message: str) -> FirecrestError:
    return StillUnderWay(message) if code == _AGAIN else failure(code, message)


@dataclass(frozen=True)
class Target:
    """Where a file goes: as the client named it, and where that leads to."""

    shown: str
    path: str


# In a directory under the file's own name; through links to files, to where they lead.
_RESOLVE = r"""
target=$1 name=$2
[ ! -d "$target" ] || target=${target%/}/$name
path=$(readlink -vfn -- "$target" && echo /) || exit
path=${path%/}
[ ! -d "$path" ] || { printf '%s: Is a directory\n' "$target" >&2; exit 1; }
[ ! -e "$path" ] || [ -f "$path" ] || { printf '%s: Not a regular file\n' "$target" >&2; exit 1; }
[ ! -e "$path" ] || [ -w "$path" ] || { printf '%s: Permission denied\n' "$target" >&2; exit 1; }
[ -w "${path%/*}/" ] || { printf '%s: Permission denied\n' "${path%/*}" >&2; exit 1; }
printf '%s\0%s' "$target" "$path"
"""


def resolve(target: str, name: str, *, seconds: float) -> Command[Target]:
    """Where a file of that name goes, `target` being a directory or the file itself."""

    def parse(output: bytes) -> Target:
        return Target(*output.decode(errors="surrogateescape").split("\0"))

    return Command(("sh", "-c", _RESOLVE, "sh", target, name), parse, seconds=seconds, repeatable=True)


@dataclass(frozen=True)
class Measure:
    """A file to be sent: where it is, its size in bytes, and what tells that it has not changed."""

    path: str
    size: int
    version: str


_MEASURE = r"""
path=$(readlink -vfn -- "$1" && echo /) || exit
path=${path%/}
[ -r "$path" ] || { printf '%s: Permission denied\n' "$1" >&2; exit 1; }
printf '%s\0' "$path"
stat -L -c '%f %s %i %.Y' -- "$path"
"""


def measure(path: str, *, seconds: float) -> Command[Measure]:
    """Measure a file. Raises CommandFailed for what is not a regular one."""

    def parse(output: bytes) -> Measure:
        place, _, facts = output.decode(errors="surrogateescape").partition("\0")
        mode, version = facts.strip().split(" ", 1)
        if not stat.S_ISREG(int(mode, 16)):
            raise CommandFailed(f"{path} is not a regular file")
        return Measure(place, int(version.split()[0]), version)

    return Command(("sh", "-c", _MEASURE, "sh", path), parse, seconds=seconds, repeatable=True)
