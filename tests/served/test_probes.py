"""The service's own probes, made by a worker: what they find, how long they take, and what keeps them from looking."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis import Redis

from broker.celery import create_celery, probes
from broker.configuration import VARIABLE, open_redis
from broker.health import Health, Probe
from schemas.errors import CommandFailed, FirecrestError, MachineNotAvailable, TimedOut
from schemas.settings import Probes, Settings, Storage
from tests.real_site import eventually
from workers.host import Command, LocalHost
from workers.probes import Prober


@dataclass
class Answering:
    """A host that answers every command in one way."""

    answer: Any
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, command: Command[Any]) -> Any:
        """The answer, raised if it is an error."""
        self.asked.append(command.words())
        if isinstance(self.answer, FirecrestError):
            raise self.answer
        return command.parse(self.answer)


@pytest.fixture
def server() -> Iterator[Callable[[bytes], int]]:
    """Listens on a new port and greets with some words, or with none and hangs."""
    sockets: list[socket.socket] = []

    def listen(greeting: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        sockets.append(listener)
        threading.Thread(target=_greet, args=(listener, greeting, sockets), daemon=True).start()
        return int(listener.getsockname()[1])

    yield listen
    for one in sockets:
        one.close()


def _greet(listener: socket.socket, greeting: bytes, kept: list[socket.socket]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.sendall(greeting)
        kept.append(connection)


@pytest.fixture
def make(settings: Settings) -> Callable[..., Settings]:
    """Settings on a Redis of their own, with systems on those ports."""

    def made(*ports: int, **system: Any) -> Settings:
        facts = settings.model_dump()
        facts["broker"]["url"] = facts["broker"]["url"].removesuffix("0") + "1"
        facts["systems"] = [
            {"name": f"s{at}", "host": "127.0.0.1", "port": port, "host_keys": ["k"], **system} for at, port in enumerate(ports)
        ]
        facts["probes"] = {"system_timeout": 1}
        return Settings.model_validate(facts)

    return made


@pytest.fixture
def health(make: Callable[..., Settings]) -> Iterator[Health]:
    redis: Redis = open_redis(make(1))
    redis.flushdb()
    yield Health(redis)
    redis.flushdb()
    redis.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_system_is_well_when_an_ssh_server_greets(server, make, health: Health) -> None:
    ports = (server(b"SSH-2.0-x\r\n"), server(b"220 mail ready\r\n"), free_port())
    prober = Prober(health, make(*ports), lambda _: LocalHost())
    for name in ("s0", "s1", "s2", "unknown"):
        prober.probe(Probe.SYSTEM, name)
    assert health.lately(Probe.SYSTEM, seconds=9) == {"s0": {"ssh": True}, "s1": {"ssh": False}, "s2": {"ssh": False}}
    time.sleep(0.2)
    assert health.lately(Probe.SYSTEM, seconds=0.1) == {}, "a finding has its age"


@pytest.fixture
def housekeeping(tmp_path) -> Iterator[Callable[[Settings], None]]:
    """Starts a worker for the beat's queue: a process of its own, since Celery keeps one state for all workers of a process."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(settings: Settings) -> None:
        (tmp_path / "settings.yaml").write_text(settings.model_dump_json())
        options = ("--pool=threads", "--concurrency=60", "--queues=beat", "--loglevel=ERROR")
        words = (sys.executable, "-m", "celery", "-A", "workers.main", "worker", *options)
        processes.append(subprocess.Popen(words, env={**os.environ, VARIABLE: str(tmp_path / "settings.yaml")}))

    yield start
    for process in processes:
        process.terminate()
        process.wait()


def test_fifty_systems_that_hang_cost_one_timeout(server, make, health: Health, housekeeping) -> None:
    port = server(b"")
    settings = make(*[port] * 50, free_port())
    housekeeping(settings)
    sender = create_celery(settings)
    for tick in probes(settings).values():
        sender.send_task(tick["task"], tick["args"], **tick["options"])
    eventually(lambda: len(health.lately(Probe.SYSTEM, seconds=600)) == 51, seconds=30)  # one after the other: 50 s
    assert not any(found["ssh"] for found in health.lately(Probe.SYSTEM, seconds=600).values())


