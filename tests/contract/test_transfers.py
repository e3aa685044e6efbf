"""Large files with pyfirecrest, unmodified: both clients, and the command line."""

import hashlib
import inspect
import os
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import firecrest
import pytest

from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder, make_folder

CONTENT = os.urandom(7 * 1024 * 1024 + 11)
NAMES = ["plain.bin", "with blanks and ümläut 名.bin", "-", "a,b=c%20d#e?.x", "[1-3]{a,b}*~!"]
pytestmark = pytest.mark.stores("radosgw", "swift")
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place(site: Site) -> Iterator[Folder]:
    """A folder of alice on the system."""
    made = make_folder("fcalice")
    yield made
    subprocess.run(["rm", "-rf", made.path], check=True)


@pytest.fixture
def now(client: Any) -> Callable[[Any], Any]:
    """What either client gives, waited for when it has to be."""
    return lambda found: client.runner.run(found) if inspect.isawaitable(found) else found


@pytest.mark.parametrize("name", NAMES)
def test_a_large_file_goes_up_and_comes_down(client: Any, now: Any, system: str, place: Folder, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CONTENT)
    upload = client.external_upload(system, str(tmp_path / name), place.path)
    now(upload.finish_upload())
    eventually(lambda: not now(upload.in_progress), seconds=30, pause=0.3)
    assert now(upload.status) == "114"
    assert Path(place.path, name).read_bytes() == CONTENT
    assert Path(place.path, name).owner() == "fcalice"

    download = client.external_download(system, f"{place.path}/{name}")
    now(download.finish_download(tmp_path / "back"))
    assert now(download.status) == "117"
    assert (tmp_path / "back").read_bytes() == CONTENT

    link = now(download.object_storage_link)
    now(download.invalidate_object_storage_link())
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(link, timeout=10)


def test_refusals_are_raised(client: Any, system: str, place: Folder, tmp_path: Path) -> None:
    with pytest.raises(firecrest.HeaderException, match="invalid path"):
        client.external_upload(system, str(tmp_path / "x"), f"{place.path}/missing/deeper")
    with pytest.raises(firecrest.HeaderException, match="invalid path"):
        client.external_download(system, f"{place.path}/missing")
    with pytest.raises(firecrest.HeaderException, match="is a directory"):
        client.external_download(system, place.path)


def test_a_failed_upload_raises_when_it_is_asked_about(client: Any, now: Any, system: str, place: Folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    upload = client.external_upload(system, str(tmp_path / "file"), place.path)
    now(upload.object_storage_data)
    Path(place.path).chmod(0o500)
    now(upload.finish_upload())

    with pytest.raises(firecrest.StorageUploadException):
        eventually(lambda: not now(upload.in_progress), seconds=30, pause=0.3)
    assert list(Path(place.path).iterdir()) == []


def test_the_command_line_tells_how_to_send_a_file_and_fetches_one(cli: Cli, alice: Client, place: Folder, tmp_path: Path) -> None:
    (tmp_path / "local.bin").write_bytes(CONTENT)
    told = cli("upload", "--type", "external", str(tmp_path / "local.bin"), place.path).stdout
    (task_id,) = re.findall(r"task ID: (\w{32})", told)
    (command,) = re.findall(r"^curl .*$", told, re.MULTILINE)
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    eventually(lambda: alice.get(f"/tasks/{task_id}").json()["task"]["status"] == "114", seconds=30)
    assert hashlib.md5(Path(place.path, "local.bin").read_bytes()).digest() == hashlib.md5(CONTENT).digest()

    told = cli("download", "--type", "external", f"{place.path}/local.bin").stdout
    (link,) = re.findall(r"http://\S+", told)
    with urllib.request.urlopen(link, timeout=10) as answer:
        assert answer.read() == CONTENT
