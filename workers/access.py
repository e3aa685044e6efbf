"""Whether a user may read a file or directory or write to a directory, told as the contract does (1.4)."""

import posixpath
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.errors import (
    AccessDenied,
    AccessHidden,
    ADirectory,
    CommandFailed,
    FirecrestError,
    InvalidPath,
    NotADirectory,
    PermissionDenied,
    TimedOut,
)
from workers.failures import TIMED_OUT
from workers.host import Command

_DENIED = "User does not have permissions to access machine or path"


@contextmanager
def hidden() -> Iterator[None]:
    """Raises AccessHidden where utilities would raise AccessDenied."""
    try:
        yield
    except AccessDenied:
        raise AccessHidden from None


def readable(path: str, *, seconds: float) -> Command[None]:
    """Read a byte of the file."""
    refusal = _refusal(path, lambda message: ADirectory(says=f"{path} is a directory") if "directory" in message else None)
    return Command(("head", "-c", "1", "--", path), lambda _: None, seconds=seconds, repeatable=True, fails=refusal)


_LIST = r"""
ls -d -- "$1/." >/dev/null || exit
[ -r "$1" ] || { echo "$1: Permission denied" >&2; exit 1; }
"""


def readable_directory(path: str, *, seconds: float) -> Command[None]:
    """See that it is a directory, and may be listed and entered."""
    refusal = _refusal(path, lambda message: _not_a_directory(path, message))
    return Command(("sh", "-c", _LIST, "sh", path), lambda _: None, seconds=seconds, repeatable=True, fails=refusal)


# The directory itself, or the one that would hold it.
_TOUCH = r"""
directory=$1
[ -d "$directory" ] || directory=$2
touch -- "$directory/$3" && rm -f -- "$directory/$3"
"""


def writable(path: str, *, seconds: float) -> Command[None]:
    """Make a file in the directory, or beside the file that the path names, and remove it."""
    parent = posixpath.dirname(path.rstrip("/")) or "/" * path.startswith("/") or "."
    words = ("sh", "-c", _TOUCH, "sh", path, parent, f".firecrest.{secrets.token_hex(16)}")
    refusal = _refusal(parent, lambda message: _not_a_directory(parent, message))
    return Command(words, lambda _: None, seconds=seconds, repeatable=True, fails=refusal)


def _not_a_directory(path: str, message: str) -> FirecrestError | None:
    return NotADirectory(says=f"{path} is not a directory") if "Not a directory" in message else None


def _refusal(path: str, last: Callable[[str], FirecrestError | None]) -> Callable[[int, str], FirecrestError]:
    def refusal(code: int, message: str) -> FirecrestError:
        if code == TIMED_OUT:
            return TimedOut()
        if "No such file" in message:
            return InvalidPath(says=f"{path} is an invalid path.")
        if "Permission denied" in message:
            return PermissionDenied(says=_DENIED)
        return last(message) or CommandFailed(says=message)

    return refusal
