"""A forced-command site runs the command of the certificate, if it is on the list, and nothing else, whatever is tried."""

import base64
import contextlib
import json
import os
import pwd
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import AccessDenied, CommandFailed, CommandRefused, MachineNotAvailable, TimedOut
from schemas.settings import Limits
from tests.hosts.forced_sshd import EVERYTHING, ForcedSshd, Stated
from tests.hosts.own_sshd import eventually
from tests.hosts.test_stopping import running
from workers import access, contents, copies
from workers.certificates import UserKey
from workers.connections import Connection, connect
from workers.forced import ForcedHost, spelled
from workers.framing import new_token
from workers.host import Command
from workers.ssh import SSHPool
from workers.streams import Source

REFUSED = 118


def raw(*argv: str, stdin: bytes = b"", seconds: float | None = None) -> Command[bytes]:
    """A command whose output is taken as it is."""
    return Command(argv, bytes, stdin=stdin, seconds=seconds)


def spelling(*argv: str) -> str:
    return spelled(raw(*argv), new_token())


class Intruder:
    """Whoever has a certificate and its key, and sends what they like."""

    def __init__(self, server: ForcedSshd) -> None:
        self.server = server
        self.connections: list[Connection] = []

    def entered(self, *argv: str, ca: Ed25519PrivateKey | None = None, text: str | None = None, **stated: Any) -> paramiko.Transport:
        """A connection with a certificate for a command; `text` is its whole force-command."""
        key = UserKey()
        forced = f"{self.server.wrapper} {spelling(*argv)}" if text is None else text
        statement = Stated(**{"principals": (self.server.user,), "forced": forced, **stated})
        line = statement.signed(ca or self.server.ca, key.public_line())
        connection = connect(self.server.system(), self.server.user, key.paramiko(line), deadline=time.monotonic() + 60)
        self.connections.append(connection)
        return connection._transport

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


def told(channel: paramiko.Channel) -> tuple[int, bytes, bytes]:
    """Exit status and outputs of what was started on a channel."""
    channel.settimeout(60)
    out, err = channel.makefile("rb").read(), channel.makefile_stderr("rb").read()
    return channel.recv_exit_status(), out, err


def executed(transport: paramiko.Transport, text: str = "firecrest") -> tuple[int, bytes, bytes]:
    channel = opened(transport)
    channel.exec_command(text)
    try:
        return told(channel)
    finally:
        channel.close()


def opened(transport: paramiko.Transport) -> paramiko.Channel:
    """A session, as soon as the server has forgotten the last one."""
    end = time.monotonic() + 60
    while True:
        try:
            return transport.open_session(timeout=60)
        except paramiko.ChannelException:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture(scope="module")
def listed_sshd(sshd_user: str) -> Iterator[ForcedSshd]:
    """A server with the list that a system with Slurm has."""
    server = ForcedSshd(sshd_user, rules=None)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def intruder(listed_sshd: ForcedSshd) -> Iterator[Intruder]:
    one = Intruder(listed_sshd)
    yield one
    one.close()


@pytest.fixture
def intrude() -> Iterator[Callable[[ForcedSshd], Intruder]]:
    """Intruders for servers of the tests' own, which are removed behind them."""
    with contextlib.ExitStack() as stack:

        def start(server: ForcedSshd) -> Intruder:
            stack.callback(server.remove)
            server.start()
            one = Intruder(server)
            stack.callback(one.close)
            return one

        yield start


@pytest.fixture
def listed(listed_sshd: ForcedSshd) -> Iterator[ForcedHost]:
    """The server with Slurm's list, as workers enter it."""
    pool = SSHPool(Limits(patience=60, connect_seconds=60))
    yield ForcedHost(pool, listed_sshd.system(), listed_sshd.user, listed_sshd.certify_command)
    pool.close()


@pytest.fixture
def home(sshd_user: str) -> Iterator[Path]:
    """A folder of the user's own, not below pytest's, which whoever else runs tests here closes again."""
    person = pwd.getpwnam(sshd_user)
    with tempfile.TemporaryDirectory(prefix="fc-forced-", dir="/var/tmp") as folder:
        os.chown(folder, person.pw_uid, person.pw_gid)
        yield Path(folder)


