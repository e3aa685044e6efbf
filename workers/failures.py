"""Exit status and message of a command → what the client is told (contract, 1.2.3)."""

from collections.abc import Callable

from schemas.errors import (
    ADirectory,
    CommandFailed,
    CommandRefused,
    Exists,
    FirecrestError,
    InvalidGroup,
    InvalidMode,
    InvalidOwner,
    InvalidPath,
    NotADirectory,
    NotFound,
    PermissionDenied,
    TimedOut,
)

TIMED_OUT = 124
REFUSED = 118

Failure = Callable[[int, str], FirecrestError]

_SIGNS: tuple[tuple[tuple[str, ...], type[FirecrestError], str | None], ...] = (
    (("cannot access",), InvalidPath, None),
    (("No such file", "cannot stat"), NotFound, None),
    (("No such file", "cannot create"), InvalidPath, "sourcePath and/or targetPath are invalid paths"),
    (("No such file", "cannot move"), InvalidPath, "sourcePath and/or targetPath are invalid paths"),
    (("No such file", "cannot remove"), InvalidPath, "path is an invalid path."),
    (("No such file",), InvalidPath, None),
    (("cannot open",), PermissionDenied, None),
    (("Permission denied",), PermissionDenied, None),
    (("File exists",), Exists, None),
    (("Not a directory",), NotADirectory, None),
    (("directory",), ADirectory, None),
    (("overwrite",), Exists, None),
    (("not permitted",), PermissionDenied, None),
    (("invalid group",), InvalidGroup, None),
    (("invalid user",), InvalidOwner, None),
    (("invalid mode",), InvalidMode, None),
    (("read permission",), PermissionDenied, None),
)


def failure(code: int, message: str) -> FirecrestError:
    """The kind of failure that a command's exit status and its message in the C locale stand for."""
    if code == TIMED_OUT:
        return TimedOut("Command has finished with timeout signal")
    if code == REFUSED:
        return CommandRefused("Command execution is not allowed in machine")
    for signs, kind, says in _SIGNS:
        if all(sign in message for sign in signs):
            return kind(message, says=says)
    return CommandFailed(message or f"Command has failed with exit status {code}")
