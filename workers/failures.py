"""Exit status and message of a command → what the client is told (contract, 1.2.3)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
    MachineNotAvailable,
    NotADirectory,
    NotFound,
    PermissionDenied,
    TimedOut,
)

NO_ROUTE = 113
REFUSED = 118
TIMED_OUT = 124

Failure = Callable[[int, str], FirecrestError]

# Rules 1 to 3: the exit status alone tells.
_STATUSES: dict[int, tuple[type[FirecrestError], str]] = {
    NO_ROUTE: (MachineNotAvailable, "Machine is not available"),
    TIMED_OUT: (TimedOut, "Command has finished with timeout signal"),
    REFUSED: (CommandRefused, "Command execution is not allowed in machine"),
}
# `timeout` and shells: the program did not start, so that the words are about the program and not about a path.
_NOT_STARTED = range(125, 128)


@dataclass(frozen=True)
class Rule:
    """What a line of a tool means whose words fit the pattern, in which NUL stands for each name that is quoted."""

    words: str
    kind: type[FirecrestError]
    says: str | None = None

    def fits(self, words: str) -> bool:
        """Whether all of the words fit."""
        return re.fullmatch(self.words, words) is not None


def _ending(reason: str) -> str:
    return rf"(?:.*: |.* \(){reason}\)?"


_BOTH = "sourcePath and/or targetPath are invalid paths"

# Rules 5 to 19. Rule 4 is told where the login fails, 20 is an answer of `file`, 21 is found by whoever reads the lines, 22 is the rest.
RULES = (
    Rule(r"cannot access \0: .*", InvalidPath),
    Rule(r"cannot statx? \0: No such file or directory", NotFound),
    Rule(r"cannot (?:create|move) .*: No such file or directory", InvalidPath, _BOTH),
    Rule(r"cannot remove \0: No such file or directory", InvalidPath, "path is an invalid path."),
    Rule(_ending("No such file or directory"), InvalidPath),
    Rule(r"cannot open (?:directory |zipfile )?\0.*", PermissionDenied),
    Rule(_ending("Permission denied"), PermissionDenied),
    Rule(r"(?:cannot create (?:extraction )?directory:?|failed to create symbolic link) \0: File exists", Exists),
    Rule(_ending("Not a directory"), NotADirectory),
    Rule(_ending("Is a directory") + r"|(?:cannot overwrite|cannot copy|cannot move|refusing to remove) [^:]*directory.*", ADirectory),
    Rule(r"(?:cannot|will not) overwrite .*", Exists),
    Rule(_ending("Operation not permitted"), PermissionDenied),
    Rule(r"invalid group: \0", InvalidGroup),
    Rule(r"invalid (?:user|spec): \0", InvalidOwner),
    Rule(r"invalid mode: \0", InvalidMode),
)

# coreutils quote names as shells do, or with the quotes of the locale; `file` opens with a grave accent.
_QUOTED = re.compile(r"(?:\$?'(?:[^'\\]|\\.)*'|\"[^\"]*\"|\\')+|\u2018(?:[^\u2019\\]|\\.)*\u2019|`[^']*'")
# unzip has the name on one line, unquoted, and the reason on the next.
_UNZIP = re.compile(
    r"^(?:checkdir|error|checkdir error): +(cannot (?:open zipfile|create extraction directory:|create)) .*\n +(.+)$", re.MULTILINE
)
_LINE = re.compile(r"(?P<tool>[a-z][a-z0-9_.+-]*|ERROR)(?: \(child\))?: +(?!warning: )(?P<words>.+)")
# These speak of what the user's login runs, and tar does not quote names.
_LOGIN_SHELLS = ("bash", "csh", "ksh", "tcsh", "zsh")
_UNQUOTING = ("tar",)


def failure(code: int, message: str) -> FirecrestError:
    """The kind of failure that a command's exit status and its message, in the C or C.UTF-8 locale, stand for.

    The first line of a tool that any rule fits decides: a message tells the cause before its consequences.
    """
    if code in _STATUSES:
        kind, text = _STATUSES[code]
        return kind(text)
    for words in _complaints(message) if code not in _NOT_STARTED else ():
        for rule in RULES:
            if rule.fits(words):
                return rule.kind(message, says=rule.says)
    return CommandFailed(message or f"Command has failed with exit status {code}")


def _complaints(message: str) -> Iterator[str]:
    """The words of tools, line by line, without the names in them."""
    for line in _UNZIP.sub("unzip: \\1 \0: \\2", message).split("\n"):
        match = _LINE.fullmatch(line)
        if match and match["tool"] not in _LOGIN_SHELLS:
            yield match["words"] if match["tool"] in _UNQUOTING else _QUOTED.sub("\0", match["words"])