def test_commands_of_the_list_run_and_each_has_a_connection_of_its_own(listed: ForcedHost, listed_sshd: ForcedSshd, home: Path) -> None:
    before = listed_sshd.logins()
    content = bytes(range(256)) * 500
    listed.run(contents.replacement(str(home / "file"), Source.of(content), seconds=30))
    assert (home / "file").read_bytes() == content
    assert listed.run(raw("id", "-un", seconds=30)) == f"{listed_sshd.user}\n".encode()
    assert listed.run(copies.measure(str(home / "file"), seconds=30)).size == len(content)
    listed.run(access.writable(str(home), seconds=30))
    assert listed_sshd.logins() == before + 4
    assert listed.owner.pool.count() == (0, 0)


# v1's wrapper collapsed runs of blanks, and evaluated what it was sent
@pytest.mark.parametrize(
    "name", ["a  b", " ", "a\tb", "two\nlines", "$(id)", "`id`", "'", '"', ";id;", "&", "*", "-rf", "ünï", "a\\b", "{}", "~"]
)
def test_a_name_arrives_as_it_is(listed: ForcedHost, home: Path, name: str) -> None:
    (home / (" ".join(name.split()) or "-")).write_text("another")
    (home / name).write_text("x" * 77)
    assert listed.run(raw("stat", "-c", "%s", "--", str(home / name), seconds=30)) == b"77\n"


@pytest.mark.parametrize(
    "text",
    [
        "id",
        "firecrest; id",
        "firecrest id",
        "sh -c id",
        "",
        "scp -t /tmp/x",
        "/usr/lib/openssh/sftp-server",
        "internal-sftp",
        "rsync --server . /tmp",
    ],
)
def test_what_is_sent_beside_the_certificate_is_refused(intruder: Intruder, text: str) -> None:
    status, out, err = executed(intruder.entered("true"), text)
    assert (status, out) == (REFUSED, b"")
    assert b"something else than the command of the certificate" in err


def test_the_certificate_of_another_command_runs_that_command_however_often_it_is_tried(intruder: Intruder) -> None:
    transport = intruder.entered("id", "-un")
    for text in ("rm -r --interactive=never -- /", spelling("true"), f"{intruder.server.wrapper} {spelling('true')}"):
        assert executed(transport, text)[:2] == (REFUSED, b"")
    assert intruder.server.user.encode() in executed(transport)[1]


def test_a_command_sent_to_the_wrapper_as_its_argument_is_refused_unless_it_is_the_certificates(intruder: Intruder, home: Path) -> None:
    """As its user, with what sshd wrote down for the certificate of another command."""
    server, key = intruder.server, UserKey()
    mine, other = spelling("true"), spelling("id")
    line = Stated((server.user,), f"{server.wrapper} {mine}").signed(server.ca, key.public_line())
    facts = home / "auth"
    facts.write_text(f"publickey {line}\n")
    facts.chmod(0o600)
    person = pwd.getpwnam(server.user)
    os.chown(facts, person.pw_uid, person.pw_gid)
    environment = {"SSH_USER_AUTH": str(facts), "SSH_ORIGINAL_COMMAND": "firecrest"}

    def run(*arguments: str) -> int:
        command = (str(server.wrapper), *arguments)
        return subprocess.run(
            command, user=person.pw_uid, group=person.pw_gid, env=environment, check=False, capture_output=True
        ).returncode

    assert run(mine) == 0
    assert run() == 0
    assert run(other) == REFUSED
    assert run(mine, "id") == REFUSED
    facts.chmod(0o644)
    assert run(mine) == REFUSED
    facts.chmod(0o600)
    os.chown(facts, 0, 0)
    assert run(mine) == REFUSED


