"""Uploads and downloads of directories as tar archives: there and back, what is told of single files, and what is left behind: nothing."""

import io
import os
import pwd
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.hosts.test_trees import HOSTILE, TOP, member, plant, seen, tar_of
from tests.real_site import Client, eventually
from tests.site.conftest import Folder
from tests.site.transfers import DOWNLOAD, INVALIDATE, at, names, send, upload

MB = 1024 * 1024

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def tree(folder: Folder) -> Callable[..., str]:
    """Makes a directory of alice, with all that a tree may hold, or with what a function puts there."""

    def make(name: str = "tree", fill: Callable[[Path], object] = plant) -> str:
        path = Path(folder.path, name)
        fill(path)
        subprocess.run(["chown", "-Rh", f"{folder.user}:", str(path)], check=True)
        return str(path)

    return make


def of_size(size: int) -> Callable[[Path], None]:
    """Fills a directory with one file of random bytes."""

    def fill(path: Path) -> None:
        path.mkdir()
        (path / "file").write_bytes(os.urandom(size))

    return fill


def download(alice: Client, path: str) -> requests.Response:
    return alice.post(DOWNLOAD, data={"sourcePath": path, "directory": "true"})


def taken(alice: Client, path: str) -> tuple[dict[str, Any], bytes]:
    """What the task of a download says, and the archive."""
    done = at(alice, download(alice, path), "117", seconds=60)
    content = requests.get(done["data"]["url"], timeout=60).content
    assert alice.post(INVALIDATE, headers={"X-Task-Id": done["task_id"]}).status_code == 201
    assert requests.get(done["data"]["url"], timeout=30).status_code == 404
    return done["data"], content


def brought(alice: Client, target: str, archive: Path, status: str = "114", **more: Any) -> dict[str, Any]:
    """The data of the task of an upload, when it is over."""
    ticket = upload(alice, target, str(archive), directory="true", **more)
    send(at(alice, ticket, "111"))
    data: dict[str, Any] = at(alice, ticket, status, seconds=60)["data"]
    return data


def test_a_tree_comes_down_and_goes_up_as_it_was(alice: Client, folder: Folder, tree: Callable[..., str], tmp_path: Path) -> None:
    path = tree(fill=lambda path: plant(path, files=1_000))
    data, content = taken(alice, path + "/")
    assert (data["source"], data["archive"], data["size"]) == (path, "tree.tar", len(content))
    assert data["progress"]["bytes"] == data["progress"]["total"] == len(content)
    assert (len(data["files"]), data["files_in_all"]) == (1_000, 1_012)

    (tmp_path / "again.tar").write_bytes(content)
    data = brought(alice, folder.path, tmp_path / "again.tar")
    assert (data["target"], data["size"], data["files_in_all"]) == (f"{folder.path}/again", len(content), 1_012)
    assert {file["result"] for file in data["files"]} == {"ok"}
    there = Path(folder.path, "again")
    assert seen(there) == seen(Path(path))
    assert {entry.owner() for entry in [there, *there.rglob("*")] if not entry.is_symlink()} == {folder.user}


def test_a_large_tree_comes_down_and_goes_up_in_parts(alice: Client, folder: Folder, tree: Callable[..., str], tmp_path: Path) -> None:
    path = tree(fill=of_size(130 * MB))
    data, content = taken(alice, path)
    assert data["etag"].endswith("-3")

    (tmp_path / "again.tar").write_bytes(content)
    ticket = upload(alice, folder.path, str(tmp_path / "again.tar"), directory="true", multipart="true", size=len(content))
    parts = at(alice, ticket, "111")["data"]["msg"]["parameters"]["multipart"]
    tags, sent = [], 0
    for part in parts["parts"]:
        answer = requests.put(part["url"], data=content[sent : sent + part["size"]], timeout=60)
        tags.append(f"<Part><PartNumber>{part['number']}</PartNumber><ETag>{answer.headers['ETag']}</ETag></Part>")
        sent += part["size"]
    body = f"<CompleteMultipartUpload>{''.join(tags)}</CompleteMultipartUpload>"
    assert requests.post(parts["complete"]["url"], data=body, headers=parts["complete"]["headers"], timeout=60).status_code == 200
    assert at(alice, ticket, "114", seconds=60)["data"]["etag"].endswith("-3")
    assert seen_bytes(f"{folder.path}/again") == seen_bytes(path)


def seen_bytes(path: str) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in Path(path).iterdir()}


def test_a_file_that_cannot_be_read_makes_the_download_fail_and_is_told(alice: Client, folder: Folder, tree: Callable[..., str]) -> None:
    path = tree(fill=of_size(10))
    folder.file("tree/secret", mode=0o000)
    failed = at(alice, download(alice, path), "118")["data"]

    assert failed["error"] == "Upload to Staging area has failed. Object: tree. Permission denied: 1 in the directory cannot be read"
    assert failed["files"] == [
        {"name": "secret", "size": 0, "result": "Permission denied"},
        {"name": "file", "size": 10, "result": "ok"},
    ]
    assert failed["files_in_all"] == 2


def test_a_tree_that_changes_while_it_is_read_is_not_taken_for_whole(alice: Client, folder: Folder, tree: Callable[..., str]) -> None:
    ticket = download(alice, tree(fill=of_size(300 * MB)))
    eventually(lambda: at(alice, ticket, "116")["data"].get("progress", {}).get("bytes"), pause=0.05)
    folder.file("tree/new")

    assert at(alice, ticket, "118", seconds=60)["data"]["error"].endswith("The directory has changed while it was read")


