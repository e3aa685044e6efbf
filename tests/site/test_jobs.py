"""Jobs over HTTP, on both systems of the site (contract, 1.4, 2.3, 4)."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.systems import SYSTEMS, System

Submit = Callable[..., dict[str, str]]
Accounted = Callable[..., list[tuple[str, str]]]

pytestmark = pytest.mark.parametrize("system", SYSTEMS, indirect=True)

SUBMITTED = {
    "result", "jobid", "job_file", "job_file_out", "job_file_err", "job_data_out", "job_data_err", "job_info_extra",
}  # fmt: skip
FACTS = {"jobid", "partition", "name", "user", "state", "start_time", "time", "time_left", "nodes", "nodelist"}
QUEUED = FACTS | SUBMITTED - {"result"}
ACCOUNTED = FACTS | {"cpu_time", "elapsed_time", "termination_time", "exit_code"}


@pytest.fixture
def tidied(system: System) -> Iterator[None]:
    """No job of the test goes on after it."""
    yield
    system.cancel_all("fcalice")
    system.cancel_all("fcbob")


@pytest.fixture(scope="module")
def clients(site: Site) -> dict[tuple[str, str], Client]:
    """Clients by user and system, so that they share their tokens."""
    return {(user, name): Client(site, user, system=SYSTEMS[name](site).name) for user in ("alice", "carol") for name in SYSTEMS}


@pytest.fixture
def alice(clients: dict[tuple[str, str], Client], system: System) -> Client:
    """A user with two accounts, on the system."""
    return next(client for (user, _), client in clients.items() if user == "alice" and client.headers["X-Machine-Name"] == system.name)


@pytest.fixture
def carol(clients: dict[tuple[str, str], Client], system: System) -> Client:
    """A user who may log in but not submit, on the system."""
    return next(client for (user, _), client in clients.items() if user == "carol" and client.headers["X-Machine-Name"] == system.name)


def done(client: Client, path: str, **values: Any) -> Any:
    """The data of the task that a GET starts, when it goes well."""
    ticket = client.get(path, params=values)
    assert ticket.status_code == 200, ticket.text
    assert ticket.json() == {
        "success": "Task created",
        "task_id": ticket.json()["task_id"],
        "task_url": f"/tasks/{ticket.json()['task_id']}",
    }
    task = client.task(ticket)
    assert (task["status"], task["description"]) == ("200", "Finished successfully"), task
    return task["data"]


def refusal(client: Client, path: str, *, verb: str = "GET", **values: Any) -> str:
    """The data of the task that a call starts, when it fails."""
    ticket = client.request(verb, path, **({"params": values} if verb == "GET" else values))
    assert ticket.status_code in (200, 201), ticket.text
    task = client.task(ticket)
    assert (task["status"], task["description"]) == ("400", "Finished with errors"), task
    return str(task["data"])


@pytest.mark.parametrize("path", ["/compute/jobs/upload", "/compute/jobs"])
def test_a_script_that_comes_with_the_call_becomes_a_job(system: System, alice: Client, over: Callable[[str], None], path: str) -> None:
    script = b"#!/bin/sh\necho hello; echo trouble >&2; pwd\n"
    ticket = alice.post(path, files={"file": ("../my job.sh", script)})
    task_id = ticket.json()["task_id"]
    assert (ticket.status_code, ticket.json()) == (201, {"success": "Task created", "task_id": task_id, "task_url": f"/tasks/{task_id}"})
    data = alice.task(ticket)["data"]
    assert set(data) == SUBMITTED
    assert (data["result"], data["job_info_extra"]) == ("Job submitted", "Job info returned successfully")
    assert (data["job_data_out"], data["job_data_err"]) == ("", "")
    assert data["jobid"].isdigit()
    home = f"/home/fcalice/firecrest/{task_id}"
    assert data["job_file"] == f"{home}/my_job.sh"
    assert data["job_file_out"] == f"{home}/{system.words['output'].format(script='my_job.sh', job=data['jobid'])}"
    over(data["jobid"])
    assert Path(data["job_file"]).read_bytes() == script
    said = [Path(path).read_text() for path in {data["job_file_out"], data["job_file_err"]}]
    assert sorted("".join(said).splitlines()) == sorted(["hello", "trouble", home])


def test_a_script_on_the_system_becomes_a_job_in_its_own_folder(
    system: System, alice: Client, folder: Folder, over: Callable[[str], None]
) -> None:
    script = system.script("pwd; echo bad >&2", output=f"out-{system.words['job']}.txt", error="err.txt")
    path = folder.file("a job.sh", script.encode())
    data = alice.task(alice.post("/compute/jobs/path", data={"targetPath": path}))["data"]
    assert set(data) == SUBMITTED
    assert (data["job_file"], data["job_file_out"]) == (path, f"{folder.path}/out-{data['jobid']}.txt")
    assert data["job_file_err"] == f"{folder.path}/err.txt"
    over(data["jobid"])
    assert Path(data["job_file_out"]).read_text() == f"{folder.path}\n"


def test_a_relative_path_to_submit_starts_at_the_home_directory(alice: Client, folder: Folder, over: Callable[[str], None]) -> None:
    folder.file("job.sh", b"#!/bin/sh\ntrue\n")
    relative = f"{folder.path.removeprefix('/home/fcalice/')}/job.sh"
    data = alice.task(alice.post("/compute/jobs/path", data={"targetPath": relative}))["data"]
    assert data["job_file"] == f"{folder.path}/job.sh"
    over(data["jobid"])


def test_a_job_is_charged_to_the_account_or_to_the_user_s_first(system: System, submitted: Submit, accounted: Accounted) -> None:
    script = system.script("true")
    jobs = [submitted(script, **form)["jobid"] for form in ({}, {"account": "projecta"}, {"account": "projectb"})]
    assert sorted(accounted(*jobs)) == sorted([("fcalice", system.first_project), ("fcalice", "projecta"), ("fcalice", "projectb")])


VALUES = {
    "COMMAS": "a,b=c,ALL",
    "QUOTES": "\"double\" 'single' `back` $HOME $(id) \\ \\n",
    "NEWLINES": "one\ntwo\n\n",
    "LETTERS": "ünï 日本 🦀",
    "EMPTY": "",
    "BLANKS": "  two  blanks  ",
    "PATTERN": "*",
}


@pytest.mark.parametrize("way", ["upload", "path"])
def test_an_environment_reaches_the_job_intact(
    system: System, alice: Client, folder: Folder, over: Callable[[str], None], way: str
) -> None:
    script = system.script(f"env -0 >'{folder.path}/env'").encode()
    values = VALUES | {"LONG": "x" * (system.longest_variable - len("LONG="))}
    form = {"env": json.dumps(values | {"NUMBER": 12, "FRACTION": 1.5})}
    if way == "upload":
        ticket = alice.post("/compute/jobs/upload", files={"file": ("job.sh", script)}, data=form)
    else:
        ticket = alice.post("/compute/jobs/path", data=form | {"targetPath": folder.file("job.sh", script)})
    task = alice.task(ticket)
    assert task["status"] == "200", task
    over(task["data"]["jobid"])
    found = dict(pair.split("=", 1) for pair in Path(folder.path, "env").read_text().split("\0") if pair)
    assert {name: found.get(name) for name in values} == values
    assert (found["NUMBER"], found["FRACTION"]) == ("12", "1.5")
    assert found["USER"] == "fcalice"
    assert found["HOME"] == "/home/fcalice"
    assert "/usr/bin" in found["PATH"]
    assert "LC_ALL" not in found


@pytest.mark.parametrize("what", ["partition", "request", "option", "script", "account"])
def test_what_the_scheduler_refuses_ends_in_its_own_words(system: System, alice: Client, what: str) -> None:
    script, words = system.refusals[what]
    form = {"account": "elsewhere"} if what == "account" else {}
    said = refusal(alice, "/compute/jobs", verb="POST", files={"file": ("job.sh", script.encode())}, data=form)
    assert words in said
    assert "timeout" not in said


def test_whoever_has_no_account_may_not_submit(system: System, carol: Client) -> None:
    said = refusal(carol, "/compute/jobs", verb="POST", files={"file": ("job.sh", b"#!/bin/sh\ntrue\n")})
    assert system.words["unaccounted"] in said


@pytest.mark.usefixtures("tidied")
def test_a_running_job_shows_its_facts_and_the_end_of_its_output(
    system: System, alice: Client, folder: Folder, submitted: Submit, running: Callable[[str], None]
) -> None:
    commands = "seq 1 1000; printf 'é\\n' >&2; touch ready; sleep 600"
    data = submitted(system.script(commands, name="shown", output=f"{folder.path}/out", error=f"{folder.path}/err"))
    job = data["jobid"]
    running(job)
    eventually(lambda: Path(data["job_file"]).with_name("ready").exists())
    found = done(alice, "/compute/jobs", jobs=job)
    assert set(found) == {"0"}
    shown = found["0"]
    assert set(shown) == QUEUED
    assert all(isinstance(value, str) for value in shown.values())
    assert [shown[name] for name in ("jobid", "name", "user", "partition", "state", "nodes")] == [
        job,
        "shown",
        "fcalice",
        "normal",
        "RUNNING",
        "1",
    ]
    assert re.fullmatch(system.words["node"], shown["nodelist"])
    assert re.fullmatch(r"\d+:\d\d", shown["time"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", shown["start_time"])
    assert re.fullmatch(r"(1-00|23:59|23):.*", shown["time_left"]) or shown["time_left"].startswith("23:")
    assert (shown["job_file"], shown["job_file_out"], shown["job_file_err"]) == (
        data["job_file"],
        f"{folder.path}/out",
        f"{folder.path}/err",
    )
    assert shown["job_data_out"].endswith("\n999\n1000")
    assert len(shown["job_data_out"]) == 999, "1000 bytes without the last newline"
    assert shown["job_data_err"] == "é"
    assert shown["job_info_extra"] == "Job info returned successfully"

    same = done(alice, f"/compute/jobs/{job}")
    assert {key: value for key, value in same["0"].items() if key not in ("time", "time_left")} == {
        key: value for key, value in shown.items() if key not in ("time", "time_left")
    }


@pytest.mark.usefixtures("tidied")
def test_a_waiting_job_has_no_output(system: System, alice: Client, submitted: Submit) -> None:
    job = submitted(system.script("sleep 600", held=""))["jobid"]
    shown = done(alice, "/compute/jobs", jobs=job)["0"]
    assert (shown["state"], shown["job_data_out"], shown["job_data_err"], shown["time"]) == ("PENDING", "", "", "0:00")
    assert shown["start_time"] == "N/A"


@pytest.mark.usefixtures("tidied")
def test_only_the_caller_s_jobs_are_listed_unless_asked_otherwise(system: System, alice: Client) -> None:
    own, other = system.directly(held=""), system.directly(held="", user="fcbob")
    mine = done(alice, "/compute/jobs")
    assert own in {job["jobid"] for job in mine.values()}
    assert {job["user"] for job in mine.values()} == {"fcalice"}
    everybody = {job["jobid"]: job for job in done(alice, "/compute/jobs", userJobs="false").values()}
    assert {own, other} <= set(everybody)
    for job in everybody.values():
        assert {job[name] for name in QUEUED - FACTS - {"job_info_extra"}} == {""}
        assert job["job_info_extra"] == "File information is not available when `userJobs` is False"


@pytest.mark.usefixtures("tidied")
def test_a_job_s_name_may_hold_anything(system: System, alice: Client) -> None:
    jobs = {system.directly(held="", name=name): name for name in system.names}
    queued = done(alice, "/compute/jobs", jobs=",".join(jobs))
    assert {shown["jobid"]: shown["name"] for shown in queued.values()} == jobs
    assert {shown["state"] for shown in queued.values()} == {"PENDING"}


@pytest.mark.usefixtures("tidied")
def test_a_job_s_name_may_hold_anything_in_the_accounting_records(system: System, alice: Client) -> None:
    # slurmdbd itself keeps double quotes as backquotes, and only letters of its database's character set
    names = [name for name in system.names if name.isascii() and '"' not in name]
    jobs = {system.directly(held="", name=name): name for name in names}

    def known() -> list[dict[str, str]]:
        found = done(alice, "/compute/acct", jobs=",".join(jobs))
        return list(found) if len(found) == len(jobs) and all(shown["name"] != "allocation" for shown in found) else []

    shown = eventually(known, seconds=40)
    assert {job["jobid"]: job["name"] for job in shown} == jobs
    assert {(job["state"], job["user"]) for job in shown} == {("PENDING", "fcalice")}


@pytest.mark.usefixtures("tidied")
def test_the_tasks_of_an_array_have_ids_of_their_own(
    system: System, alice: Client, folder: Folder, submitted: Submit, running: Callable[[str], None]
) -> None:
    commands = f"echo ${system.words['task variable']}\nsleep 600"
    job = submitted(system.script(commands, array="1-2", output=f"{folder.path}/{system.words['task']}.out"))["jobid"]
    running(f"{job}_1")
    running(f"{job}_2")
    eventually(lambda: Path(folder.path, "2.out").exists() and Path(folder.path, "2.out").read_text())
    found = done(alice, "/compute/jobs", jobs=job)
    assert sorted(shown["jobid"] for shown in found.values()) == [f"{job}_1", f"{job}_2"]
    two = done(alice, f"/compute/jobs/{job}_2")
    assert [(shown["jobid"], shown["job_data_out"], shown["job_file_out"]) for shown in two.values()] == [
        (f"{job}_2", "2", f"{folder.path}/2.out")
    ]
    assert len(done(alice, "/compute/jobs", jobs=f"{job}_[1-2]")) == len(done(alice, f"/compute/jobs/{job}_[1-2]")) == 2


@pytest.mark.usefixtures("tidied")
def test_a_waiting_array_is_one_entry(system: System, alice: Client) -> None:
    job = system.directly(held="", array="1-3")
    found = done(alice, "/compute/jobs", jobs=job)
    assert [shown["jobid"] for shown in found.values()] == [f"{job}_[1-3]"]
    assert done(alice, "/compute/jobs", jobs=f"{job}_[1-3]") == found
    assert len(done(alice, "/compute/jobs", jobs=f"{job}_2")) == 1


def test_no_job_is_an_empty_object(system: System, alice: Client, carol: Client) -> None:
    system.cancel_all("fccarol")
    assert done(carol, "/compute/jobs") == {}
    assert done(carol, "/compute/acct") == {}
    assert "Invalid job id specified" in refusal(alice, "/compute/jobs", jobs="99999999")
    assert done(alice, "/compute/acct", jobs="99999999") == {}


@pytest.mark.usefixtures("tidied")
def test_pages_of_jobs_start_at_0(system: System, alice: Client) -> None:
    jobs = {system.directly(held="") for _ in range(3)}
    ids = ",".join(sorted(jobs))
    pages = [list(done(alice, "/compute/jobs", jobs=ids, pageSize=2, pageNumber=number).values()) for number in (0, 1)]
    assert [len(page) for page in pages] == [2, 1]
    assert {job["jobid"] for page in pages for job in page} == jobs
    assert list(done(alice, "/compute/jobs", jobs=ids, pageSize=2)) == ["0", "1"]
    assert len(done(alice, "/compute/jobs", jobs=ids, pageNumber=0)) == 3
    assert len(done(alice, "/compute/jobs", jobs=ids, pageSize="x", pageNumber="y")) == 3
    assert refusal(alice, "/compute/jobs", jobs=ids, pageNumber=-1) == "pageNumber (-1) cannot be a negative number"
    assert refusal(alice, "/compute/jobs", jobs=ids, pageSize=2, pageNumber=2) == "pageNumber (2) is greater than total pages (1)"


@pytest.mark.usefixtures("tidied")
def test_a_job_is_cancelled(system: System, alice: Client) -> None:
    job = system.directly()
    ticket = alice.delete(f"/compute/jobs/{job}")
    assert ticket.status_code == 200
    task = alice.task(ticket)
    assert task["status"] == "200", task
    assert system.words["cancelled"].format(job=job) in task["data"]
    eventually(lambda: [shown["state"].partition(" ")[0] for shown in done(alice, "/compute/acct", jobs=job)] == ["CANCELLED"])


@pytest.mark.usefixtures("tidied")
def test_several_jobs_are_cancelled_at_once(system: System, alice: Client) -> None:
    jobs = [system.directly(held="") for _ in range(2)]
    assert alice.task(alice.delete(f"/compute/jobs/{','.join(jobs)}"))["status"] == "200"
    eventually(lambda: not any(system.state(job) for job in jobs))


@pytest.mark.usefixtures("tidied")
def test_nobody_cancels_another_s_job(system: System, alice: Client) -> None:
    job = system.directly(held="", user="fcbob")
    said = refusal(alice, f"/compute/jobs/{job}", verb="DELETE")
    assert said == "User does not have permission to cancel job"
    assert system.state(job) == "PENDING"


@pytest.mark.parametrize("job", ["99999999", "x", "-u", "--user=fcalice", "--me"])
@pytest.mark.usefixtures("tidied")
def test_what_is_no_job_is_not_cancelled(system: System, alice: Client, job: str) -> None:
    standing = system.directly(held="")
    assert re.search("error|does not exist", refusal(alice, f"/compute/jobs/{job}", verb="DELETE"))
    assert system.state(standing) == "PENDING"


def test_a_job_that_is_over_is_accounted_for(system: System, alice: Client, submitted: Submit, accounted: Accounted) -> None:
    job = submitted(system.script("exit 3", name="counted", output="/dev/null"))["jobid"]
    accounted(job)
    (shown,) = done(alice, "/compute/acct", jobs=job)
    assert set(shown) == ACCOUNTED
    assert all(isinstance(value, str) for value in shown.values())
    names = ("jobid", "name", "user", "partition", "state", "exit_code", "nodes")
    assert [shown[name] for name in names] == [job, "counted", "fcalice", "normal", "FAILED", "3:0", "1"]
    assert shown["time"] == shown["cpu_time"]
    assert shown["time_left"] == shown["termination_time"]
    start, end = (datetime.fromisoformat(shown[name]) for name in ("start_time", "termination_time"))
    assert start <= end
    assert done(alice, "/compute/acct", jobs=f"{job},99999999") == [shown]


def test_pages_of_accounted_jobs_start_at_0(system: System, alice: Client, accounted: Accounted) -> None:
    jobs = [system.directly(run="true") for _ in range(3)]
    accounted(*jobs)
    ids = ",".join(jobs)
    assert [len(done(alice, "/compute/acct", jobs=ids, pageSize=2, pageNumber=number)) for number in (0, 1)] == [2, 1]
    assert refusal(alice, "/compute/acct", jobs=ids, pageSize=2, pageNumber=7) == "pageNumber (7) is greater than total pages (1)"
    assert refusal(alice, "/compute/acct", jobs=ids, pageNumber=-2) == "pageNumber (-2) cannot be a negative number"


def test_every_documented_time_format_of_accounting_works(system: System, alice: Client, submitted: Submit, accounted: Accounted) -> None:
    job = submitted(system.script("true"))["jobid"]
    accounted(job)
    now = datetime.now()  # noqa: DTZ005 (the schedulers read times as the machine does)
    day = now - timedelta(days=1)
    soon = now + timedelta(hours=1)
    earlier = ["%m%d%y", "%m/%d/%y", "%m.%d.%y", "%m/%d/%y-%H:%M", "%m/%d/%y-%H:%M:%S", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
    tickets = {f"from {day:{form}}": alice.get("/compute/acct", params={"jobs": job, "starttime": f"{day:{form}}"}) for form in earlier}
    later = {"jobs": job, "starttime": f"{day:%Y-%m-%d}", "endtime": f"{soon:%Y-%m-%dT%H:%M:%S}"}
    tickets["until"] = alice.get("/compute/acct", params=later)
    for what, ticket in tickets.items():
        assert ticket.status_code == 200, (what, ticket.text)
        assert [shown["jobid"] for shown in alice.task(ticket)["data"]] == [job], what
    never = alice.get("/compute/acct", params={"jobs": job, "starttime": "2001-01-01", "endtime": "2001-01-02"})
    assert alice.task(never)["data"] == {}


@pytest.mark.parametrize(
    "text", ["10:00", "10:00:30", "10:00 AM", "10:00PM", "1:05:30 pm", "1122", "11/22", "11.22", "11/22-10:00", "11/22-10:00:30"]
)
def test_times_of_day_and_days_of_the_year_are_understood(alice: Client, text: str) -> None:
    task = alice.task(alice.get("/compute/acct", params={"starttime": text}))
    assert task["status"] == "200" or "requested is after end time" in task["data"], task


def test_a_task_is_final_soon(alice: Client) -> None:
    began = time.monotonic()
    done(alice, "/compute/jobs")
    assert time.monotonic() - began < 2
