"""Grid Engine where it is not like Slurm: what its jobs may ask for, how they end, and what it tells of its system."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from schemas.errors import CommandFailed
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.systems import System
from workers.host import Command, Finished
from workers.schedulers import gridengine
from workers.schedulers.scheduler import Tails

T = TypeVar("T")
pytestmark = pytest.mark.parametrize("system", ["gridengine"], indirect=True)


@pytest.fixture
def alice(site: Site, system: System) -> Client:
    """A user on the system."""
    return Client(site, "alice", system=system.name)


@pytest.fixture(autouse=True)
def _tidied(system: System) -> Iterator[None]:
    """No job of the test goes on after it."""
    yield
    system.cancel_all("fcalice")


def run(site: Site, command: Command[T]) -> T:
    """What a command of the scheduler says on the system."""
    return command.read(Finished(0, site.gridengine("sh", "-c", command.line(), user="fcalice").encode(), b""))


def task(client: Client, script: str, **form: str) -> dict[str, Any]:
    """The task of a submission, once it is final."""
    return client.task(client.post("/compute/jobs", files={"file": ("job.sh", script.encode())}, data=form))


def data(client: Client, path: str) -> Any:
    """The data of a task that a GET starts."""
    return client.task(client.get(path))["data"]


def test_what_a_job_asks_for_reaches_grid_engine(site: Site, system: System, alice: Client, folder: Folder) -> None:
    wishes = {
        "jobName": "asking", "partition": "debug", "time": "0-00:10:00", "ntasks": "2", "cpusPerTask": "1", "memory": "1G",
        "begin": "2036-01-02T10:00", "account": "projectb", "output": f"{folder.path}/o:$JOB_ID", "error": f"{folder.path}/e",
        "array": "2-6:2%1",
    }  # fmt: skip
    submitted = task(alice, system.script("true"), **wishes)["data"]
    lines = (line.partition(":") for line in site.gridengine("qstat", "-j", submitted["jobid"]).splitlines())
    shown = {name: value.strip() for name, _, value in lines}
    expected = {
        "job_name": "asking", "hard_queue_list": "debug", "hard resource_list": "h_vmem=512M,h_rt=600", "project": "projectb",
        "parallel environment": "smp range: 2", "job-array tasks": "2-6:2", "maximum concurrency": "1",
        "stdout_path_list": f"NONE:NONE:{folder.path}/o:$JOB_ID", "stderr_path_list": f"NONE:NONE:{folder.path}/e",
        "execution_time": "Wed Jan  2 10:00:00 2036",
    }  # fmt: skip
    assert {name: shown.get(name) for name in expected} == expected
    assert submitted["job_file_out"] == f"{folder.path}/o:{submitted['jobid']}"


@pytest.mark.parametrize("field", ["qos", "gpus", "constraint"])
def test_what_grid_engine_cannot_do_is_refused_by_name(system: System, alice: Client, field: str) -> None:
    final = task(alice, system.script("true"), **{field: "1"})
    assert (final["status"], final["data"]) == ("400", f"'{field}' is not supported by Grid Engine")


def test_a_job_waits_for_the_end_of_another(system: System, alice: Client) -> None:
    first = system.directly()
    second = task(alice, system.script("true"), dependency=f"afterany:{first}")["data"]["jobid"]
    shown = data(alice, f"/compute/jobs/{second}")["0"]
    assert (shown["state"], shown["nodelist"]) == ("PENDING", "(Dependency)")


def test_a_file_s_name_that_is_none_of_a_job_does_not_matter(system: System, alice: Client) -> None:
    ticket = alice.post("/compute/jobs", files={"file": ("1. é job.sh", system.script("true").encode())})
    submitted = alice.task(ticket)["data"]
    assert submitted["job_file"].endswith("/1._é_job.sh")
    assert Path(submitted["job_file"]).exists()


def test_output_goes_into_a_folder_under_its_own_name(system: System, alice: Client, folder: Folder) -> None:
    submitted = task(alice, system.script("sleep 600", output=folder.path, error=folder.path, name="named"))["data"]
    assert submitted["job_file_out"] == f"{folder.path}/named.o{submitted['jobid']}"
    eventually(lambda: Path(submitted["job_file_out"]).exists() and Path(f"{folder.path}/named.e{submitted['jobid']}").exists())


def test_a_job_that_cannot_be_started_is_failed_with_the_reason(system: System, alice: Client) -> None:
    job = task(alice, system.script("exit 100"))["data"]["jobid"]
    eventually(lambda: system.state(job) == "Eqw")
    assert data(alice, f"/compute/jobs/{job}")["0"]["state"] == "FAILED"
    assert [shown["state"] for shown in data(alice, f"/compute/acct?jobs={job}")] == ["FAILED"]


def test_a_job_cancelled_before_it_starts_is_accounted_for(system: System, alice: Client) -> None:
    job = system.directly(held="", name="never", partition="debug")
    assert alice.task(alice.delete(f"/compute/jobs/{job}"))["status"] == "200"
    (shown,) = data(alice, f"/compute/acct?jobs={job}")
    assert [shown[name] for name in ("jobid", "name", "user", "partition", "state", "start_time")] == [
        job, "never", "fcalice", "debug", "CANCELLED", "Unknown",
    ]  # fmt: skip


def test_tasks_of_an_array_are_cancelled_alone(system: System, alice: Client) -> None:
    job = system.directly(held="", array="1-4")
    assert alice.task(alice.delete(f"/compute/jobs/{job}_2"))["status"] == "200"
    assert alice.task(alice.delete(f"/compute/jobs/{job}_[3-4]"))["status"] == "200"
    assert [shown["jobid"] for shown in data(alice, f"/compute/jobs/{job}").values()] == [f"{job}_1"]


def test_a_job_that_ran_too_long_or_was_killed_says_so(system: System, alice: Client) -> None:
    slow = task(alice, system.script("sleep 600"), time="0:01")["data"]["jobid"]
    killed = task(alice, system.script("kill -9 $$"))["data"]["jobid"]
    eventually(lambda: system.is_over(slow) and system.is_over(killed))
    shown = {job["jobid"]: (job["state"], job["exit_code"]) for job in data(alice, f"/compute/acct?jobs={slow},{killed}")}
    assert shown == {slow: ("TIMEOUT", "0:9"), killed: ("FAILED", "0:9")}


@pytest.mark.parametrize("env", ['{"SGE_ROOT": "/tmp"}', '{"LONG": "' + "x" * 10_000 + '"}'])
def test_variables_that_would_not_arrive_are_refused(system: System, alice: Client, env: str) -> None:
    final = task(alice, system.script("true"), env=env)
    assert final["status"] == "400"
    assert final["data"].startswith("'env' ")


def test_ids_of_slurm_s_heterogeneous_jobs_are_refused(alice: Client) -> None:
    final = alice.task(alice.get("/compute/jobs/12+0"))
    assert (final["status"], final["data"]) == ("400", "error: Invalid job id specified: 12+0 is no job of Grid Engine")


def test_the_queue_gives_the_ends_of_output_with_the_jobs(
    site: Site, system: System, alice: Client, folder: Folder, running: Callable[[str], None]
) -> None:
    script = system.script(
        f"printf 'abcdefgh\\n'; echo bad >&2; touch '{folder.path}/ready'; sleep 600", output=folder.path, error=folder.path
    )
    jobs = [task(alice, script)["data"]["jobid"] for _ in range(2)]
    for job in jobs:
        running(job)
    eventually(lambda: all(Path(folder.path, f"job.sh.e{job}").exists() for job in jobs) and Path(folder.path, "ready").exists())
    first, second = run(site, gridengine.queue(ids=",".join(jobs), user="fcalice", tails=Tails(4, start=1)))
    assert (first.output, first.errors) == ("", "")
    assert (second.output, second.errors) == ("fgh", "bad")


def test_nodes_and_partitions_are_hosts_and_queues(site: Site, system: System) -> None:
    system.directly()
    eventually(lambda: [node.state for node in run(site, gridengine.nodes([]))] == [["MIXED"]])
    (node,) = run(site, gridengine.nodes(["localhost"]))
    assert (node.node_name, sorted(node.partitions or [])) == ("localhost", ["debug", "normal"])
    with pytest.raises(CommandFailed, match="Node n1 not found"):
        run(site, gridengine.nodes(["n1"]))
    found = {partition.partition_name: partition for partition in run(site, gridengine.partitions())}
    assert {name: (queue.state, queue.total_cpus, queue.total_nodes, queue.default) for name, queue in found.items()} == {
        "normal": ("UP", "16", "1", "NO"),
        "debug": ("UP", "4", "1", "NO"),
    }
    site.gridengine("qmod", "-d", "debug")
    try:
        assert {queue.partition_name: queue.state for queue in run(site, gridengine.partitions())} == {"normal": "UP", "debug": "DOWN"}
    finally:
        site.gridengine("qmod", "-e", "debug")


def test_advance_reservations_are_listed_and_jobs_run_in_them(site: Site, system: System, alice: Client) -> None:
    assert run(site, gridengine.reservations()) == []
    said = site.gridengine("qrsub", "-d", "600", "-q", "normal", user="fcalice")
    number = said.split()[3]
    try:
        (shown,) = run(site, gridengine.reservations())
        assert (shown.reservation_name, shown.state, shown.nodes) == (number, "ACTIVE", "localhost")
        job = task(alice, system.script("true"), reservation=number)["data"]["jobid"]
        eventually(lambda: system.is_over(job))
    finally:
        site.gridengine("qrdel", number, user="fcalice")


@pytest.mark.parametrize("command", [gridengine.queue(ids=None, user=None, tails=None), gridengine.accounting(ids="", start="", end="")])
def test_without_its_master_the_failure_is_told_in_grid_engine_s_words(site: Site, command: Command[Any]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        site.gridengine("env", "SGE_QMASTER_PORT=1", "sh", "-c", command.line(), user="fcalice")
    with pytest.raises(CommandFailed, match="unable to send message to qmaster using port 1"):
        command.read(Finished(failed.value.returncode, b"", failed.value.stderr.encode()))


def test_nobody_becomes_somebody_else_by_saying_so(site: Site, system: System) -> None:
    job = system.directly(held="")
    with pytest.raises(subprocess.CalledProcessError):
        site.gridengine("unshare", "--user", "--map-root-user", "qdel", job, user="fcbob")
    assert system.state(job) == "PENDING"
