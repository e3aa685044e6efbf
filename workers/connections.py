"""One SSH connection: reaching a system, knowing it by its pinned keys, entering it as a user."""

import base64
import logging
import random
import shlex
import socket
import time
from contextlib import suppress
from typing import Final

import paramiko

from schemas.errors import AccessDenied, CommandFailed, MachineNotAvailable, TimedOut
from schemas.settings import System
from workers.certificates import Certificate, carried
from workers.host import Finished, killing
from workers.shells import LostError, NotStartedError, Shell, closed_at, end, run_forced, run_with_input
from workers.streams import Sink, Source

logger = logging.getLogger(__name__)

_CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_DIGESTS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
# Before all others: what quantum computers will not break, then what takes OpenSSH (9.2) 4 ms less of CPU than curve25519.
_FIRST_EXCHANGES: Final = ("mlkem768x25519-sha256", "ecdh-sha2-nistp256")
_RSA: Final = ("rsa-sha2-512", "rsa-sha2-256")
_BUSY: Final = "Error reading SSH protocol banner"
_OPEN_ATTEMPTS: Final = 6
_AHEAD: Final = 64 * 1024
_ESTABLISHED: Final = 1  # TCP_ESTABLISHED, the first byte of a tcp_info (linux/tcp.h)
_KILLED: Final = (0, 1)  # of pkill: there was something, there was nothing
# The kernel asks a silent peer after 15 s and gives it up after 30; unacknowledged data is given up after 20.
_SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)


class PromptSocket(socket.socket):
    """A socket that reads ahead, for one reader, and acknowledges at once what it receives while it is `prompt`.

    The kernel falls back to delayed acknowledgement by itself, so it is asked again each time; it costs the first command
    of a connection 40 ms otherwise, as sshd waits for acknowledgements until the first session has begun.
    """

    prompt = True
    _ahead = b""
    _at = 0

    def recv(self, count: int, flags: int = 0) -> bytes:
        """Up to so many bytes, as `socket.recv` returns them."""
        if self._at == len(self._ahead):
            self._ahead, self._at = super().recv(max(count, _AHEAD), flags), 0
            if self.prompt:
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        piece = self._ahead[self._at : self._at + count]
        self._at += len(piece)
        return piece

    def cut_off(self) -> bool:
        """Whether the other side has ended the connection, be its last words read or not.

        This asks for the state of TCP, for which nobody lets go of the interpreter lock; poll() would have all threads stand in line.
        """
        try:
            return self.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED
        except OSError:  # closed on this side
            return True


class NoSessionError(Exception):
    """The server has no room for one more session on this connection."""


class Connection:
    """An SSH connection that a user has entered through, with that certificate."""

    def __init__(self, transport: paramiko.Transport, sock: PromptSocket, certificate: Certificate | None) -> None:
        self.certificate = certificate
        self._transport = transport
        self._socket = sock

    def usable(self) -> bool:
        """Whether the connection still stands, as far as known."""
        return self._transport.is_active() and not self._socket.cut_off()

    def shell(self, deadline: float) -> Shell:
        """A new warm shell. Raises NoSessionError, NotStartedError, or MachineNotAvailable when no shell answers in it."""
        session = self._session(deadline)
        try:
            shell = Shell(session, deadline)
        except LostError as error:
            end(session)
            raise NotStartedError("no shell started") from error
        except (TimedOut, CommandFailed) as error:
            end(session)
            raise MachineNotAvailable("Machine is not available") from error
        except BaseException:
            end(session)
            raise
        self._socket.prompt = False
        return shell

    def run_with_input(self, line: str, source: Source, deadline: float, sink: Sink | None = None) -> Finished:
        """Run a command line that reads `source`, in a session of its own. Raises what `shells.run_with_input` does, and NoSessionError."""
        session = self._session(deadline)
        try:
            return run_with_input(session, line, source, deadline, sink)
        finally:
            end(session)

    def run_forced(self, token: str, source: Source, deadline: float, sink: Sink | None = None) -> Finished:
        """Run the command that the certificate names. Raises what `shells.run_forced` does, and NoSessionError."""
        session = self._session(deadline)
        try:
            return run_forced(session, token, source, deadline, sink)
        finally:
            end(session)

    def kill(self, shell: Shell, deadline: float) -> bool:
        """End a shell with all that runs in it, and say whether that is done; if not, it is left to end by itself."""
        try:
            session = self._session(deadline)
            with closed_at(deadline, session):
                session.exec_command(shlex.join(killing(shell.number)))
                return session.recv_exit_status() in _KILLED
        except (NoSessionError, NotStartedError, paramiko.SSHException, OSError, EOFError) as error:
            logger.warning("a command that was to stop could not be killed: %s", error)
            return False
        finally:
            shell.close()

    def close(self) -> None:
        """Close all, at once."""
        with suppress(OSError):  # the other side may have been first
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes paramiko's reader, which close() alone would wait for
        self._transport.close()

    def _session(self, deadline: float) -> paramiko.Channel:
        # A server frees a session a moment after its end was told, so "no" may mean "not yet".
        for attempt in range(_OPEN_ATTEMPTS):
            try:
                return self._transport.open_session(timeout=max(0.1, deadline - time.monotonic()))
            except (paramiko.SSHException, OSError, EOFError) as error:
                if not self._transport.is_active():
                    raise NotStartedError("the connection is gone") from error
                _pause(attempt, deadline)
        raise NoSessionError


