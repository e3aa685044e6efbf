"""Hosts of forced-command sites: for every command a key, a certificate that names the command, and a connection.

The system runs what the certificate says (`deploy/firecrest_command.py`), whatever it is sent.
"""

import json
import math
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar

from schemas.errors import CommandFailed, MachineNotAvailable, TimedOut
from schemas.settings import System
from workers.certificates import UserKey
from workers.command_lists import programs
from workers.connections import Connection, NoSessionError, connect
from workers.framing import new_token
from workers.host import Command, Finished
from workers.members import Member
from workers.shells import NotStartedError, Shell
from workers.ssh import GRACE, Entered, SSHPool, twice_at_most
from workers.stopping import Stop

T = TypeVar("T")

# From a public key and a command in words, as `spelled` gives them, to a certificate.
CertifyCommand = Callable[[str, str], str]

# The certificate goes into one SSH packet, and the command into one word of an argument list (128 KiB on Linux).
MOST_LETTERS: Final = 100_000


@cache
def _digests() -> dict[str, str]:
    return {program: called for called, program in programs().items()}


def spelled(command: Command[Any], token: str) -> str:
    """The command as certificates name it: base64url of JSON, constant programs by their SHA-256; `token` frames its output.

    Raises InvalidParameter for a character that no command line can carry, CommandFailed for a command that is too long.
    """
    command.words()
    argv = [{"sha256": _digests()[word]} if word in _digests() else word for word in command.argv]
    text = json.dumps({"argv": argv, "seconds": command.seconds, "mark": token}, separators=(",", ":"))
    spelling = urlsafe_b64encode(text.encode()).decode().rstrip("=")
    if len(spelling) > MOST_LETTERS:
        raise CommandFailed("The command is too long for this machine")
    return spelling


@dataclass(frozen=True)
class ForcedHost:
    """A system entered as one user, anew for every command."""

    owner: SSHPool
    system: System
    user: str
    certify: CertifyCommand
    stop: Stop = field(default_factory=Stop)
    entered: Entered = field(default_factory=set)
    until: float = math.inf

    def run(self, command: Command[T]) -> T:
        """Run the command on the system, once more if the connection broke and that does no harm.

        Raises what `SSHHost.run` does, and CommandRefused when the system has not got it on its list.
        """
        return command.read(twice_at_most(command, lambda: self._try(command)))

    def proven(self) -> bool:
        """Nobody is let in before there is a certificate for just that command."""
        return False

    def _try(self, command: Command[T]) -> Finished:
        self.stop.check()
        if time.monotonic() >= self.until:
            raise TimedOut("Command has finished with timeout signal")
        if command.sink:
            command.sink.begin()
        slot = self.owner.pool.take(
            (self.system.name, self.user),
            sessions=1,
            connections=self.system.connections_per_user * self.system.sessions_per_connection,
            deadline=min(time.monotonic() + self.owner.limits.patience, self.until),
            fresh=True,
        )
        try:
            return self._run(slot.member, command)
        finally:
            self.owner.pool.expel(slot.member)
            self.owner.pool.drop(slot)

    def _run(self, member: Member[Connection, Shell], command: Command[T]) -> Finished:
        token, key = new_token(), UserKey()
        certificate = self.certify(key.public_line(), spelled(command, token))
        deadline = time.monotonic() + self.owner.limits.connect_seconds
        with self.owner.door(self.system, deadline):
            connection = connect(self.system, self.user, key.paramiko(certificate), deadline=deadline)
        if not self.owner.pool.admit(member, connection):
            raise MachineNotAvailable("Machine is not available")
        if connection.certificate:
            self.entered.add(connection.certificate)
        seconds = self.owner.limits.command_timeout if command.seconds is None else command.seconds
        # the wrapper ends the command when the connection is gone
        with self.stop.ends(connection.close):
            try:
                return connection.run_forced(token, command.source(), time.monotonic() + seconds + GRACE, command.sink)
            except NoSessionError as error:
                raise NotStartedError("the system gives no session") from error