def test_file_systems_and_scheduler_are_looked_at_as_the_probe_user(make, health: Health, tmp_path) -> None:
    (tmp_path / "file").touch()
    files = [{"name": "good", "path": str(tmp_path)}, {"name": "bad", "path": str(tmp_path / "missing")}]
    settings = make(22, filesystems=files, probe_user="prober")
    entered: list[str] = []

    def enter(system: Any) -> Any:
        entered.append(system.probe_user)
        return LocalHost()

    Prober(health, settings, enter).probe(Probe.FILESYSTEMS, "s0")
    assert health.lately(Probe.FILESYSTEMS, seconds=9) == {"s0": {str(tmp_path): True, str(tmp_path / "missing"): False}}
    assert entered == ["prober"]


@pytest.mark.parametrize(
    ("answer", "well"),
    [(b"Slurmctld(primary) at n is UP\n", True), (CommandFailed("is DOWN"), False), (TimedOut(), False)],
    ids=["up", "down", "hung"],
)
def test_a_scheduler_is_well_when_it_says_so_in_time(make, health: Health, answer: Any, well: bool) -> None:
    host = Answering(answer)
    Prober(health, make(22, probe_user="prober"), lambda _: host).probe(Probe.SCHEDULER, "s0")
    assert host.asked == [("timeout", "10", "scontrol", "ping")]
    assert health.lately(Probe.SCHEDULER, seconds=9) == {"s0": {"slurm": well}}


def an_object_store(port: int) -> Storage:
    """The settings of an object store on a port."""
    url = f"http://127.0.0.1:{port}"
    return Storage(private_url=url, public_url=url, access_key="k", secret_key="s3cret")


def test_an_object_store_that_is_gone_or_hangs_or_is_none_is_not_well(server, make, health: Health, caplog) -> None:
    caplog.set_level("WARNING", logger="workers.probes")
    for port in (free_port(), server(b""), server(b"220 mail ready\r\n")):
        settings = make(1).model_copy(update={"storage": an_object_store(port), "probes": Probes(storage_timeout=0.5)})
        before = time.monotonic()
        Prober(health, settings, lambda _: LocalHost()).probe(Probe.STORAGE, "s3v4")
        assert time.monotonic() - before < 3
        assert health.lately(Probe.STORAGE, seconds=3) == {"s3v4": {"s3v4": False}}
    told = [record.message for record in caplog.records if record.name == "workers.probes"]
    assert told == ["the object store: Staging Area is not available, try again later"] * 3


def test_where_there_is_no_object_store_nothing_is_found(make, health: Health) -> None:
    Prober(health, make(1), lambda _: LocalHost()).probe(Probe.STORAGE, "s3v4")
    assert health.lately(Probe.STORAGE, seconds=9) == {}


def test_what_could_not_be_entered_is_not_known(make, health: Health, caplog: pytest.LogCaptureFixture) -> None:
    host = Answering(MachineNotAvailable("Machine is not available"))
    prober = Prober(health, make(22, probe_user="prober", filesystems=[{"name": "a", "path": "/a"}]), lambda _: host)
    caplog.set_level("WARNING", logger="workers.probes")
    for probe in (Probe.SCHEDULER, Probe.FILESYSTEMS):
        prober.probe(probe, "s0")
        assert health.lately(probe, seconds=9) == {}
        assert f"{probe} of s0: Machine is not available" in caplog.text


def test_a_system_that_is_known_to_be_down_is_not_entered(make, health: Health) -> None:
    host = Answering(b" is UP")
    prober = Prober(health, make(22, probe_user="prober"), lambda _: host)
    health.record(Probe.SYSTEM, "s0", {"ssh": False})
    prober.probe(Probe.SCHEDULER, "s0")
    assert host.asked == []
    health.record(Probe.SYSTEM, "s0", {"ssh": True})
    prober.probe(Probe.SCHEDULER, "s0")
    assert len(host.asked) == 1