@pytest.mark.parametrize(
    "stated",
    [
        {"text": ""},
        {"text": "id"},
        {"text": "/bin/sh -c id"},
        {"text": "{wrapper}"},
        {"text": "{wrapper} id"},
        {"text": "{wrapper} {true} {true}"},
        {"text": "{wrapper}  {true}"},
        {"text": "{wrapper} {true};id"},
        {"principals": ("{user}", "root")},
        {"principals": ("root", "{user}")},
        {"extensions": ("permit-pty",)},
        {"extensions": ("permit-port-forwarding",)},
    ],
    ids=str,
)
def test_a_certificate_that_is_not_for_one_command_of_one_user_is_refused(intruder: Intruder, stated: dict[str, Any]) -> None:
    known = {"wrapper": str(intruder.server.wrapper), "user": intruder.server.user, "true": spelling("true")}
    filled = {
        name: value.format(**known) if isinstance(value, str) else tuple(one.format(**known) for one in value)
        for name, value in stated.items()
    }
    status, out, _ = executed(intruder.entered("true", **filled))
    assert (status, out) == (REFUSED, b"")


def _spoiled(**changes: Any) -> str:
    good = {"argv": ["true"], "seconds": None, "mark": new_token()}
    return base64.urlsafe_b64encode(json.dumps({**good, **changes}).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": []},
        {"argv": ["true", 1]},
        {"argv": [{"sha256": "0" * 64}]},
        {"argv": "true"},
        {"seconds": 0},
        {"seconds": -1},
        {"seconds": "5; id"},
        {"seconds": True, "argv": ["id"], "more": 1},
        {"seconds": 1e9},
        {"mark": "_short"},
        {"mark": None},
        {"mark": "_" + "0" * 32 + "\n"},
        {"environment": {"LD_PRELOAD": "/tmp/x"}},
    ],
    ids=str,
)
def test_a_command_that_is_misspelled_is_refused(intruder: Intruder, changes: dict[str, Any]) -> None:
    status, out, _ = executed(intruder.entered(text=f"{intruder.server.wrapper} {_spoiled(**changes)}"))
    assert (status, out) == (REFUSED, b"")


@pytest.mark.parametrize(
    "argv",
    [
        ("sh",),
        ("sh", "-c", "id"),
        ("sh", "-c", copies._PLACE.replace("exit 1", "exit 0"), "sh", "/a", "/b", "/c"),
        ("sh", "-e", "-c", copies._PLACE, "sh", "/a", "/b", "/c"),
        ("sh", "-c", copies._START, "sh", "/tmp/x", "1", "0", "id", "1", "1"),
        ("bash", "-c", "id"),
        ("/bin/sh", "-c", "id"),
        ("../../bin/sh",),
        ("/usr/bin/id", "-un"),
        ("python3", "-c", "1"),
        ("env", "LD_PRELOAD=/tmp/x", "scontrol", "ping"),
        ("env", "SLURM_TIME_FORMAT=standard", "sh", "-c", "id"),
        ("timeout", "5", "sh"),
        ("tail", "--follow", "--", "/etc/passwd"),
        ("tail", "--bytes=1", "--pid=1", "--", "/etc/passwd"),
        ("head", "/etc/passwd"),
        ("id", "-G", "root"),
        ("ls", "--hyperlink", "--", "/"),
        ("rm", "-rf", "--no-preserve-root", "/"),
        ("rm", "-r", "--interactive=never", "--", "/tmp/x", "/tmp/y"),
        ("tar", "-xv", "--force-local", "--file=/x", "--directory=/y", "--to-command=id"),
        ("tar", "-xv", "--to-command=id", "--force-local", "--file=/x", "--directory=/y"),
        ("tar", "-cz", "--force-local", "--file=/x", "--directory=/y", "--checkpoint-action=exec=id", "--", "."),
        ("unzip", "-o", "-p", "-d", "/x"),
        ("sbatch", "--wrap=id"),
        ("chmod", "-v", "-R", "--", "777", "/x"),
        ("scontrol", "update", "job=1"),
        ("curl", "file:///etc/passwd"),
        ("scancel", "1"),
    ],
    ids=lambda argv: " ".join(argv)[:40],
)
def test_what_is_not_on_the_list_in_just_that_form_is_refused(listed: ForcedHost, argv: tuple[str, ...]) -> None:
    with pytest.raises(CommandRefused):
        listed.run(raw(*argv, seconds=30))


def test_words_of_a_submission_cannot_make_it_run_something_else(listed: ForcedHost) -> None:
    from schemas.compute import JobRequest
    from workers.schedulers import slurm
    from workers.schedulers.scheduler import Submission

    job = Submission("/tmp/no/such", "/tmp", "script", None, JobRequest(), ())
    argv = slurm.submit(job).argv
    at = argv.index("sbatch")
    for words in (("sh", "-c", "id"), ("sbatch", "--wrap=id", "--", "script"), ("id",), ("sbatch", "--uid=0", *argv[at + 1 :])):
        with pytest.raises(CommandRefused):
            listed.run(raw(*argv[:at], *words, seconds=30))


