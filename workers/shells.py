"""Warm shells: one long-lived `sh` per SSH session, fed with one framed command after another."""

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import paramiko

from schemas.errors import CommandFailed, CommandRefused, TimedOut
from workers.failures import REFUSED
from workers.framing import Frame, OversizedError, UnframedError, new_token, noisy_script, script, script_with_input
from workers.host import Finished
from workers.streams import Feeding, Sink, Source

# Beyond this a session of its own is quicker than the shell, which (bash) reads its input byte by byte.
SMALL_INPUT: Final = 32 * 1024

_CHUNK: Final = 1 << 20
_SEVERAL: Final = 8
_PIECE: Final = 32_000  # goes into one packet
_SHELL: Final = "exec /bin/sh"
# What the wrapper of forced-command sites is sent in place of a command line; it takes nothing else.
CARRIER: Final = "firecrest"
_STATUS_SECONDS: Final = 1.0


class NotStartedError(Exception):
    """The command surely did not run: it could not be handed over whole."""


class LostError(Exception):
    """The command may have run, but what became of it cannot be known."""


class Shell:
    """A session with an `sh` in it that waits for commands; `number` is the system's own for the session."""

    def __init__(self, session: paramiko.Channel, deadline: float) -> None:
        """Start the `sh` and wait until it answers, dropping whatever the login prints first.

        Raises NotStartedError, LostError, TimedOut or CommandFailed.
        """
        self._session = session
        self._outputs = _Outputs(session)
        with closed_at(deadline, session):
            _request(session, _SHELL)
        token = new_token()
        _send(session, noisy_script("echo $$", token), deadline)
        self.number = _number(self._outputs.read(Frame(token, noisy=True), deadline).stdout)

    def usable(self) -> bool:
        """Whether it is open and has been silent since its last command ended."""
        session = self._session
        silent = not (session.recv_ready() or session.recv_stderr_ready())
        return silent and not (session.closed or session.eof_received)

    def run(self, line: str, deadline: float, stdin: bytes = b"", sink: Sink | None = None, *, apart: bool = True) -> Finished:
        """Run a command line, which reads `stdin`: at most SMALL_INPUT bytes. After any error the shell must be closed.

        `apart` is whether the shell must be kept from what the line does.
        Raises NotStartedError, LostError, TimedOut, or CommandFailed for an output too big.
        """
        if not self.usable():
            raise NotStartedError("the shell was gone or had spoken unasked")
        token = new_token()
        text = script_with_input(line, token, stdin) if stdin else script(line, token, apart=apart)
        _send(self._session, text, deadline)
        return self._outputs.read(Frame(token, sink=sink), deadline)

    def close(self) -> None:
        """End the session; a command still running there is left to itself."""
        end(self._session)


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise LostError("the shell did not tell its number") from None


def end(session: paramiko.Channel) -> None:
    """Close a session, on a broken connection too."""
    with suppress(paramiko.SSHException, OSError, EOFError):
        session.close()


def run_with_input(session: paramiko.Channel, line: str, source: Source, deadline: float, sink: Sink | None = None) -> Finished:
    """Run a command line in a session of its own, which it reads `source` from. Raises as `Shell.run` does, and what the source raises.

    The line travels as base64, so that it means the same to every login shell.
    """
    token = new_token()
    text = base64.b64encode(noisy_script(line, token)).decode()
    request = f"""exec /bin/sh -c 'eval "$(echo {text} | base64 -d)"'"""
    return _run_framed(session, request, token, source=source, deadline=deadline, sink=sink)


def run_forced(session: paramiko.Channel, token: str, source: Source, deadline: float, sink: Sink | None = None) -> Finished:
    """Run the command that the certificate names, between marks of that token, in a session of its own, which it reads `source` from.

    Raises as `run_with_input` does, and CommandRefused when the wrapper on the system refuses it.
    """
    try:
        return _run_framed(session, CARRIER, token, source=source, deadline=deadline, sink=sink)
    except LostError:
        if session.status_event.wait(max(0.0, min(_STATUS_SECONDS, deadline - time.monotonic()))) and session.exit_status == REFUSED:
            raise CommandRefused from None
        raise


def _run_framed(session: paramiko.Channel, request: str, token: str, *, source: Source, deadline: float, sink: Sink | None) -> Finished:
    outputs = _Outputs(session)
    with closed_at(deadline, session):
        _request(session, request)
    feeding = _feeding(source, session)
    finished = outputs.read(Frame(token, noisy=True, sink=sink), deadline)
    feeding.check()
    return finished


