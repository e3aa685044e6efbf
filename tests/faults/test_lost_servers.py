"""Redis, sshd or the delegation gone, and back again."""

import os
import signal
from contextlib import suppress

import psutil

from tests.faults.conftest import BOUND, Submissions
from tests.real_site import Client, Site, eventually


def stop_sshd(site: Site) -> None:
    """End the server and all its sessions."""
    server = psutil.Process(int(site.supervisor("pid", "sshd")))
    sessions = server.children(recursive=True)
    site.supervisor("stop", "sshd")
    for session in sessions:
        with suppress(psutil.NoSuchProcess):
            if session.name() == "sshd":
                session.kill()


def test_without_redis_the_api_says_503_and_recovers_by_itself(site: Site) -> None:
    alice = Client(site, "alice")
    site.supervisor("stop", "redis")

    answers = [
        alice.get("/utilities/whoami"),
        alice.get("/tasks"),
        alice.post("/compute/jobs/upload", files={"file": ("a.sh", "#!/bin/sh\n")}),
        alice.get("/status/systems"),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["error"]) == (503, "The service cannot reach its message broker")
    site.supervisor("start", "redis")
    eventually(lambda: alice.get("/utilities/whoami").status_code == 200, seconds=30)
    ticket = alice.get("/compute/jobs")
    assert ticket.status_code == 200
    assert alice.task(ticket)["status"] == "200"


def test_redis_killed_in_the_middle_of_submissions_loses_nothing(site: Site, submissions: Submissions) -> None:
    submissions.submit_together(4)
    os.kill(int(site.supervisor("pid", "redis")), signal.SIGKILL)
    eventually(lambda: "RUNNING" not in site.supervisor("status", "redis"))
    site.supervisor("start", "redis")
    eventually(lambda: submissions.client.get("/tasks").status_code == 200, seconds=30)

    eventually(submissions.all_final, seconds=BOUND)
    submissions.check_one_job_each()


def test_without_sshd_the_machine_is_not_available_and_no_task_is_left(site: Site) -> None:
    bob = Client(site, "bob")
    before = bob.get("/tasks").json()
    stop_sshd(site)

    utility = bob.get("/utilities/whoami")
    compute = bob.post("/compute/jobs/upload", files={"file": ("a.sh", "#!/bin/sh\n")})

    assert utility.json() == {"description": "Error on whoami operation", "error": "Machine is not available"}
    assert compute.json() == {"description": "Failed to retrieve jobs information"}
    for answer in (utility, compute):
        assert answer.status_code == 400
        assert answer.headers["X-Machine-Not-Available"] == "Machine is not available"
    assert bob.get("/tasks").json() == before
    site.supervisor("start", "sshd")
    eventually(lambda: bob.get("/utilities/whoami").status_code == 200, seconds=30)


def test_without_the_delegation_nobody_new_gets_in_and_nothing_is_lost(site: Site) -> None:
    site.supervisor("stop", "delegation")
    site.supervisor("restart", "worker-1", "worker-2")
    alice = Client(site, "alice")

    answer = alice.get("/utilities/whoami")

    assert (answer.status_code, answer.json()["error"]) == (503, "The delegation does not answer")
    site.supervisor("start", "delegation")
    eventually(lambda: alice.get("/utilities/whoami").status_code == 200, seconds=30)


def test_every_task_ends_when_beat_is_killed_too(site: Site, submissions: Submissions) -> None:
    os.kill(int(site.supervisor("pid", "beat")), signal.SIGKILL)
    os.kill(int(site.supervisor("pid", "housekeeping")), signal.SIGKILL)
    os.kill(int(site.supervisor("pid", "worker-1")), signal.SIGKILL)
    submissions.submit_together(4)

    eventually(submissions.all_final, seconds=BOUND)
    submissions.check_one_job_each()
