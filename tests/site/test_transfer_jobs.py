"""Transfer jobs on both systems of the site (contract, 1.5, 4.6): what they do, how they fail, and what they wait for."""

import gzip
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.systems import SYSTEMS, System

NAME = "-a: ü 日本 $HOME [x]* #!%j ~"
on_both = pytest.mark.parametrize("system", SYSTEMS, indirect=True)


@pytest.fixture(scope="module")
def clients(site: Site) -> dict[str, Client]:
    """Alice on every system."""
    return {name: Client(site, "alice", system=SYSTEMS[name](site).name) for name in SYSTEMS}


@pytest.fixture
def alice(clients: dict[str, Client], system: System) -> Client:
    """Alice on the system."""
    return next(client for client in clients.values() if client.headers["X-Machine-Name"] == system.name)


@pytest.fixture
def tidied(system: System) -> Iterator[None]:
    """No job of the test goes on after it."""
    yield
    system.cancel_all("fcalice")


def task(client: Client, name: str, source: str, target: str, **form: str) -> dict[str, Any]:
    """The task of a transfer job, once it is final."""
    pair = {"targetPath": target} if name == "rm" else {"targetPath": target, "sourcePath": source}
    ticket = client.post(f"/storage/xfer-internal/{name}", data={**pair, **form})
    assert (ticket.status_code, ticket.json()) == (201, {"success": "Task created", "task_id": ticket.json()["task_id"]})
    return client.task(ticket)


def submitted(client: Client, name: str, source: str, target: str, **form: str) -> dict[str, str]:
    """A transfer job that the scheduler has taken."""
    final = task(client, name, source, target, **form)
    assert final["status"] == "200", final
    return dict(final["data"])


def state(client: Client, job: str) -> str:
    """The state of a job in the accounting records, once it is over."""

    def over() -> str | None:
        (shown,) = client.task(client.get("/compute/acct", params={"jobs": job}))["data"]
        return str(shown["state"]) if re.match("COMPLETED|FAILED|CANCELLED|TIMEOUT", shown["state"]) else None

    return eventually(over, seconds=60, pause=0.5)


@on_both
def test_every_kind_of_job_does_what_its_name_says(system: System, alice: Client, folder: Folder) -> None:
    place = folder.path
    folder.folder(NAME)
    folder.file(f"{NAME}/ü file", b"content", mode=0o640)
    folder.folder("unpacked")
    steps = (
        ("cp", f"{place}/{NAME}", f"{place}/copied {NAME}"),
        ("rsync", f"{place}/{NAME}/", f"{place}/synced {NAME}"),
        ("compress", f"{place}/{NAME}", f"{place}/packed {NAME}.tgz"),
        ("extract", f"{place}/packed {NAME}.tgz", f"{place}/unpacked"),
        ("mv", f"{place}/unpacked/{NAME}", f"{place}/moved {NAME}"),
        ("rm", "", f"{place}/{NAME}"),
    )
    for name, source, target in steps:
        job = submitted(alice, name, source, target)
        assert state(alice, job["jobid"]) == "COMPLETED", name
        assert Path(job["job_file_err"]).read_bytes() == b"", name
    for made in ("copied", "synced", "moved"):
        found = Path(place, f"{made} {NAME}", "ü file")
        assert (found.read_bytes(), found.owner(), found.stat().st_mode & 0o777) == (b"content", "fcalice", 0o640), made
    assert not Path(place, NAME).exists()


@on_both
def test_the_task_tells_the_job_as_other_submissions_do(system: System, alice: Client, folder: Folder) -> None:
    final = task(alice, "cp", folder.file("a"), f"{folder.path}/b")
    data, home = final["data"], f"/home/fcalice/firecrest/{final['task_id']}"

    assert (final["service"], final["system"], final["status"]) == ("compute", system.name, "200")
    assert data == {
        "result": "Job submitted",
        "jobid": data["jobid"],
        "job_file": f"{home}/sbatch-job.sh",
        "job_file_out": f"{home}/job-{data['jobid']}.out",
        "job_file_err": f"{home}/job-{data['jobid']}.err",
        "job_data_out": "",
        "job_data_err": "",
        "job_info_extra": "Job info returned successfully",
    }
    assert state(alice, data["jobid"]) == "COMPLETED"


