"""What the deployment says of itself over HTTP, and how it notices what goes down and what comes back (contract, 1.8)."""

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from broker.health import Probe
from schemas.settings import Probes, Settings
from tests.real_site import Client, Site, eventually

LATE = 8  # seconds, on a loaded machine
READY = {"system": "cluster", "status": "available", "description": "System ready"}
RIDGE = READY | {"system": "ridge"}


@pytest.fixture(scope="module")
def settings(site: Site) -> Settings:
    """The gateway's settings."""
    return Settings.model_validate(yaml.safe_load(Path(site.facts["settings"]).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def probes(settings: Settings) -> Probes:
    """What is probed how often."""
    return settings.probes


@pytest.fixture(scope="module")
def scratch(settings: Settings) -> str:
    """Path of the second file system."""
    return settings.systems[0].filesystems[1].path


def storage(client: Client) -> dict[str, Any]:
    return dict(client.get("/status/services/storage").json())


@pytest.fixture(scope="module", autouse=True)
def ready(alice: Client) -> None:
    """Everything has been probed since the site was started."""
    eventually(lambda: alice.get("/status/systems").json()["out"] == [READY, RIDGE], seconds=60)
    eventually(lambda: storage(alice)["status"] == "available", seconds=60)
    eventually(
        lambda: all(entry["status_code"] == 200 for name in ("cluster", "ridge") for entry in files(alice, name).values()), seconds=60
    )


def system(client: Client) -> dict[str, Any]:
    return dict(client.get("/status/systems/cluster").json()["out"])


def files(client: Client, name: str = "cluster") -> dict[str, dict[str, Any]]:
    return {entry["path"]: entry for entry in client.get(f"/status/filesystems/{name}").json()["out"]}


def test_services_are_listed_and_shown_alone(alice: Client) -> None:
    up = {"status": "available", "status_code": 200, "description": "server up & flask running"}
    listed = alice.get("/status/services").json()
    assert listed["description"] == "List of services with status and description."
    assert {"utilities", "compute", "delegation", "tasks"} <= {service["service"] for service in listed["out"]}
    for service in listed["out"]:
        assert service == {"service": service["service"], **up}
        answer = alice.get(f"/status/services/{service['service']}")
        assert (answer.status_code, answer.json()) == (200, service)


@pytest.mark.parametrize("name", ["status", "beat", "Compute", "nothing", "a;b", "ü"])
def test_an_unknown_service_is_not_there(alice: Client, name: str) -> None:
    answer = alice.get(f"/status/services/{name}")
    assert (answer.status_code, answer.json()) == (404, {"description": "Service does not exists", "status_code": 404})


def test_systems_are_listed_and_shown_alone(alice: Client) -> None:
    assert alice.get("/status/systems").json() == {"description": "List of systems with status and description.", "out": [READY, RIDGE]}
    assert alice.get("/status/systems/cluster").json() == {"description": "System information", "out": READY}
    answer = alice.get("/status/systems/elsewhere")
    assert (answer.status_code, answer.json()) == (404, {"description": "System does not exists."})


def test_file_systems_are_listed_for_all_systems_and_for_one(alice: Client, scratch: str) -> None:
    well = {"status": "available", "status_code": 200}
    expected = [
        {"name": "home", "path": "/home", "description": "Home directories", **well},
        {"name": "scratch", "path": scratch, "description": "Scratch space", **well},
    ]
    assert alice.get("/status/filesystems").json() == {
        "description": "Filesystem information",
        "out": {"cluster": expected, "ridge": expected},
    }
    words = "Filesystem information for system"
    assert alice.get("/status/filesystems/cluster").json() == {"description": f"{words} cluster", "out": expected}
    answer = alice.get("/status/filesystems/elsewhere")
    assert (answer.status_code, answer.json()) == (404, {"description": f"{words} elsewhere", "out": "System 'elsewhere' doesn't exist"})


def test_every_service_but_status_tells_that_it_is_there(alice: Client) -> None:
    services = {service["service"] for service in alice.get("/status/services").json()["out"]} - {"delegation"}
    for service in services:
        for headers in ({}, {"X-F7T-PROFILE": "1"}):
            answer = alice.get(f"/{service}/status", headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"success": "ack"})
    assert alice.get("/status/status").status_code == 404
    assert alice.get("/tasks/statuses").json()["error"] == "Task statuses does not exist"
    for path in ("/compute/status", "/status/services/compute", "/status/filesystems"):
        answer = alice.get(path, headers={"Authorization": None})
        assert (answer.status_code, answer.json()) == (401, {"description": "No Auth Header given"})


@pytest.fixture
def sshd(site: Site) -> Iterator[None]:
    """An sshd that runs again after the test."""
    yield
    site.supervisor("start", "sshd")


def test_a_system_that_goes_down_shows_within_a_period_and_comes_back_by_itself(
    site: Site, alice: Client, probes: Probes, sshd: None
) -> None:
    down = READY | {"status": "not available", "description": "System does not accept connections"}
    sessions = psutil.Process(int(site.supervisor("pid", "sshd"))).children(recursive=True)
    site.supervisor("stop", "sshd")
    for session in sessions:
        with suppress(psutil.NoSuchProcess):
            session.kill()

    eventually(lambda: system(alice) == down, seconds=probes.system_period + LATE)
    assert alice.get("/status/systems").json()["out"] == [down, RIDGE]
    assert {(entry["status"], entry["status_code"]) for entry in files(alice).values()} == {("not available", 400)}
    site.supervisor("start", "sshd")
    eventually(lambda: system(alice) == READY, seconds=probes.system_period + LATE)
    eventually(lambda: {entry["status"] for entry in files(alice).values()} == {"available"}, seconds=probes.filesystem_period + LATE)


def test_a_system_whose_sshd_hangs_is_down(site: Site, alice: Client, probes: Probes) -> None:
    pid = int(site.supervisor("pid", "sshd"))
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: system(alice)["status"] == "not available", seconds=probes.system_period + LATE)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: system(alice) == READY, seconds=probes.system_period + LATE)


