"""Who owns a login node: what a worker shows it, what it can take from a worker, and what its answers can do (docs/security.md)."""

import io
import logging
import re
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import ClassVar

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from paramiko.pkey import PublicBlob

from schemas import errors
from schemas.errors import CommandFailed, FirecrestError, MachineNotAvailable, TimedOut
from schemas.settings import Limits, System
from tests.attackers.login_node import LoginNode, honestly
from tests.hosts.own_sshd import OwnSshd
from workers.connections import connect
from workers.host import Command
from workers.ssh import SSHPool
from workers.streams import Kept

CHANNELS: dict[str, Callable[[paramiko.Transport], paramiko.Channel]] = {
    "the agent": lambda t: t.open_forward_agent_channel(),
    "X11": lambda t: t.open_x11_channel(("127.0.0.1", 6000)),
    "a port": lambda t: t.open_forwarded_tcpip_channel(("127.0.0.1", 6379), ("127.0.0.1", 6379)),
    "a connection": lambda t: t.open_channel("direct-tcpip", ("127.0.0.1", 6379), ("127.0.0.1", 1)),
    "a session": lambda t: t.open_session(),
    "a socket": lambda t: t.open_channel("forwarded-streamlocal@openssh.com"),
}


@pytest.fixture
def pool() -> Iterator[SSHPool]:
    made = SSHPool(Limits(connect_seconds=5, patience=20))
    yield made
    made.close()


@pytest.fixture(scope="module")
def real(sshd_user: str) -> Iterator[OwnSshd]:
    """A system that is not owned, of the same CA."""
    server = OwnSshd(sshd_user)
    server.start()
    yield server
    server.remove()


def run(pool: SSHPool, node: LoginNode, real: OwnSshd, command: Command[bytes] | None = None) -> bytes:
    """What a worker gets from the node."""
    return pool.host(node.system(), real.user, real.certify).run(command or Command(("id", "-un"), bytes, seconds=5))


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_node_opens_no_channel_into_the_worker(pool: SSHPool, real: OwnSshd, kind: str) -> None:
    with LoginNode() as node:
        assert run(pool, node, real) == b"done\n"
        with pytest.raises(paramiko.SSHException):
            CHANNELS[kind](node.transports[0])
        assert run(pool, node, real) == b"done\n", "and the connection goes on"


def test_a_node_is_offered_no_agent_no_terminal_no_forwarding_and_no_secret(pool: SSHPool, real: OwnSshd) -> None:
    with LoginNode() as node:
        run(pool, node, real)
        seen = node.seen
        assert seen.asked == ["session"]
        assert set(seen.users) == {real.user}
        assert seen.commands == [b"exec /bin/sh"]
        shown = [(key.get_name(), bytes(key.asbytes())) for key in seen.keys]
        assert {name for name, _ in shown} <= {"ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"}
        for key in seen.keys:
            assert not key.can_sign()


class Overheard(paramiko.Ed25519Key):
    """A worker's key; what it signs is heard."""

    signed: ClassVar[list[bytes]] = []

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
        message = super().sign_ssh_data(data, algorithm)
        self.signed.append(message.asbytes())
        return message


class Replayed(paramiko.PKey):
    """A certificate that somebody was shown, with the signature that came with it."""

    def __init__(self, certificate: PublicBlob, signature: bytes) -> None:
        self.public_blob = certificate  # type: ignore[assignment]  # its stub knows only None
        self._signature = signature

    def get_name(self) -> str:
        return "ssh-ed25519"

    def can_sign(self) -> bool:
        return True

    def sign_ssh_data(self, *_: object) -> paramiko.Message:
        return paramiko.Message(self._signature)


def test_a_login_cannot_be_replayed_into_another_system(real: OwnSshd) -> None:
    """The certificate is of no use without its key, and what the worker has signed is for this one connection."""
    private = Ed25519PrivateKey.generate()
    key = Overheard.from_private_key(io.StringIO(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()))
    certificate = PublicBlob.from_string(real.certify(private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()))
    key.public_blob = certificate
    with LoginNode() as node:
        connect(node.system(), real.user, key, deadline=time.monotonic() + 10).close()
    before = real.logins()
    assert len(key.signed) == 1
    for signature in (*key.signed, b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + bytes(64)):
        with _entering(real) as transport, pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey(real.user, Replayed(certificate, signature))
    assert real.logins() == before
    connect(real.system(), real.user, key, deadline=time.monotonic() + 10).close()
    assert real.logins() == before + 1, "it is the certificate's holder alone who gets in"


def _entering(server: OwnSshd) -> paramiko.Transport:
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", server.port)))
    transport.start_client(timeout=10)
    return transport


# output


