"""How the small file operations are performed."""

import posixpath
import re
from collections.abc import Callable
from typing import TypeVar

from schemas.errors import CommandFailed, FirecrestError, PatternNotFound, SizeLimit
from schemas.fields import whole_number
from schemas.settings import Limits
from schemas.utilities import (
    Download,
    File,
    Groups,
    Head,
    Identity,
    Ls,
    Mkdir,
    Part,
    Rm,
    Tail,
    UploadFile,
    View,
    Whoami,
)
from workers.failures import failure
from workers.host import Command, Host
from workers.performing import Scene, performs

T = TypeVar("T")
Entries = TypeVar("Entries", list[File], list[str], list[File] | list[str])

_MEGABYTE = 1024 * 1024


def text(stdout: bytes) -> str:
    """Output as text; raises CommandFailed when it is not UTF-8."""
    try:
        return stdout.decode()
    except UnicodeDecodeError as wrong:
        raise CommandFailed(str(wrong)) from None


def line(stdout: bytes) -> str:
    """The only line of the output."""
    return text(stdout).removesuffix("\n")


def nothing(_: bytes) -> str:
    """What there is to say of a command that prints nothing."""
    return ""


_LS = ("ls", "-1", "--quoting-style=c", "--time-style=+%Y-%m-%dT%H:%M:%S")


@performs(Ls)
def ls(op: Ls, host: Host, scene: Scene) -> list[File] | list[str]:
    """The entries, or, with `unsorted` and `notListing`, their names."""
    options = {
        "-l": not op.not_listing,
        "-A": op.show_hidden,
        "--numeric-uid-gid": op.numeric_uid and not op.not_listing,
        "-R": op.recursive,
        "-L": op.follow_links,
        "--dereference-command-line-symlink-to-dir": not op.follow_links,
        "-Ua": op.unsorted,
    }
    words = [*_LS, *(option for option, wanted in options.items() if wanted), "--", op.target_path]
    parse: Callable[[bytes], list[File] | list[str]] = rows if op.not_listing else listing
    return _page(host.run(_utility(scene.limits, *words, parse=parse)), op)


_ENTRY = re.compile(
    r"(?P<type>\S)(?P<permissions>\S{9})\S* +\d+ +(?P<user>\S+) +(?P<group>\S+) +"
    r'(?P<size>\d+(?:, +\d+)?) (?P<last_modified>\S+) (?P<name>"(?:[^"\\]|\\.)*")(?: -> (?P<link_target>"(?:[^"\\]|\\.)*"))?'
)
_HEADING = re.compile(r'("(?:[^"\\]|\\.)*"):')


def listing(stdout: bytes) -> list[File]:
    """Read `ls -l --quoting-style=c`; with -R, names are relative to the first directory."""
    entries: list[File] = []
    root: str | None = None
    prefix = ""
    for row in text(stdout).splitlines():
        if heading := _HEADING.fullmatch(row):
            folder = unquoted(heading[1])
            root = folder if root is None else root
            prefix = "" if folder == root else posixpath.relpath(folder, root) + "/"
        elif match := _ENTRY.fullmatch(row):
            entries.append(_file(match, prefix))
    return entries


def _file(match: re.Match[str], prefix: str) -> File:
    found = match.groupdict(default="")
    return File(**{**found, "name": prefix + unquoted(found["name"]), "link_target": unquoted(found["link_target"])})


def rows(stdout: bytes) -> list[str]:
    """Read `ls -1 --quoting-style=c`: names as they are printed, in their quotes."""
    return text(stdout).splitlines()


_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def unquoted(quoted: str) -> str:
    """A name in C quotes as it really is; bytes that are not UTF-8 become the replacement character."""

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8)]) if code.isdigit() else _LETTERS.get(code, code)

    return _ESCAPE.sub(plain, quoted[1:-1].encode()).decode(errors="replace")


def _page(entries: Entries, op: Ls) -> Entries:
    size, number = whole_number(op.page_size, 0), whole_number(op.page_number, 0)
    start = (number - 1) * size
    return entries[start : start + size] if size > 0 and 0 <= start < len(entries) else entries


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
    size = host.run(_utility(scene.limits, *_SIZE, op.target_path, parse=int))
    if size > scene.limits.utilities_max_file_size * _MEGABYTE:
        raise SizeLimit(description="Failed to view file content")
    try:
        if op.line_count is None and op.byte_count is None:
            return _whole(op, host, scene.limits)
        return _part("head", "-" if op.skip_ending else "", op, host, scene.limits)
    except FirecrestError as failed:
        failed.description = "Error on head operation with grep" if op.grep else "Error on head operation"
        raise


