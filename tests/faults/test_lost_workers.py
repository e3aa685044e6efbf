"""Workers killed, and workers stopped and woken again, in the middle of submissions."""

import os
import random
import signal
import threading
import time

import pytest

from tests.faults.conftest import BOUND, WORKERS, Submissions
from tests.real_site import Site, eventually
from tests.systems import SYSTEMS

pytestmark = pytest.mark.timeout(3600)


def worker_pid(site: Site, worker: str) -> int:
    """The process of a worker, once it runs."""
    return eventually(lambda: int(site.supervisor("pid", worker)), seconds=30)


@pytest.mark.parametrize("system", SYSTEMS, indirect=True)
def test_a_killed_worker_costs_no_task_and_doubles_no_job(site: Site, submissions: Submissions, seeded: random.Random, rounds: int) -> None:
    for number in range(rounds):
        pid = worker_pid(site, WORKERS[number % 2])
        taken = len(submissions.tasks)
        moment = seeded.uniform(0.0, 0.25)
        killing = threading.Thread(target=kill_after_first, args=(pid, submissions, taken, moment))
        killing.start()
        submissions.submit_together(6)
        killing.join()
        eventually(submissions.all_final, seconds=BOUND)

    submissions.check_one_job_each()


def kill_after_first(pid: int, submissions: Submissions, taken: int, moment: float) -> None:
    """Kill a worker so many seconds after the first submission of a round was taken, while others are on their way."""
    eventually(lambda: len(submissions.tasks) > taken, pause=0.002)
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)


def test_a_stopped_worker_writes_nothing_once_it_wakes(request, site: Site, submissions: Submissions, seeded: random.Random) -> None:
    stopped_for = 60
    rounds = 8 if request.config.getoption("--faults-long") else 1
    for number in range(rounds):
        worker = WORKERS[number % 2]
        pid = worker_pid(site, worker)
        stopping = threading.Timer(seeded.uniform(0.05, 0.4), os.kill, (pid, signal.SIGSTOP))
        started = time.monotonic()
        stopping.start()
        submissions.submit_together(8)
        stopping.join()
        eventually(submissions.all_final, seconds=BOUND)
        before = submissions.records()
        time.sleep(max(0.0, stopped_for - (time.monotonic() - started)))
        os.kill(pid, signal.SIGCONT)
        eventually(lambda worker=worker: f"{worker}@" in _pinged(site), seconds=30)

        assert submissions.records() == before
    submissions.check_one_job_each()


def _pinged(site: Site) -> str:
    from celery import Celery

    app = Celery(broker=site.facts["urls"]["redis"])
    # its pool is the process' own, and holds connections to a Redis that other tests have killed
    with app.connection_for_write() as connection:
        return str(app.control.ping(timeout=2, connection=connection))