def bomb(stream: str) -> Callable[[paramiko.Channel, bytes, bytes], None]:
    """Endless output."""

    def answer(channel: paramiko.Channel, *_: bytes) -> None:
        while True:
            (channel.sendall if stream == "stdout" else channel.sendall_stderr)(b"A" * 65536)

    return answer


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_endless_output_ends_the_command_and_takes_bounded_memory(pool: SSHPool, real: OwnSshd, stream: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with LoginNode(bomb(stream)) as node, pytest.raises((CommandFailed, TimedOut)):
        run(pool, node, real, Command(("cat", "/dev/zero"), bytes, seconds=30))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400 * 1024, f"{grown} KiB: output is bounded at 64 MiB, and is held more than once for a moment"


def test_a_sink_takes_no_more_than_it_is_meant_to(pool: SSHPool, real: OwnSshd) -> None:
    with LoginNode(bomb("stdout")) as node, pytest.raises(CommandFailed, match="buffer limit"):
        run(pool, node, real, Command(("cat", "file"), bytes, seconds=30, sink=Kept(1000)))


def test_output_that_drips_for_ever_is_given_up_in_time(pool: SSHPool, real: OwnSshd) -> None:
    over = threading.Event()

    def drip(channel: paramiko.Channel, *_: bytes) -> None:
        while not over.wait(0.05):
            channel.sendall(b"x")

    began = time.monotonic()
    with LoginNode(drip) as node:
        with pytest.raises(TimedOut):
            run(pool, node, real, Command(("id",), bytes, seconds=1))
        over.set()
    assert time.monotonic() - began < 15


CROOKED: dict[str, Callable[[bytes], tuple[bytes, bytes]]] = {
    "a mark that nobody has given": lambda t: (b"x\n_" + b"0" * 32 + b" 0\n", t + b"\n"),
    "two ends": lambda t: (t + b" 0\n" + t + b" 0\n", t + b"\n"),
    "a status that is none": lambda t: (t + b" -1\n", t + b"\n"),
    "a status of many digits": lambda t: (t + b" 99999999\n", t + b"\n"),
    "words behind the end": lambda t: (t + b" 0\nmore\n", t + b"\n"),
    "an end that never ends": lambda t: (t + b" 0" + b" " * 1000, t),
    "a byte order mark and nothing": lambda t: (b"\xff\xfe" + t + b" \x00\n", t + b"\n"),
}


@pytest.mark.parametrize("case", CROOKED)
def test_a_frame_that_is_crooked_ends_the_shell_and_never_the_worker(pool: SSHPool, real: OwnSshd, case: str) -> None:
    def answer(channel: paramiko.Channel, token: bytes, _: bytes) -> None:
        stdout, stderr = CROOKED[case](token)
        channel.sendall(stdout)
        channel.sendall_stderr(stderr)

    with LoginNode(answer) as node:
        with suppress(FirecrestError):
            run(pool, node, real, Command(("id",), bytes, seconds=1))
        node.answer = honestly
        assert run(pool, node, real, Command(("id",), bytes, seconds=5)) == b"done\n", "the crooked shell is not used again"


# control characters

EVIL = "\x1b]0;owned\x07\r\nX-Evil: 1\r\n\r\n<script>\x00\x1b[2J\u202e\u2028end"


KINDS = sorted(name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, FirecrestError))


@pytest.mark.parametrize("kind", KINDS)
def test_no_header_of_any_failure_carries_what_a_node_says_beyond_one_line(kind: str) -> None:
    failure = getattr(errors, kind)(EVIL, says=EVIL)
    for name, value in failure.headers().items():
        assert re.fullmatch(r"[\x20-\x7e\xa0-\xff]*", value), (name, value)
        assert "X-Evil" not in value


def test_what_a_node_prints_as_its_error_is_text_in_the_answer(pool: SSHPool, real: OwnSshd) -> None:
    def answer(channel: paramiko.Channel, token: bytes, _: bytes) -> None:
        channel.sendall(token + b" 1\n")
        channel.sendall_stderr(EVIL.encode() + b"\xff" + token + b"\n")

    with LoginNode(answer) as node, pytest.raises(CommandFailed) as failed:
        run(pool, node, real)
    assert all(value.isprintable() for value in failed.value.headers().values())


GREETINGS = (
    *(b"\x1b[2J\x07evil\n", b"SSH-2.0-\x1b]0;owned\x07\r\n", b"SSH-1.0-x\x1b[2J\n", b"A" * 100_000, b"\x00" * 300),
    b"Exceeded MaxStartups\r\n",
)


@pytest.mark.parametrize("greeting", GREETINGS, ids=lambda text: repr(text[:12]))
def test_no_greeting_of_a_node_gets_into_a_log_raw(pool: SSHPool, real: OwnSshd, greeting: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Logs are read on terminals: an escape sequence, or a line of its own, would be the node's to write there."""
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            for _ in range(50):
                try:
                    sock, _peer = listener.accept()
                    with sock:
                        sock.sendall(greeting)
                        sock.recv(1000)
                except OSError:
                    return

        threading.Thread(target=greet, daemon=True).start()
        pin = paramiko.ECDSAKey.generate()
        line = f"{pin.get_name()} {pin.get_base64()}"
        system = System(name="owned", host="127.0.0.1", port=listener.getsockname()[1], host_keys=(line,))
        with pytest.raises(MachineNotAvailable):
            pool.host(system, "fcalice", real.certify).run(Command(("id",), bytes))
        listener.close()
    for record in caplog.records:
        assert record.getMessage().isprintable(), record.getMessage()


def test_the_public_half_is_all_that_a_worker_sends_of_a_key(real: OwnSshd) -> None:
    sent: list[str] = []
    pool = SSHPool(Limits())

    def certify(line: str) -> str:
        sent.append(line)
        return real.certify(line)

    pool.host(real.system(), real.user, certify).run(Command(("true",), bytes))
    pool.close()
    public = pool.certificates._key._private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert sent == [public]
