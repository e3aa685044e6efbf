"""What people and programs see of the API itself: documents, Swagger UI, Flower, and pages that are not there."""

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV31SpecValidator

import api.app  # noqa: F401 (all operations)
from schemas.operation import OPERATIONS
from tests.real_site import Client, Site, eventually, not_here

CHROMIUM = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--window-size=1400,1600", "--virtual-time-budget=6000",
)  # fmt: skip

Look = Callable[..., str]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Opens a page in Chromium; gives its rendered DOM once it holds the words, and leaves a screenshot."""
    if not shutil.which(CHROMIUM[0]):
        not_here("chromium is not installed")

    def browse(url: str, *words: str, before: Callable[[], object] = lambda: None) -> str:
        def run(*more: str) -> str:
            profile = f"--user-data-dir={tmp_path / 'profile'}"
            words = [*CHROMIUM, "--enable-logging=stderr", profile, *more, url]
            done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=90)
            assert "Content Security Policy" not in done.stderr, "the page does nothing that it must not"
            return done.stdout

        def shown() -> str:
            before()
            page = run("--dump-dom")
            return page if all(word in page for word in words) else ""

        page = eventually(shown, seconds=60)
        before()
        run(f"--screenshot={tmp_path / 'page.png'}")
        assert colours((tmp_path / "page.png").read_bytes()) > 20, "a screenshot is more than a blank page"
        return page

    return browse


def colours(png: bytes) -> int:
    """How many different bytes the pixels of a PNG hold, whatever its filters."""
    data, at = b"", 8
    while at < len(png):
        (size,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        data += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    return len(set(zlib.decompress(data)))


def test_swagger_ui_shows_every_operation(site: Site, look: Look) -> None:
    page = look(site.url + "/", "compute.SubmitUpload", "utilities.Ls")
    for operation in OPERATIONS:
        assert operation.task() in page
        assert str(operation.__doc__).removesuffix(".") in page
    assert "Unable to render this definition" not in page


def flower(site: Site) -> str:
    """Where Flower is, with the login that it asks for."""
    return str(site.facts["urls"]["flower"]).replace("://", f"://{site.facts['flower_login']}@")


def test_flower_shows_operations_by_their_names(site: Site, alice: Client, look: Look) -> None:
    def work() -> None:
        """Be among the newest tasks, which are the ones that Flower shows."""
        alice.get("/utilities/ls", params={"targetPath": "/home/fcalice"})
        alice.task(alice.post("/compute/jobs", files={"file": ("job.sh", b"#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n")}))

    page = look(flower(site) + "/tasks", "utilities.Ls", "compute.SubmitUpload", before=work)
    assert "eyJ" not in page, "no JWT"


def test_flower_shows_parameters_but_no_grant(site: Site, alice: Client) -> None:
    marker = "/home/fcalice/seen-by-flower"
    alice.get("/utilities/ls", params={"targetPath": marker})
    url = f"{flower(site)}/api/tasks?taskname=utilities.Ls&limit=50"

    def listed() -> str:
        text = requests.get(url, timeout=30).text
        return text if marker in text else ""

    text = eventually(listed)
    assert "eyJ" not in text, "no JWT"


def test_the_swagger_document_is_valid(site: Site) -> None:
    document = requests.get(f"{site.url}/swagger.json", timeout=30).json()
    OpenAPIV2SpecValidator(document).validate()
    assert {(path, verb) for path, verbs in document["paths"].items() for verb in verbs if verb != "parameters"} == declared()


def test_the_openapi_document_is_valid(site: Site) -> None:
    document = requests.get(f"{site.url}/openapi.json", timeout=30).json()
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()
    assert {(path, verb) for path, verbs in document["paths"].items() for verb in verbs} == declared()


def declared() -> set[tuple[str, str]]:
    """Path and verb of every operation."""
    return {(path, op.route.verb.lower()) for op in OPERATIONS for path in (op.route.path, op.route.also) if path}


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/utilities/nowhere", 404),
        ("GET", "/utilities", 404),
        ("POST", "/utilities/ls", 405),
        ("PATCH", "/utilities/ls", 405),
        ("POST", "/tasks", 405),
        ("PUT", "/tasks/x", 405),
        ("PUT", "/compute/jobs", 405),
        ("POST", "/status/systems", 405),
    ],
)
def test_pages_that_are_not_there_are_json(alice: Client, verb: str, path: str, status: int) -> None:
    answer = alice.request(verb, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    assert set(answer.json()) == {"description", "error"}
    assert answer.json()["error"]
    assert (status == 405) == ("Allow" in answer.headers)


def test_a_body_that_is_not_a_form_is_refused_as_json(alice: Client) -> None:
    for kind, body in (
        ("application/json", b'{"targetPath": "/tmp/x"}'),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\n"),
    ):
        answer = alice.post("/utilities/mkdir", data=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/json")
        assert answer.json()["error"] == "'targetPath' not specified"


def test_queries_that_are_not_utf8_do_no_harm(alice: Client) -> None:
    answer = alice.get("/utilities/ls?targetPath=%2Fhome%2F%ff%fe")
    assert (answer.status_code, answer.headers["X-Invalid-Path"]) == (400, "path is an invalid path")


def test_header_values_hold_no_newline_and_no_letters_that_break_them(alice: Client) -> None:
    answer = alice.post("/compute/jobs/path", data={"targetPath": "/home/日本/ü\u2028x"})
    assert answer.status_code == 400
    assert answer.headers["X-Invalid-Path"].startswith("/home/")
