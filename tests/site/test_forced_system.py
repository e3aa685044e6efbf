"""A forced-command system of the running site: all that users do there goes by certificates that each name one command."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from bench.changed import replaced
from tests.conftest import ROOT
from tests.hosts.forced_sshd import ForcedSshd
from tests.hosts.own_sshd import missing
from tests.real_site import Client, Site, eventually, not_here
from tests.site.conftest import Folder
from tests.site.test_cancelling import CANCELLED, standing_still, told
from tests.site.transfers import at, download, invalidate, reached, send, upload
from tests.systems import System

NAME = "forced"
RESTARTED = ("api", "worker-1", "worker-2", "delegation", "housekeeping")
LOGIN = re.compile(r"Accepted (\S+) for (\S+) from 127\.0\.0\.1 port .* \(serial (\d+)\) CA ")
CONTENT = bytes(range(256)) * 3


def whole(log: str) -> list[str]:
    """The lines of a log that have been written to their end."""
    return log.rpartition("\n")[0].splitlines()


class SystemSshd(ForcedSshd):
    """The SSH server of the system: it trusts the site's CA, and its list is made as the documentation says."""

    def __init__(self, site: Site) -> None:
        super().__init__("fcalice")
        self.site = site
        settings = yaml.safe_load(Path(site.facts["settings"]).read_text())
        main = next(one for one in settings["systems"] if one["name"] == site.facts["system"])
        here = {"name": NAME, "port": self.port, "host_keys": [self.host_key], "forced_command": str(self.wrapper)}
        self.systems = [*settings["systems"], main | here | {"forced_environment": {"SLURM_CONF": site.facts["slurm_conf"]}}]
        authority = Path(site.facts["keys"]["public"], "ca.trusted")
        (self.folder / "ca.pub").write_bytes(authority.read_bytes())
        self.write_list(self._made_list(yaml.safe_dump(settings | {"systems": self.systems}), authority))

    def _made_list(self, settings: str, authority: Path) -> dict[str, Any]:
        path = self.folder / "settings.yaml"
        path.touch(mode=0o600)
        path.write_text(settings)
        done = subprocess.run(
            [sys.executable, "-m", "workers.command_lists", NAME, str(authority)],
            cwd=ROOT, env={**os.environ, "FIRECREST_SETTINGS": str(path)}, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        path.unlink()
        return dict(json.loads(done.stdout))

    def entered(self) -> list[tuple[str, str, str]]:
        """How, as whom and with the certificate of which serial anybody has logged in."""
        accepted = [line for line in whole(self.log()) if line.startswith("Accepted ") and not line.startswith("Accepted certificate ID")]
        return [found.groups() if (found := LOGIN.match(line)) else (line, "", "") for line in accepted]  # type: ignore[misc]

    def certificates(self) -> list[dict[str, Any]]:
        """What the delegation has noted of its certificates for the system."""
        lines = map(json.loads, whole(Path(self.site.facts["certificate_log"]).read_text()))
        return [line for line in lines if line.get("system") == NAME and line["force-command"].startswith(f"{self.wrapper} ")]

    def running(self, program: str) -> bool:
        """Whether anybody runs the program there."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if process.name() == program:
                    return True
        return False


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[SystemSshd]:
    """The system's server, while the site knows the system."""
    if why := missing():
        not_here(why)
    server = SystemSshd(site)
    try:
        server.start()
        with replaced(site, {"systems": server.systems}, restarted=RESTARTED):
            yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def alice(site: Site, server: SystemSshd) -> Client:
    """A user of the system, as soon as all workers answer for it."""
    alice = Client(site, "alice", system=NAME)
    eventually(lambda: all(alice.get("/utilities/whoami").status_code == 200 for _ in range(8)), seconds=180)
    return alice


def argv(certificate: dict[str, Any]) -> list[Any]:
    """The command that a certificate names."""
    text = certificate["force-command"].split(" ")[1]
    return list(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["argv"])


def output(answer: requests.Response, status: int = 200) -> Any:
    """The output of a call that went well."""
    assert answer.status_code == status, answer.text
    return answer.json()["output"]


def data(client: Client, ticket: requests.Response) -> Any:
    """The data of a task that went well."""
    task = client.task(ticket, seconds=60)
    assert task["status"] == "200", task
    return task["data"]


def test_files_are_listed_read_and_written(alice: Client, folder: Folder) -> None:
    path, name = folder.path, "a  b"
    assert output(alice.get("/utilities/whoami")) == "fcalice"
    sent = alice.post("/utilities/upload", data={"targetPath": path}, files={"file": (name, CONTENT)})
    assert sent.status_code == 201, sent.text
    assert Path(path, name).read_bytes() == CONTENT
    assert [entry["name"] for entry in output(alice.get("/utilities/ls", params={"targetPath": path}))] == [name]
    assert output(alice.get("/utilities/stat", params={"targetPath": f"{path}/{name}"}))["size"] == len(CONTENT)
    assert alice.get("/utilities/download", params={"sourcePath": f"{path}/{name}"}).content == CONTENT
    lines = folder.file("lines", b"one\ntwo\nother\none more\n")
    assert output(alice.get("/utilities/head", params={"targetPath": lines, "lines": 3, "grep": "o"})) == "one\ntwo\nother\n"


def test_directories_are_made_packed_unpacked_moved_and_removed(alice: Client, folder: Folder) -> None:
    path = folder.path
    output(alice.post("/utilities/mkdir", data={"targetPath": f"{path}/deep/folder", "p": ""}), 201)
    folder.file("deep/file", CONTENT)
    output(alice.post("/utilities/compress", data={"sourcePath": f"{path}/deep", "targetPath": f"{path}/deep.tgz"}), 201)
    output(alice.put("/utilities/rename", data={"sourcePath": f"{path}/deep", "targetPath": f"{path}/moved"}))
    output(alice.post("/utilities/extract", data={"sourcePath": f"{path}/deep.tgz", "targetPath": path}), 201)
    assert alice.delete("/utilities/rm", data={"targetPath": f"{path}/moved"}).status_code == 204
    assert sorted(entry.name for entry in Path(path).iterdir()) == ["deep", "deep.tgz"]
    assert Path(path, "deep/file").read_bytes() == CONTENT


def test_what_the_system_refuses_is_told_in_its_words(alice: Client, folder: Folder) -> None:
    answer = alice.get("/utilities/head", params={"targetPath": f"{folder.path}/none"})
    assert (answer.status_code, answer.headers.get("X-Invalid-Path")) == (400, "path is an invalid path")
    answer = alice.get("/utilities/ls", params={"targetPath": "/root"})
    assert (answer.status_code, "X-Permission-Denied" in answer.headers) == (400, True)


def test_a_job_runs_is_listed_and_accounted_for(
    alice: Client, folder: Folder, system: System, submitted: Callable[..., dict[str, str]], accounted: Callable[..., Any]
) -> None:
    said = Path(folder.path, "out")
    job = submitted(system.script("echo done by $USER", output=str(said), name="certified"))
    assert job["job_file_out"] == str(said)
    accounted(job["jobid"])
    assert said.read_text() == "done by fcalice\n"
    (shown,) = data(alice, alice.get("/compute/acct", params={"jobs": job["jobid"]}))
    assert (shown["jobid"], shown["name"], shown["state"]) == (job["jobid"], "certified", "COMPLETED")


def test_a_job_of_the_queue_is_listed_and_cancelled(alice: Client, system: System, folder: Folder) -> None:
    script = folder.file("job.sh", system.script("sleep 600", output="/dev/null", held="").encode())
    job = data(alice, alice.post("/compute/jobs/path", data={"targetPath": script}))["jobid"]
    assert data(alice, alice.get(f"/compute/jobs/{job}"))["0"]["state"] == "PENDING"
    assert job in {shown["jobid"] for shown in data(alice, alice.get("/compute/jobs")).values()}
    assert system.words["cancelled"].format(job=job) in data(alice, alice.delete(f"/compute/jobs/{job}"))
    eventually(lambda: system.is_over(job), seconds=40)


def test_files_pass_through_the_object_store(alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    ready = at(alice, upload(alice, folder.path, local(CONTENT, "sent")), "111")
    send(ready)
    reached(alice, ready["task_id"], "114", seconds=60)
    assert Path(folder.path, "sent").read_bytes() == CONTENT

    staged = at(alice, download(alice, f"{folder.path}/sent"), "117", seconds=60)
    assert requests.get(staged["data"]["url"], timeout=60).content == CONTENT
    assert invalidate(alice, staged["task_id"]).status_code == 201


def test_a_task_that_runs_is_stopped_there(site: Site, alice: Client, server: SystemSshd) -> None:
    with standing_still(site, "slurmctld"):
        task_id = alice.get("/compute/jobs").json()["task_id"]
        eventually(lambda: server.running("squeue"))
        assert alice.delete(f"/tasks/{task_id}").status_code == 200
        eventually(lambda: not server.running("squeue"))
    assert told(alice, task_id) == CANCELLED


def test_each_command_has_a_certificate_that_names_it_and_nobody_comes_in_otherwise(alice: Client, server: SystemSshd) -> None:
    calls = {f"who-{os.urandom(8).hex()}": ["id", "-un"] for _ in range(3)}
    for request in calls:
        assert output(alice.get("/utilities/whoami", headers={"X-Request-ID": request})) == "fcalice"
    given = {line["serial"]: line for line in server.certificates()}
    mine = {line["request"]: line for line in given.values() if line["request"] in calls}
    assert {request: argv(line) for request, line in mine.items()} == calls
    assert all(line["source-address"] == "127.0.0.1/32" for line in given.values())

    logins = eventually(lambda: found if len(found := server.entered()) >= len(calls) else None)
    known = {line["serial"]: line for line in server.certificates()}
    assert {serial for _, _, serial in logins} >= {line["serial"] for line in mine.values()}
    assert len({serial for _, _, serial in logins}) == len(logins), "no certificate lets anybody in twice"
    assert [login for login in logins if login[0] != "publickey" or known[login[2]]["user"] != login[1]] == []
    started = [line for line in whole(server.log()) if line.startswith("Starting session:")]
    assert started
    assert [line for line in started if "forced-command" not in line or str(server.wrapper) not in line] == []