def test_a_file_system_that_goes_away_shows_while_its_system_stays_available(alice: Client, probes: Probes, scratch: str) -> None:
    aside = Path(f"{scratch}.aside")
    Path(scratch).rename(aside)
    try:
        lost = READY | {"description": f"Filesystem {scratch} is not available"}
        eventually(lambda: system(alice) == lost, seconds=probes.filesystem_period + LATE)
        assert (files(alice)[scratch]["status"], files(alice)[scratch]["status_code"]) == ("not available", 400)
        assert files(alice)["/home"]["status"] == "available"
        Path(scratch).mkdir()  # what a mount point is without its file system
        assert alice.get("/status/systems").json()["out"][0] == lost
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        aside.rename(scratch)
    eventually(lambda: system(alice) == READY, seconds=probes.filesystem_period + LATE)


def test_a_scheduler_that_is_away_is_told_while_its_system_stays_available(site: Site, alice: Client, probes: Probes) -> None:
    site.supervisor("stop", "slurmctld")
    try:
        lost = READY | {"description": "Scheduler slurm is not available"}
        eventually(lambda: system(alice) == lost, seconds=probes.scheduler_period + LATE)
    finally:
        site.supervisor("start", "slurmctld")
    eventually(lambda: system(alice) == READY, seconds=probes.scheduler_period + LATE)


@pytest.mark.parametrize("stop", ["stop", "hang"])
def test_an_object_store_that_goes_away_shows_and_comes_back_by_itself(site: Site, alice: Client, probes: Probes, stop: str) -> None:
    up = storage(alice)
    down = {"service": "storage", "status": "not available", "status_code": 400, "description": "server up, object store down"}
    late = probes.storage_period + 2 * probes.storage_timeout + LATE
    site.supervisor(*(("stop", "radosgw") if stop == "stop" else ("signal", "STOP", "radosgw")))
    try:
        eventually(lambda: storage(alice) == down, seconds=late)
        listed = alice.get("/status/services").json()["out"]
        assert [service for service in listed if service["status_code"] != 200] == [down]
    finally:
        site.supervisor(*(("start", "radosgw") if stop == "stop" else ("signal", "CONT", "radosgw")))
    eventually(lambda: storage(alice) == up, seconds=late)


def test_probes_enter_as_the_probe_user_with_certificates_that_say_so(site: Site, alice: Client) -> None:
    known = re.compile(r"firecrest user=(\S+) system=\S+ task=probe worker=\S+")
    log = Path(site.facts["sshd"]["log"]).read_text(encoding="utf-8", errors="replace")
    assert set(known.findall(log)) == {"fcprobe"}
    granted = Path(site.facts["logs"], "delegation.log").read_text(encoding="utf-8", errors="replace")
    assert set(known.findall(granted)) == {"fcprobe"}


def test_asking_makes_nobody_look(site: Site, alice: Client, probes: Probes) -> None:
    redis = site.redis()
    seen: dict[Probe, set[bytes]] = {probe: set() for probe in Probe}
    until = time.monotonic() + probes.system_period
    while time.monotonic() < until:
        for path in ("services", "systems", "systems/cluster", "filesystems", "filesystems/cluster"):
            assert alice.get(f"/status/{path}", headers={"Cache-Control": "no-cache"}).status_code == 200
        for probe, findings in seen.items():
            findings.add(redis.hget(f"health:{probe}", "cluster"))
    assert all(1 <= len(findings) <= 3 for findings in seen.values())
