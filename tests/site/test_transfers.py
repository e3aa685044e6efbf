"""Uploads and downloads by way of the object store: what the tasks say, what is refused, and what is left behind: nothing."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from schemas.settings import Storage
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from tests.site.transfers import DOWNLOAD, INVALIDATE, MB, at, complete, names, send, send_part, sent, upload

pytestmark = pytest.mark.stores("radosgw", "swift")


@pytest.mark.usefixtures("nothing_is_left")
def test_an_upload_says_at_every_status_what_the_contract_says(
    alice: Client, site: Site, folder: Folder, local: Callable[..., str]
) -> None:
    source = local(b"content")
    ticket = upload(alice, folder.path, source)
    assert ticket.json() == {
        "success": "Task created",
        "task_id": ticket.json()["task_id"],
        "task_url": f"/tasks/{ticket.json()['task_id']}",
    }

    ready = at(alice, ticket, "111")
    address = f"127.0.0.1:{site.facts['ports']['sshd']}"
    assert (ready["service"], ready["system"], ready["description"]) == ("storage", "cluster", "Form URL from Object Storage received")
    facts = {key: ready["data"][key] for key in ready["data"] if key != "msg"}
    assert facts == {
        "user": "fcalice",
        "system_name": "cluster",
        "system_addr": address,
        "target": f"{folder.path}/local.bin",
        "source": "local.bin",
        "status": "111",
        "hash_id": ticket.json()["task_id"],
        "trace_id": "",
    }
    assert set(ready["data"]["msg"]) == {"command", "parameters"}
    assert alice.get("/tasks", params={"tasks": ready["task_id"]}).json()["tasks"][ready["task_id"]]["data"] == ready["data"]

    send(ready)
    done = at(alice, ticket, "114")
    assert done["description"] == "Download from Object Storage to server has finished"
    wanted = {"source": "local.bin", "target": f"{folder.path}/local.bin", "system_name": "cluster", "system_addr": address}
    assert wanted.items() <= done["data"].items()
    assert (done["data"]["size"], done["data"]["etag"]) == (7, hashlib.md5(b"content").hexdigest())
    assert done["data"]["progress"]["bytes"] == done["data"]["progress"]["total"] == 7
    file = Path(folder.path, "local.bin")
    assert (file.read_bytes(), file.owner(), file.group(), file.stat().st_mode & 0o777) == (b"content", "fcalice", "fcalice", 0o644)


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("size", [0, 1, 20 * MB])
def test_files_of_any_size_go_up_and_down(alice: Client, folder: Folder, local: Callable[..., str], size: int) -> None:
    content = os.urandom(size)
    ticket = upload(alice, folder.path, local(content))
    send(at(alice, ticket, "111"))
    at(alice, ticket, "114")
    assert Path(folder.path, "local.bin").read_bytes() == content

    down = alice.post(DOWNLOAD, data={"sourcePath": f"{folder.path}/local.bin"})
    done = at(alice, down, "117")
    assert {"source": f"{folder.path}/local.bin", "system_name": "cluster"}.items() <= done["data"].items()
    assert requests.get(done["data"]["url"], timeout=30).content == content
    invalidated = alice.post(INVALIDATE, headers={"X-Task-Id": done["task_id"]})
    assert (invalidated.status_code, invalidated.json()) == (201, {"success": "URL invalidated successfully"})
    assert requests.get(done["data"]["url"], timeout=30).status_code == 404


@pytest.mark.usefixtures("nothing_is_left")
def test_a_file_goes_up_in_parts_when_that_is_asked_for(alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    content = os.urandom(100 * MB + 1)
    ticket = upload(alice, folder.path, local(content), multipart="true", size=len(content))
    message = at(alice, ticket, "111")["data"]["msg"]
    parts = message["parameters"]["multipart"]
    tags = {part["number"]: send_part(parts, part["number"], content) for part in parts["parts"]}
    assert complete(parts, tags).status_code == 200

    done = at(alice, ticket, "114", seconds=60)
    assert done["data"]["etag"].endswith(f"-{len(parts['parts'])}")
    assert Path(folder.path, "local.bin").read_bytes() == content


@pytest.mark.usefixtures("nothing_is_left")
def test_a_large_file_comes_down_in_parts(alice: Client, folder: Folder) -> None:
    content = os.urandom(130 * MB)
    path = folder.file("large", content)
    done = at(alice, alice.post(DOWNLOAD, data={"sourcePath": path}), "117", seconds=60)

    assert done["data"]["etag"].endswith("-3")
    assert requests.get(done["data"]["url"], timeout=60).content == content
    alice.post(INVALIDATE, headers={"X-Task-Id": done["task_id"]})


@pytest.mark.usefixtures("nothing_is_left")
def test_a_file_that_is_there_is_replaced_and_keeps_its_mode(alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    there = folder.file("there", b"before", mode=0o600)
    link = f"{folder.path}/link"
    Path(link).symlink_to(there)
    for target in (there, link):
        content = os.urandom(9)
        ticket = upload(alice, target, local(content))
        ready = at(alice, ticket, "111")
        assert ready["data"]["target"] == target
        send(ready)
        at(alice, ticket, "114")
        assert (Path(there).read_bytes(), Path(there).stat().st_mode & 0o777) == (content, 0o600)
    assert Path(link).is_symlink()


@pytest.mark.usefixtures("nothing_is_left")
def test_a_relative_target_is_in_the_home(alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    ticket = upload(alice, Path(folder.path).name, local(b"x"))
    send(at(alice, ticket, "111"))
    at(alice, ticket, "114")
    assert Path(folder.path, "local.bin").read_bytes() == b"x"


def test_only_a_download_of_ones_own_is_invalidated(alice: Client, bob: Client, folder: Folder) -> None:
    done = at(alice, alice.post(DOWNLOAD, data={"sourcePath": folder.file("mine", b"mine")}), "117")
    query = alice.task(alice.get("/compute/jobs"))
    cases: list[tuple[Client, dict[str, str], str]] = [
        (alice, {}, "Header X-Task-Id missing"),
        (alice, {"X-Task-Id": "a-b"}, "Header X-Task-Id is not alphanumeric"),
        (alice, {"X-Task-Id": "0" * 32}, "Invalid X-Task-Id"),
        (bob, {"X-Task-Id": done["task_id"]}, "Invalid X-Task-Id"),
        (alice, {"X-Task-Id": query["task_id"]}, "Could not invalidate URL"),
    ]
    for client, headers, error in cases:
        answer = client.post(INVALIDATE, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert requests.get(done["data"]["url"], timeout=10).content == b"mine"

    for _ in range(2):
        assert alice.post(INVALIDATE, headers={"X-Task-Id": done["task_id"], "X-Machine-Name": ""}).status_code == 201
    assert requests.get(done["data"]["url"], timeout=10).status_code == 404


@pytest.mark.usefixtures("nothing_is_left")
def test_what_is_wrong_only_when_the_file_comes_ends_the_task_with_115(alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    inside = folder.folder("inside")
    ticket = upload(alice, inside, local(b"content"))
    ready = at(alice, ticket, "111")
    Path(inside).chmod(0o500)
    send(ready)

    failed = at(alice, ticket, "115")
    assert (failed["data"]["status"], failed["data"]["msg"]) == ("115", ready["data"]["msg"])
    assert "Permission denied" in failed["data"]["error"]
    assert names(inside) == []


@pytest.mark.usefixtures("nothing_is_left")
def test_a_directory_in_the_way_is_told_before_anything_is_sent(alice: Client, folder: Folder) -> None:
    folder.folder("local.bin")
    failed = at(alice, upload(alice, folder.path, "/tmp/local.bin"), "400")

    assert (failed["data"]["status"], failed["data"]["target"]) == ("400", folder.path)
    assert "Is a directory" in failed["data"]["msg"]


@pytest.mark.usefixtures("nothing_is_left")
def test_what_is_too_large_is_refused_by_the_object_store_and_before(
    alice: Client, site: Site, folder: Folder, local: Callable[..., str]
) -> None:
    most = Storage.model_validate(site.facts["storage"]).max_file_size * MB
    refused = upload(alice, folder.path, "huge", size=most + 1)
    assert refused.status_code == 400
    assert refused.json() == {"description": "Failed to upload file", "error": f"The file is over {most // MB} MB"}
    assert refused.headers["X-Size-Limit"] == "File exceeds size limit"

    ticket = upload(alice, folder.path, local(b"12345"), size=4)
    ready = at(alice, ticket, "111")
    assert sent(ready).returncode == 22
    local(b"1234")
    send(ready)
    at(alice, ticket, "114")
    assert Path(folder.path, "local.bin").read_bytes() == b"1234"


@pytest.mark.usefixtures("nothing_is_left")
def test_a_special_file_is_not_downloaded(alice: Client) -> None:
    failed = at(alice, alice.post(DOWNLOAD, data={"sourcePath": "/dev/zero"}), "400")

    assert failed["data"] == {"error": "/dev/zero is not a regular file", "source": "/dev/zero", "system_name": "cluster"}


def test_the_secret_of_a_link_is_not_in_the_list_of_processes(alice: Client, folder: Folder) -> None:
    ticket = alice.post(DOWNLOAD, data={"sourcePath": folder.file("large", bytes(200 * MB))})
    seen: list[str] = []
    while alice.get(ticket.json()["task_url"], headers={"Prefer": "wait=0"}).json()["task"]["status"] < "117":
        seen.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout)

    assert any("curl -q" in shown for shown in seen)
    assert not any("X-Amz-Signature" in shown for shown in seen)
    alice.post(INVALIDATE, headers={"X-Task-Id": ticket.json()["task_id"]})


def test_the_service_is_alive_and_listed(alice: Client) -> None:
    assert alice.get("/storage/status").json() == {"success": "ack"}
    eventually(lambda: alice.get("/status/services/storage").json()["status"] == "available", seconds=15)
