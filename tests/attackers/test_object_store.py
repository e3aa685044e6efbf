"""Who owns the object store: whose bytes it can change, and that it gets no further (docs/security.md)."""

import hashlib
import os
import pyexpat
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from schemas.settings import Storage
from tests.real_site import eventually
from workers import copies
from workers.copies import Fate, Found, Run
from workers.host import LocalHost
from workers.staging.s3 import S3Staging
from workers.staging.signing import Signer

SIZE = 100_000


class Store(ThreadingHTTPServer):
    """An object store in wrong hands: it answers every GET as it pleases."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.asked: list[str] = []

    def url(self, name: str = "file") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answer(self)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def owned() -> Iterator[Callable[[Callable[[Any], None]], Store]]:
    stores: list[Store] = []

    def make(answer: Callable[[Any], None]) -> Store:
        stores.append(Store(answer))
        threading.Thread(target=stores[-1].serve_forever, daemon=True).start()
        return stores[-1]

    yield make
    for store in stores:
        store.shutdown()
        store.server_close()


def fetched(store: Store, folder: Path, *, name: str = "file", seconds: float = 60) -> Found:
    """What becomes of a copy from the store to the system."""
    here, run, temporary = LocalHost(), Run(str(folder / "job"), 1, SIZE, SIZE), folder / "temporary"
    here.run(copies.fetch(run, store.url(name), temporary=str(temporary), etag="e", seconds=5))

    def over() -> Found | None:
        found = here.run(copies.look(run, temporary=str(temporary), seconds=5))
        return None if found.fate is Fate.RUNNING else found

    return eventually(over, seconds=seconds)


def giving(content: bytes, status: int = 206, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "{other}", "ftp://127.0.0.1:9/x", "gopher://127.0.0.1:9/_x", "//127.0.0.1:9/x", "scp://127.0.0.1/x"]
)
def test_no_redirection_is_followed(owned: Any, tmp_path: Path, to: str) -> None:
    """Neither to files of the system nor to servers that only it can reach."""
    other = owned(giving(b"y" * SIZE))
    found = fetched(owned(giving(b"", 302, Location=to.format(other=other.url()))), tmp_path)
    assert found.fate is not Fate.WHOLE
    assert other.asked == []
    assert not (tmp_path / "temporary").exists() or b"root:" not in (tmp_path / "temporary").read_bytes()


def test_other_bytes_than_were_put_there_have_another_sum(owned: Any, tmp_path: Path) -> None:
    """They are compared with the ETag that was seen when the file came; a store that lied then has changed the file: that is its gain."""
    right, wrong = os.urandom(SIZE), os.urandom(SIZE)
    found = fetched(owned(giving(wrong)), tmp_path)
    assert found.sums == (hashlib.md5(wrong).hexdigest(),)
    assert found.sums != (hashlib.md5(right).hexdigest(),)


@pytest.mark.parametrize("more", [1, SIZE])
def test_more_bytes_than_were_told_fail_the_copy(owned: Any, tmp_path: Path, more: int) -> None:
    found = fetched(owned(giving(bytes(SIZE + more))), tmp_path)
    assert found.fate is not Fate.WHOLE
    assert (tmp_path / "temporary").stat().st_size <= 2 * SIZE + 2_000_000


def test_fewer_bytes_are_no_file(owned: Any, tmp_path: Path) -> None:
    assert fetched(owned(giving(bytes(SIZE - 1))), tmp_path).fate is not Fate.WHOLE


def test_headers_and_bodies_of_a_store_run_nothing_and_write_nothing_else(owned: Any, tmp_path: Path) -> None:
    evil = f"$(touch {tmp_path}/owned); `touch {tmp_path}/owned` \" ' -o {tmp_path}/owned"
    for status in (206, 400, 403, 500):
        folder = tmp_path / str(status)
        folder.mkdir()
        fetched(owned(giving(evil.encode(), status, ETag=evil, Disposition=f'attachment; filename="{tmp_path}/owned"')), folder)
        assert not (tmp_path / "owned").exists()
        assert {path.name for path in folder.iterdir()} <= {"job", "temporary"}


SIGNER = Signer("key", "secret", "us-east-1")


HOSTILE = ('x"\noutput = "/home/alice/.bashrc', "x&y=z", "x#y", "x\r\n\r\nGET /", "$(id)", "`id`", "../..", "é", "x y")


@pytest.mark.parametrize("upload", HOSTILE)
def test_no_upload_id_of_a_store_gets_out_of_its_place_in_a_link(upload: str) -> None:
    """Systems read links from a file of curl's: a quote or a line of its own there would be a command to curl."""
    storage = Storage(private_url="http://s3", public_url="http://s3", access_key="key", secret_key="secret")
    staging = S3Staging(storage)
    place = staging.outgoing("alice", "0a1b", "file")
    parts = staging.parts_to_send(place, upload, size=200 * 2**20, seconds=60, side="systems")
    for slot in parts.slots:
        assert re.fullmatch(r"[A-Za-z0-9._~:/?&=%+-]+", slot.url), slot.url
        assert quote(upload, safe="") in slot.url
    link = SIGNER.url("GET", urlsplit("http://s3/alice/file"), seconds=60, at=datetime.now(UTC))
    assert '"' not in link


def test_the_xml_of_a_store_does_not_unfold_without_end() -> None:
    assert tuple(map(int, pyexpat.EXPAT_VERSION.removeprefix("expat_").split("."))) >= (2, 4, 1), "which bounds what entities unfold to"


def test_a_store_that_sends_nothing_is_given_up(owned: Any, tmp_path: Path) -> None:
    over = threading.Event()

    def silent(request: BaseHTTPRequestHandler) -> None:
        over.wait(120)

    began = time.monotonic()
    try:
        assert fetched(owned(silent), tmp_path, seconds=90).fate is not Fate.WHOLE
    finally:
        over.set()
    assert time.monotonic() - began < 90