def test_slurm_is_asked_for_the_transfer_partition_and_what_the_caller_says(site: Site, alice: Client, folder: Folder) -> None:
    plain = submitted(alice, "rm", "", folder.file("a"))["jobid"]
    said = submitted(alice, "rm", "", folder.file("b"), jobName="ü name", time="1-1:00", account="projectb")["jobid"]

    for job, signs in ((plain, ("rm-job", "02:00:00", "projecta")), (said, ("ü name", "1-01:00:00", "projectb"))):
        shown = site.slurm("scontrol", "--oneliner", "show", "job", job)
        name, time, account = signs
        for sign in (f"JobName={name} ", f"TimeLimit={time} ", f"Account={account} ", "Partition=xfer ", "NumTasks=1 "):
            assert sign in shown


BAD = {
    "missing": ("cp", "missing", "new", "No such file or directory"),
    "unreadable": ("cp", "unreadable", "new", "Permission denied"),
    "closed": ("mv", "file", "closed/new", "Permission denied"),
    "unreadable for rsync": ("rsync", "unreadable", "new", "Permission denied"),
    "not to be deleted": ("rm", "", "/etc/hostname", "Permission denied"),
    "nothing to pack": ("compress", "missing", "new.tgz", "No such file or directory"),
    "an empty archive": ("extract", "wrong.gz", "folder", "There are no files in the archive"),
    "unreadable archive": ("extract", "unreadable.zip", "folder", "unreadable.zip"),
    "no place to unpack": ("extract", "good.tgz", "read-only", "Permission denied"),
}


@on_both
def test_a_job_fails_with_its_command_and_says_why(system: System, alice: Client, folder: Folder) -> None:
    file = folder.file("file", b"x" * 1000)
    for name, content in (("unreadable", b"x"), ("unreadable.zip", b"x")):
        folder.file(name, content, mode=0)
    for name, mode in (("folder", 0o755), ("closed", 0), ("read-only", 0o555)):
        folder.folder(name, mode=mode)
    folder.file("wrong.gz", gzip.compress(b"x"))
    with tarfile.open(folder.file("good.tgz"), "w:gz") as archive:
        archive.add(file, "file")

    def at(path: str) -> str:
        return os.path.join(folder.path, path)  # noqa: PTH118

    jobs = {case: submitted(alice, name, at(source), at(target)) for case, (name, source, target, _) in BAD.items()}

    ends = {case: (state(alice, job["jobid"]), Path(job["job_file_err"]).read_text()) for case, job in jobs.items()}
    assert {case: end for case, end in ends.items() if end[0] != "FAILED" or BAD[case][3] not in end[1]} == {}


@pytest.mark.usefixtures("tidied")
def test_a_transfer_waits_until_the_job_before_it_has_ended_well(alice: Client, folder: Folder, system: System) -> None:
    made, copied = Path(folder.path, "made"), Path(folder.path, "copied")
    first = system.directly(run=f"sleep 3; echo done >{made}")
    second = submitted(alice, "cp", str(made), str(copied), stageOutJobId=first)["jobid"]

    assert system.state(second) == "PENDING"
    assert state(alice, second) == "COMPLETED"
    assert copied.read_text() == "done\n"


@pytest.mark.usefixtures("tidied")
@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_transfer_is_cancelled_when_the_job_before_it_ends_badly(alice: Client, folder: Folder, system: System, end: str) -> None:
    target, sign = Path(folder.path, "copied"), Path(folder.path, "sign")
    good, bad = system.directly(run="true"), system.directly(run=f"until [ -e {sign} ]; do sleep 0.2; done; false")
    second = submitted(alice, "cp", folder.file("a"), str(target), stageOutJobId=f"{good}:{bad}")["jobid"]
    if end == "failed":
        sign.touch()
    else:
        alice.task(alice.delete(f"/compute/jobs/{bad}"))

    assert state(alice, second).startswith("CANCELLED")
    assert not target.exists()


@pytest.mark.usefixtures("tidied")
def test_a_transfer_waits_for_no_job_that_has_ended_badly_and_not_for_one_that_has_ended_well(
    alice: Client, folder: Folder, system: System
) -> None:
    good, bad, array = system.directly(run="true"), system.directly(run="false"), system.directly(run="true", array="1-2")
    assert [state(alice, job) for job in (good, bad, f"{array}_1", f"{array}_2")] == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]

    well = submitted(alice, "rm", "", folder.file("a"), stageOutJobId=f"{good}:{array}:{array}_2:{array}_*")["jobid"]
    badly = task(alice, "rm", "", folder.file("b"), stageOutJobId=f"{good}:{bad}")

    assert state(alice, well) == "COMPLETED"
    assert (badly["status"], badly["data"]) == ("400", f"Job dependency problem: job {bad} has ended: FAILED")
    assert Path(folder.path, "b").exists()


