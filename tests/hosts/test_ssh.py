"""What only hosts over SSH do: pooling, queueing, replacing what broke, knowing whom they talk to."""

import io
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import paramiko
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_identity,
)

from schemas.errors import AccessDenied, CommandFailed, FirecrestError, MachineNotAvailable, TimedOut, TooManyRequests, Unauthorized
from tests.hosts.own_sshd import OwnSshd, eventually, free_port
from workers.authorities import KeyAuthority
from workers.certificates import Statement, UserKey, new_serial, sign
from workers.connections import connect
from workers.host import Command
from workers.shells import SMALL_INPUT
from workers.ssh import GRACE, SSHHost, SSHPool

BIG = bytes(SMALL_INPUT + 1)

MakePool = Callable[..., SSHPool]
MakeSshd = Callable[..., OwnSshd]


def raw(*argv: str, stdin: bytes = b"", seconds: float | None = None, repeatable: bool = False) -> Command[bytes]:
    """A command whose output is taken as it is."""
    return Command(argv, bytes, stdin=stdin, seconds=seconds, repeatable=repeatable)


def entered(pool: SSHPool, sshd: OwnSshd, **bounds: int) -> SSHHost:
    """The server, entered as its user."""
    return pool.host(sshd.system(**bounds), sshd.user, sshd.certify)


def running(mark: str) -> list[psutil.Process]:
    """The processes that have the mark somewhere on their command line."""
    return [process for process in psutil.process_iter(["cmdline"]) if any(mark in word for word in process.info["cmdline"] or [])]


def outcome(host: SSHHost, command: Command[bytes]) -> bytes | FirecrestError:
    """What became of a command."""
    try:
        return host.run(command)
    except FirecrestError as error:
        return error


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory, shared_sshd: OwnSshd) -> Path:
    """A folder that the user of the server can write to."""
    folder = shared_sshd.folder / tmp_path_factory.mktemp("shared").name
    folder.mkdir()
    folder.chmod(0o777)
    return folder


