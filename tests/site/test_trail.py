"""One call is followed from its HTTP request over its task and certificate to the log of the system's own sshd."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from tests.conftest import ROOT
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.site.raw_http import Connection, Request
from tests.site.transfers import at, download, invalidate

PARTS = ("api", "worker-1", "worker-2", "housekeeping")


def logs(site: Site) -> list[str]:
    return [*(f"{site.facts['logs']}/{part}.log" for part in PARTS), site.facts["certificate_log"], site.facts["sshd"]["log"]]


def found(site: Site, word: str) -> list[str]:
    """What the command prints."""
    command = [sys.executable, "-m", "broker.trail", "find", word, *logs(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) in ((0, ""), (1, ""))
    return done.stdout.splitlines()


def deeds(lines: list[str], part: str) -> list[dict[str, Any]]:
    told = [json.loads(line[line.index("{") :]) for line in lines if '"part"' in line]
    return [line for line in told if line["part"] == part]


def logins(lines: list[str]) -> list[str]:
    return [line for line in lines if "Accepted publickey for" in line]


def test_a_waited_call_is_followed_to_the_log_of_sshd(site: Site, alice: Client) -> None:
    word = f"followed-{os.urandom(8).hex()}"
    assert alice.get("/utilities/ls", params={"targetPath": "/home"}, headers={"X-Request-ID": word}).status_code == 200

    lines = eventually(lambda: seen if logins(seen := found(site, word)) else None)

    (asked,), (done,) = deeds(lines, "api"), deeds(lines, "worker")
    (certificate,) = done["certificates"]
    assert asked["task"] == done["task"]
    assert (asked["user"], done["user"], asked["system"], done["system"]) == ("fcalice", "fcalice", "cluster", "cluster")
    assert done["paths"] == {"targetPath": "/home"}
    login, *_ = logins(lines)  # one for each connection
    assert login.startswith("Accepted publickey for fcalice from 127.0.0.1 ")
    assert f"ID {certificate['key_id']} (serial {certificate['serial']}) CA" in login
    assert certificate["key_id"].startswith("firecrest user=fcalice system=cluster task=")
    (given,) = [json.loads(line) for line in lines if '"public_key"' in line]
    assert (given["serial"], given["key_id"], given["user"]) == (certificate["serial"], certificate["key_id"], "fcalice")


def test_a_later_call_on_the_same_connection_names_the_certificate_that_opened_it(site: Site, alice: Client) -> None:
    words = [f"warm-{os.urandom(8).hex()}" for _ in range(20)]
    for word in words:
        assert alice.get("/utilities/whoami", headers={"X-Request-ID": word}).status_code == 200
    lines = eventually(lambda: seen if deeds(seen := found(site, words[-1]), "worker") else None)
    (last,) = deeds(lines, "worker")
    serial = last["certificates"][0]["serial"]

    together = {line["request"] for line in deeds(found(site, serial), "worker") if "request" in line}
    assert len(together & set(words)) > 1, "of twenty calls, two workers have done some on the same connection"
    assert logins(found(site, serial))
    assert {line["request"] for line in deeds(lines, "worker")} == {words[-1]}, "the request itself leads to no other"


def test_a_submission_is_followed_by_its_task_and_its_end_is_told(site: Site, alice: Client, folder: Folder) -> None:
    script = folder.file("job.sh", b"#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n")
    ticket = alice.post("/compute/jobs/path", data={"targetPath": script})
    task = alice.task(ticket)

    lines = eventually(lambda: seen if deeds(seen := found(site, task["task_id"]), "worker") else None)

    request = ticket.headers["X-Request-ID"]
    (asked,) = [line for line in deeds(lines, "api") if line["request"] == request]
    probe, done = deeds(lines, "worker")
    assert asked.items() >= {"operation": "compute.SubmitPath", "task": task["task_id"], "status": 201}.items()
    assert (probe["operation"], probe["request"]) == ("compute.Readable", request)
    assert done.items() >= {"request": request, "attempt": 1, "result": "done", "status": "200"}.items()
    assert logins(lines)


def test_a_transfer_tells_of_every_step_and_of_its_end(site: Site, alice: Client, folder: Folder) -> None:
    source = folder.file("a file", b"x" * 1000)
    task_id = at(alice, download(alice, source), "117")["task_id"]

    def ended() -> list[str] | None:
        lines = found(site, task_id)
        return lines if any(line.get("status") == "117" for line in deeds(lines, "worker")) else None

    done = deeds(eventually(ended), "worker")
    steps = [line for line in done if line["operation"] == "storage.StageOut"]
    assert [step["result"] for step in steps] == ["step done"] * (len(steps) - 1) + ["done"]
    assert (steps[-1]["status"], steps[-1]["paths"]) == ("117", {"sourcePath": source})
    assert any(step.get("certificates") for step in steps)
    assert invalidate(alice, task_id).status_code == 201


def test_who_is_refused_leaves_a_line_without_the_token(site: Site) -> None:
    word = f"refused-{os.urandom(8).hex()}"
    headers = {"X-Request-ID": word, "Authorization": f"Bearer {word}.x.y"}
    assert requests.get(f"{site.url}/utilities/whoami", headers=headers, timeout=20).status_code == 401

    (line,) = eventually(lambda: deeds(found(site, word), "api"))
    assert line.items() >= {"status": 401, "error": "Unauthorized", "operation": "utilities.Whoami", "client": "127.0.0.1"}.items()
    assert "user" not in line
    assert f"{word}.x" not in Path(logs(site)[0]).read_text()


def test_what_is_no_request_leaves_a_line_too(site: Site) -> None:
    def refused() -> int:
        return sum(line.get("error") == "LimitRequestLine" for line in deeds(Path(logs(site)[0]).read_text().splitlines(), "api"))

    before = refused()
    connection = Connection(site.url)
    assert connection.send(Request("GET", b"/" + b"x" * 9000)).status == 414
    connection.close()
    eventually(lambda: refused() > before)
