"""Commands that are told to stop are ended where they run, and nothing else is."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psutil
import pytest

from schemas.errors import FirecrestError, Stopped
from tests.hosts.own_sshd import OwnSshd, eventually
from workers.host import Command, Host, LocalHost
from workers.ssh import SSHHost
from workers.stopping import Stop

Enter = Callable[[Stop], Host]


@pytest.fixture(params=["local", "ssh"])
def enter(request: pytest.FixtureRequest) -> Enter:
    """Enters this machine, in each way that there is."""
    if request.param == "local":
        return lambda stop: LocalHost(stop=stop)
    shared: SSHHost = request.getfixturevalue("shared_host")
    return lambda stop: shared.owner.host(shared.system, shared.user, shared.certify, stop)


def raw(*argv: str, seconds: float | None = None, repeatable: bool = True) -> Command[bytes]:
    """A command whose output is taken as it is."""
    return Command(argv, bytes, seconds=seconds, repeatable=repeatable)


def marked(seconds: int) -> str:
    """A number of seconds that no other process is given."""
    return f"{seconds}.{uuid4().int}"


def running(mark: str) -> list[psutil.Process]:
    """The processes that are given the mark."""
    return [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])]


def outcome(host: Host, command: Command[bytes]) -> bytes | FirecrestError:
    """What became of a command."""
    try:
        return host.run(command)
    except FirecrestError as error:
        return error


@pytest.mark.parametrize("seconds", [None, 60])
@pytest.mark.parametrize(
    "script", ["sleep {}", "sleep {} & wait", "(sleep {})", "yes {}"], ids=["child", "background", "subshell", "output"]
)
def test_a_command_is_ended_with_all_that_it_has_started(enter: Enter, script: str, seconds: float | None) -> None:
    stop, mark = Stop(), marked(60)
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(outcome, enter(stop), raw("sh", "-c", f"{script.format(mark)}; :", seconds=seconds))
        eventually(lambda: running(mark))
        family = {child for process in running(mark) for child in (process, *process.children(recursive=True))}
        asked = time.monotonic()
        stop.ask()
        assert isinstance(ended.result(timeout=10), Stopped)
        assert time.monotonic() - asked < 3
    eventually(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family))


def test_nothing_is_run_after_the_wish_to_stop(enter: Enter, tmp_path) -> None:
    stop = Stop()
    stop.ask()
    host = enter(stop)
    assert isinstance(outcome(host, raw("sleep", "60")), Stopped)


def test_nothing_is_begun_after_the_time_is_over_and_what_ends_then_counts_for_nothing(enter: Enter) -> None:
    stop = Stop(time.monotonic() + 0.5)
    assert outcome(enter(stop), raw("echo", "ok")) == b"ok\n"
    assert isinstance(outcome(enter(stop), raw("sleep", "1")), Stopped)
    assert isinstance(outcome(enter(stop), raw("echo", "late")), Stopped)


def test_the_wish_is_heeded_by_every_thread_and_by_nobody_else(enter: Enter) -> None:
    stop, mark, other = Stop(), marked(60), marked(2)
    with ThreadPoolExecutor(10) as pool:
        ended = [pool.submit(outcome, enter(stop), raw("sh", "-c", f"sleep {mark}; :")) for _ in range(4)]
        spared = [pool.submit(outcome, enter(Stop()), raw("sh", "-c", f"sleep {other}; echo done")) for _ in range(4)]
        eventually(lambda: len(running(mark)) >= 4 and len(running(other)) >= 4)
        stop.ask()
        assert {type(one.result(timeout=10)) for one in ended} == {Stopped}
        assert {one.result(timeout=10) for one in spared} == {b"done\n"}
        assert outcome(enter(Stop()), raw("echo", "ok")) == b"ok\n"


def test_a_command_that_ends_as_it_is_to_stop_leaves_no_shell_that_is_about_to_be_killed(enter: Enter) -> None:
    """Whoever uses the user's warm shell next is not hit by what was meant for the command before."""
    for _ in range(20):
        stop = Stop()
        asker = threading.Timer(0.01, stop.ask)
        asker.start()
        outcome(enter(stop), raw("sleep", "0.01"))
        assert outcome(enter(Stop()), raw("sh", "-c", "sleep 0.05; echo ok", repeatable=False)) == b"ok\n"
        asker.join()


def test_a_server_that_hangs_keeps_nobody_from_stopping(make_pool, sshd: OwnSshd) -> None:
    stop, mark = Stop(), marked(60)
    pool = make_pool()
    host = pool.host(sshd.system(), sshd.user, sshd.certify, stop)
    with ThreadPoolExecutor() as threads:
        ended = threads.submit(outcome, host, raw("sh", "-c", f"sleep {mark}; :"))
        eventually(lambda: running(mark))
        sshd.kill(19)
        asked = time.monotonic()
        stop.ask()
        assert time.monotonic() - asked < 0.1, "whoever asks does not wait"
        assert isinstance(ended.result(timeout=10), Stopped)
        sshd.kill(18)
