"""Status and tasks as pyfirecrest's clients and its command line see them."""

import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import firecrest
import pytest
from firecrest.FirecrestException import NotFound

from tests.real_site import Client, Site, eventually

UP = {"status": "available", "status_code": 200, "description": "server up & flask running"}
RIDGE = "ridge"
READY = {"status": "available", "description": "System ready"}


@pytest.fixture(scope="module", autouse=True)
def ready(client: Any, system: str) -> None:
    """Everything has been probed since the site was started."""
    eventually(lambda: all(entry["status_code"] == 200 for files in client.filesystems().values() for entry in files), seconds=60)
    eventually(lambda: client.service("storage")["status"] == "available", seconds=60)


def test_services_are_told(client: Any) -> None:
    services = client.all_services()
    assert {"utilities", "compute", "delegation", "tasks"} <= {service["service"] for service in services}
    for service in services:
        assert service == {"service": service["service"], **UP}
        assert client.service(service["service"]) == service
    with pytest.raises(NotFound, match="Service does not exists"):
        client.service("nothing")


def test_systems_are_told(client: Any, system: str) -> None:
    assert client.all_systems() == [{"system": name, **READY} for name in (system, RIDGE)]
    assert client.system(system) == {"system": system, **READY}
    with pytest.raises(NotFound, match=r"System does not exists\."):
        client.system("elsewhere")


def test_file_systems_are_told(client: Any, system: str) -> None:
    everywhere = client.filesystems()
    assert set(everywhere) == {system, RIDGE}
    assert everywhere[system][0] == {
        "name": "home", "path": "/home", "description": "Home directories", "status": "available", "status_code": 200,
    }  # fmt: skip
    assert client.filesystems(system_name=system) == {system: everywhere[system]}
    with pytest.raises(NotFound):
        client.filesystems(system_name="elsewhere")


def test_parameters_name_the_file_systems(client: Any, system: str) -> None:
    parameters = client.parameters()
    assert all(parameters[group] for group in ("general", "compute", "utilities", "storage"))
    (files,) = (item["value"] for item in parameters["storage"] if item["name"] == "FILESYSTEMS")
    shown = client.filesystems()
    assert files == [{"system": name, "mounted": [entry["path"] for entry in shown[name]]} for name in (system, RIDGE)]


def test_whoever_waits_for_a_task_is_told_that_it_was_cancelled(client: Any, system: str, site: Site) -> None:
    alice = Client(site, "alice")

    def cancel() -> dict[str, Any]:
        running = eventually(lambda: alice.get("/tasks", params={"status": "101", "service": "compute"}).json()["tasks"])
        (task_id,) = running
        return dict(alice.delete(f"/tasks/{task_id}").json()["task"])

    client.poll_active(system)
    site.supervisor("signal", "STOP", "slurmctld")
    try:
        with ThreadPoolExecutor(1) as pool:
            cancelling = pool.submit(cancel)
            with pytest.raises(firecrest.FirecrestException) as failed:
                client.poll_active(system)
            task = cancelling.result()
    finally:
        site.supervisor("signal", "CONT", "slurmctld")
    assert type(failed.value) is firecrest.FirecrestException
    told = failed.value.responses[-1].json()["tasks"]
    assert told == {task["task_id"]: {name: value for name, value in task.items() if name != "task_url"}}
    assert (task["status"], task["data"]) == ("400", "Deleted on request")
    assert client._tasks([task["task_id"]]) == told


def test_the_command_line_shows_it_all(cli: Callable[..., subprocess.CompletedProcess[str]], client: Any, system: str) -> None:
    client.poll_active(system)
    assert re.search(r"\| tasks +\| available +\| server up & flask running +\|", cli("services").stdout)
    assert re.search(r"\| delegation +\| available +\|", cli("services", "--name", "delegation").stdout)
    assert "Service does not exists" in cli("services", "--name", "nothing", code=1).stdout
    assert re.search(rf"\| {system} +\| available +\| System ready +\|", cli("systems", "--name", system).stdout)
    assert "System does not exists." in cli("systems", "--name", "elsewhere", code=1).stdout
    for words in (("filesystems",), ("filesystems", "--system", system)):
        assert re.search(r"\| home +\| /home +\| 200 +\| available +\| Home directories +\|", cli(*words).stdout)
    assert re.search(rf"FILESYSTEMS +\| .*'system': '{system}'", cli("parameters").stdout)
    task_id = next(iter(client._tasks()))
    assert re.search(r"Task information: \d+ results", cli("tasks", "--no-pager").stdout)
    assert re.search(rf"{task_id} +\| \d+ +\|.*\| fcalice +\| compute +\|", cli("tasks", "--no-pager", task_id).stdout)
