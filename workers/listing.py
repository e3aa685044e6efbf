"""How directories are listed."""

import re
from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import TypeAdapter

from schemas.errors import CommandFailed
from schemas.fields import whole_number
from schemas.utilities import File, Ls
from workers.host import Command, Host
from workers.performing import Scene, performs

_FILES: Final = TypeAdapter(list[File])
Entries = TypeVar("Entries", list[File], list[str], list[File] | list[str])

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
    words = (*_LS, *(option for option, wanted in options.items() if wanted), "--", op.target_path)
    parse: Callable[[bytes], list[File] | list[str]] = rows if op.not_listing else listing
    command = Command(words, parse, seconds=scene.limits.utilities_timeout, repeatable=True, ascii=_all_ascii(op))
    return _page(host.run(command), op)


def _all_ascii(op: Ls) -> bool:
    """Whether nothing that is shown as it is printed may hold other characters: entries are in quotes that are read here."""
    return op.target_path.isascii() and not (op.not_listing or op.recursive or op.follow_links)


# A group may be called "domain users".
_ENTRY = re.compile(
    r"(?P<type>\S)(?P<permissions>\S{9})\S* +\d+ +(?P<user>\S+) +(?P<group>\S.*?) +"
    r'(?P<size>\d+(?:, +\d+)?) (?P<last_modified>\S+) (?P<name>"(?:[^"\\]|\\.)*")(?: -> (?P<link_target>"(?:[^"\\]|\\.)*"))?'
)
_HEADING = re.compile(r'("(?:[^"\\]|\\.)*"):')
_NEITHER = re.compile(r"(?:total \d+)?")


def listing(stdout: bytes) -> list[File]:
    """Read `ls -l --quoting-style=c`; with -R, names are relative to the first directory. Raises CommandFailed."""
    entries: list[dict[str, str]] = []
    root: str | None = None
    prefix = ""
    for row in rows(stdout):
        if heading := _HEADING.fullmatch(row):
            folder = unquoted(heading[1])
            root = folder if root is None else root
            prefix = "" if folder == root else folder.removeprefix(root.rstrip("/")).lstrip("/") + "/"
        elif match := _ENTRY.fullmatch(row):
            entries.append(_entry(match, prefix))
        elif not _NEITHER.fullmatch(row):
            raise CommandFailed(f"The system lists what cannot be read: {row}")
    return _FILES.validate_python(entries)


def _entry(match: re.Match[str], prefix: str) -> dict[str, str]:
    found = match.groupdict(default="")
    return {**found, "name": prefix + unquoted(found["name"]), "link_target": unquoted(found["link_target"])}


def rows(stdout: bytes) -> list[str]:
    """Read `ls -1 --quoting-style=c`: names as they are printed, in their quotes."""
    return stdout.decode(errors="replace").split("\n")[:-1]


_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def unquoted(quoted: str) -> str:
    """A name in C quotes as it really is; bytes that are not UTF-8 become the replacement character."""

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8)]) if code.isdigit() else _LETTERS.get(code, code)

    if "\\" not in quoted:
        return quoted[1:-1]
    return _ESCAPE.sub(plain, quoted[1:-1].encode()).decode(errors="replace")


def _page(entries: Entries, op: Ls) -> Entries:
    size, number = whole_number(op.page_size, 0), whole_number(op.page_number, 0)
    start = (number - 1) * size
    return entries[start : start + size] if size > 0 and 0 <= start < len(entries) else entries