class Gate:
    """A named pipe on which commands wait until they are let through."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"gate-{time.monotonic_ns()}"
        os.mkfifo(self.path)
        self.path.chmod(0o666)
        self.arrived = folder / f"{self.path.name}-arrived"
        self.arrived.touch()
        self.arrived.chmod(0o666)

    def command(self, *, repeatable: bool = False) -> Command[bytes]:
        """A command that tells that it started, and ends when the gate opens."""
        return raw("sh", "-c", f"echo $$ >> {self.arrived}; read go < {self.path}; exit 0", repeatable=repeatable)

    def waiting(self) -> int:
        """How many commands ever got here."""
        return len(self.arrived.read_text().splitlines())

    def open(self) -> None:
        """Let everybody through who waits, once somebody does."""
        eventually(self._opened)

    def _opened(self) -> bool:
        with suppress(OSError):
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
            return True
        return False


def test_callers_one_after_another_share_one_warm_shell(make_pool: MakePool, shared_sshd: OwnSshd) -> None:
    host = entered(make_pool(), shared_sshd)
    parent = raw("sh", "-c", "echo $PPID")
    shells = {host.run(raw("sh", "-c", "ps -o ppid= -p $PPID")) for _ in range(20)}
    assert len(shells) == 1
    assert host.run(parent)
    assert host.owner.pool.count() == (1, 1)


def test_three_hundred_callers_at_once_all_succeed_within_the_bounds(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(patience=60), sshd)
    started = threading.Barrier(300)
    most = [0, 0]

    def call(_number: int) -> bytes:
        started.wait()
        done = host.run(raw("echo", "ok"))
        most[:] = map(max, most, host.owner.pool.count())
        return done

    with ThreadPoolExecutor(300) as callers:
        assert list(callers.map(call, range(300))) == [b"ok\n"] * 300
    assert most[0] <= 2
    assert most[1] <= 14
    assert sshd.logins() <= 2


@pytest.mark.parametrize("systems", [1, 100])
def test_a_thousand_calls_at_once_of_one_user_or_a_hundred_are_no_error(make_pool: MakePool, sshd: OwnSshd, systems: int) -> None:
    """To a pool, each system is a user; the server has its own bounds for logins (MaxStartups) and sessions."""
    pool = make_pool(patience=120, connect_seconds=60, waiting_per_user=1000)
    hosts = [pool.host(sshd.system().model_copy(update={"name": f"own{number}"}), sshd.user, sshd.certify) for number in range(systems)]
    with ThreadPoolExecutor(1000) as callers:
        outputs = list(callers.map(lambda number: outcome(hosts[number % systems], raw("echo", str(number))), range(1000)))
    assert outputs == [b"%d\n" % number for number in range(1000)]
    assert pool.pool.count()[0] <= 2 * systems


@pytest.mark.parametrize("when", ["before", "waiting"])
def test_what_nobody_waits_for_any_more_is_not_begun(make_pool: MakePool, sshd: OwnSshd, shared: Path, when: str) -> None:
    host = entered(make_pool(), sshd, sessions=1, connections=1)
    gate, begun = Gate(shared), shared / f"begun-{when}"
    with ThreadPoolExecutor(1) as callers:
        first = callers.submit(host.run, gate.command())
        eventually(gate.waiting)
        late = replace(host, until=time.monotonic() + (0.2 if when == "waiting" else 0))
        with pytest.raises(TimedOut, match="timeout signal"):
            late.run(raw("touch", str(begun)))
        gate.open()
        assert first.result() == b""
    assert host.run(raw("echo", "ok")) == b"ok\n"
    with pytest.raises(TimedOut):
        late.run(raw("touch", str(begun)))
    assert not begun.exists()


def test_many_uploads_at_once_all_succeed(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(patience=60), sshd)
    stdin = os.urandom(SMALL_INPUT + 1)
    with ThreadPoolExecutor(40) as callers:
        outputs = list(callers.map(lambda number: host.run(raw("cat", stdin=stdin) if number % 2 else raw("echo", "ok")), range(80)))
    assert outputs == [b"ok\n", stdin] * 40


def test_a_server_with_fewer_sessions_than_believed_is_still_no_error(make_pool: MakePool, make_sshd: MakeSshd) -> None:
    host = entered(make_pool(patience=60), make_sshd("MaxSessions 3"))
    with ThreadPoolExecutor(30) as callers:
        assert set(callers.map(lambda _: host.run(raw("echo", "ok")), range(120))) == {b"ok\n"}


def test_logins_refused_because_too_many_are_under_way_are_tried_again(make_pool: MakePool, make_sshd: MakeSshd) -> None:
    sshd = make_sshd("MaxStartups 1:50:3")
    pools = [make_pool(patience=60, connect_seconds=30) for _ in range(12)]
    with ThreadPoolExecutor(12) as callers:
        assert set(callers.map(lambda pool: entered(pool, sshd).run(raw("echo", "ok")), pools)) == {b"ok\n"}


def test_beyond_the_queue_callers_are_told_to_come_back(make_pool: MakePool, shared_sshd: OwnSshd, shared: Path) -> None:
    host = entered(make_pool(waiting_per_user=2), shared_sshd, sessions=1, connections=1)
    gate = Gate(shared)
    with ThreadPoolExecutor(8) as callers:
        first = callers.submit(host.run, gate.command())
        eventually(gate.waiting)
        others = [callers.submit(outcome, host, raw("echo", "ok")) for _ in range(6)]
        eventually(lambda: sum(other.done() for other in others) == 4)
        refused = [other.result() for other in others if other.done()]
        gate.open()
        assert first.result() == b""
        assert sorted(str(other.result()) for other in others if other.result() not in refused) == ["b'ok\\n'"] * 2
    assert {type(error) for error in refused} == {TooManyRequests}
    assert [error.headers() for error in refused if isinstance(error, FirecrestError)] == [{"Retry-After": "1"}] * 4


def test_a_caller_waits_for_a_session_no_longer_than_its_patience(make_pool: MakePool, shared_sshd: OwnSshd, shared: Path) -> None:
    host = entered(make_pool(patience=0.3), shared_sshd, sessions=1, connections=1)
    gate = Gate(shared)
    with ThreadPoolExecutor(1) as callers:
        first = callers.submit(host.run, gate.command())
        eventually(gate.waiting)
        with pytest.raises(TimedOut):
            host.run(raw("true"))
        gate.open()
        assert first.result() == b""
    assert host.run(raw("echo", "ok")) == b"ok\n"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT means KeyboardInterrupt, in a process that was started in the background too."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_a_caller_that_gives_up_leaves_neither_shell_nor_command_behind(make_pool: MakePool, sshd: OwnSshd, shared: Path) -> None:
    host = entered(make_pool(), sshd)
    gate = Gate(shared)

    def interrupt() -> None:
        eventually(gate.waiting)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        host.run(gate.command())
    interrupter.join()
    eventually(lambda: host.owner.pool.count() == (1, 0))
    eventually(lambda: not sshd.shells() and not running(str(gate.path)))
    assert host.run(raw("echo", "ok")) == b"ok\n"


def test_an_output_that_is_too_big_ends_its_shell(make_pool: MakePool, shared_sshd: OwnSshd) -> None:
    host = entered(make_pool(), shared_sshd)
    with pytest.raises(CommandFailed, match=r"Command output exceeded buffer limit \(67108864\)"):
        host.run(raw("head", "-c", "70000000", "/dev/zero"))
    assert host.run(raw("echo", "ok")) == b"ok\n"


def test_a_shell_that_speaks_unasked_is_not_used_again(make_pool: MakePool, shared_sshd: OwnSshd, shared: Path) -> None:
    host = entered(make_pool(), shared_sshd)
    gate = Gate(shared)
    host.run(raw("sh", "-c", f"{{ read go < {gate.path}; echo late; }} &"))
    shell = host.owner.pool._members[0].idle[0]
    assert shell.usable()
    gate.open()
    eventually(lambda: not shell.usable())
    assert host.run(raw("echo", "ok")) == b"ok\n"
    assert shell not in host.owner.pool._members[0].idle


def test_a_command_that_does_not_end_is_given_up_here_too(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(command_timeout=1), sshd)
    host.run(raw("true"))
    started = time.monotonic()
    with pytest.raises(TimedOut, match="timeout signal"):
        host.run(raw("sleep", "60"))
    assert time.monotonic() - started < 8
    assert host.run(raw("echo", "ok")) == b"ok\n"


def test_nothing_is_left_of_a_brief_command_that_takes_too_long(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(), sshd)
    (sshd.folder / "ls").write_text("#!/bin/sh\nsleep 60; :\n")
    (sshd.folder / "ls").chmod(0o755)
    host.run(raw("true"))
    host.owner.pool._members[0].idle[0]._session.send(f"PATH={sshd.folder}:$PATH\n".encode())
    started = time.monotonic()
    with pytest.raises(TimedOut, match="timeout signal"):
        host.run(raw("ls", seconds=1))
    assert 1 <= time.monotonic() - started < 1 + GRACE
    eventually(lambda: not running(f"{sshd.folder}/ls") and not sshd.shells() and host.owner.pool.count() == (1, 0))
    assert host.run(raw("ls", "-d", "/", seconds=5)) == b"/\n"
    assert sshd.logins() == 1


@pytest.mark.parametrize(
    "script", ["sleep 60", "sleep 60 & wait", "(sleep 60)", "while :; do echo y; sleep 0.01; done", "yes | cat >/dev/null"]
)
def test_nothing_is_left_of_a_script_that_takes_too_long(make_pool: MakePool, sshd: OwnSshd, script: str) -> None:
    host = entered(make_pool(), sshd)
    mark = uuid4().hex
    with pytest.raises(TimedOut, match="timeout signal"):
        host.run(raw("sh", "-c", f": {mark}; {script}; :", seconds=1))
    eventually(lambda: not running(mark))
    assert host.run(raw("echo", "ok")) == b"ok\n"
    assert sshd.logins() == 1


def test_a_server_that_hangs_is_given_up(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(command_timeout=1, connect_seconds=1), sshd)
    host.run(raw("true"))
    sshd.kill(signal.SIGSTOP)
    with pytest.raises(TimedOut):
        host.run(raw("true", seconds=0.1))
    with pytest.raises(MachineNotAvailable):
        host.run(raw("true", stdin=BIG))
    sshd.kill(signal.SIGCONT)
    eventually(lambda: outcome(host, raw("echo", "ok")) == b"ok\n")


def test_a_killed_server_that_is_back_is_entered_again_unnoticed(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(), sshd)
    for _ in range(3):
        assert host.run(raw("echo", "ok")) == b"ok\n"
        sshd.stop()
        sshd.start()
    assert host.run(raw("echo", "ok", repeatable=True)) == b"ok\n"


def test_what_may_go_on_for_ever_is_ended_on_the_system_though_the_connection_has_gone(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(), sshd)
    mark = uuid4().hex
    with ThreadPoolExecutor(1) as callers:
        called = callers.submit(outcome, host, raw("sh", "-c", f": {mark}; sleep 60; :", seconds=2))
        eventually(lambda: running(mark))
        host.owner.pool.close()
        assert isinstance(called.result(), MachineNotAvailable)
    eventually(lambda: not running(mark))


def test_killed_shells_are_replaced_unnoticed(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(), sshd)
    host.run(raw("true"))
    for shell in sshd.shells():
        shell.kill()
    eventually(lambda: not sshd.shells())
    assert host.run(raw("echo", "ok", repeatable=True)) == b"ok\n"


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_command_cut_off_is_run_again_only_when_that_does_no_harm(
    make_pool: MakePool, sshd: OwnSshd, shared: Path, repeatable: bool
) -> None:
    host = entered(make_pool(), sshd)
    gate = Gate(shared)
    with ThreadPoolExecutor(1) as callers:
        running = callers.submit(outcome, host, gate.command(repeatable=repeatable))
        eventually(gate.waiting)
        sshd.cut()
        if repeatable:
            eventually(lambda: gate.waiting() == 2)
            gate.open()
            assert running.result() == b""
        else:
            assert isinstance(running.result(), MachineNotAvailable)
            assert gate.waiting() == 1
    assert host.run(raw("echo", "ok")) == b"ok\n"


def test_no_unrepeatable_command_runs_twice_however_often_the_server_dies(make_pool: MakePool, sshd: OwnSshd, shared: Path) -> None:
    host = entered(make_pool(patience=20), sshd)
    done = threading.Event()

    def work(number: int) -> None:
        for count in itertools.count():
            if isinstance(outcome(host, raw("sh", "-c", f"echo x >> {shared}/{number}-{count}")), FirecrestError):
                done.wait(0.02)
            if done.is_set():
                return

    with ThreadPoolExecutor(4) as callers:
        workers = [callers.submit(work, number) for number in range(4)]
        for _ in range(5):
            seen = len(list(shared.iterdir()))
            eventually(lambda seen=seen: len(list(shared.iterdir())) > seen + 20)
            sshd.stop()
            sshd.start()
        done.set()
        for worker in workers:
            worker.result()
    assert {path.read_text() for path in shared.iterdir() if path.name[0].isdigit()} <= {"x\n", ""}


def test_a_system_that_is_down_is_not_available(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(), sshd)
    sshd.stop()
    with pytest.raises(MachineNotAvailable, match="Machine is not available"):
        host.run(raw("true"))
    sshd.start()
    assert host.run(raw("echo", "ok")) == b"ok\n"


def test_something_that_is_not_ssh_is_not_available(make_pool: MakePool, shared_sshd: OwnSshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        system = shared_sshd.system().model_copy(update={"port": listener.getsockname()[1]})
        host = make_pool(connect_seconds=0.5).host(system, shared_sshd.user, shared_sshd.certify)
        with pytest.raises(MachineNotAvailable):
            host.run(raw("true"))


def test_a_name_that_leads_nowhere_is_not_available(make_pool: MakePool, shared_sshd: OwnSshd) -> None:
    system = shared_sshd.system().model_copy(update={"port": free_port()})
    with pytest.raises(MachineNotAvailable):
        make_pool().host(system, shared_sshd.user, shared_sshd.certify).run(raw("true"))


def other_key() -> str:
    """A public key that no server has."""
    return Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_a_server_with_another_host_key_is_never_entered(make_pool: MakePool, sshd: OwnSshd, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def certify(public_key: str) -> str:
        asked.append(public_key)
        return sshd.certify(public_key)

    host = make_pool().host(sshd.system(host_keys=(other_key(),)), sshd.user, certify)
    with pytest.raises(MachineNotAvailable):
        host.run(raw("true"))
    assert "HOST KEY MISMATCH" in caplog.text
    assert sshd.logins() == 0


@pytest.mark.parametrize("pinned", ["{key}", "{key} a comment", "login.example,10.0.0.1 {key}", "{other}|{key}"])
def test_a_pinned_key_is_known_in_every_usual_spelling(make_pool: MakePool, shared_sshd: OwnSshd, pinned: str) -> None:
    lines = tuple(line.format(key=shared_sshd.host_key, other=other_key()) for line in pinned.split("|"))
    assert entered(make_pool(), shared_sshd, host_keys=lines).run(raw("echo", "ok")) == b"ok\n"


def test_only_a_key_of_another_kind_pinned_is_found_on_the_server(make_pool: MakePool, shared_sshd: OwnSshd) -> None:
    ecdsa = paramiko.ECDSAKey(filename=str(shared_sshd.folder / "host_ecdsa"))
    host = entered(make_pool(), shared_sshd, host_keys=(f"{ecdsa.get_name()} {ecdsa.get_base64()}",))
    assert host.run(raw("echo", "ok")) == b"ok\n"


def plain_certificate(sshd: OwnSshd, public_key: str, *, seconds: int = 300) -> str:
    """A certificate that ends `seconds` from now, or ended that long ago."""
    now = int(time.time())
    public = load_ssh_public_identity(public_key.encode())
    assert isinstance(public, Ed25519PublicKey)
    builder = SSHCertificateBuilder().public_key(public).type(SSHCertificateType.USER).key_id(b"tests").serial(1)
    builder = builder.valid_principals([sshd.user.encode()]).valid_after(now - 1000).valid_before(now + seconds)
    return builder.sign(sshd.ca).public_bytes().decode()


def certified(sshd: OwnSshd, public_key: str, **other: object) -> str:
    """A good certificate, but for what is said."""
    values: dict[str, object] = {"ca": sshd.ca, "user": sshd.user, "key_id": "tests", "serial": new_serial(), "seconds": 300}
    values |= other
    return sign(KeyAuthority(values.pop("ca")), Statement(public_key, **values))  # type: ignore[arg-type]


BAD: dict[str, Callable[[OwnSshd, str], str]] = {
    "wrong principal": lambda sshd, key: certified(sshd, key, user="somebody"),
    "other CA": lambda sshd, key: certified(sshd, key, ca=Ed25519PrivateKey.generate()),
    "wrong source address": lambda sshd, key: certified(sshd, key, source_addresses=("192.0.2.0/24",)),
    "expired": lambda sshd, key: plain_certificate(sshd, key, seconds=-1),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_lets_nobody_in(make_pool: MakePool, shared_sshd: OwnSshd, kind: str) -> None:
    host = make_pool().host(shared_sshd.system(), shared_sshd.user, lambda key: BAD[kind](shared_sshd, key))
    with pytest.raises(AccessDenied, match="User does not have permissions to access machine"):
        host.run(raw("true"))
    assert host.owner.pool.count() == (0, 0)


def test_a_key_without_a_certificate_lets_nobody_in(shared_sshd: OwnSshd) -> None:
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(text))
    with pytest.raises(AccessDenied):
        connect(shared_sshd.system(), shared_sshd.user, key, deadline=time.monotonic() + 10)


def test_a_certificate_works_from_its_source_address(make_pool: MakePool, shared_sshd: OwnSshd) -> None:
    host = make_pool().host(
        shared_sshd.system(), shared_sshd.user, lambda key: certified(shared_sshd, key, source_addresses=("127.0.0.0/8",))
    )
    assert host.run(raw("id", "-un")) == shared_sshd.user.encode() + b"\n"


def test_a_certificate_allows_no_terminal_and_no_forwarding(shared_sshd: OwnSshd) -> None:
    key = UserKey()
    connection = connect(
        shared_sshd.system(),
        shared_sshd.user,
        key.paramiko(shared_sshd.certify(key.public_line())),
        deadline=time.monotonic() + 10,
    )
    transport = connection._transport
    try:
        with pytest.raises(paramiko.SSHException):
            transport.open_session().get_pty()
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", shared_sshd.port), ("127.0.0.1", 1))
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("127.0.0.1", 0)
    finally:
        connection.close()


def test_the_log_of_the_server_names_user_task_and_worker(make_pool: MakePool, sshd: OwnSshd) -> None:
    entered(make_pool(), sshd).run(raw("true"))
    assert f"firecrest user={sshd.user} system=own task=0123abcd worker=tests" in sshd.log()


def test_a_certificate_is_asked_for_once_and_serves_every_connection_until_its_end(make_pool: MakePool, sshd: OwnSshd) -> None:
    asked: list[str] = []

    def certify(public_key: str) -> str:
        asked.append(public_key)
        return certified(sshd, public_key, seconds=38 if len(asked) == 1 else 300)

    host = make_pool().host(sshd.system(), sshd.user, certify)
    host.run(raw("true"))
    eventually(lambda: host.owner.certificates.at_hand(("own", sshd.user)) is None)
    for _ in range(3):
        sshd.stop()
        sshd.start()
        host.run(raw("true", repeatable=True))
    assert len(asked) == 2


def test_who_calls_regularly_waits_for_no_certificate_and_no_login(make_pool: MakePool, sshd: OwnSshd) -> None:
    asked: list[threading.Thread] = []

    def certify(public_key: str) -> str:
        asked.append(threading.current_thread())
        return certified(sshd, public_key, seconds=31 if len(asked) == 1 else 300)

    host = make_pool().host(sshd.system(), sshd.user, certify)
    host.run(raw("true"))
    eventually(lambda: host.owner.certificates.at_hand(("own", sshd.user)) is None)
    former = host.owner.pool._members[0]
    former.born -= 800
    assert host.run(raw("echo", "ok")) == b"ok\n"
    eventually(lambda: former.gone and host.owner.pool.count() == (1, 1))
    assert host.owner.pool._members[0].idle
    assert host.run(raw("echo", "ok")) == b"ok\n"
    assert [thread.name for thread in asked] == ["MainThread", "renewal"]
    assert sshd.logins() == 2


def test_a_renewal_that_fails_leaves_what_there_is(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(), sshd)
    host.run(raw("true"))
    member = host.owner.pool._members[0]
    member.born -= 800
    host.owner.certificates.forget(("own", sshd.user))
    tried = threading.Event()

    def refuse(_public_key: str) -> str:
        tried.set()
        raise Unauthorized("token expired")

    other = host.owner.host(host.system, host.user, refuse)
    for _ in range(3):
        assert other.run(raw("echo", "ok")) == b"ok\n"
    assert tried.wait(10)
    assert host.owner.pool.count() == (1, 1)
    assert not member.gone


def test_a_refused_certificate_at_hand_is_replaced_by_a_new_one(make_pool: MakePool, shared_sshd: OwnSshd) -> None:
    pool = make_pool()
    pool.certificates.obtain(("own", shared_sshd.user), lambda key: certified(shared_sshd, key, user="somebody"))
    assert entered(pool, shared_sshd).run(raw("echo", "ok")) == b"ok\n"


def test_who_gets_no_certificate_keeps_nobody_else_out(make_pool: MakePool, shared_sshd: OwnSshd) -> None:
    pool = make_pool()
    started = threading.Barrier(20)

    def certify(_public_key: str) -> str:
        raise Unauthorized("token expired")

    def call(number: int) -> bytes | FirecrestError:
        way = certify if number % 2 else shared_sshd.certify
        started.wait()
        return outcome(pool.host(shared_sshd.system(), shared_sshd.user, way), raw("echo", "ok"))

    with ThreadPoolExecutor(20) as callers:
        outcomes = list(callers.map(call, range(20)))
    assert outcomes[::2] == [b"ok\n"] * 10
    assert {type(one) for one in outcomes[1::2]} <= {bytes, Unauthorized}


def test_idle_connections_are_closed(make_pool: MakePool, sshd: OwnSshd) -> None:
    host = entered(make_pool(idle_seconds=0.2), sshd)
    host.run(raw("true"))
    eventually(lambda: host.owner.pool.count() == (0, 0))
    eventually(lambda: len(sshd.processes()) == 1)
    assert host.run(raw("echo", "ok")) == b"ok\n"


def test_the_connection_unused_for_longest_makes_room_for_another(make_pool: MakePool, sshd: OwnSshd) -> None:
    pool = make_pool(connections=2)
    one, two, three = (pool.host(sshd.system().model_copy(update={"name": name}), sshd.user, sshd.certify) for name in "abc")
    for host in (one, two, one, three, one):
        host.run(raw("true"))
    assert pool.pool.count() == (2, 2)
    assert sshd.logins() == 3
    two.run(raw("true"))
    assert sshd.logins() == 4


def test_whatever_a_login_prints_does_not_reach_anybody(make_pool: MakePool, make_sshd: MakeSshd) -> None:
    sshd = make_sshd('ForceCommand echo welcome; echo news >&2; eval "$SSH_ORIGINAL_COMMAND"')
    host = entered(make_pool(), sshd)
    assert host.run(raw("echo", "ok")) == b"ok\n"
    assert host.run(raw("cat", stdin=b"a\0b")) == b"a\0b"
    assert host.run(raw("cat", stdin=BIG)) == BIG
    with pytest.raises(CommandFailed, match=r"^bad$"):
        host.run(raw("sh", "-c", "echo bad >&2; exit 1", stdin=BIG))


def test_a_login_that_runs_no_shell_is_not_available(make_pool: MakePool, make_sshd: MakeSshd) -> None:
    host = entered(make_pool(), make_sshd("ForceCommand echo This account is closed."))
    with pytest.raises(MachineNotAvailable):
        host.run(raw("true"))


def test_a_login_that_hangs_is_not_available(make_pool: MakePool, make_sshd: MakeSshd) -> None:
    host = entered(make_pool(connect_seconds=1), make_sshd("ForceCommand exec sleep 60"))
    with pytest.raises(MachineNotAvailable):
        host.run(raw("true"))


def test_a_closed_pool_leaves_nothing_open(make_pool: MakePool, sshd: OwnSshd) -> None:
    pool = make_pool()
    host = entered(pool, sshd)
    with ThreadPoolExecutor(10) as callers:
        list(callers.map(lambda _: host.run(raw("true")), range(50)))
    pool.close()
    eventually(lambda: len(sshd.processes()) == 1)
    with pytest.raises(FirecrestError):
        host.run(raw("true"))