def test_a_special_file_is_left_out_and_told(alice: Client, tree: Callable[..., str]) -> None:
    def fill(path: Path) -> None:
        path.mkdir()
        os.mkfifo(path / "pipe")

    data, content = taken(alice, tree(fill=fill))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["tree"]
    assert data["files"] == [{"name": "pipe", "size": 0, "result": "left out: a named pipe"}]


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("file", "X-Not-A-Directory", "{home}/file is not a directory"),
        ("missing", "X-Invalid-Path", "{home}/missing is an invalid path."),
        ("closed", "X-Permission-Denied", "User does not have permissions to access machine or path"),
    ],
)
def test_what_is_no_directory_to_be_read_is_refused(alice: Client, folder: Folder, name: str, header: str, value: str) -> None:
    folder.file("file")
    folder.folder("closed", mode=0o300)
    answer = download(alice, f"{folder.path}/{name}")

    assert (answer.status_code, answer.json()) == (400, {"description": "sourcePath error"})
    assert answer.headers[header] == value.format(home=folder.path)


@pytest.mark.parametrize("case", ["absolute", "through a link, absolute", "device", "cut off", "text"])
def test_an_archive_that_is_not_in_order_makes_nothing(alice: Client, folder: Folder, tmp_path: Path, case: str) -> None:
    folder.file("victim", b"as it was")
    (tmp_path / "bad.tar").write_bytes(HOSTILE[case](Path(folder.path)))
    failed = brought(alice, folder.path, tmp_path / "bad.tar", "115")

    assert failed["error"]
    assert failed["files_in_all"] == len(failed["files"])
    assert names(folder.path) == ["victim"]
    assert Path(folder.path, "victim").read_bytes() == b"as it was"


def test_a_target_that_is_there_is_told_before_anything_is_sent_and_stays(alice: Client, folder: Folder, tmp_path: Path) -> None:
    for name in ("full", "full/file", "empty"):
        folder.folder(name)
    failed = at(alice, upload(alice, folder.path, "/tmp/full.tar", directory="true"), "400")["data"]
    assert failed["msg"] == f"{folder.path}/full: File exists"

    (tmp_path / "empty.tar").write_bytes(tar_of(TOP, member("top/file")))
    brought(alice, folder.path, tmp_path / "empty.tar")
    assert (names(f"{folder.path}/full"), names(f"{folder.path}/empty")) == (["file"], ["file"])


def test_a_target_that_comes_up_meanwhile_stays_as_it_is(alice: Client, folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "new.tar").write_bytes(
        tar_of(member("top", tarfile.DIRTYPE, mode=0o500), member("top/in", tarfile.DIRTYPE, mode=0o500), member("top/in/file"))
    )
    ticket = upload(alice, folder.path, str(tmp_path / "new.tar"), directory="true")
    ready = at(alice, ticket, "111")
    folder.folder("new")
    folder.folder("new/mine")
    send(ready)
    failed = at(alice, ticket, "115")["data"]

    assert "Directory not empty" in failed["error"]
    assert (names(folder.path), names(f"{folder.path}/new")) == (["new"], ["mine"])


def test_modes_are_as_the_users_umask_leaves_them(alice: Client, folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "new.tar").write_bytes(
        tar_of(member("top", tarfile.DIRTYPE, mode=0o570), member("top/wide", mode=0o6777), member("top/narrow", mode=0o400))
    )
    brought(alice, folder.path, tmp_path / "new.tar")

    assert {entry.name: entry.stat().st_mode & 0o7777 for entry in Path(folder.path, "new").iterdir()} == {"wide": 0o755, "narrow": 0o400}
    assert Path(folder.path, "new").stat().st_mode & 0o7777 == 0o550
    assert Path(folder.path, "new").stat().st_uid == pwd.getpwnam(folder.user).pw_uid


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_cancelled_tree_stops_and_leaves_nothing(
    alice: Client, folder: Folder, tree: Callable[..., str], tmp_path: Path, direction: str
) -> None:
    path = tree(fill=of_size(300 * MB))
    if direction == "up":
        subprocess.run(["tar", "-cf", tmp_path / "new.tar", "-C", folder.path, "tree"], check=True)
        ticket = upload(alice, folder.path, str(tmp_path / "new.tar"), directory="true")
        send(at(alice, ticket, "111"))
        at(alice, ticket, "113")
    else:
        ticket = download(alice, path)
        eventually(lambda: at(alice, ticket, "116")["data"].get("progress", {}).get("bytes"), pause=0.05)
    assert alice.delete(ticket.json()["task_url"]).status_code == 200

    eventually(lambda: not [name for name in names(folder.path) if name.startswith(".firecrest")], seconds=15)
    eventually(lambda: ticket.json()["task_id"] not in names("/home/fcalice/firecrest"), seconds=15)
    assert names(folder.path) == ["tree"]


def test_a_tree_is_unpacked_again_when_that_was_cut_off(alice: Client, folder: Folder, tree: Callable[..., str], tmp_path: Path) -> None:
    path = tree(fill=lambda path: plant(path, files=5_000))
    subprocess.run(["tar", "-cf", tmp_path / "new.tar", "-C", folder.path, "tree"], check=True)
    ticket = upload(alice, folder.path, str(tmp_path / "new.tar"), directory="true")
    send(at(alice, ticket, "111"))
    unpacking = f"{folder.path}/.firecrest-{ticket.json()['task_id']}/tree"
    eventually(lambda: Path(unpacking).is_dir(), pause=0.002)
    words = {f"--directory={unpacking}".encode(), unpacking.removesuffix("/tree").encode()}
    killed = [process.name for process in Path("/proc").glob("[0-9]*") if words & set(_words(process))]
    for process in killed:
        os.kill(int(process), signal.SIGKILL)
    assert killed
    at(alice, ticket, "114", seconds=60)

    assert seen(Path(folder.path, "new")) == seen(Path(path))


def _words(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
