"""What else the clients of pyfirecrest do with jobs and ask of a system: both clients, and the command line."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import firecrest
import pytest

from tests.real_site import Site

Cli = Callable[..., subprocess.CompletedProcess[str]]
QUICK = "#!/bin/sh\n#SBATCH --job-name=quick\n#SBATCH --output=/dev/null\ntrue\n"


@pytest.fixture
def held(site: Site) -> Iterator[Callable[..., str]]:
    """Submits held jobs on the system itself; cancels them all at the end."""
    words = ("sbatch", "--parsable", "--hold", "--chdir=/home/fcalice", "--output=/dev/null", "--wrap=true")
    yield lambda *options: site.slurm(*words, *options, user="fcalice")
    site.slurm("scancel", "--user=fcalice")


@pytest.fixture
def reserved(site: Site) -> Iterator[str]:
    """The name of a reservation."""
    times = ("starttime=2035-01-01T00:00:00", "endtime=2035-01-02T00:00:00")
    site.slurm("scontrol", "create", "reservation", "reservationname=upkeep", *times, "nodes=n[1-2]", "users=root")
    yield "upkeep"
    site.slurm("scontrol", "delete", "reservationname=upkeep")


def test_a_job_is_found_right_after_its_submission(client: Any, system: str) -> None:
    job = client.submit(system, script_str=QUICK)["jobid"]

    (active,) = client.poll_active(system, [job])
    (accounted,) = client.poll(system, [job])

    assert (active["jobid"], active["name"]) == (accounted["jobid"], accounted["name"]) == (job, "quick")
    assert {active["state"], accounted["state"]} <= {"PENDING", "RUNNING", "COMPLETING", "COMPLETED"}


def test_jobs_are_polled_by_any_kind_of_id(client: Any, system: str, held: Callable[..., str]) -> None:
    array, job = held("--array=1-4"), held()

    assert [found["jobid"] for found in client.poll_active(system, [f"{array}_2"])] == [f"{array}_2"]
    assert {found["jobid"] for found in client.poll_active(system, [f"{array}_[1-4]", int(job)])} == {f"{array}_[1-4]", job}
    assert {found["jobid"] for found in client.poll(system, [f"{array}_[1-4]", job])} == {f"{array}_[1-4]", job}
    assert "Terminating job" in client.cancel(system, f"{array}_[2-3],{job}")
    pending = {found["jobid"] for found in client.poll_active(system) if found["state"] == "PENDING"}
    left = {found for found in pending if found.split("_")[0] in (array, job)}  # others' jobs may wait, too
    assert left == {f"{array}_[1,4]"}


def test_nodes_are_told(client: Any, system: str) -> None:
    assert [node["NodeName"] for node in client.nodes(system)] == ["n1", "n2", "n3"]
    (node,) = client.nodes(system, ["n3"])
    assert (node["ActiveFeatures"], node["Partitions"]) == (["multicore", "gpu"], ["normal", "xfer"])
    assert isinstance(node["State"], list)
    with pytest.raises(firecrest.FirecrestException, match="Node n9 not found"):
        client.nodes(system, ["n9"])


def test_partitions_are_told(client: Any, system: str) -> None:
    assert [partition["PartitionName"] for partition in client.partitions(system)] == ["normal", "debug", "xfer"]
    assert client.partitions(system, ["debug", "nowhere"]) == [
        {"PartitionName": "debug", "State": "UP", "TotalCPUs": "16", "TotalNodes": "1", "Default": "NO"}
    ]


def test_reservations_are_told(client: Any, system: str, reserved: str) -> None:
    told = {
        "ReservationName": "upkeep", "State": "INACTIVE", "Nodes": "n[1-2]", "Features": [],
        "StartTime": "2035-01-01T00:00:00", "EndTime": "2035-01-02T00:00:00",
    }  # fmt: skip
    assert client.reservations(system) == client.reservations(system, [reserved]) == [told]
    assert client.reservations(system, ["nowhere"]) == []


def test_the_command_line_shows_the_system_in_tables(cli: Cli, reserved: str) -> None:
    assert re.search(r"\| n3 +\| normal, xfer +\| \w+.*\| multicore, gpu +\|", cli("get-nodes").stdout)
    assert [node["NodeName"] for node in json.loads(cli("get-nodes", "--json", "n2").stdout)] == ["n2"]
    assert re.search(r"\| debug +\| UP +\| 16 +\| 1 +\| NO +\|", cli("get-partitions").stdout)
    assert re.search(r"\| upkeep +\| INACTIVE +\| n\[1-2\] +\|", cli("get-reservations", reserved).stdout)
    assert "Node n9 not found" in cli("get-nodes", "n9", code=1).stdout


def test_the_command_line_finds_a_job_right_after_its_submission(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text(QUICK)
    job = json.loads(cli("submit", "job.sh").stdout)["jobid"]

    assert [shown["jobid"] for shown in json.loads(cli("poll-active", "--json", job).stdout)] == [job]
    assert [shown["jobid"] for shown in json.loads(cli("poll", "--json", job).stdout)] == [job]
