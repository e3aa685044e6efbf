"""Hosts over SSH: warm shells on pooled connections, entered with short-lived certificates."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import paramiko

from schemas.errors import AccessDenied, FirecrestError, MachineNotAvailable, TimedOut
from schemas.settings import Limits, System
from workers.certificates import Certificate, UserKey, expiry
from workers.connections import Connection, NoSessionError, connect
from workers.host import Command, Finished
from workers.pool import Bounds, Member, Pool, Slot
from workers.shells import SMALL_INPUT, LostError, NotStartedError, Shell
from workers.stopping import Stop

T = TypeVar("T")

Certify = Callable[[str], str]
Entered = set[Certificate]

# How much later than the system's own `timeout` a command is given up here.
GRACE: Final = 3.0
# A certificate is not used in its last seconds: clocks differ, and the way to the system takes time.
CERTIFICATE_MARGIN: Final = 30.0
# How long it may take to end a command that was told to stop.
KILL_SECONDS: Final = 3.0
# So long a command that ended well is proof that the user is let in.
PROOF_SECONDS: Final = 10.0
# sshd refuses logins at random once 10 are under way (MaxStartups 10:30:100).
CONNECTS_AT_ONCE: Final = 8


class _VacatedError(Exception):
    """The slot is on a connection that somebody else failed to open: take another."""


class _RefusedError(Exception):
    """The system could not be reached, or did not let the user in: the same for everybody who waits for the connection."""

    def __init__(self, failure: FirecrestError) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Certificates:
    """The certificates at hand, one per system and user, all for one key."""

    def __init__(self) -> None:
        self._key = UserKey()
        self._lines: dict[tuple[str, str], tuple[str, float]] = {}

    def at_hand(self, entrance: tuple[str, str]) -> paramiko.PKey | None:
        """The key with a certificate that is still good, if there is one."""
        line, end = self._lines.get(entrance, ("", 0.0))
        return self._key.paramiko(line) if time.time() < end else None

    def obtain(self, entrance: tuple[str, str], certify: Certify) -> paramiko.PKey:
        """The key with a new certificate. Raises what `certify` raises."""
        line = certify(self._key.public_line())
        now = time.time()
        current = {known: entry for known, entry in self._lines.copy().items() if now < entry[1]}
        self._lines = {**current, entrance: (line, expiry(line) - CERTIFICATE_MARGIN)}
        return self._key.paramiko(line)

    def forget(self, entrance: tuple[str, str]) -> None:
        """Drop a certificate that was refused."""
        self._lines.pop(entrance, None)


class SSHPool:
    """All SSH connections of one worker process; every method may be called from any thread."""

    def __init__(self, limits: Limits) -> None:
        # What paramiko logs, tracebacks included, it also raises, and it is told here in one line.
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        self.limits = limits
        self.certificates = Certificates()
        self.pool = Pool[Connection, Shell](Bounds(limits.connections, limits.waiting_per_user, limits.idle_seconds))
        self._doors: dict[str, threading.BoundedSemaphore] = {}

    def host(self, system: System, user: str, certify: Certify, stop: Stop | None = None, entered: Entered | None = None) -> "SSHHost":
        """The system entered as that user, until `stop` says so.

        `certify` is asked when a connection must be opened and no certificate is at hand. To `entered` is added the certificate
        of each connection that a command is run on.
        """
        return SSHHost(self, system, user, certify, stop or Stop(), set() if entered is None else entered)

    def close(self) -> None:
        """Close every connection."""
        self.pool.close()

    @contextmanager
    def door(self, system: System, deadline: float) -> Iterator[None]:
        """The right to log into a system: few do so at the same time. Raises MachineNotAvailable at the deadline."""
        door = self._doors.setdefault(system.name, threading.BoundedSemaphore(CONNECTS_AT_ONCE))
        if not door.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise MachineNotAvailable("Machine is not available")
        try:
            yield
        finally:
            door.release()


@dataclass(frozen=True)
class SSHHost:
    """A system entered as one user."""

    owner: SSHPool
    system: System
    user: str
    certify: Certify
    stop: Stop = field(default_factory=Stop)
    entered: Entered = field(default_factory=set)

    def run(self, command: Command[T]) -> T:
        """Run the command on the system, once more if the connection broke and that does no harm.

        Raises what `Command.read`, source and sink raise, TimedOut, MachineNotAvailable, AccessDenied, TooManyRequests,
        CommandFailed or Stopped.
        """
        line = command.line()
        return command.read(twice_at_most(command, lambda: self._try(command, line)))

    def proven(self) -> bool:
        """Whether a command of the user has just ended well, on a connection that still stands."""
        return self.owner.pool.proven(self._entrance, seconds=PROOF_SECONDS)

    def _try(self, command: Command[T], line: str) -> Finished:
        deadline = time.monotonic() + self.owner.limits.patience
        source = command.source()
        big = source.size > SMALL_INPUT
        stdin = b"" if big else source.whole()
        if command.sink:
            command.sink.begin()
        while True:
            self.stop.check()
            slot = self._slot(deadline, fresh=big)
            try:
                return self._run_with_input(slot, command, line) if big else self._run(slot, command, line, stdin)
            except (_VacatedError, NoSessionError):
                if time.monotonic() >= deadline:
                    raise TimedOut("Command has finished with timeout signal") from None

    def _slot(self, deadline: float, *, fresh: bool) -> Slot[Connection, Shell]:
        return self.owner.pool.take(
            self._entrance,
            sessions=self.system.sessions_per_connection,
            connections=self.system.connections_per_user,
            deadline=deadline,
            fresh=fresh,
        )

    def _run(self, slot: Slot[Connection, Shell], command: Command[T], line: str, stdin: bytes) -> Finished:
        shell = slot.session
        try:
            shell = shell or self._shell(slot)
            self._note(slot.member.connection)
            with self.stop.ends(partial(_kill, slot.member.connection, shell)):
                finished = shell.run(line, self._end(command), stdin, command.sink)
        except BaseException as error:
            if shell:
                shell.close()
            self.owner.pool.drop(slot, lost=_occupies(error, opened=shell is not None))
            raise
        self.owner.pool.keep(slot, shell)
        return finished

    def _run_with_input(self, slot: Slot[Connection, Shell], command: Command[T], line: str) -> Finished:
        connection = None
        try:
            connection = self._connection(slot)
            self._note(connection)
            finished = connection.run_with_input(line, command.source(), self._end(command), command.sink)
        except BaseException as error:
            self.owner.pool.drop(slot, lost=_occupies(error, opened=connection is not None))
            raise
        self.owner.pool.drop(slot)
        return finished

    def _note(self, connection: Connection | None) -> None:
        if connection and connection.certificate:
            self.entered.add(connection.certificate)

    def _shell(self, slot: Slot[Connection, Shell]) -> Shell:
        return self._connection(slot).shell(self._soon())

    def _connection(self, slot: Slot[Connection, Shell]) -> Connection:
        """The slot's connection, opened by whoever comes first; the others wait for it and share its fate."""
        member = slot.member
        if not member.opening.acquire(timeout=self.owner.limits.connect_seconds):
            raise MachineNotAvailable("Machine is not available")
        try:
            if member.failure:
                raise type(member.failure)(member.failure.text)
            if member.gone:
                raise _VacatedError
            return member.connection or self._open(member)
        finally:
            member.opening.release()

    def _open(self, member: Member[Connection, Shell]) -> Connection:
        try:
            connection = self._enter()
        except _RefusedError as error:
            self.owner.pool.expel(member, error.failure)
            raise error.failure from error
        except BaseException:
            # No certificate for this caller: the next one tries with an authority of their own.
            self.owner.pool.expel(member)
            raise
        if not self.owner.pool.admit(member, connection):
            raise MachineNotAvailable("Machine is not available")
        return connection

    def _enter(self) -> Connection:
        certificates = self.owner.certificates
        known = certificates.at_hand(self._entrance)
        if known:
            try:
                return self._connect(known)
            except _RefusedError as error:
                if not isinstance(error.failure, AccessDenied):
                    raise
                # Its time may be over, or its authority changed: what a new one is told counts.
                certificates.forget(self._entrance)
        try:
            return self._connect(certificates.obtain(self._entrance, self.certify))
        except _RefusedError:
            certificates.forget(self._entrance)
            raise

    def _connect(self, key: paramiko.PKey) -> Connection:
        deadline = self._soon()
        try:
            with self.owner.door(self.system, deadline):
                return connect(self.system, self.user, key, deadline=deadline)
        except (MachineNotAvailable, AccessDenied) as error:
            raise _RefusedError(error) from error

    def _soon(self) -> float:
        return time.monotonic() + self.owner.limits.connect_seconds

    def _end(self, command: Command[T]) -> float:
        seconds = self.owner.limits.command_timeout if command.seconds is None else command.seconds
        return time.monotonic() + seconds + GRACE

    @property
    def _entrance(self) -> tuple[str, str]:
        return self.system.name, self.user


def twice_at_most(command: Command[Any], attempt: Callable[[], Finished]) -> Finished:
    """What an attempt gave, or another where the connection broke before the command began, or it is one that may run twice.

    Raises MachineNotAvailable when neither came to an end.
    """
    try:
        try:
            return attempt()
        except NotStartedError:
            return attempt()
        except LostError:
            if not command.repeatable:
                raise
            return attempt()
    except (NotStartedError, LostError) as error:
        raise MachineNotAvailable("Machine is not available") from error


def _kill(connection: Connection | None, shell: Shell) -> None:
    if connection:
        connection.kill(shell, time.monotonic() + KILL_SECONDS)


def _occupies(error: BaseException, *, opened: bool) -> bool:
    """Whether the server may go on believing that the session is in use."""
    if isinstance(error, NoSessionError):
        return True
    return opened and not isinstance(error, NotStartedError | LostError)
