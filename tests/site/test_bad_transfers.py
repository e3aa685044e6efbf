"""Transfers whose files, targets and users are not as they should be: each ends clearly, and leaves nothing."""

import grp
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from broker.keys import signing_key
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.site.test_identity import Issuer, issuer, stranger  # noqa: F401 (fixtures)
from tests.site.transfers import (
    MB,
    Local,
    at,
    complete,
    download,
    held_back,
    held_from_its_start,
    invalidate,
    names,
    reached,
    send,
    send_part,
    upload,
)
from workers.kept_states import KeptStates
from workers.staging.client import Client as ObjectStore

pytestmark = [pytest.mark.usefixtures("nothing_is_left"), pytest.mark.stores("radosgw", "swift")]

NAMES = [
    "with  blanks ",
    " leading",
    "ümläut 名 🎉",
    "-leading dash",
    "--help",
    "${filename}",
    "$HOME ~ * ? [a-z] {1,2} # ! , : @ + = %41",
    ".hidden",
    "...",
    "n" * 255,
    "名" * 85,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_goes_up_and_down(alice: Client, folder: Folder, local: Local, name: str) -> None:
    ticket = upload(alice, folder.path, local(b"content", name))
    send(at(alice, ticket, "111"))
    assert at(alice, ticket, "114")["data"]["target"] == f"{folder.path}/{name}"
    assert Path(folder.path, name).read_bytes() == b"content"
    Path(folder.path, name).write_bytes(b"changed")

    done = at(alice, download(alice, f"{folder.path}/{name}"), "117")
    assert requests.get(done["data"]["url"], timeout=10).content == b"changed"
    assert invalidate(alice, done["task_id"]).status_code == 201


# What is at the target, and what is said of it before anything is sent.
UNFIT: dict[str, tuple[Callable[[Folder], object], str]] = {
    "a directory of the file's name": (lambda folder: folder.folder("local.bin"), "Is a directory"),
    "a fifo": (lambda folder: os.mkfifo(f"{folder.path}/local.bin"), "Not a regular file"),
    "a link to a device": (lambda folder: Path(folder.path, "local.bin").symlink_to("/dev/null"), "Not a regular file"),
    "a link into nowhere": (lambda folder: Path(folder.path, "local.bin").symlink_to("no/where"), "No such file or directory"),
    "a link in circles": (lambda folder: Path(folder.path, "local.bin").symlink_to("local.bin"), "Too many levels of symbolic links"),
    "a file that must not be written": (lambda folder: folder.file("local.bin", mode=0o444), "Permission denied"),
    "a link to another's file": (lambda folder: Path(folder.path, "local.bin").symlink_to("/etc/passwd"), "Permission denied"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_an_unfit_target_is_told_before_anything_is_sent(alice: Client, folder: Folder, unfit: str) -> None:
    make, words = UNFIT[unfit]
    make(folder)
    failed = at(alice, upload(alice, folder.path, "/tmp/local.bin"), "400")

    assert (failed["description"], failed["data"]["status"], failed["data"]["source"]) == ("Finished with errors", "400", "local.bin")
    assert words in failed["data"]["msg"]
    assert names(folder.path) == ["local.bin"]


def test_a_name_that_is_too_long_is_told_before_anything_is_sent(alice: Client, folder: Folder) -> None:
    failed = at(alice, upload(alice, folder.path, "n" * 256), "400")

    assert "File name too long" in failed["data"]["msg"]


def test_a_file_goes_where_a_dangling_link_leads(alice: Client, folder: Folder, local: Local) -> None:
    Path(folder.path, "link").symlink_to("new")
    ticket = upload(alice, f"{folder.path}/link", local(b"content"))
    send(at(alice, ticket, "111"))
    at(alice, ticket, "114")

    assert (Path(folder.path, "new").read_bytes(), Path(folder.path, "link").is_symlink()) == (b"content", True)


def test_a_new_file_gets_the_directorys_group_and_a_replaced_one_keeps_its_own(alice: Client, folder: Folder, local: Local) -> None:
    shared = folder.folder("shared", mode=0o2775)
    group = grp.getgrnam("fcbob").gr_gid
    os.chown(shared, -1, group)
    Path(shared).chmod(0o2775)
    for content in (b"first", b"second"):
        ticket = upload(alice, shared, local(content))
        send(at(alice, ticket, "111"))
        at(alice, ticket, "114")
        file = Path(shared, "local.bin")
        mode = 0o644 if content == b"first" else 0o640
        facts = file.stat()
        assert (file.read_bytes(), file.owner(), facts.st_gid, facts.st_mode & 0o7777) == (content, "fcalice", group, mode)
        file.chmod(0o640)


# What becomes of the target while the client sends, and how the task ends.
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "its directory is removed": (lambda target: target.parent.rmdir(), "No such file or directory"),
    "its directory is closed": (lambda target: target.parent.chmod(0o500), "Permission denied"),
    "a directory appears": (lambda target: target.mkdir(), "Is a directory"),
    "a fifo appears": (os.mkfifo, "Not a regular file"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_wrong_only_when_the_file_comes_ends_the_task_with_115(alice: Client, folder: Folder, local: Local, spoilt: str) -> None:
    spoil, words = SPOILT[spoilt]
    target = Path(folder.folder("inside"), "local.bin")
    ticket = upload(alice, str(target.parent), local(b"content"))
    ready = at(alice, ticket, "111")
    spoil(target)
    send(ready)

    failed = at(alice, ticket, "115")
    assert (failed["description"], failed["data"]["status"]) == ("Download from Object Storage error", "115")
    assert failed["data"]["msg"] == ready["data"]["msg"]
    assert words in failed["data"]["error"]
    assert not target.is_file()


@pytest.fixture
def small_disk(folder: Folder) -> Iterator[str]:
    """A folder that holds one megabyte."""
    path = folder.folder("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_ends_the_task_with_115(alice: Client, small_disk: str, local: Local) -> None:
    ticket = upload(alice, small_disk, local(bytes(3 * MB)))
    send(at(alice, ticket, "111"))

    assert "No space left on device" in at(alice, ticket, "115")["data"]["error"]
    assert names(small_disk) == []


def test_a_file_that_is_deleted_from_the_store_before_it_is_fetched_must_be_sent_again(
    alice: Client, object_store: ObjectStore, folder: Folder, local: Local
) -> None:
    ticket = upload(alice, folder.path, local(b"content"))
    ready = at(alice, ticket, "111")
    with held_back(ready["task_id"]):
        send(ready)
        at(alice, ticket, "113")
        object_store.remove_object(alice.user, f"{ready['task_id']}/local.bin")

    assert at(alice, ticket, "400")["data"] == "File was deleted from staging area. Start a new upload process"
    assert names(folder.path) == []


def test_a_file_that_is_replaced_in_the_store_is_not_taken(alice: Client, folder: Folder, local: Local) -> None:
    ticket = upload(alice, folder.path, local(b"content"))
    ready = at(alice, ticket, "111")
    with held_back(ready["task_id"]):
        send(ready)
        at(alice, ticket, "113")
        local(b"another")
        send(ready)

    assert "was replaced in the staging area" in at(alice, ticket, "115")["data"]["error"]
    assert names(folder.path) == []


def test_parts_that_do_not_make_the_file_are_told(alice: Client, folder: Folder, local: Local) -> None:
    content = os.urandom(100 * MB)
    ticket = upload(alice, folder.path, local(b""), multipart="true", size=len(content))
    parts = at(alice, ticket, "111")["data"]["msg"]["parameters"]["multipart"]
    short = requests.put(parts["parts"][1]["url"], data=b"short", timeout=30)
    assert short.status_code == 403
    tag = send_part(parts, 1, content)
    assert complete(parts, {1: '"' + "0" * 32 + '"'}).status_code == 400
    assert complete(parts, {1: tag}).status_code == 200

    failed = at(alice, ticket, "400")
    assert failed["data"]["msg"] == f"The file that came has {64 * MB} bytes instead of {len(content)}"
    assert names(folder.path) == []


def _let_the_link_expire(site: Site, task_id: str) -> None:
    redis, record = site.redis(), f"task:{task_id}"
    states = KeptStates(signing_key(Path(site.facts["keys"]["private"]), "worker"))
    state = states.verified(task_id, json.loads(redis.hget(record, "state") or "{}")) | {"expires": time.time() - 1}
    redis.hset(record, mapping={"state": json.dumps(states.signed(task_id, state)), "rest": f"{time.time():.6f}"})
    redis.zadd("tasks:open", {task_id: time.time()})


@pytest.mark.parametrize("more", [{}, {"multipart": "true", "size": 70 * MB}])
def test_an_upload_whose_link_expires_ends_whatever_parts_have_come(
    alice: Client, site: Site, folder: Folder, local: Local, more: dict[str, Any]
) -> None:
    ticket = upload(alice, folder.path, local(b"late"), **more)
    ready = at(alice, ticket, "111")
    if more:
        send_part(ready["data"]["msg"]["parameters"]["multipart"], 1, bytes(64 * MB))
    _let_the_link_expire(site, ready["task_id"])

    assert at(alice, ticket, "400")["data"]["msg"] == "The link has expired before the file came"
    assert invalidate(alice, ready["task_id"]).json()["error"] == "Could not invalidate URL"


def test_a_transfer_outlives_the_token_it_was_asked_for_with(
    alice: Client,
    site: Site,
    folder: Folder,
    local: Local,
    issuer: Issuer,  # noqa: F811
) -> None:
    token = issuer.token(exp=int(time.time()) + 4)
    headers = {"Authorization": f"Bearer {token}", "X-Machine-Name": site.facts["system"]}
    form = {"targetPath": folder.path, "sourcePath": local(b"content")}
    ticket = requests.post(f"{site.url}/storage/xfer-external/upload", data=form, headers=headers, timeout=30)
    ready = at(alice, ticket, "111")
    eventually(lambda: requests.get(f"{site.url}/tasks", headers=headers, timeout=30).status_code == 401)
    send(ready)

    at(alice, ticket, "114")
    assert Path(folder.path, "local.bin").read_bytes() == b"content"


# What becomes of the source before it is read, and how the task ends.
LOST: dict[str, tuple[Callable[[Path], object], str]] = {
    "it is removed": (Path.unlink, "cannot be read"),
    "it is closed": (lambda source: source.chmod(0), "cannot be read"),
    "it grows": (lambda source: source.write_bytes(b"more than there was"), "has changed while it was read"),
}


@pytest.mark.parametrize("lost", LOST)
def test_a_source_that_changes_under_way_ends_the_task_with_118(alice: Client, site: Site, folder: Folder, lost: str) -> None:
    lose, words = LOST[lost]
    source = folder.file("source", b"content")
    with held_from_its_start(site, lambda: str(download(alice, source).json()["task_id"])) as task_id:
        eventually(lambda: alice.get(f"/tasks/{task_id}").json()["task"]["status"] == "116")
        lose(Path(source))

    failed = reached(alice, task_id, "118")
    assert failed["description"] == "Upload from filesystem to Object Storage has finished with errors"
    assert failed["data"]["error"].startswith("Upload to Staging area has failed. Object: source. ")
    assert words in failed["data"]["error"]
    assert (failed["data"]["source"], failed["data"]["system_name"]) == (source, "cluster")
    assert invalidate(alice, failed["task_id"]).json()["error"] == "Could not invalidate URL"


def test_a_download_whose_parts_are_removed_by_hand_ends_with_118(
    alice: Client, site: Site, folder: Folder, object_store: ObjectStore
) -> None:
    source = folder.file("source", bytes(70 * MB))
    with held_from_its_start(site, lambda: str(download(alice, source).json()["task_id"])) as task_id:
        reached(alice, task_id, "116")

        def begun() -> list[Any]:
            return [found for found in object_store.unfinished_uploads(alice.user) if found[0].task_id == task_id]

        ((place, number, _),) = eventually(begun)
        object_store.abort_upload(place, number)

    assert "not in the Staging Area" in reached(alice, task_id, "118")["data"]["error"]


def test_a_special_file_is_not_downloaded(alice: Client) -> None:
    failed = at(alice, download(alice, "/dev/zero"), "400")

    assert failed["data"] == {"error": "/dev/zero is not a regular file", "source": "/dev/zero", "system_name": "cluster"}
