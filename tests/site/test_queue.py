"""The queue over HTTP when there is much in it, or much is asked, or it has just changed."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder, directly
from tests.site.test_jobs import done, refusal, tidied  # noqa: F401 (a fixture)


@pytest.mark.usefixtures("tidied")
def test_twenty_jobs_are_listed_with_the_ends_of_their_output(site: Site, alice: Client, folder: Folder) -> None:
    wrap = "echo out $SLURM_JOB_ID; echo err $SLURM_JOB_ID >&2; sleep 600"
    words = (f"--output={folder.path}/%j.out", f"--error={folder.path}/%j é '$(id)'.err", "--mem=1")
    jobs = sorted(directly(site, *words, wrap=wrap) for _ in range(20))
    eventually(lambda: len([path for path in Path(folder.path).iterdir() if path.stat().st_size]) == 40)

    found = {job["jobid"]: job for job in done(alice, "/compute/jobs").values()}

    assert [(found[job]["job_data_out"], found[job]["job_data_err"]) for job in jobs] == [(f"out {job}", f"err {job}") for job in jobs]
    assert {found[job]["job_file_err"] for job in jobs} == {f"{folder.path}/{job} é '$(id)'.err" for job in jobs}
    pages = [done(alice, "/compute/jobs", jobs=",".join(jobs), pageSize=8, pageNumber=number).values() for number in range(3)]
    assert sorted(job["jobid"] for page in pages for job in page) == jobs
    assert all(job["job_data_out"] == f"out {job['jobid']}" for page in pages for job in page)


@pytest.mark.usefixtures("tidied")
def test_what_hangs_or_is_no_file_does_not_hold_up_the_others(
    site: Site, alice: Client, folder: Folder, running: Callable[[str], None]
) -> None:
    pipe, shown = f"{folder.path}/pipe", f"{folder.path}/shown"
    jobs = [directly(site, f"--output={shown}", wrap="echo here; sleep 600"), directly(site, f"--output={folder.path}/later")]
    for job in jobs:
        running(job)
    eventually(lambda: Path(shown).exists() and Path(shown).read_text())
    eventually(lambda: Path(folder.path, "later").exists())
    Path(folder.path, "later").unlink()
    os.mkfifo(pipe)
    Path(folder.path, "later").symlink_to(pipe)
    began = time.monotonic()

    found = done(alice, "/compute/jobs", jobs=",".join(jobs))

    assert {job["jobid"]: job["job_data_out"] for job in found.values()} == dict(zip(jobs, ("here", ""), strict=True))
    assert time.monotonic() - began < 10, "the limit for what hangs"


@pytest.mark.usefixtures("tidied")
@pytest.mark.parametrize("wrap", ["true", "sleep 600"])
def test_a_job_just_submitted_is_found_at_once(alice: Client, wrap: str) -> None:
    for _ in range(5):
        script = f"#!/bin/sh\n#SBATCH --output=/dev/null --job-name=fresh\n{wrap}\n".encode()
        data = alice.task(alice.post("/compute/jobs", files={"file": ("job.sh", script)}))["data"]
        job = data["jobid"]

        listed = done(alice, "/compute/jobs", jobs=job)
        one = done(alice, f"/compute/jobs/{job}")
        accounted = done(alice, "/compute/acct", jobs=job)
        today = done(alice, "/compute/acct")

        for found in (listed.values(), one.values(), accounted, [shown for shown in today if shown["jobid"] == job]):
            (shown,) = found
            assert (shown["jobid"], shown["name"], shown["user"], shown["partition"]) == (job, "fresh", "fcalice", "normal")
        states = [found["state"] for found in (listed["0"], one["0"], accounted[0])]
        order = ["PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "COMPLETED"]
        assert states == sorted(states, key=order.index), "no state is older than the one before"


def test_the_state_in_the_accounting_is_the_job_s_own(site: Site, alice: Client, over: Callable[[str], None]) -> None:
    job = directly(site, wrap="exit 3")
    over(job)

    (shown,) = done(alice, "/compute/acct", jobs=job)

    assert (shown["state"], shown["exit_code"], shown["name"], shown["partition"]) == ("FAILED", "3:0", "wrap", "normal")


@pytest.mark.usefixtures("tidied")
def test_a_job_that_is_gone_does_not_hide_the_others(site: Site, alice: Client) -> None:
    job = directly(site, "--hold")

    assert [shown["jobid"] for shown in done(alice, "/compute/jobs", jobs=f"99999999,{job}").values()] == [job]
    assert [shown["jobid"] for shown in done(alice, "/compute/acct", jobs=f"99999999,{job}")] == [job]


@pytest.mark.usefixtures("tidied")
def test_only_the_tasks_asked_for_are_shown_and_cancelled(site: Site, alice: Client, running: Callable[[str], None]) -> None:
    job = directly(site, "--array=1-6", "--mem=1")
    for task in range(1, 7):
        running(f"{job}_{task}")
    eventually(lambda: len(site.slurm("sacct", "-Xn", "--state=RUNNING", "--format=jobid", f"--jobs={job}").split()) == 6, seconds=40)

    def tasks(ids: str) -> list[list[str]]:
        queue, records = done(alice, "/compute/jobs", jobs=ids), done(alice, "/compute/acct", jobs=ids)
        return [sorted(shown["jobid"] for shown in found) for found in (queue.values(), records)]

    assert tasks(f"{job}_[2-4]") == [[f"{job}_{task}" for task in (2, 3, 4)]] * 2
    assert tasks(f"{job}_5,{job}_[1-1]") == [[f"{job}_1", f"{job}_5"]] * 2
    ticket = alice.delete(f"/compute/jobs/{job}_[2-3],{job}_5")
    assert alice.task(ticket)["status"] == "200"
    left = {f"{job}_{task}" for task in (1, 4, 6)}
    eventually(lambda: {shown["jobid"] for shown in done(alice, "/compute/jobs").values() if shown["state"] == "RUNNING"} == left)


@pytest.mark.usefixtures("tidied")
def test_a_component_of_a_job_is_shown_by_its_own_id(site: Site, alice: Client) -> None:
    words = ("sbatch", "--parsable", "--hold", "--chdir=/home/fcalice", "--output=/dev/null", "--ntasks=1", "--wrap=true")
    job = site.slurm(*words, ":", "--ntasks=1", user="fcalice")

    for ids, shown in {f"{job}+1": [f"{job}+1"], job: [f"{job}+0", f"{job}+1"]}.items():
        assert sorted(found["jobid"] for found in done(alice, "/compute/jobs", jobs=ids).values()) == shown
        assert sorted(found["jobid"] for found in done(alice, "/compute/acct", jobs=ids)) == shown
    assert [found["jobid"] for found in done(alice, f"/compute/jobs/{job}+0").values()] == [f"{job}+0"]
    assert alice.task(alice.delete(f"/compute/jobs/{job}+0"))["status"] == "200"
    eventually(lambda: not site.slurm("squeue", "--noheader", f"--jobs={job}"))


@pytest.mark.usefixtures("tidied")
def test_a_list_with_a_job_that_cannot_be_cancelled_is_told_in_slurm_s_words(site: Site, alice: Client) -> None:
    job = directly(site, "--hold")

    said = refusal(alice, f"/compute/jobs/{job},99999999", verb="DELETE")

    assert "scancel: error: Kill job error on job id 99999999: Invalid job id specified" in said
    eventually(lambda: not site.slurm("squeue", "--noheader", f"--jobs={job}", "--states=PENDING"))


def queries(site: Site) -> int:
    """How often slurmctld was asked for jobs since it counts."""
    return sum(map(int, re.findall(r"REQUEST_JOB_(?:USER_)?INFO(?:_SINGLE)? .*count:(\d+)", site.slurm("sdiag"))))


@pytest.fixture
def frozen(site: Site) -> Iterator[Callable[[], None]]:
    """Holds slurmctld, which counts from 0, until it is told to go on."""
    site.slurm("sdiag", "--reset")
    pid = int(site.supervisor("pid", "slurmctld"))
    os.kill(pid, signal.SIGSTOP)
    yield lambda: os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("tidied")
def test_identical_queries_at_once_ask_slurm_few_times(site: Site, alice: Client, request: pytest.FixtureRequest) -> None:
    job = directly(site, "--hold", "--job-name=shared")
    done(alice, "/compute/jobs")
    go_on = request.getfixturevalue("frozen")
    with ThreadPoolExecutor(20) as pool:
        tickets = list(pool.map(lambda _: alice.get("/compute/jobs"), range(20)))
    ids = ",".join(ticket.json()["task_id"] for ticket in tickets)
    eventually(lambda: {task["status"] for task in alice.get("/tasks", params={"tasks": ids}).json()["tasks"].values()} == {"101"})

    go_on()

    assert len({ticket.json()["task_id"] for ticket in tickets}) == 20
    tasks = [alice.task(ticket) for ticket in tickets]
    assert all([found["jobid"] for found in task["data"].values() if found["name"] == "shared"] == [job] for task in tasks)
    assert 1 <= queries(site) <= 4, "one under way and one that waits for it, in each of two workers"


@pytest.mark.usefixtures("tidied")
def test_different_users_and_different_queries_share_nothing(site: Site, alice: Client, bob: Client) -> None:
    mine, other = directly(site, "--hold"), directly(site, "--hold", user="fcbob")

    with ThreadPoolExecutor(20) as pool:
        calls = [(alice, {}), (bob, {}), (alice, {"jobs": mine}), (bob, {"jobs": other})] * 5
        found = list(pool.map(lambda call: {job["jobid"] for job in done(call[0], "/compute/jobs", **call[1]).values()}, calls))

    assert all(mine in ids and other not in ids for ids in found[::4])
    assert all(other in ids and mine not in ids for ids in found[1::4])
    assert found[2::4] == [{mine}] * 5
    assert found[3::4] == [{other}] * 5