_SIZE = ("stat", "--dereference", "-c", "%s", "--")


def _whole(op: Part, host: Host, limits: Limits) -> str:
    limit = limits.utilities_max_file_size * _MEGABYTE
    return _grepped(("head", f"--bytes={limit}", "--", op.target_path), op, host, limits)


def _part(program: str, sign: str, op: Part, host: Host, limits: Limits) -> str:
    words = [program]
    if op.byte_count is not None:
        words.append(f"--bytes={sign}{op.byte_count}")
    elif op.line_count is not None or sign:
        words.append(f"--lines={sign}{10 if op.line_count is None else op.line_count}")
    return _grepped((*words, "--", op.target_path), op, host, limits)


def _grepped(words: tuple[str, ...], op: Part, host: Host, limits: Limits) -> str:
    most = limits.utilities_max_file_size * _MEGABYTE

    def parse(stdout: bytes) -> str:
        if len(stdout) > most:
            raise CommandFailed(f"Command output exceeded buffer limit ({most})")
        return lines_with(op.grep, text(stdout))

    return host.run(_utility(limits, *words, parse=parse))


def lines_with(pattern: str | None, content: str) -> str:
    """The lines that contain the pattern, all when there is none; raises PatternNotFound when no line does."""
    if pattern is None:
        return content
    found = [row for row in re.findall(r"[^\n]*\n|[^\n]+", content) if pattern in row]
    if not found:
        raise PatternNotFound("pattern not found")
    return "".join(found)


@performs(Whoami)
def whoami(op: Whoami, host: Host, scene: Scene) -> str | Groups:
    """The user's name, or all identities."""
    if op.groups:
        return host.run(_utility(scene.limits, "id", parse=identities))
    return host.run(_utility(scene.limits, "id", "-un", parse=line))


_IDENTITY = re.compile(r"(\d+)(?:\(([^)]*)\))?")


def identities(stdout: bytes) -> Groups:
    """Read `id`."""
    user, group, groups = (field.partition("=")[2] for field in line(stdout).split(" ", 2))
    return Groups(user=_identities(user)[0], group=_identities(group)[0], groups=_identities(groups.split(" context=")[0]))


def _identities(field: str) -> list[Identity]:
    return [Identity(id=number, name=name) for number, name in _IDENTITY.findall(field)]


@performs(Download)
def download(op: Download, host: Host, scene: Scene) -> bytes:
    """The bytes of a file; nothing of what is not a regular file and has no size."""
    limit = scene.limits.utilities_max_file_size * _MEGABYTE
    size = host.run(_utility(scene.limits, *_SIZE, op.source_path, parse=int))
    if size > limit:
        raise SizeLimit(description="Failed to download file")
    if not size:
        return b""
    try:
        content = host.run(_utility(scene.limits, "head", f"--bytes={limit + 1}", "--", op.source_path, parse=bytes))
    except FirecrestError as failed:
        failed.description = "Error on base64 operation"
        raise
    if len(content) > limit:
        raise SizeLimit(description="Failed to download file")
    return content


@performs(UploadFile)
def upload(op: UploadFile, host: Host, scene: Scene) -> str:
    """Nothing; the file is in the directory under its own name."""
    return host.run(
        Command(
            ("dd", "status=none", f"of={posixpath.join(op.target_path, op.file.name)}"),
            nothing,
            stdin=scene.read(op.file),
            seconds=scene.limits.utilities_timeout,
        )
    )


@performs(Mkdir)
def mkdir(op: Mkdir, host: Host, scene: Scene) -> str:
    """Nothing; the directory is there."""
    return host.run(_utility(scene.limits, "mkdir", *(["-p"] if op.parents else []), "--", op.target_path, parse=nothing, repeatable=False))


@performs(Rm)
def rm(op: Rm, host: Host, scene: Scene) -> None:
    """Nothing; the path is gone."""
    host.run(_utility(scene.limits, "rm", "-r", "--interactive=never", "--", op.target_path, parse=nothing, repeatable=False))


def _utility(
    limits: Limits,
    *words: str,
    parse: Callable[[bytes], T],
    repeatable: bool = True,
    fails: Callable[[int, str], FirecrestError] = failure,
) -> Command[T]:
    return Command(words, parse, seconds=limits.utilities_timeout, repeatable=repeatable, fails=fails)