def test_no_variable_that_is_sent_reaches_a_shell_or_the_command(
    intrude: Callable[[ForcedSshd], Intruder], sshd_user: str, home: Path
) -> None:
    trap, sprung = home / "trap", home / "sprung"
    trap.write_text(f"touch {sprung}\n")
    sent = {
        "BASH_ENV": str(trap),
        "ENV": str(trap),
        "LD_PRELOAD": "/no/such.so",
        "PYTHONSTARTUP": str(trap),
        "PATH": str(home),
        "FOO": "bar",
    }
    transport = intrude(ForcedSshd(sshd_user)).entered("sh", "-c", "env; id")
    channel = transport.open_session(timeout=60)
    channel.update_environment(sent)
    channel.exec_command("firecrest")
    status, out, err = told(channel)
    assert status == 0
    assert b"ld.so" not in err
    assert not sprung.exists()
    assert b"uid=" in out
    assert not {line.partition(b"=")[0].decode() for line in out.splitlines()} & (set(sent) - {"PATH"})
    assert str(home).encode() not in out


def test_commands_have_a_clean_environment_even_where_sshd_takes_any(intrude: Callable[[ForcedSshd], Intruder], sshd_user: str) -> None:
    transport = intrude(ForcedSshd(sshd_user, "AcceptEnv *")).entered("env")
    channel = transport.open_session(timeout=60)
    channel.update_environment(
        {"FOO": "bar", "LC_ALL": "xx", "SSH_ORIGINAL_COMMAND": "id", "SSH_USER_AUTH": "/etc/passwd", "PYTHONPATH": "/x"}
    )
    channel.exec_command("firecrest")
    status, out, _ = told(channel)
    names = {line.partition(b"=")[0].decode() for line in out.splitlines()[1:-1]}
    assert status == 0
    assert names == {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LC_ALL"}
    assert b"LC_ALL=C.UTF-8\n" in out


def test_an_expired_certificate_lets_nobody_in_and_no_command_run_on_a_connection_that_is_open(intruder: Intruder) -> None:
    with pytest.raises(AccessDenied):
        intruder.entered("true", start=-100, seconds=60)
    # as many seconds as logging in may take on a busy machine
    transport = intruder.entered("true", start=-1, seconds=15)
    time.sleep(16)
    status, out, err = executed(transport)
    assert (status, out) == (REFUSED, b"")
    assert b"not valid now" in err


def test_the_certificate_of_another_authority_is_refused_by_sshd_and_by_the_wrapper(
    intruder: Intruder, intrude: Callable[[ForcedSshd], Intruder], sshd_user: str
) -> None:
    with pytest.raises(AccessDenied):
        intruder.entered("true", ca=Ed25519PrivateKey.generate())
    other = ForcedSshd(sshd_user)
    known = json.loads((other.folder / "firecrest-commands.json").read_text())
    other.write_list({**known, "authorities": ["SHA256:" + "A" * 43]})
    status, out, err = executed(intrude(other).entered("true"))
    assert (status, out) == (REFUSED, b"")
    assert b"no authority here" in err


def test_neither_terminal_nor_forwarding_nor_subsystem_nor_shell_nor_second_session_is_given(intruder: Intruder) -> None:
    for kind in ("direct-tcpip", "direct-streamlocal@openssh.com", "tun@openssh.com"):
        with pytest.raises((paramiko.SSHException, EOFError)):
            intruder.entered("true").open_channel(kind, ("127.0.0.1", intruder.server.port), ("127.0.0.1", 1), timeout=60)
    transport = intruder.entered("true")
    with pytest.raises(paramiko.SSHException):
        transport.request_port_forward("127.0.0.1", 0)
    channel = transport.open_session(timeout=60)
    with pytest.raises(paramiko.ChannelException):
        transport.open_session(timeout=60)
    channel.invoke_shell()
    status, out, _ = told(channel)
    assert (status, out) == (REFUSED, b"")
    for subsystem in ("sftp", "anything"):
        channel = intruder.entered("true").open_session(timeout=60)
        with contextlib.suppress(paramiko.SSHException, EOFError):
            channel.invoke_subsystem(subsystem)
            assert told(channel)[:2] == (REFUSED, b"")
    channel = intruder.entered("true").open_session(timeout=60)
    with pytest.raises(paramiko.SSHException):
        channel.get_pty()


def test_nothing_runs_where_sshd_does_not_tell_how_a_user_came_in_or_others_can_write_the_list(
    intrude: Callable[[ForcedSshd], Intruder], sshd_user: str
) -> None:
    status, out, err = executed(intrude(ForcedSshd(sshd_user, "ExposeAuthInfo no")).entered("true"))
    assert (status, out) == (REFUSED, b"")
    assert b"ExposeAuthInfo" in err
    loose = ForcedSshd(sshd_user)
    loose.write_list({"commands": EVERYTHING}, mode=0o666)
    status, out, err = executed(intrude(loose).entered("true"))
    assert (status, out) == (REFUSED, b"")
    assert b"not root's alone" in err


def test_the_force_command_of_the_certificate_suffices_where_sshd_forces_none(
    intrude: Callable[[ForcedSshd], Intruder], sshd_user: str
) -> None:
    one = intrude(ForcedSshd(sshd_user, "ForceCommand none"))
    assert executed(one.entered("id", "-un"))[1].splitlines()[1] == sshd_user.encode()
    assert executed(one.entered("id", "-un"), "id")[:2] == (REFUSED, b"")


def test_a_command_ends_when_nobody_listens_any_more(forced_host: ForcedHost, forced_sshd: ForcedSshd) -> None:
    mark = new_token()
    one = Intruder(forced_sshd)
    channel = one.entered("sh", "-c", "sleep 300; :", mark).open_session(timeout=60)
    channel.exec_command("firecrest")
    eventually(lambda: running(mark), 60)
    one.close()
    eventually(lambda: not running(mark), 60)
    with pytest.raises(TimedOut):
        forced_host.run(raw("sh", "-c", "sleep 300; :", mark, seconds=0.5))
    eventually(lambda: not running(mark), 60)


def test_what_was_refused_by_the_delegation_is_told(forced_host: ForcedHost) -> None:
    def refuse(public_key: str, command: str) -> str:
        raise AccessDenied("no")

    with pytest.raises(AccessDenied):
        ForcedHost(forced_host.owner, forced_host.system, forced_host.user, refuse).run(raw("true"))
    assert forced_host.owner.pool.count() == (0, 0)


def test_a_connection_that_breaks_is_tried_again_for_what_does_no_harm(
    intrude: Callable[[ForcedSshd], Intruder], sshd_user: str, home: Path
) -> None:
    server = ForcedSshd(sshd_user)
    intrude(server)
    pool = SSHPool(Limits(patience=60, connect_seconds=60))
    host = ForcedHost(pool, server.system(), server.user, server.certify_command)
    begun = home / "count"
    program = 'echo >>"$1"; [ "$(wc -l <"$1")" -gt 1 ] || exec sleep 600; echo well'
    words = ("sh", "-c", program, "sh", str(begun))

    def run(*, repeatable: bool) -> bytes:
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(host.run, Command(words, bytes, repeatable=repeatable))
            eventually(lambda: begun.exists() and begun.stat().st_size == 1, seconds=60)
            server.cut()
            return answer.result()

    assert run(repeatable=True) == b"well\n"
    begun.unlink()
    with pytest.raises(MachineNotAvailable):
        run(repeatable=False)
    assert begun.stat().st_size == 1
    pool.close()


def test_a_command_that_no_certificate_can_hold_is_refused(forced_host: ForcedHost) -> None:
    with pytest.raises(CommandFailed, match="too long"):
        forced_host.run(raw("printf", "x" * 100_000))


def test_a_system_that_is_gone_is_not_available(forced_host: ForcedHost) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = forced_host.system.model_copy(update={"port": taken.getsockname()[1]})
        with pytest.raises(MachineNotAvailable):
            ForcedHost(forced_host.owner, gone, forced_host.user, forced_host.certify).run(raw("true"))
