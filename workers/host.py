"""Commands, and the machines that run them."""

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schemas.errors import FirecrestError, InvalidParameter, TimedOut
from workers.failures import failure
from workers.stopping import Stop

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

        Raises what `Command.read` raises, TimedOut, MachineNotAvailable, AccessDenied, TooManyRequests, or Stopped when told to stop.
        """


class LocalHost:
    """This very machine, entered as whoever runs the worker."""

    def __init__(self, patience: float = 15, stop: Stop | None = None) -> None:
        self._patience = patience
        self._stop = stop or Stop()

    def run(self, command: Command[T]) -> T:
        """Run the command as a child process, through a shell as SSH does."""
        argv = ("/bin/sh", "-c", command.line())
        pipe = subprocess.PIPE
        child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        with child, self._stop.ends(lambda: _kill_session(child.pid)):
            stdout, stderr = self._communicate(child, command.stdin)
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        return command.read(Finished(code, stdout, stderr))

    def _communicate(self, child: "subprocess.Popen[bytes]", stdin: bytes) -> tuple[bytes, bytes]:
        try:
            return child.communicate(stdin, timeout=self._patience)
        except subprocess.TimeoutExpired:
            child.kill()
            raise TimedOut("Command has finished with timeout signal") from None


def killing(session: int) -> tuple[str, ...]:
    """The command line that ends all processes of a session of the system's kernel."""
    return ("pkill", "-TERM", "-s", str(session))


def _kill_session(session: int) -> None:
    subprocess.run(killing(session), check=False)
