"""What a system does to send a directory as one tar archive, and to make a directory of one, by GNU tar, find and coreutils.

A directory goes out as a stream: there is no archive on the system. What comes is unpacked beside the target when it is there
as a whole, and then renamed, so that the directory appears whole or not at all.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import CommandFailed
from workers.copies import BEGIN, PARTS, Run, Target, command, started
from workers.host import Command

# Records of tasks are to stay small: no more of what happened to single files than this is told.
MOST_FILES, _MOST_BYTES = 1000, 65536
_KINDS = {"s": "a socket", "p": "a named pipe", "b": "a device", "c": "a device"}

# `results` tells of each file, in NUL-terminated records: 0 (went wrong), 1 (left out) or 2 (well), size, what or which, name.
_TELL = r"""
unset TAR_OPTIONS
tab=$(printf '\t')
tell() {
  LC_ALL=C sort -z -s -t "$tab" -k 1,1 >told
  tr -dc '\0' <told | wc -c >count
  LC_ALL=C sed -z -n "1,$1p;$1q" told | head -c "$2" >results
}
"""

# `list` notes all that is in the directory, in an order that is always the same, and what tells that it has not changed.
_LIST = (
    _TELL
    + r"""
path=$1
parent=${path%/*}/ name=${path##*/}
list() {
  (
    cd -- "$parent" && find "./$name" \
      \( -type d \( ! -readable -o ! -executable \) -o -type f ! -readable \) -printf '0\t0\tPermission denied\t%p\0' -prune \
      -o -type d -printf '2\t0\td %m %i %T@ %U %G\t%p\0' \
      -o \( -type f -o -type l \) -printf '2\t%s\t%y %m %i %T@ %U %G\t%p\0' \
      -o -printf '1\t0\t%y\t%p\0'
  ) >unsorted 2>troubles && LC_ALL=C sort -z -t "$tab" -k 4 unsorted >"$1" 2>>troubles
}
packed_size() { sed -n 's/^Total bytes written: \([0-9]*\).*/\1/p' "$1"; }
version() { sha256sum <"$1" | cut -c 1-64; }
names() { LC_ALL=C sed -z -n 's/^2\t[^\t]*\t[^\t]*\t\.\///p' listing; }
pack() {
  exec tar --create --format=gnu --numeric-owner --no-recursion --no-unquote --null --directory="$parent" --files-from=- "$@"
}
"""
)

# Packing into /dev/null, tar reads no files and tells the archive's size.
_MEASURE = (
    BEGIN
    + _LIST
    + r"""
list listing || finish failed "$(head -n 1 troubles)"
LC_ALL=C sed -z -e '/^2\t0\td /d' -e 's/^\(2\t[^\t]*\t\)[^\t]*/\1-/' \
  -e 's/^\([^\t]*\t[^\t]*\t[^\t]*\t\)\.\/[^/]*\//\1/' listing | tell "$2" "$3"
unreadable=$(LC_ALL=C grep -a -z -c '^0' listing)
[ "$unreadable" -eq 0 ] || finish failed "Permission denied: $unreadable in the directory cannot be read"
names | pack --file=/dev/null --totals 2>troubles || finish failed "$(head -n 1 troubles)"
finish whole "$(packed_size troubles)" "$(version listing)"
"""
)

# The directory is listed anew before the first part, behind the last, and when sending one has failed. Zeros behind the
# archive keep a request from waiting for what does not come, should it be shorter than it was measured.
_SEND = (
    r"""
counted() { sed -n 's/^wchar: //p' "/proc/$(cat packer)/io"; }
"""
    + BEGIN
    + PARTS
    + _LIST
    + r"""
version=$2
changed='The directory has changed while it was read'
unchanged() {
  [ "${code:-1}" -ne 0 ] || [ $((offset + wanted)) -ge "$size" ] || return 0
  list again && [ "$(version again)" = "$version" ] || finish failed "$changed"
  [ "${code:-1}" -eq 0 ] || return 0
  exec 3<&-
  wait "$feeder"
  [ "$(cat packed)" = 0 ] && [ "$(packed_size packing)" = "$size" ] || finish failed "$(head -n 1 packing)"
}
rm -f packing packed stream && mkfifo stream || exit
unchanged
mv -f again listing
(
  names | pack --file=- --totals 2>packing &
  echo "$!" >packer
  wait "$!"
  echo "$?" >packed
  exec cat /dev/zero
) >stream &
feeder=$!
exec 3<stream
head -c "$offset" <&3 >/dev/null
rm -f pipe && mkfifo pipe || exit
exec 4<requests
skipped=0; while [ "$skipped" -lt "$done" ]; do IFS= read -r url <&4; skipped=$((skipped + 1)); done
while IFS= read -r url <&4; do
  wanted=$(length)
  printf 'url = "%s"\n' "$url" >request
  md5sum <pipe >sum &
  head -c "$wanted" <&3 | tee pipe |
    fetch request -T - -H 'Transfer-Encoding:' -H "Content-Length: $wanted" -D headers -o answer
  code=$?
  wait $!
  unchanged
  [ "$code" -eq 0 ] || cut_off "$code"
  sum=$(cut -c 1-32 sum)
  grep -qi "^etag: *\"*$sum" headers || { echo 'The object store has got other bytes than the file has' >errors; cut_off 0; }
  printf '%s\n' "$sum" >>sums
  offset=$((offset + wanted))
