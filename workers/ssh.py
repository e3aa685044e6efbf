"""Hosts over SSH: warm shells on pooled connections, entered with short-lived certificates."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import paramiko

from schemas.errors import AccessDenied, FirecrestError, MachineNotAvailable, TimedOut
from schemas.settings import Limits, System
from workers.certificates import Certificate
from workers.connections import Connection, NoSessionError, connect
from workers.host import Command, Finished
from workers.members import Member, Slot
from workers.pool import Bounds, Pool
from workers.renewals import Certificates, Certify, Renewals
from workers.shells import SMALL_INPUT, LostError, NotStartedError, Shell
from workers.stopping import Stop

T = TypeVar("T")
Entered = set[Certificate]

# How much later than the system's own `timeout` a command is given up here, where it runs under one.
GRACE: Final = 3.0
# How long it may take to end a command that was told to stop.
KILL_SECONDS: Final = 3.0
# So long a command that ended well is proof that the user is let in.
PROOF_SECONDS: Final = 10.0
# sshd refuses logins at random once 10 are under way (MaxStartups 10:30:100): two workers on one machine stay below that.
CONNECTS_AT_ONCE: Final = 4


class _VacatedError(Exception):
    """The slot is on a connection that somebody else failed to open: take another."""


class _RefusedError(Exception):
    """The system could not be reached, or did not let the user in: the same for everybody who waits for the connection."""

    def __init__(self, failure: FirecrestError) -> None:
        super().__init__(failure.text)
        self.failure = failure


class SSHPool:
    """All SSH connections of one worker process; every method may be called from any thread."""

    def __init__(self, limits: Limits) -> None:
        # What paramiko logs, tracebacks included, it also raises, and it is told here in one line.
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        self.limits = limits
        self.certificates = Certificates()
        self.renewals = Renewals()
        self.pool = Pool[Connection, Shell](Bounds(limits.connections, limits.waiting_per_user, limits.idle_seconds))
        self.shell_seconds: dict[str, float] = {}  # that the last one took to start, by system
        self._doors: dict[tuple[str, int], threading.BoundedSemaphore] = {}

    def host(self, system: System, user: str, certify: Certify, stop: Stop | None = None, entered: Entered | None = None) -> "SSHHost":
        """The system entered as that user."""
        return SSHHost(self, system, user, certify, stop or Stop(), set() if entered is None else entered)

    def close(self) -> None:
        """Close every connection."""
        self.pool.close()

    @contextmanager
    def door(self, system: System, deadline: float) -> Iterator[None]:
        """The right to log into a system: few do so at the same time. Raises MachineNotAvailable at the deadline."""
        door = self._doors.setdefault((system.host, system.port), threading.BoundedSemaphore(CONNECTS_AT_ONCE))
        if not door.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise MachineNotAvailable("Machine is not available")
        try:
            yield
        finally:
            door.release()


@dataclass(frozen=True)
class SSHHost:
    """A system entered as one user, until `stop` says so.

    `certify` is asked when a connection must be opened and no certificate is at hand, and, in a thread beside a command, when one
    is about to end. To `entered` is added the certificate of each connection that a command is run on. Nothing is begun after
    `until`, by `time.monotonic`.
    """

    owner: SSHPool
    system: System
    user: str
    certify: Certify
    stop: Stop = field(default_factory=Stop)
    entered: Entered = field(default_factory=set)
    until: float = math.inf

    def run(self, command: Command[T]) -> T:
        """Run the command on the system, once more if the connection broke and that does no harm.

        Raises what `Command.read`, source and sink raise, TimedOut, MachineNotAvailable, AccessDenied, TooManyRequests,
        CommandFailed or Stopped.
        """
        command.words()  # may raise, before anything is taken
        return command.read(twice_at_most(command, lambda: self._try(command)))

    def proven(self) -> bool:
        """Whether a command of the user has just ended well, on a connection that still stands."""
        return self.owner.pool.proven(self._entrance, seconds=PROOF_SECONDS)

    def _try(self, command: Command[T]) -> Finished:
        deadline = min(time.monotonic() + self.owner.limits.patience, self.until)
        source = command.source()
        big = source.size > SMALL_INPUT
        stdin = b"" if big else source.whole()
        if command.sink:
            command.sink.begin()
        while True:
            self.stop.check()
            if time.monotonic() >= deadline:
                raise TimedOut("Command has finished with timeout signal")
            slot = self._slot(deadline, fresh=big)
            self._renew_beside(slot.member)
            with suppress(_VacatedError, NoSessionError):
                return self._run_with_input(slot, command) if big else self._run(slot, command, stdin)

    def _slot(self, deadline: float, *, fresh: bool) -> Slot[Connection, Shell]:
        return self.owner.pool.take(
            self._entrance,
            sessions=self.system.sessions_per_connection,
            connections=self.system.connections_per_user,
            deadline=deadline,
            fresh=fresh,
        )

    def _run(self, slot: Slot[Connection, Shell], command: Command[T], stdin: bytes) -> Finished:
        shell = slot.session
        line, stdin = command.lines_within(stdin)
        try:
            shell = shell or self._spared(slot) or self._shell(slot)
            self._note(slot.member.connection)
            with self.stop.ends(partial(_kill, slot.member.connection, shell)):
                end = self._end(command) + (0 if command.brief else GRACE)
                finished = shell.run(line, end, stdin, command.sink, apart=not command.program)
        except BaseException as error:
            if shell and _may_run_on(error):
                threading.Thread(target=self._clear, args=(slot, shell), name="clearing", daemon=True).start()
                raise
            if shell:
                shell.close()
            self.owner.pool.drop(slot, lost=isinstance(error, NoSessionError))
            raise
        self.owner.pool.keep(slot, shell)
        return finished

    def _clear(self, slot: Slot[Connection, Shell], shell: Shell) -> None:
        """End what may still run in a shell, and only then give its slot back."""
        ended = _kill(slot.member.connection, shell)
        self.owner.pool.drop(slot, lost=not ended)

    def _run_with_input(self, slot: Slot[Connection, Shell], command: Command[T]) -> Finished:
        connection = None
        try:
            connection = self._connection(slot)
            self._note(connection)
            finished = connection.run_with_input(command.line(), command.source(), self._end(command) + GRACE, command.sink)
        except BaseException as error:
            self.owner.pool.drop(slot, lost=isinstance(error, NoSessionError) or (connection is not None and _may_run_on(error)))
            raise
        self.owner.pool.drop(slot)
        return finished

    def _renew_beside(self, member: Member[Connection, Shell]) -> None:
        """Have what will soon be needed ready by then: a certificate, and a connection in place of an old one."""
        if member.connection and (self.owner.certificates.waning(self._entrance) or self.owner.pool.aging(member)):
            self.owner.renewals.beside(self._entrance, partial(self._renew, member))

    def _renew(self, member: Member[Connection, Shell]) -> None:
        if self.owner.certificates.waning(self._entrance):
            self.owner.certificates.obtain(self._entrance, self.certify)
        slot = self.owner.pool.succeed(member)
        if slot is None:
            return
        try:
            shell = self._shell(slot)
        except BaseException:
            self.owner.pool.drop(slot)
            raise
        self.owner.pool.keep(slot, shell)
        self.owner.pool.retire(member)

    def _note(self, connection: Connection | None) -> None:
        if connection and connection.certificate:
            self.entered.add(connection.certificate)

    def _spared(self, slot: Slot[Connection, Shell]) -> Shell | None:
        """A shell that somebody else is done with before one of our own would have started, as far as can be foreseen."""
        self._connection(slot)
        return self.owner.pool.spared(slot, seconds=self.owner.shell_seconds.get(self.system.name, 0.0))

    def _shell(self, slot: Slot[Connection, Shell]) -> Shell:
        connection, begun = self._connection(slot), time.monotonic()
        shell = connection.shell(self._soon())
        self.owner.shell_seconds[self.system.name] = time.monotonic() - begun
        return shell

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
        return time.monotonic() + seconds

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


def _kill(connection: Connection | None, shell: Shell) -> bool:
    """End a shell with all that runs in it, and say whether that is done."""
    return connection is not None and connection.kill(shell, time.monotonic() + KILL_SECONDS)


def _may_run_on(error: BaseException) -> bool:
    """Whether what a session was given may still run in it, and the server believe for long that it is in use."""
    return not isinstance(error, NoSessionError | NotStartedError | LostError)
