"""The HTTP server by itself, with an application that does hardly anything."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from deploy.certificates import make_missing
from tests.conftest import ROOT
from tests.real_site import eventually

Start = Callable[..., "Server"]


class Server:
    """A gunicorn of one process."""

    def __init__(self, log: Path, *options: str, worker: str = "api.server.Worker") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = ("127.0.0.1", probe.getsockname()[1])
        self.log = log
        bound = ("--bind", "{}:{}".format(*self.address), "--no-control-socket", "--worker-class", worker)
        command = [sys.executable, "-m", "gunicorn", *bound, "--keep-alive", "75", "--graceful-timeout", "20", *options, "small_app:app"]
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "PYTHONWARNINGS": "always"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        eventually(self._listens)

    def _listens(self) -> bool:
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return "Booting worker" in self.log.read_text()

    def connect(self, seconds: float = 30) -> socket.socket:
        return socket.create_connection(self.address, timeout=seconds)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Have it end, and wait for that."""
        self._process.send_signal(number)
        self._process.wait(30)

    def kill(self) -> None:
        """Have it end whatever it does."""
        if self._process.poll() is None:
            self.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server with these options of gunicorn."""
    started: list[Server] = []

    def server(*options: str, **more: str) -> Server:
        started.append(Server(tmp_path / f"log-{len(started)}", *options, **more))
        return started[-1]

    yield server
    for one in started:
        one.kill()


def whole(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answered(connection: socket.socket) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer


def test_all_is_patched_before_the_application_is_there_and_nothing_warns(start: Start) -> None:
    server = start()
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answered(connection).read() == b"0 patched"
    server.end()
    assert "Warning" not in server.log.read_text()


def test_a_thousand_calls_may_be_under_way_at_once(start: Start) -> None:
    server = start("--worker-connections", "2000")
    connections = [server.connect() for _ in range(1000)]
    for connection in connections:
        connection.sendall(b"GET /?1000 HTTP/1.1\r\nHost: x\r\n\r\n")  # none before all are there
    assert [answered(connection).status for connection in connections] == [200] * 1000
    for connection in connections:
        connection.close()


def test_a_crowd_is_shared_by_all_processes(start: Start) -> None:
    server = start("--workers", "2", "--worker-connections", "2000")
    eventually(lambda: server.log.read_text().count("Booting worker") == 2)
    connections = [server.connect() for _ in range(600)]
    for connection in connections:
        connection.sendall(b"GET /process HTTP/1.1\r\nHost: x\r\n\r\n")
    took = Counter(answered(connection).read() for connection in connections)
    for connection in connections:
        connection.close()
    assert len(took) == 2
    assert min(took.values()) > 120


def test_a_file_is_sent_behind_the_head_of_its_answer(start: Start) -> None:
    server = start()
    for verb, content in (("GET", Path(__file__).with_name("small_app.py").read_bytes()), ("HEAD", b"")):
        with server.connect() as connection:
            connection.sendall(f"{verb} /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head, _, body = whole(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == content


def test_requests_that_are_sent_one_behind_the_other_are_answered_in_order(start: Start) -> None:
    with start().connect() as connection:
        connection.sendall(
            b"POST /5 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        told = whole(connection)
    assert told.index(b"5 patched") < told.index(b"0 patched")


@pytest.mark.parametrize("length", ["Content-Length: 9000000", "Transfer-Encoding: chunked"])
def test_a_body_that_is_not_read_to_its_end_ends_the_connection_and_does_not_cost_the_answer(start: Start, length: str) -> None:
    body = b"x" * 9_000_000 if "Content" in length else b"895440\r\n" + b"x" * 9_000_000 + b"\r\n0\r\n\r\n"
    with start().connect() as connection:
        connection.sendall(f"POST /10 HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode() + body)
        told = whole(connection)
    assert told.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in told
    assert told.endswith(b"10 patched")


def test_what_is_no_http_is_refused_as_json(start: Start) -> None:
    with start().connect() as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        told = whole(connection)
    assert told.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"error": "Bad Request"' in told


def test_the_head_of_a_request_has_a_time_to_come_in(start: Start) -> None:
    with start(worker="hasty.Hasty").connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert whole(connection).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_who_says_nothing_makes_room_for_others(start: Start) -> None:
    server = start("--worker-connections", "5")
    silent = [server.connect() for _ in range(8)]
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answered(connection).status == 200
    for one in silent:
        one.close()


def test_a_server_that_is_to_end_answers_what_is_under_way_and_lets_go_of_the_silent(start: Start) -> None:
    server = start()
    with server.connect() as silent, server.connect() as busy:
        silent.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answered(silent).read()
        busy.sendall(b"POST /5 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        ending = threading.Thread(target=server.end)
        ending.start()
        assert silent.recv(1) == b""
        busy.sendall(b"llo")
        told = whole(busy)
        ending.join()
    assert told.endswith(b"5 patched")


def test_processes_are_replaced_without_an_error(start: Start) -> None:
    server = start()
    told: list[int] = []
    over = threading.Event()

    def call_on() -> None:
        while not over.is_set():
            told.append(requests.get("http://{}:{}/".format(*server.address), timeout=30).status_code)

    callers = [threading.Thread(target=call_on) for _ in range(4)]
    for caller in callers:
        caller.start()
    eventually(lambda: len(told) > 20)
    server._process.send_signal(signal.SIGHUP)
    eventually(lambda: server.log.read_text().count("Booting worker") == 2)
    seen = len(told)
    eventually(lambda: len(told) > seen + 50)
    over.set()
    for caller in callers:
        caller.join()
    assert set(told) == {200}


def test_over_tls_who_begins_no_handshake_holds_nobody_up(start: Start, tmp_path: Path) -> None:
    make_missing(tmp_path / "tls", ["api"])
    folder = tmp_path / "tls"
    server = start("--certfile", str(folder / "api.pem"), "--keyfile", str(folder / "api.key"))
    with server.connect(), server.connect() as plain, suppress(ConnectionResetError):
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = requests.get(f"https://localhost:{server.address[1]}/", verify=str(folder / "ca.pem"), timeout=30)
        assert answer.text == "0 patched"
        assert not whole(plain).startswith(b"HTTP/1.1 2")