done
finish whole "$(cat sums)"
"""
)

# Only what is whole is unpacked: it ends in zeros, with nothing behind them. The stated sizes cannot be those of a bomb, as
# they fit into the archive. Links are made as they are, but tar writes through none that leads out of the directory.
_UNPACK = (
    BEGIN
    + _TELL
    + r"""
work=$1
refuse() {
  LC_ALL=C sed -n -e 's/^tar: \(.*\): \(Cannot .*\)$/0\t0\t\2\t\1/p' -e "s/^tar: \(.*\): \(Member name .*\)$/0\t0\t\2\t\1/p" troubles |
    tr '\n' '\0' | cat refused - | tell "$most" "$bytes"
  finish failed "$1"
}
most=$2 bytes=$3
rm -f troubles mode && : >refused
[ ! -e "$work/tree" ] || chmod -R u+rwx -- "$work/tree"
rm -rf -- "$work/tree" "$work/directory" && mkdir -- "$work/tree" 2>troubles || refuse "$(head -n 1 troubles)"

tar --list --verbose --block-number --numeric-owner --quoting-style=escape --file=- <"$work/archive" >members 2>troubles &&
  [ -s members ] || refuse "The file is not a tar archive, which must not be compressed: $(head -n 1 troubles)"
awk '
  $3 == "**" { end = $0 ~ /Block of NULs/ ? $2 + 0 : ""; next }
  { bytes += $5; name = $0; for (i = 0; i < 7; i++) sub(/^[^ ]+ +/, "", name) }
  name == "./" { whole = 1 }
  substr($3, 1, 1) !~ /[-dlh]/ { printf "0\t0\tNeither file, directory nor link\t%s\n", name }
  END { printf "%s %d %.0f\n", end == "" ? "none" : end, whole, bytes >"summary" }
' members | tr '\n' '\0' >refused
read -r end whole unpacked <summary
[ ! -s refused ] || refuse 'The archive holds what is neither file, directory nor link'
[ "$end" != none ] && [ "$(tail -c +$((end * 512 + 1)) <"$work/archive" | tr -d '\0' | head -c 1 | wc -c)" -eq 0 ] ||
  refuse 'The archive is cut off, or something is behind its end'
awk -v unpacked="$unpacked" -v size="$size" 'BEGIN { exit unpacked > size }' ||
  refuse 'The files are larger than the archive, which must not be sparse'

(
  umask "$mask"
  exec tar --extract --file=- --directory="$work/tree" --no-same-owner --no-same-permissions --delay-directory-restore \
    --warning=no-timestamp --warning=no-unknown-keyword
) <"$work/archive" 2>troubles && [ ! -s troubles ] || refuse "$(head -n 1 troubles)"

