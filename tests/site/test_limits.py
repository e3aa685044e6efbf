"""Limits of users on the running gateway: over its processes, after one was killed, for those who leave, and those who never wait."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from bench.changed import changed
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder

AT_ONCE = 3


@pytest.fixture(scope="module", autouse=True)
def limited(site: Site) -> Iterator[None]:
    """The site with narrow limits."""
    limits = {"calls_per_second": 4, "calls_burst": 8, "calls_at_once": AT_ONCE, "calls_waiting": 0, "open_tasks_per_user": 2}
    with changed(site, "limits", limits, restarted=("api",)):
        yield


@pytest.fixture
def fresh(site: Site, alice: Client) -> Client:
    """A user whose burst is theirs again, and of whom nothing is under way."""
    redis = site.redis()
    eventually(lambda: not redis.zcard(f"limits:calls:{alice.user}"))
    redis.delete(f"limits:rate:{alice.user}")
    return alice


def held(client: Client, folder: Folder) -> socket.socket:
    """A call that takes its time: it reads a pipe that nobody writes to."""
    pipe = Path(folder.path, f"pipe-{time.monotonic_ns()}")
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    address = urlsplit(client.site.url)
    connection = socket.create_connection((str(address.hostname), address.port or 80))
    head = f"GET /utilities/head?targetPath={pipe} HTTP/1.1\r\nHost: here\r\nAuthorization: {client.authorization()}\r\n"
    connection.sendall(f"{head}X-Machine-Name: {client.headers['X-Machine-Name']}\r\n\r\n".encode())
    return connection


def under_way(client: Client) -> int:
    return int(client.site.redis().zcard(f"limits:calls:{client.user}"))


def test_a_user_who_calls_too_often_is_told_when_to_come_again_and_another_is_not(fresh: Client, bob: Client) -> None:
    answers = [fresh.get("/tasks") for _ in range(30)]
    refused = [answer for answer in answers if answer.status_code == 429]

    assert refused
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].json() == {"description": "Failed to retrieve tasks information", "error": "Too many requests: at most 4 per second"}
    told = refused[0].headers
    assert (told["Retry-After"], told["RateLimit-Limit"], told["RateLimit-Remaining"], told["RateLimit-Reset"]) == ("1", "8", "0", "2")
    assert bob.get("/tasks").status_code == 200
    time.sleep(1)
    assert fresh.get("/tasks").status_code == 200


def test_calls_at_once_are_counted_over_the_processes_of_the_api(fresh: Client, folder: Folder) -> None:
    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            stack.enter_context(held(fresh, folder))
        eventually(lambda: under_way(fresh) == AT_ONCE)
        refused = fresh.get("/utilities/whoami")

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert refused.json()["error"] == f"Too many requests at once: at most {AT_ONCE}"
    eventually(lambda: under_way(fresh) == 0, seconds=30)
    assert fresh.get("/utilities/whoami").status_code == 200


def test_a_client_that_leaves_a_download_makes_room(fresh: Client, folder: Folder) -> None:
    path = folder.file("large", b"x" * 5_000_000)
    with fresh.get("/utilities/download", params={"sourcePath": path}, stream=True) as answer:
        assert answer.status_code == 200
        assert under_way(fresh) == 1
    eventually(lambda: under_way(fresh) == 0)


def test_a_killed_process_leaves_its_calls_only_for_a_while(fresh: Client, site: Site, folder: Folder) -> None:
    master = psutil.Process(int(site.supervisor("pid", "api")))
    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            stack.enter_context(held(fresh, folder))
        eventually(lambda: under_way(fresh) == AT_ONCE)
        for process in master.children():
            process.send_signal(signal.SIGKILL)

    eventually(lambda: _answers(fresh) == 429)
    eventually(lambda: _answers(fresh) == 200, seconds=40, pause=1)


def _answers(client: Client) -> int:
    """The status of an answer; 0 while there is none."""
    try:
        return client.get("/tasks").status_code
    except requests.ConnectionError:
        return 0


def test_those_who_do_not_wait_are_slowed_down_and_nobody_waits_with_them(fresh: Client, bob: Client) -> None:
    over, told, times = threading.Event(), list[int](), list[float]()
    authorization = fresh.authorization()

    def insist() -> None:
        # many more than the limits allow
        headers = {"Authorization": authorization, "X-Machine-Name": str(fresh.headers["X-Machine-Name"])}
        with requests.Session() as session:
            while not over.is_set():
                told.append(session.get(f"{fresh.site.url}/utilities/whoami", headers=headers, timeout=60).status_code)

    with ThreadPoolExecutor(150) as crowd:
        for _ in range(150):
            crowd.submit(insist)
        eventually(lambda: 429 in told)
        begun, before = time.monotonic(), len(told)
        for _ in range(10):
            time.sleep(1)
            start = time.monotonic()
            assert bob.get("/tasks").status_code == 200
            times.append(time.monotonic() - start)
        rate = (len(told) - before) / (time.monotonic() - begun)
        over.set()

    assert set(told) == {200, 429}
    # 20 a second of each process, 5 s at most for each of 150, 4 a second that are let in
    assert rate < 2 * (20 + 150 / 5)
    assert sorted(times)[5] < 1


def test_a_task_more_than_may_be_open_is_refused(fresh: Client, folder: Folder) -> None:
    up = {"sourcePath": "/tmp/file", "targetPath": folder.path}
    made = [fresh.post("/storage/xfer-external/upload", data=up) for _ in range(2)]
    refused = fresh.post("/storage/xfer-external/upload", data=up)

    assert [answer.status_code for answer in made] == [201, 201]
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert refused.json() == {"description": "Failed to upload file", "error": "Too many open tasks: at most 2 per user"}
    for answer in made:
        fresh.delete(f"/tasks/{answer.json()['task_id']}")
    time.sleep(1)
    again = fresh.post("/storage/xfer-external/upload", data=up)
    assert again.status_code == 201
    fresh.delete(f"/tasks/{again.json()['task_id']}")


def test_a_body_that_comes_with_a_refused_call_does_not_cost_its_answer(fresh: Client) -> None:
    for _ in range(10):
        fresh.get("/tasks")
    answer = fresh.post("/utilities/upload", data={"targetPath": "/tmp"}, files={"file": ("large", b"x" * 4_000_000)})

    assert answer.status_code in (429, 201)  # a token may have come in again


def test_redis_lets_the_service_do_all_this(site: Site, alice: Client) -> None:
    site.redis().acl_log_reset()
    alice.get("/tasks")
    alice.post("/storage/xfer-external/upload", data={"sourcePath": "/tmp/file", "targetPath": "/nowhere"})

    assert site.redis().acl_log(100) == []
