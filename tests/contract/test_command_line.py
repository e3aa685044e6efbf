"""The `firecrest` command of pyfirecrest, with the variables of client.env."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.real_site import Site, eventually

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(cli: Cli) -> Iterator[str]:
    """A folder of alice on the system."""
    path = f"/home/fcalice/test-{uuid4().hex}"
    cli("mkdir", "-p", f"{path}/sub")
    yield path
    cli("rm", "--force", path)
    assert not Path(path).exists()


def test_the_deployment_is_shown_in_tables(cli: Cli) -> None:
    assert re.search(r"\| cluster +\| available +\| System ready +\|", cli("systems").stdout)
    assert re.search(r"\| compute +\| available +\|", cli("services").stdout)
    shown = cli("parameters").stdout
    assert re.search(r"UTILITIES_MAX_FILE_SIZE +\| 5", shown)
    assert "WORKLOAD_MANAGER" in shown


def test_who_the_caller_is(cli: Cli) -> None:
    assert cli("whoami").stdout == "fcalice\n"
    assert re.fullmatch(r"uid=\d+\(fcalice\) gid=\d+\(fcalice\) groups=.*\d+\(fcalice\).*\n", cli("id").stdout)


def test_files_go_up_and_are_shown_and_come_down(cli: Cli, home: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 16
    (tmp_path / "local.bin").write_bytes(content)
    (tmp_path / "text").write_text("one\ntwo\nthree\n")
    cli("upload", "local.bin", home)
    cli("upload", "text", home, "renamed")
    cli("download", f"{home}/local.bin", "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == content
    assert cli("head", "-n", "1", f"{home}/renamed").stdout == "one\n\n"
    assert cli("head", "-n", "-1", f"{home}/renamed").stdout == "one\ntwo\n\n"
    assert cli("tail", "-c", "6", f"{home}/renamed").stdout == "three\n\n"
    assert {entry["name"] for entry in json.loads(cli("ls", "--recursive", "--json", home).stdout)} == {"local.bin", "renamed", "sub"}


def test_a_job_goes_all_the_way(cli: Cli, site: Site, home: str, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text(
        f"#!/bin/sh\n#SBATCH --job-name=shell\n#SBATCH --output=/dev/null\necho $SAID >{home}/said\nsleep 600\n"
    )
    job = json.loads(cli("submit", "job.sh", "--account", "projectb", "-e", "SAID=hello,world").stdout)
    eventually(lambda: Path(home, "said").exists() and Path(home, "said").read_text() == "hello,world\n")
    assert re.search(
        rf"\| {job['jobid']} +\| shell +\| n[123] +\| 1 +\| normal +\| \d.*\| RUNNING +\|", cli("poll-active", job["jobid"]).stdout
    )
    task = cli("tasks", "--no-pager", job["firecrest_taskid"]).stdout
    assert "Task information: 1 result" in task
    assert all(text in task for text in (job["firecrest_taskid"], "Finished successfully", "fcalice", "compute"))
    cli("cancel", job["jobid"])
    eventually(lambda: "shell|CANCELLED" in site.slurm("sacct", "-Xnp", "--format=jobname,state", f"--jobs={job['jobid']}"))
    assert re.search(rf"\| {job['jobid']} +\| shell +\|.*CANCELLED", cli("poll", job["jobid"]).stdout)


def test_a_script_on_the_system_is_submitted(cli: Cli, site: Site, home: str) -> None:
    script = Path(home, "job.sh")
    script.write_text("#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n")
    job = json.loads(cli("submit", "--no-local", str(script)).stdout)
    assert job["job_file"] == str(script)
    eventually(lambda: "JobState=COMPLETED" in site.slurm("scontrol", "show", "job", job["jobid"]))


def test_failures_end_with_a_message(cli: Cli) -> None:
    for words in (("ls", "/missing"), ("cancel", "99999999")):
        assert "Operation failed" in cli(*words, code=1).stdout
