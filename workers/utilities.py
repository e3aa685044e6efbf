"""How the small file operations are performed."""

import re
from collections.abc import Callable
from typing import TypeVar

from schemas.errors import CommandFailed, FirecrestError, PermissionDenied
from schemas.settings import Limits
from schemas.utilities import (
    Checksum,
    Chmod,
    Chown,
    Copy,
    FileStatus,
    FileType,
    Groups,
    Identity,
    Mkdir,
    Rename,
    Rm,
    Stat,
    Symlink,
    Whoami,
)
from workers.host import Command, Host
from workers.performing import Scene, performs
from workers.streams import Sink

T = TypeVar("T")


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
        return host.run(utility(scene.limits, "file", "-E", "-b", "--", op.target_path, parse=kind))
    except FirecrestError as failed:
        if not failed.text.startswith("ERROR: broken symbolic link"):
            raise
        return host.run(utility(scene.limits, "file", "-b", "--", op.target_path, parse=kind))


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
    return host.run(utility(scene.limits, *words, "--", op.target_path or op.source_path or "", parse=status))


def status(stdout: bytes) -> FileStatus:
    """Read `stat -c '%f %i %d %h %u %g %s %X %Y %Z'`."""
    mode, *others = line(stdout).split()
    numbers = (int(mode, 16), *map(int, others))
    return FileStatus.model_validate(dict(zip(FileStatus.model_fields, numbers, strict=True)))


@performs(Checksum)
def checksum(op: Checksum, host: Host, scene: Scene) -> str:
    """The checksum in hex."""
    return host.run(utility(scene.limits, "sha256sum", "--", op.target_path, parse=digest))


def digest(stdout: bytes) -> str:
    """Read `sha256sum`, which begins with a backslash when it has changed the name."""
    return text(stdout).removeprefix("\\").partition(" ")[0]


@performs(Whoami)
def whoami(op: Whoami, host: Host, scene: Scene) -> str | Groups:
    """The user's name, or all identities."""
    if op.groups:
        return host.run(utility(scene.limits, "id", parse=identities))
    return host.run(utility(scene.limits, "id", "-un", parse=line))


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


@performs(Mkdir)
def mkdir(op: Mkdir, host: Host, scene: Scene) -> str:
    """Nothing; the directory is there."""
    return _change(host, scene, "mkdir", *(["-p"] if op.parents else []), "--", op.target_path, parse=nothing)


@performs(Rename)
def rename(op: Rename, host: Host, scene: Scene) -> str:
    """Nothing; the file is elsewhere."""
    return _change(host, scene, *moving(op.source_path, op.target_path), parse=nothing)


@performs(Copy)
def copy(op: Copy, host: Host, scene: Scene) -> str:
    """Nothing; the copy is there."""
    return _change(host, scene, *copying(op.source_path, op.target_path), parse=nothing)


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
    _change(host, scene, *removing(op.target_path), parse=nothing)


def moving(source: str, target: str) -> tuple[str, ...]:
    """The command that renames or moves."""
    return ("mv", "--force", "--", source, target)


def copying(source: str, target: str) -> tuple[str, ...]:
    """The command that copies with all that is in it."""
    return ("cp", "--force", "-dR", "--preserve=all", "--", source, target)


def removing(target: str) -> tuple[str, ...]:
    """The command that deletes with all that is in it; what is not there is a failure."""
    return ("rm", "-r", "--interactive=never", "--", target)


def _change(host: Host, scene: Scene, *words: str, parse: Callable[[bytes], T]) -> T:
    return host.run(utility(scene.limits, *words, parse=parse, repeatable=False))


def utility(limits: Limits, *words: str, parse: Callable[[bytes], T], repeatable: bool = True, sink: Sink | None = None) -> Command[T]:
    """A command line whose last word is a path, with the time limit of utilities."""
    # stat, file, sha256sum, head and tail take a path of "-" for their standard input
    argv = (*words[:-1], "./-") if words[-1] == "-" else words
    return Command(argv, parse, seconds=limits.utilities_timeout, repeatable=repeatable, sink=sink)
