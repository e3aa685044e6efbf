"""Servers and hosts for the tests here: an sshd of their own, and this machine itself."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.settings import Limits
from tests.hosts.forced_sshd import ForcedSshd
from tests.hosts.own_sshd import OwnSshd, missing
from tests.hosts.tiny_store import Store
from tests.real_site import eventually, not_here
from workers import copies
from workers.copies import Fate, Found, Run
from workers.forced import ForcedHost
from workers.host import Host, LocalHost
from workers.ssh import SSHHost, SSHPool


@pytest.fixture(scope="session")
def sshd_user() -> Iterator[str]:
    """A user of this machine who may be let in, made for these tests: another process may run others."""
    why = missing()
    if why:
        not_here(why)
    name = f"fchosts{os.getpid()}"
    # '*', not useradd's '!': with UsePAM no, sshd takes '!' for a locked account.
    subprocess.run(("useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", name), check=True)
    yield name
    subprocess.run(("userdel", "--remove", name), check=True, capture_output=True)


@pytest.fixture
def make_sshd(sshd_user: str) -> Iterator[Callable[..., OwnSshd]]:
    """Starts servers, with further lines of sshd_config, and removes them at the end."""
    servers: list[OwnSshd] = []

    def start(more: str = "") -> OwnSshd:
        servers.append(OwnSshd(sshd_user, more))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.remove()


@pytest.fixture(scope="session")
def shared_sshd(sshd_user: str) -> Iterator[OwnSshd]:
    """One server for all tests that leave it as it was."""
    server = OwnSshd(sshd_user)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def sshd(make_sshd: Callable[..., OwnSshd]) -> OwnSshd:
    """A server that a test may kill."""
    return make_sshd()


@pytest.fixture
def make_pool() -> Iterator[Callable[..., SSHPool]]:
    """Makes pools of given limits, and closes them at the end."""
    pools: list[SSHPool] = []

    def make(**limits: float) -> SSHPool:
        pools.append(SSHPool(Limits.model_validate(limits)))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture(scope="session")
def shared_host(shared_sshd: OwnSshd) -> Iterator[SSHHost]:
    """The shared server, entered once for many tests."""
    pool = SSHPool(Limits(patience=20))
    yield pool.host(shared_sshd.system(), shared_sshd.user, shared_sshd.certify)
    pool.close()


@pytest.fixture(scope="session")
def forced_sshd(sshd_user: str) -> Iterator[ForcedSshd]:
    """A server whose users have a certificate for every command, whichever that is."""
    server = ForcedSshd(sshd_user)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def forced_host(forced_sshd: ForcedSshd) -> Iterator[ForcedHost]:
    """That server, entered."""
    pool = SSHPool(Limits(patience=20))
    yield ForcedHost(pool, forced_sshd.system(), forced_sshd.user, forced_sshd.certify_command)
    pool.close()


@pytest.fixture(params=["local", "ssh"])
def shell(request: pytest.FixtureRequest) -> Host:
    """This machine, entered in each way that has a shell."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("shared_host")


@pytest.fixture(params=["local", "ssh", "forced"])
def host(request: pytest.FixtureRequest) -> Host:
    """This machine, entered in each way that there is."""
    if request.param == "local":
        return LocalHost()
    host: Host = request.getfixturevalue("shared_host" if request.param == "ssh" else "forced_host")
    return host


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.held.set()
        server.shutdown()


@pytest.fixture
def here() -> Host:
    return LocalHost()


@pytest.fixture
def ended(here: Host) -> Callable[..., Found]:
    """What is found of a run when it is over."""

    def wait(run: Run, temporary: Path | str = "") -> Found:
        def over() -> Found | None:
            found = here.run(copies.look(run, temporary=str(temporary), seconds=5))
            return None if found.fate is Fate.RUNNING else found

        return eventually(over, pause=0.02)

    return wait
