"""How the small file operations are performed."""

import posixpath
import re
from collections.abc import Callable
from typing import TypeVar

from schemas.errors import CommandFailed, FirecrestError
from schemas.fields import whole_number
from schemas.settings import Limits
from schemas.utilities import (
    File,
    Groups,
    Identity,
    Ls,
    Mkdir,
    Rm,
    Whoami,
)
from workers.failures import failure
from workers.host import Command, Host
from workers.performing import Scene, performs

T = TypeVar("T")
Entries = TypeVar("Entries", list[File], list[str], list[File] | list[str])


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
