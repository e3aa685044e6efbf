"""Commands, and the machines that run them."""

import os
import selectors
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Final, Generic, Protocol, TypeVar

from schemas.errors import FirecrestError, InvalidParameter, TimedOut
from workers.failures import failure
from workers.stopping import Stop
from workers.streams import Feeding, Kept, Sink, Source

T = TypeVar("T")

LOCALE = "C.UTF-8"
# The same to brief programs: what LOCALE says of all but characters is as in C, which they need not load.
_CHARACTERS = f"LC_ALL= LANG=C LC_CTYPE={LOCALE} LC_COLLATE=C LC_MESSAGES=C LC_NUMERIC=C LC_TIME=C"
_ASCII: Final = "LC_ALL=C"
# These end by themselves, if it is long after whoever ran them has died. As far as they are builtins of a shell, they change
# nothing there.
_BRIEF: Final = frozenset({"chmod", "chown", "date", "id", "ln", "ls", "mkdir", "mv", "rm", "stat", "true"})
_CHUNK: Final = 64 * 1024
# The variable of a shell that holds what a program reads which can do without a process that writes it.
INPUT: Final = "_firecrest_input"


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit status and all it printed."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Command(Generic[T]):
    """A command line together with the reading of its output.

    `seconds` is how long it may run on the system (None: as long as whoever waits for it has patience). `stdin` is what it
    reads; a `sparing` program of the shell's looks for it in the variable INPUT first. An `ascii` program writes names in ASCII,
    whatever they are, so that it need not know characters. `sink` takes what it prints, and `parse` is then given nothing.
    `repeatable` says that running it twice does no harm. `fails` tells what exit status and message mean.
    """

    argv: tuple[str, ...]
    parse: Callable[[bytes], T]
    stdin: bytes | Source = b""
    sink: Sink | None = None
    seconds: float | None = None
    repeatable: bool = False
    sparing: bool = False
    ascii: bool = False
    fails: Callable[[int, str], FirecrestError] = failure

    def source(self) -> Source:
        """What it reads, in pieces."""
        return Source.of(self.stdin) if isinstance(self.stdin, bytes) else self.stdin

    def words(self) -> tuple[str, ...]:
        """The whole command line, time limit included.

        Raises InvalidParameter for a character that no command line can carry.
        """
        if not all(map(_carriable, self.argv)):
            raise InvalidParameter("A parameter holds a character that no command line can carry")
        return self.argv if self.seconds is None else ("timeout", f"{self.seconds:g}", *self.argv)

    def line(self) -> str:
        """The command line as a POSIX shell reads it. Words are quoted here and below, and nowhere else.

        Raises InvalidParameter for a character that no command line can carry.
        """
        return f"LC_ALL={LOCALE} {shlex.join(self.words())}"

    def lines_within(self, stdin: bytes) -> tuple[str, bytes]:
        """`line_within` where the command reads these bytes, and what is left of them for it to read. Raises InvalidParameter."""
        if not self.sparing or not stdin or b"\0" in stdin:
            return self.line_within(), stdin
        return f"{INPUT}={shlex.quote(stdin.decode(errors='surrogateescape'))}; {self.line_within()}", b""

    def line_within(self) -> str:
        """The same for a shell that waits for commands, and ends in time what takes too long: it starts no program that it can do without.

        Raises InvalidParameter.
        """
        words = replace(self, seconds=None).words()
        if self.brief:
            return f"{_ASCII if self.ascii else _CHARACTERS} {shlex.join(words)}"
        if self.seconds is None and words[:2] == ("sh", "-c"):
            return f"export LC_ALL={LOCALE}; set -- {shlex.join(words[4:])}; eval {shlex.quote(words[2])}"
        return self.line()

    @property
    def brief(self) -> bool:
        """Whether it needs no `timeout` on the system where whoever waits for it ends it in time."""
        return self.argv[0] in _BRIEF

    @property
    def program(self) -> bool:
        """Whether it is a program, and thus nothing that a shell would do itself and be changed by."""
        return self.brief or self.seconds is not None

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

        Raises what `Command.read`, source and sink raise, TimedOut, MachineNotAvailable, AccessDenied, TooManyRequests, or
        Stopped when told to stop.
        """

    def proven(self) -> bool:
        """Whether the user is known to be let in just now."""


class LocalHost:
    """This very machine, entered as whoever runs the worker."""

    def __init__(self, patience: float = 15, stop: Stop | None = None) -> None:
        self._patience = patience
        self._stop = stop or Stop()

    def run(self, command: Command[T]) -> T:
        """Run the command as a child process, through a shell as SSH does."""
        kept = Kept()
        sink = command.sink or kept
        sink.begin()
        argv = ("/bin/sh", "-c", command.line())
        with tempfile.TemporaryFile() as errors, _started(argv, errors) as process, self._stop.ends(partial(_kill_session, process.pid)):
            try:
                feeding = _feeding(command.source(), process)
                for piece in self._printed(process):
                    sink.take(piece)
            except BaseException:
                process.kill()
                raise
            errors.seek(0)
            code = process.returncode if process.returncode >= 0 else 128 - process.returncode
            finished = Finished(code, kept.content(), errors.read())
        feeding.check()
        return command.read(finished)

    def proven(self) -> bool:
        """Nobody has to enter."""
        return True

    def _printed(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        assert process.stdout
        end = time.monotonic() + self._patience
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0 and selector.select(left):
                piece = os.read(process.stdout.fileno(), _CHUNK)
                if not piece:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, end - time.monotonic()))
                        return
                    break
                yield piece
        raise TimedOut("Command has finished with timeout signal")


def _started(argv: tuple[str, ...], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)


def killing(session: int) -> tuple[str, ...]:
    """The command line that ends all processes of a session of the system's kernel."""
    return ("pkill", "-TERM", "-s", str(session))


def _kill_session(session: int) -> None:
    subprocess.run(killing(session), check=False)


def _feeding(source: Source, process: subprocess.Popen[bytes]) -> Feeding:
    stdin = process.stdin
    assert stdin

    def write(piece: bytes) -> bool:
        try:
            left = memoryview(piece)
            while left:
                left = left[stdin.write(left) :]
        except (OSError, ValueError):  # it reads no more, or has ended
            return False
        return True

    return Feeding(source, write, stdin.close)
