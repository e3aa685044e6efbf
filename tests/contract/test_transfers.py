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
from tests.site.transfers import held_from_its_start

CONTENT = os.urandom(7 * 1024 * 1024 + 11)
NAMES = ["plain.bin", "with blanks and ümläut 名.bin", "-", "a,b=c%20d#e?.x", "[1-3]{a,b}*~!", "$HOME ${filename} 🎉"]
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
    assert now(upload.in_progress)
    assert set(now(upload.object_storage_data)) == {"command", "parameters"}
    assert now(upload.data)["hash_id"] == upload.task_id
    now(upload.finish_upload())
    eventually(lambda: not now(upload.in_progress), seconds=30, pause=0.3)
    assert now(upload.status) == "114"
    assert Path(place.path, name).read_bytes() == CONTENT
    assert Path(place.path, name).owner() == "fcalice"

    download = client.external_download(system, f"{place.path}/{name}")
    now(download.finish_download(tmp_path / "back"))
    assert (now(download.status), now(download.in_progress)) == ("117", False)
    assert (tmp_path / "back").read_bytes() == CONTENT
    with (tmp_path / "again").open("wb") as file:
        now(download.finish_download(file))
    assert (tmp_path / "again").read_bytes() == CONTENT

    link = now(download.object_storage_link)
    assert now(download.object_storage_data)["url"] == now(download.data)["url"] == link
    for _ in range(2):
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


def test_a_failed_download_raises_when_it_is_asked_about(client: Any, now: Any, site: Site, system: str, place: Folder) -> None:
    source, begun = place.file("source", b"content"), list[Any]()

    def begin() -> str:
        begun.append(client.external_download(system, source))
        return str(begun[0].task_id)

    with held_from_its_start(site, begin):
        eventually(lambda: now(begun[0].status) == "116", seconds=30, pause=0.3)
        Path(source).unlink()
    (download,) = begun

    with pytest.raises(firecrest.StorageDownloadException, match="cannot be read"):
        now(download.object_storage_link)
    with pytest.raises(firecrest.FirecrestException, match="Could not invalidate URL"):
        now(download.invalidate_object_storage_link())


def test_a_cancelled_upload_raises_and_its_file_that_is_gone_is_told(
    client: Any, now: Any, alice: Client, system: str, place: Folder, tmp_path: Path
) -> None:
    upload = client.external_upload(system, str(tmp_path / "missing"), place.path)
    with pytest.raises(Exception, match="Failed to finish upload with error"):
        now(upload.finish_upload())
    assert now(upload.status) == "111"
    assert alice.delete(f"/tasks/{upload.task_id}").status_code == 200

    with pytest.raises(firecrest.FirecrestException, match="Deleted on request"):
        now(upload.status)


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


def test_the_command_line_tells_what_is_refused(cli: Cli, place: Folder, tmp_path: Path) -> None:
    refused = cli("upload", "--type", "external", str(tmp_path / "x"), f"{place.path}/missing/deeper", code=1)
    assert "is an invalid path" in refused.stdout + refused.stderr
    refused = cli("download", "--type", "external", place.path, code=1)
    assert "is a directory" in refused.stdout + refused.stderr