def connect(system: System, user: str, key: paramiko.PKey, *, deadline: float) -> Connection:
    """Enter a system.

    Raises MachineNotAvailable when it cannot be reached or is not the one whose keys are pinned, AccessDenied when it does
    not let the user in.
    """
    attempt = 0
    while True:
        try:
            return _enter(system, user, key, deadline)
        except paramiko.AuthenticationException as error:
            raise AccessDenied("User does not have permissions to access machine") from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            # Said by an sshd that has too many unfinished logins (MaxStartups).
            if _BUSY not in str(error) or time.monotonic() >= deadline:
                logger.warning("%s is not available: %s", system.name, error)
                raise MachineNotAvailable("Machine is not available") from error
        _pause(attempt, deadline)
        attempt += 1


def pinned(lines: tuple[str, ...]) -> dict[bytes, str]:
    """Public host keys and their types, from lines with or without host names before and comments after the key.

    Raises ValueError for a line without a key.
    """
    return dict(_pin(line) for line in lines)


def _pin(line: str) -> tuple[bytes, str]:
    for word in line.split():
        if word.startswith("AAAA"):
            blob = base64.b64decode(word, validate=True)
            return blob, paramiko.Message(blob).get_text()
    raise ValueError(f"no host key in {line!r}")


def _enter(system: System, user: str, key: paramiko.PKey, deadline: float) -> Connection:
    plain = socket.create_connection((system.host, system.port), timeout=_left(deadline))
    sock = PromptSocket(fileno=plain.detach())
    sock.settimeout(_left(deadline))
    try:
        for option in _SOCKET_OPTIONS:
            sock.setsockopt(*option)
        transport = paramiko.Transport(sock)
    except BaseException:
        sock.close()
        raise
    connection = Connection(transport, sock, carried(key))
    try:
        _handshake(transport, system, deadline)
        _authenticate(transport, user, key, deadline)
        # Blocking from here on: an idle connection costs no wake-ups, and close() wakes the reader itself.
        sock.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def _handshake(transport: paramiko.Transport, system: System, deadline: float) -> None:
    pins = pinned(system.host_keys)
    wanted = {kind for pin in pins.values() for kind in (_RSA if pin == "ssh-rsa" else (pin,))}
    options = transport.get_security_options()
    options.ciphers, options.digests = _CIPHERS, _DIGESTS
    options.kex = tuple(sorted(options.kex, key=lambda kind: kind not in _FIRST_EXCHANGES))
    options.key_types = tuple(kind for kind in options.key_types if kind in wanted)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = _left(deadline)
    transport.start_client(timeout=_left(deadline))
    if not transport.initial_kex_done:
        raise TimeoutError("no key exchange in time")
    if transport.get_remote_server_key().asbytes() not in pins:
        logger.critical("HOST KEY MISMATCH: %s at %s:%s shows a key that is not pinned", system.name, system.host, system.port)
        raise paramiko.SSHException("host key is not pinned")


def _authenticate(transport: paramiko.Transport, user: str, key: paramiko.PKey, deadline: float) -> None:
    try:
        transport.auth_publickey(user, key)
    except paramiko.AuthenticationException as error:
        # paramiko says the same of a broken connection and of a late answer; only a refusal is one.
        if not transport.is_active() or time.monotonic() >= deadline:
            raise TimeoutError("no answer to the login") from error
        raise
    if not transport.is_authenticated():
        raise paramiko.AuthenticationException("more than a certificate is asked for")


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())


def _pause(attempt: int, deadline: float) -> None:
    most = min(0.01 * 2**attempt, 0.5)
    time.sleep(min(random.uniform(most / 2, most), _left(deadline)))  # noqa: S311 - to spread load, not to hide anything
