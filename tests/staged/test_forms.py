import hashlib
import shlex
import subprocess
import time
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from workers.staging.staging import Form, Place

MB = 1024 * 1024
NAMES = [
    "plain.bin", "with blank.bin", "it's \"quoted\".bin", "ünï-名.bin", "new\nline.bin", "semi;colon,comma.bin", "x;type=text",
    "back\\slash", "-rf", "-", "@at", "<less", "{a,b}[1-3].bin", "$HOME `id` $(id) !x", "${filename}", "100%41&a=b?c#d+e~f", " edges ",
    "x" * 255,
]  # fmt: skip


@pytest.fixture
def place(staging, user):
    place = staging.incoming(user, uuid4().hex, "data.bin")
    staging.prepare(place)
    return place


def without_a_shell(form: Form, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """As pyfirecrest runs it."""
    return subprocess.run(shlex.split(form.command), cwd=folder, capture_output=True, check=False, timeout=60)


def through_a_shell(form: Form, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """As pyfirecrest's asynchronous client runs it."""
    return subprocess.run(form.command, shell=True, cwd=folder, capture_output=True, check=False, timeout=60)


def by_program(form: Form) -> requests.Response:
    """As a program that reads `parameters` does it."""
    sent = form.parameters
    with Path(sent["files"]).open("rb") as file:
        body = {"data": sent["data"], "files": {"file": file}} if sent["method"] == "POST" else {"data": file}
        return requests.request(sent["method"], sent["url"], params=sent["params"], headers=sent["headers"], timeout=60, **body)


@pytest.fixture
def new_file(tmp_path):
    def file(content: bytes, name: str = "data.bin") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return file


@pytest.mark.parametrize("run", [without_a_shell, through_a_shell])
def test_the_command_sends_a_file_of_any_name(staging, user, tmp_path, new_file, run):
    staging.prepare(staging.incoming(user, uuid4().hex, "x"))
    for name in NAMES:
        content = name.encode() * 3
        for source in (new_file(content, name), name):
            place = staging.incoming(user, uuid4().hex, name)
            done = run(staging.form(place, source, seconds=60), tmp_path)
            assert done.returncode == 0, (source, done)
            staged = staging.found(place)
            assert staged is not None, source
            assert (staged.size, staged.etag) == (len(content), hashlib.md5(content).hexdigest()), source
            assert requests.get(staging.download_url(place, seconds=60, side="clients"), timeout=60).content == content, source


def test_the_parameters_send_the_file_as_well(staging, place, new_file):
    assert by_program(staging.form(place, new_file(b"content"), seconds=60)).ok
    assert staging.found(place).size == 7


def test_an_empty_file_arrives(staging, place, tmp_path, new_file):
    done = without_a_shell(staging.form(place, new_file(b""), seconds=60), tmp_path)
    assert done.returncode == 0, done
    assert (staging.found(place).size, staging.found(place).etag) == (0, hashlib.md5(b"").hexdigest())


def test_what_is_over_the_limit_is_refused_by_a_form_and_seen_after_a_put(store, staging, place, tmp_path, new_file):
    staging.form_limit = 1000
    kept = without_a_shell(staging.form(place, new_file(b"x" * 1000), seconds=60), tmp_path)
    assert kept.returncode == 0, kept
    staging.delete(place)
    done = without_a_shell(staging.form(place, new_file(b"x" * 1001), seconds=60), tmp_path)
    if store == "swift":
        assert staging.found(place).size > staging.form_limit
    else:
        assert done.returncode == 22, done
        assert staging.found(place) is None


@pytest.mark.parametrize("size", [0, 6, 8, 8_000_000])
def test_a_form_for_a_known_size_takes_no_other(staging, place, tmp_path, new_file, size):
    form = staging.form(place, new_file(b"x" * size), seconds=60, size=7)
    assert without_a_shell(form, tmp_path).returncode != 0
    assert staging.found(place) is None
    new_file(b"x" * 7)
    assert without_a_shell(form, tmp_path).returncode == 0
    assert staging.found(place).size == 7


def test_an_expired_form_is_refused(staging, place, new_file):
    form = staging.form(place, new_file(b"late"), seconds=1)
    time.sleep(2.1)
    assert by_program(form).status_code == 403
    assert staging.found(place) is None


def test_a_form_serves_for_its_own_place_only(staging, place, new_file):
    form = staging.form(place, new_file(b"mine"), seconds=60)
    other = Place(place.bucket, place.key.replace("data.bin", "else.bin"))
    if form.parameters["data"]:
        form.parameters["data"]["key"] = other.key
    else:
        form.parameters["url"] = form.parameters["url"].replace("data.bin", "else.bin")
    assert by_program(form).status_code == 403
    assert staging.found(other) is None


def test_nothing_arrives_without_a_signature(staging, place, stores, store):
    url = f"{stores.facts['stores'][store]['public_url']}/{place.bucket}/{place.key}"
    assert requests.put(url, data=b"mine", timeout=60).status_code in {400, 403}
    assert requests.get(url, timeout=60).status_code in {400, 403}
    assert staging.found(place) is None
