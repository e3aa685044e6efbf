"""How what files hold is read and written."""

import posixpath
import re
import secrets

from broker.blobs import Blob, BlobWriter
from schemas.errors import CommandFailed, FirecrestError, PatternNotFound, SizeLimit
from schemas.settings import Limits
from schemas.utilities import Download, Head, Part, Tail, UploadFile, View
from workers.host import Command, Host
from workers.performing import Scene, performs
from workers.streams import Kept, Source
from workers.utilities import nothing, text, utility

_MEGABYTE = 1024 * 1024


@performs(Head)
def head(op: Head, host: Host, scene: Scene) -> str:
    """The first lines or bytes, or all but the last."""
    return _part("head", "-" if op.skip_ending else "", op, host, scene.limits)


@performs(Tail)
def tail(op: Tail, host: Host, scene: Scene) -> str:
    """The last lines or bytes, or all from one on."""
    return _part("tail", "+" if op.skip_beginning else "", op, host, scene.limits)


@performs(View)
def view(op: View, host: Host, scene: Scene) -> str:
    """The whole file, or its beginning when lines or bytes are given."""
    if host.run(_size(op.target_path, scene.limits)) > _most(scene.limits):
        raise SizeLimit(description="Failed to view file content")
    try:
        if op.line_count is None and op.byte_count is None:
            return _shown(("head", f"--bytes={_most(scene.limits)}", "--", op.target_path), op, host, scene.limits)
        return _part("head", "-" if op.skip_ending else "", op, host, scene.limits)
    except FirecrestError as failed:
        failed.description = "Error on head operation with grep" if op.grep else "Error on head operation"
        raise


def _part(program: str, sign: str, op: Part, host: Host, limits: Limits) -> str:
    words = [program]
    if op.byte_count is not None:
        words.append(f"--bytes={sign}{op.byte_count}")
    elif op.line_count is not None or sign:
        words.append(f"--lines={sign}{10 if op.line_count is None else op.line_count}")
    return _shown((*words, "--", op.target_path), op, host, limits)


def _shown(words: tuple[str, ...], op: Part, host: Host, limits: Limits) -> str:
    kept = Kept(_most(limits))
    return host.run(utility(limits, *words, parse=lambda _: lines_with(op.grep, text(kept.content())), sink=kept))


def lines_with(pattern: str | None, content: str) -> str:
    """The lines that contain the pattern, all when there is none; raises PatternNotFound when no line does."""
    if pattern is None:
        return content
    found = [row for row in re.findall(r"[^\n]*\n|[^\n]+", content) if pattern in row]
    if not found:
        raise PatternNotFound("pattern not found")
    return "".join(found)


@performs(Download)
def download(op: Download, host: Host, scene: Scene) -> Blob:
    """Where the bytes of a file wait; nothing of what is not a regular file and has no size."""
    limit = _most(scene.limits)
    writer = BlobWriter(scene.blobs, limit + 1)
    size = host.run(_size(op.source_path, scene.limits))
    if size > limit:
        raise SizeLimit(description="Failed to download file")
    if not size:
        return writer.finish()
    words = ("head", f"--bytes={limit + 1}", "--", op.source_path)
    try:
        blob = host.run(utility(scene.limits, *words, parse=lambda _: writer.finish(), sink=writer))
        # What grows is taken as far as it came; what came short may be the end of one content behind the beginning of another.
        if blob.size < size and blob.size != host.run(_size(op.source_path, scene.limits)):
            raise CommandFailed("The file has changed while it was read")
    except FirecrestError as failed:
        failed.description = "Error on base64 operation"
        raise
    if blob.size > limit:
        raise SizeLimit(description="Failed to download file")
    return blob


@performs(UploadFile)
def upload(op: UploadFile, host: Host, scene: Scene) -> str:
    """Nothing; the file is in the directory under its own name."""
    path = posixpath.join(op.target_path, op.file.name)
    return host.run(replacement(path, scene.source(op.file), seconds=scene.limits.utilities_timeout))


# Puts a file in place as `cat >"$path"` would, but whole or not at all: a constant program, its data are arguments and
# stdin. It writes under another name in the same directory, and renames once all has come: whoever gives the content
# withholds the end of what is not right. Through links to files, to where they lead. What was there passes on its
# permissions, and its owner and group as far as the user may give them; before there is any content to be seen.
_REPLACE = r"""
path=$1 size=$2 mark=$3 temporary=
refuse() { printf "upload: cannot write '%s': %s\n" "$path" "$1" >&2; exit 1; }
trap '[ -z "$temporary" ] || rm -f -- "$temporary"' EXIT
trap 'exit 1' HUP INT PIPE TERM
target=$(readlink -vfn -- "$path" && echo /) || exit
target=${target%/}
[ ! -d "$target" ] || refuse 'Is a directory'
[ ! -e "$target" ] || [ -f "$target" ] || refuse 'Not a regular file'
[ ! -e "$target" ] || [ -w "$target" ] || refuse 'Permission denied'
[ -w "${target%/*}/" ] || refuse 'Permission denied'
temporary=${target%/*}/.firecrest-$mark-$$
set -C
exec 3>"$temporary"
[ ! -e "$target" ] || cp --attributes-only --preserve=mode,ownership -- "$target" "$temporary" || exit
cat >&3 || exit
exec 3>&-
[ "$(stat -c %s -- "$temporary")" -eq "$size" ] || { echo 'only a part of the file came' >&2; exit 75; }
mv -fT -- "$temporary" "$target" || exit
temporary=
"""


def replacement(path: str, content: Source, *, seconds: float) -> Command[str]:
    """Write a file, whole or not at all; what is at the path is replaced."""
    words = ("sh", "-c", _REPLACE, "sh", path, str(content.size), secrets.token_hex(8))
    return Command(words, nothing, stdin=content, seconds=seconds)


def _size(path: str, limits: Limits) -> Command[int]:
    return utility(limits, "stat", "--dereference", "-c", "%s", "--", path, parse=int)


def _most(limits: Limits) -> int:
    return limits.utilities_max_file_size * _MEGABYTE
