"""What a job asks for in form fields, seen in the site's Slurm."""

from collections.abc import Callable, Iterator

import pytest

from tests.real_site import Client, Site
from tests.site.conftest import Folder, directly
from tests.site.test_jobs import refusal, tidied  # noqa: F401 (a fixture)

SCRIPT = "#!/bin/sh\n#SBATCH --job-name=script --partition=xfer --time=7 --nodes=1 --output=/tmp/script.out --hold\nsleep 600\n"

Submitted = Callable[..., dict[str, str]]


@pytest.fixture
def reserved(site: Site) -> Iterator[str]:
    """A reservation that alice may use."""
    words = ("reservationname=wanted", "starttime=2035-01-01", "duration=60", "users=fcalice", "nodes=n1")
    site.slurm("scontrol", "create", "reservation", *words)
    yield "wanted"
    site.slurm("scancel", "--user=fcalice")
    site.slurm("scontrol", "delete", "reservationname=wanted")


def told(site: Site, job: str) -> str:
    return site.slurm("scontrol", "--oneliner", "show", "job", job)


FIELDS = {
    "jobName": ("ünï job", ["JobName=ünï job "]),
    "partition": ("normal,xfer", ["Partition=normal,xfer "]),
    "time": ("1-02:03:00", ["TimeLimit=1-02:03:00 "]),
    "nodes": ("2", ["NumNodes=2-2 "]),
    "ntasks": ("5", ["NumTasks=5 "]),
    "cpusPerTask": ("4", ["CPUs/Task=4 "]),
    "memory": ("2G", ["MinMemoryNode=2G "]),
    "gpus": ("2", ["TresPerJob=gres:gpu:2 "]),
    "qos": ("urgent", ["QOS=urgent "]),
    "constraint": ("(multicore&gpu)", ["Features=(multicore&gpu) "]),
    "array": ("1-3%2", ["ArrayTaskId=1-3%2 ", "ArrayTaskThrottle=2 "]),
    "begin": ("2035-01-01T10:00", ["EligibleTime=2035-01-01T10:00:00 ", "StartTime=2035-01-01T10:00:00 "]),
    "output": ("/tmp/o %j.out", ["StdOut=/tmp/o {job}.out "]),
    "error": ("err-%j", ["StdErr=/home/fcalice/firecrest/{task}/err-{job} "]),
}


@pytest.mark.usefixtures("tidied")
@pytest.mark.parametrize("name", FIELDS)
def test_slurm_is_asked_for_what_a_field_says_whatever_the_script_says(site: Site, alice: Client, name: str) -> None:
    value, signs = FIELDS[name]
    ticket = alice.post("/compute/jobs/upload", files={"file": ("job.sh", SCRIPT.encode())}, data={name: value})
    task = alice.task(ticket)
    assert task["status"] == "200", task

    shown = told(site, task["data"]["jobid"])

    for sign in signs:
        assert sign.format(job=task["data"]["jobid"], task=ticket.json()["task_id"]) in shown + " "


@pytest.mark.usefixtures("tidied")
def test_a_reservation_and_jobs_to_wait_for_are_asked_for(site: Site, submitted: Submitted, reserved: str) -> None:
    first, second = directly(site, "--hold"), directly(site, "--hold")
    form = {"reservation": reserved, "dependency": f"afterok:{first},afterany:{second}", "time": "10", "output": "/dev/null"}

    shown = told(site, submitted("#!/bin/sh\ntrue\n", **form)["jobid"])

    assert "Reservation=wanted " in shown
    assert f"Dependency=afterok:{first}(unfulfilled),afterany:{second}(unfulfilled) " in shown


@pytest.mark.usefixtures("tidied")
def test_a_script_on_the_system_may_ask_too_and_empty_fields_ask_nothing(site: Site, alice: Client, folder: Folder) -> None:
    form = {"targetPath": folder.file("job.sh", SCRIPT.encode()), "jobName": "asked", "time": "5:00", "account": "projectb", "nodes": ""}
    task = alice.task(alice.post("/compute/jobs/path", data=form))
    assert task["status"] == "200", task

    shown = told(site, task["data"]["jobid"])

    assert all(sign in shown for sign in ("JobName=asked ", "TimeLimit=00:05:00 ", "Account=projectb ", "NumNodes=1-1 ", "Partition=xfer "))


def test_what_slurm_does_not_have_is_told_in_its_words(alice: Client) -> None:
    script = {"file": ("job.sh", b"#!/bin/sh\ntrue\n")}

    said = refusal(alice, "/compute/jobs", verb="POST", files=script, data={"qos": "nowhere"})
    assert said == "sbatch: error: Batch job submission failed: Invalid qos specification"


def test_the_fields_are_in_the_documents(alice: Client) -> None:
    form = alice.get("/openapi.json").json()["paths"]["/compute/jobs/path"]["post"]["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    swagger = {found["name"] for found in alice.get("/swagger.json").json()["paths"]["/compute/jobs/upload"]["post"]["parameters"]}

    assert {"account", "env", "reservation", "dependency", *FIELDS} <= set(form["properties"])
    assert {"account", "env", "file", "reservation", "dependency", *FIELDS} <= swagger
