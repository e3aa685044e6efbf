"""Commands, and the machines that run them."""

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schemas.errors import FirecrestError, InvalidParameter, TimedOut
from workers.failures import failure

T = TypeVar("T")

LOCALE = "C.UTF-8"


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit status and all it printed."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Command(Generic[T]):
    """A command line together with the reading of its output.

    `seconds` is how long it may run on the system, enforced there by `timeout` (None: until it ends by itself; whoever
    waits for it still gives up after the host's own patience). `stdin` is what it reads. `repeatable` says that
    running it twice does no harm. `fails` tells what exit status and message mean.
    """

    argv: tuple[str, ...]
    parse: Callable[[bytes], T]
    stdin: bytes = b""
    seconds: float | None = None
    repeatable: bool = False
    fails: Callable[[int, str], FirecrestError] = failure

    def words(self) -> tuple[str, ...]:
        """The whole command line, time limit included."""
        return self.argv if self.seconds is None else ("timeout", f"{self.seconds:g}", *self.argv)

    def line(self) -> str:
        """The command line as a POSIX shell reads it: the one place where words are quoted.

        Raises InvalidParameter for a character that no command line can carry.
        """
        words = self.words()
        if not all(map(_carriable, words)):
            raise InvalidParameter("A parameter holds a character that no command line can carry")
        return f"LC_ALL={LOCALE} {shlex.join(words)}"

    def read(self, finished: Finished) -> T:
        """The meaning of what the command printed.

        Raises the FirecrestError that `fails` makes of an exit status other than 0.
        """
        if finished.code:
            message = finished.stderr or finished.stdout
            raise self.fails(finished.code, message.decode(errors="replace").strip())
        return self.parse(finished.stdout)


def _carriable(word: str) -> bool:
    try:
        return b"\0" not in word.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False


class Host(Protocol):
    """One machine, entered as one user."""

    def run(self, command: Command[T]) -> T:
        """Run the command and read its output.

        Raises what `Command.read` raises, TimedOut, MachineNotAvailable, AccessDenied or TooManyRequests.
        """


class LocalHost:
    """This very machine, entered as whoever runs the worker."""

    def __init__(self, patience: float = 15) -> None:
        self._patience = patience

    def run(self, command: Command[T]) -> T:
        """Run the command as a child process, through a shell as SSH does."""
        argv = ("/bin/sh", "-c", command.line())
        try:
            done = subprocess.run(argv, input=command.stdin, capture_output=True, check=False, timeout=self._patience)
        except subprocess.TimeoutExpired:
            raise TimedOut("Command has finished with timeout signal") from None
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return command.read(Finished(code, done.stdout, done.stderr))