class _Bell(threading.Event):
    """Rings when something has come; emptying one stream does not silence it for the other."""

    def clear(self) -> None:
        pass

    def silence(self) -> None:
        super().clear()


class _Muffled(threading.Event):
    """Rings a bell only when several things have come, unless it is `eager`."""

    def __init__(self, bell: _Bell) -> None:
        super().__init__()
        self._bell = bell
        self._rung = 0
        self.eager = True

    def set(self) -> None:
        self._rung += 1
        if self.eager or self._rung >= _SEVERAL:
            self._rung = 0
            self._bell.set()

    def clear(self) -> None:
        pass


class _Outputs:
    """Both output streams of a session, drained together because they share one flow control window.

    The end of stderr comes last as a rule, so that nobody is woken before it for an output that is not to be handed on at once.
    """

    def __init__(self, session: paramiko.Channel) -> None:
        self._session = session
        self._bell = _Bell()
        self._muffled = _Muffled(self._bell)
        session.in_buffer.set_event(self._muffled)
        session.in_stderr_buffer.set_event(self._bell)

    def read(self, frame: Frame, deadline: float) -> Finished:
        self._muffled.eager = frame.handing_on
        try:
            return self._read(frame, deadline)
        except UnframedError:
            raise LostError("the shell's output was not framed") from None
        except OversizedError as error:
            raise CommandFailed(f"Command output exceeded buffer limit ({error})") from None
        except (paramiko.SSHException, EOFError) as error:  # paramiko tells the other side what has been read
            raise LostError("the connection broke") from error

    def _read(self, frame: Frame, deadline: float) -> Finished:
        while True:
            self._bell.silence()
            ended = self._session.closed or self._session.eof_received
            stdout, stderr = self._arrived()
            if stdout or stderr:
                finished = frame.feed(stdout, stderr)
                if finished:
                    return finished
                self._muffled.eager |= bool(stderr)
                if time.monotonic() >= deadline:
                    raise _late()
            elif ended:
                raise LostError("the session ended")
            elif not self._bell.wait(max(0.0, deadline - time.monotonic())):
                raise _late()

    def _arrived(self) -> tuple[bytes, bytes]:
        session = self._session
        stdout = session.recv(_CHUNK) if session.recv_ready() else b""
        stderr = session.recv_stderr(_CHUNK) if session.recv_stderr_ready() else b""
        return stdout, stderr


def _late() -> TimedOut:
    return TimedOut("Command has finished with timeout signal")


@contextmanager
def closed_at(deadline: float, session: paramiko.Channel) -> Iterator[None]:
    """Close the session if the block outlasts the deadline: paramiko waits for such replies without end."""
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end, [session])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _request(session: paramiko.Channel, command: str) -> None:
    try:
        session.exec_command(command)
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise LostError("the session was refused or ended") from error


def _send(session: paramiko.Channel, text: bytes, deadline: float) -> None:
    """Write a whole script. Until its last piece is handed over the shell has run nothing of it."""
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    for piece in pieces[:-1]:
        _send_piece(session, piece, deadline, failing=NotStartedError)
    _send_piece(session, pieces[-1], deadline, failing=LostError)


def _send_piece(session: paramiko.Channel, piece: bytes, deadline: float, *, failing: type[Exception]) -> None:
    while piece:
        session.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            sent = session.send(piece)
        except OSError as error:  # paramiko raises this one before anything was sent
            raise NotStartedError("the session is closed") from error
        except (paramiko.SSHException, EOFError) as error:
            raise failing("the connection broke") from error
        if not sent:
            raise NotStartedError("the session is closed")
        piece = piece[sent:]


def _feeding(source: Source, session: paramiko.Channel) -> Feeding:
    session.settimeout(None)

    def write(piece: bytes) -> bool:
        try:
            left = memoryview(piece)
            while left and (sent := session.send(bytes(left[:_PIECE]))):
                left = left[sent:]
        except (paramiko.SSHException, OSError, EOFError):  # a command that does not want it, or a session that has ended
            return False
        return not left

    def end() -> None:
        with suppress(paramiko.SSHException, OSError, EOFError):
            session.shutdown_write()

    return Feeding(source, write, end)
