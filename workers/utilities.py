"""How the small file operations are performed."""

import posixpath
import re
from collections.abc import Callable
from typing import TypeVar

from schemas.errors import CommandFailed, FirecrestError, PatternNotFound, PermissionDenied, SizeLimit
from schemas.settings import Limits
from schemas.utilities import (
    Checksum,
    Chmod,
    Chown,
    Copy,
    Download,
    FileStatus,
    FileType,
    Groups,
    Head,
    Identity,
    Mkdir,
    Part,
    Rename,
    Rm,
    Stat,
    Symlink,
    Tail,
    UploadFile,
    View,
    Whoami,
)
from workers.host import Command, Host
from workers.performing import Scene, performs

T = TypeVar("T")

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


@performs(FileType)
def file_type(op: FileType, host: Host, scene: Scene) -> str:
    """The type in words. Raises PermissionDenied when the user may not read the file."""
    try:
        # -E: what is not there is a failure
        return host.run(_utility(scene.limits, "file", "-E", "-b", "--", op.target_path, parse=kind))
    except FirecrestError as failed:
        if not failed.text.startswith("ERROR: broken symbolic link"):
            raise
        return host.run(_utility(scene.limits, "file", "-b", "--", op.target_path, parse=kind))


_UNREADABLE = re.compile(r"(?:[a-z]+, )*regular file, no read permission")


def kind(stdout: bytes) -> str:
    """Read `file -b`."""
    described = line(stdout)
    if _UNREADABLE.fullmatch(described):
        raise PermissionDenied(described)
    return described


@performs(Stat)
def stat(op: Stat, host: Host, scene: Scene) -> FileStatus:
    """The status of the file or of the link."""
    words = ("stat", *(["--dereference"] if op.dereference else []), "-c", "%f %i %d %h %u %g %s %X %Y %Z")
    return host.run(_utility(scene.limits, *words, "--", op.target_path or op.source_path or "", parse=status))


def status(stdout: bytes) -> FileStatus:
    """Read `stat -c '%f %i %d %h %u %g %s %X %Y %Z'`."""
    mode, *others = line(stdout).split()
    numbers = (int(mode, 16), *map(int, others))
    return FileStatus.model_validate(dict(zip(FileStatus.model_fields, numbers, strict=True)))


@performs(Checksum)
def checksum(op: Checksum, host: Host, scene: Scene) -> str:
    """The checksum in hex."""
    return host.run(_utility(scene.limits, "sha256sum", "--", op.target_path, parse=digest))


def digest(stdout: bytes) -> str:
    """Read `sha256sum`, which begins with a backslash when it has changed the name."""
    return text(stdout).removeprefix("\\").partition(" ")[0]


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


_ID = re.compile(r"uid=(?P<user>.+?) gid=(?P<group>.+?) groups=(?P<groups>.+?)(?: context=.*)?")
_IDENTITY = re.compile(r"(\d+)(?:\(([^)]*)\))?")


def identities(stdout: bytes) -> Groups:
    """Read `id`."""
    match = _ID.fullmatch(line(stdout))
    if match is None:
        raise CommandFailed("The system tells identities that cannot be read")
    return Groups(user=_identities(match["user"])[0], group=_identities(match["group"])[0], groups=_identities(match["groups"]))


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
    return _change(host, scene, "mkdir", *(["-p"] if op.parents else []), "--", op.target_path, parse=nothing)


@performs(Rename)
def rename(op: Rename, host: Host, scene: Scene) -> str:
    """Nothing; the file is elsewhere."""
    return _change(host, scene, "mv", "--force", "--", op.source_path, op.target_path, parse=nothing)


@performs(Copy)
def copy(op: Copy, host: Host, scene: Scene) -> str:
    """Nothing; the copy is there."""
    return _change(host, scene, "cp", "--force", "-dR", "--preserve=all", "--", op.source_path, op.target_path, parse=nothing)


@performs(Chmod)
def chmod(op: Chmod, host: Host, scene: Scene) -> str:
    """What chmod says it did."""
    return _change(host, scene, "chmod", "-v", "--", op.mode, op.target_path, parse=line)


@performs(Chown)
def chown(op: Chown, host: Host, scene: Scene) -> str:
    """What chown says it did."""
    return _change(host, scene, "chown", "-v", "--", f"{op.owner or ''}:{op.group or ''}", op.target_path, parse=line)


@performs(Symlink)
def symlink(op: Symlink, host: Host, scene: Scene) -> str:
    """Nothing; the link is there."""
    return _change(host, scene, "ln", "-s", "--", op.target_path, op.link_path, parse=nothing)


@performs(Rm)
def rm(op: Rm, host: Host, scene: Scene) -> None:
    """Nothing; the path is gone."""
    _change(host, scene, "rm", "-r", "--interactive=never", "--", op.target_path, parse=nothing)


def _change(host: Host, scene: Scene, *words: str, parse: Callable[[bytes], T]) -> T:
    return host.run(_utility(scene.limits, *words, parse=parse, repeatable=False))


def _utility(limits: Limits, *words: str, parse: Callable[[bytes], T], repeatable: bool = True) -> Command[T]:
    # stat, file, sha256sum, head and tail take a path of "-" for their standard input
    argv = (*words[:-1], "./-") if words[-1] == "-" else words
    return Command(argv, parse, seconds=limits.utilities_timeout, repeatable=repeatable)