@pytest.fixture
def forgetful(site: Site) -> Iterator[None]:
    """A controller that forgets jobs as soon as it can, which it looks after once a minute."""
    settings = Path(site.facts["slurm_conf"])
    before = settings.read_text()
    settings.write_text(f"{before}\nMinJobAge=2\n")
    site.slurm("scontrol", "reconfigure")
    yield
    settings.write_text(before)
    site.slurm("scontrol", "reconfigure")


@pytest.mark.usefixtures("tidied", "forgetful")
def test_what_slurm_has_forgotten_is_known_from_its_records(site: Site, alice: Client, folder: Folder, system: System) -> None:
    good, bad = system.directly(run="true"), system.directly(run="false")
    assert [state(alice, job) for job in (good, bad)] == ["COMPLETED", "FAILED"]
    eventually(lambda: not site.slurm("squeue", "--noheader", "--states=all", f"--jobs={good},{bad}"), seconds=150, pause=1)

    well = submitted(alice, "rm", "", folder.file("a"), stageOutJobId=good)["jobid"]
    badly = task(alice, "rm", "", folder.file("b"), stageOutJobId=f"{good}:{bad}")

    assert state(alice, well) == "COMPLETED"
    assert (badly["status"], badly["data"]) == ("400", f"Job dependency problem: job {bad} has ended: FAILED")
    assert Path(folder.path, "b").exists()


@pytest.mark.usefixtures("tidied")
def test_transfers_wait_for_each_other(alice: Client, folder: Folder, system: System) -> None:
    source = folder.file("a", b"x")
    gate = system.directly(run="sleep 2")
    first = submitted(alice, "mv", source, f"{folder.path}/b", stageOutJobId=gate)["jobid"]
    second = submitted(alice, "compress", f"{folder.path}/b", f"{folder.path}/b.tgz", stageOutJobId=first)["jobid"]

    assert [state(alice, job) for job in (first, second)] == ["COMPLETED", "COMPLETED"]


@pytest.mark.parametrize("system", ["gridengine"], indirect=True)
def test_grid_engine_cannot_wait_for_success_and_says_so(system: System, alice: Client, folder: Folder) -> None:
    final = task(alice, "rm", "", folder.file("a"), stageOutJobId="1")

    assert (final["status"], Path(folder.path, "a").exists()) == ("400", True)
    assert "waits for the end of jobs however they end" in final["data"]


@on_both
def test_what_the_scheduler_refuses_ends_in_its_own_words(system: System, alice: Client, folder: Folder) -> None:
    final = task(alice, "rm", "", folder.file("a"), account="elsewhere")

    assert (final["status"], Path(folder.path, "a").exists()) == ("400", True)
    assert system.refusals["account"][1] in final["data"]


def test_a_job_to_wait_for_that_nobody_knows_is_refused(alice: Client, folder: Folder) -> None:
    final = task(alice, "rm", "", folder.file("a"), stageOutJobId="99999999")

    assert (final["status"], final["data"]) == ("400", "Job dependency problem: job 99999999 is not known")
    assert Path(folder.path, "a").exists()


def test_relative_paths_start_at_home_as_those_of_utilities_do(alice: Client, folder: Folder) -> None:
    folder.file("a", b"x")
    here = Path(folder.path).name
    job = submitted(alice, "rsync", f"{here}/a", f"{here}/b:c")["jobid"]

    assert state(alice, job) == "COMPLETED"
    assert Path(folder.path, "b:c").read_bytes() == b"x"


def test_whoever_may_not_enter_is_told_so_before_there_is_a_task(site: Site, records: Callable[[], set[bytes]]) -> None:
    before = records()
    answer = Client(site, "nobody").post("/storage/xfer-internal/mv", data={"sourcePath": "/a", "targetPath": "/b"})

    assert (answer.status_code, answer.json()) == (404, {"description": "Failed to submit mv job"})
    assert answer.headers["X-Permission-Denied"] == "User does not have permissions to access machine or path"
    assert records() <= before


@pytest.mark.parametrize("name", ["it's", 'a "b"', "two\nlines", "a\\b", "a;b", "`id`"])
@pytest.mark.parametrize("field", ["sourcePath", "targetPath", "jobName"])
def test_names_that_the_contract_forbids_are_refused(alice: Client, field: str, name: str) -> None:
    answer = alice.post("/storage/xfer-internal/cp", data={"sourcePath": "/a", "targetPath": "/b", field: name})
    description = "Invalid jobName" if field == "jobName" else "Error on cp operation"

    assert (answer.status_code, answer.json()) == (400, {"description": description, "error": f"'{field}' has invalid char"})