top=$work/tree
if [ "$whole" -eq 0 ]; then
  tops=0
  for entry in "$work/tree"/* "$work/tree"/.[!.]* "$work/tree"/..?*; do
    [ ! -e "$entry" ] && [ ! -L "$entry" ] || { tops=$((tops + 1)); top=$entry; }
  done
  [ "$tops" -eq 1 ] && [ -d "$top" ] && [ ! -L "$top" ] || refuse 'The archive does not hold just one directory with all else in it'
fi
stat -c %a -- "$top" >mode && chmod u+rwx -- "$top" || refuse 'The directory is gone'
find "$top" ! -type d -printf '2\t%s\t%y\t%P\0' 2>/dev/null | tell "$most" "$bytes"
mv -T -- "$top" "$work/directory" 2>troubles || refuse "$(head -n 1 troubles)"
finish whole ''
"""
)

# A directory can be moved only by who may write to it: it gets its mode when it is there.
_PLACE = r"""
folder=$1 work=$2 target=$3
cd -- "$folder" || exit
if [ -d "$work/directory" ]; then
  touch placing && mv -T -- "$work/directory" "$target" || exit
fi
[ -e placing ] || { echo "$work is gone" >&2; exit 1; }
chmod "$(cat mode)" -- "$target"
"""

# As a file, but that a directory may only be there if it is empty.
_RESOLVE = r"""
target=$1 name=$2
[ ! -d "$target" ] || target=${target%/}/$name
path=$(readlink -vfn -- "$target" && echo /) || exit
path=${path%/}
if [ -e "$path" ]; then
  [ -d "$path" ] && [ -z "$(ls -A -- "$path" || echo .)" ] || { printf '%s: File exists\n' "$target" >&2; exit 1; }
fi
[ -w "${path%/*}/" ] || { printf '%s: Permission denied\n' "${path%/*}" >&2; exit 1; }
printf '%s\0%s' "$target" "$path"
"""

_LOCATE = r"""
path=$(readlink -vfn -- "$1" && echo /) || exit
path=${path%/}
[ -d "$path" ] || { printf '%s: Not a directory\n' "$1" >&2; exit 1; }
printf '%s' "$path"
"""

_RESULTS = r"""
cd -- "$1" || exit
[ -e results ] || echo 0 >count
cat count
[ ! -e results ] || cat results
"""


def locate(path: str, *, seconds: float) -> Command[str]:
    """Where a directory is. Raises CommandFailed for what is none, or has no name."""

    def parse(output: bytes) -> str:
        if not output.strip(b"/"):
            raise CommandFailed(f"{path} is the root of all directories")
        return output.decode(errors="surrogateescape")

    return Command(("sh", "-c", _LOCATE, "sh", path), parse, seconds=seconds, repeatable=True)


def measure(run: Run, *, path: str, seconds: float) -> Command[None]:
    """Start to measure a directory: the sums that are found are the archive's size in bytes, and a version of the directory."""
    return started(run, _MEASURE, "", path, str(MOST_FILES), str(_MOST_BYTES), seconds=seconds)


def send(run: Run, urls: Sequence[str], *, path: str, version: str, seconds: float) -> Command[None]:
    """Start to copy a directory of that `version` to the URLs, as a tar archive, a part to each."""
    return started(run, _SEND, "".join(f"{url}\n" for url in urls), path, version, seconds=seconds)


def resolve(target: str, name: str, *, seconds: float) -> Command[Target]:
    """Where a directory of that name goes, `target` being a directory to hold it, or itself; only an empty one may be there."""

    def parse(output: bytes) -> Target:
        return Target(*output.decode(errors="surrogateescape").split("\0"))

    return Command(("sh", "-c", _RESOLVE, "sh", target, name), parse, seconds=seconds, repeatable=True)


# Where others may write, they must not have put something there before.
_PREPARE = r"""
mkdir -m 700 -- "$1" 2>/dev/null || { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]; } || mkdir -- "$1"
"""


def prepare(work: str, *, seconds: float) -> Command[None]:
    """Make the directory, beside the target, in which the archive and what is in it are kept."""
    return command(("sh", "-c", _PREPARE, "sh", work), seconds=seconds)


def archive(work: str) -> str:
    """The archive's path in that directory."""
    return posixpath.join(work, "archive")


def unpack(run: Run, *, work: str, seconds: float) -> Command[None]:
    """Start to unpack the archive of `run.size` bytes that has come."""
    return started(run, _UNPACK, "", work, str(MOST_FILES), str(_MOST_BYTES), seconds=seconds)


def place(folder: str, *, work: str, target: str, seconds: float) -> Command[None]:
    """Put the directory where it belongs."""
    return command(("sh", "-c", _PLACE, "sh", folder, work, target), seconds=seconds)


@dataclass(frozen=True)
class FileResult:
    """What has become of a file: `ok`, or words that say what else. Its size is in bytes."""

    name: str
    size: int
    result: str


@dataclass(frozen=True)
class Results:
    """What has become of the files, those first that went wrong, and how many there are, told or not."""

    files: tuple[FileResult, ...]
    files_in_all: int


def results(folder: str, *, seconds: float) -> Command[Results]:
    """What has become of each file, as the last program has found it."""
    return Command(("sh", "-c", _RESULTS, "sh", folder), _results, seconds=seconds, repeatable=True)


def _results(output: bytes) -> Results:
    count, _, records = output.decode(errors="replace").partition("\n")
    return Results(tuple(map(_result, records[:_MOST_BYTES].split("\0")[:-1])), int(count))


def _result(record: str) -> FileResult:
    kind, size, what, name = record.split("\t", 3)
    said = {"0": what, "1": f"left out: {_KINDS.get(what, 'a special file')}", "2": "ok"}
    return FileResult(name, int(size), said[kind])
