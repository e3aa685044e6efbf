"""Uploads and downloads by way of the object store: what the tasks say, what is refused, and what is left behind: nothing."""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from schemas.settings import Storage
from tests.real_site import Client, Site, eventually
from tests.site.conftest import Folder
from workers.staging.client import Client as Store

UPLOAD, DOWNLOAD, INVALIDATE = (f"/storage/xfer-external/{name}" for name in ("upload", "download", "invalidate"))
MB = 1024 * 1024
pytestmark = pytest.mark.stores("radosgw", "swift")


@pytest.fixture(scope="module")
def store(site: Site) -> Store:
    """The object store as its administrator sees it."""
    return Store(Storage.model_validate(site.facts["storage"]))


@pytest.fixture
def staged(store: Store, alice: Client) -> Callable[[], list[str]]:
    """The keys of all that is in alice's bucket, unfinished uploads too."""

    def keys() -> list[str]:
        if not store.bucket_exists(alice.user):
            return []
        whole = [str(entry.object_name) for entry in store.list_objects(alice.user, recursive=True)]
        return [*whole, *(place.key for place, _, _ in store.unfinished_uploads(alice.user))]

    return keys


@pytest.fixture
def nothing_is_left(staged: Callable[[], list[str]], folder: Folder) -> Iterator[None]:
    """Whatever the test does, nothing of it stays in the bucket, in the job folders, or as a hidden file at the target."""
    before = set(staged()), set(_tasks_folders())
    yield
    eventually(lambda: (set(staged()) <= before[0], set(_tasks_folders()) <= before[1]) == (True, True), seconds=15)
    assert not [entry for entry in names(folder.path) if entry.startswith(".firecrest")]


def _tasks_folders() -> list[str]:
    return names("/home/fcalice/firecrest")


def names(folder: str) -> list[str]:
    """What a folder holds; nothing when it is not there."""
    return sorted(entry.name for entry in Path(folder).iterdir()) if Path(folder).exists() else []


def upload(alice: Client, target: str, source: str, **more: Any) -> requests.Response:
    return alice.post(UPLOAD, data={"targetPath": target, "sourcePath": source, **more})


def at(alice: Client, ticket: requests.Response, *statuses: str, seconds: float = 30) -> dict[str, Any]:
    """The task, once it has one of the statuses."""
    assert ticket.status_code == 201, ticket.text

    def there() -> dict[str, Any] | None:
        task: dict[str, Any] = alice.get(ticket.json()["task_url"]).json()["task"]
        assert task["status"] in statuses or task["status"] not in ("114", "115", "117", "118", "400"), task
        return task if task["status"] in statuses else None

    return eventually(there, seconds=seconds, pause=0.05)


def send(command: str) -> None:
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def local(tmp_path: Path) -> Callable[..., str]:
    """Makes a file on the client's machine."""

    def make(content: bytes, name: str = "local.bin") -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return make


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

    send(ready["data"]["msg"]["command"])
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
    send(at(alice, ticket, "111")["data"]["msg"]["command"])
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
    tags, sent = [], 0
    for part in parts["parts"]:
        answer = requests.put(part["url"], data=content[sent : sent + part["size"]], timeout=60)
        assert answer.status_code == 200, answer.text
        tags.append(f"<Part><PartNumber>{part['number']}</PartNumber><ETag>{answer.headers['ETag']}</ETag></Part>")
        sent += part["size"]
    body = f"<CompleteMultipartUpload>{''.join(tags)}</CompleteMultipartUpload>"
    assert requests.post(parts["complete"]["url"], data=body, headers=parts["complete"]["headers"], timeout=60).status_code == 200

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
        send(ready["data"]["msg"]["command"])
        at(alice, ticket, "114")
        assert (Path(there).read_bytes(), Path(there).stat().st_mode & 0o777) == (content, 0o600)
    assert Path(link).is_symlink()


@pytest.mark.usefixtures("nothing_is_left")
def test_a_relative_target_is_in_the_home(alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    ticket = upload(alice, Path(folder.path).name, local(b"x"))
    send(at(alice, ticket, "111")["data"]["msg"]["command"])
    at(alice, ticket, "114")
    assert Path(folder.path, "local.bin").read_bytes() == b"x"


REFUSED = [
    ({"sourcePath": "a"}, {"error": "'targetPath' not specified"}, {}),
    ({"targetPath": "", "sourcePath": "a"}, {"error": "'targetPath' is empty"}, {}),
    ({"targetPath": "a;b", "sourcePath": ""}, {"error": "'targetPath' has invalid char"}, {}),
    ({"targetPath": "{home}"}, {"error": "'sourcePath' not specified"}, {}),
    ({"targetPath": "{home}", "sourcePath": "a'b"}, {"error": "'sourcePath' has invalid char"}, {}),
    ({"targetPath": "{home}", "sourcePath": "a\nb"}, {"error": "'sourcePath' has invalid char"}, {}),
    ({"targetPath": "{home}", "sourcePath": "dir/"}, {"error": "'sourcePath' is not the name of a file"}, {}),
    ({"targetPath": "{home}", "sourcePath": ".."}, {"error": "'sourcePath' is not the name of a file"}, {}),
    ({"targetPath": "{home}", "sourcePath": "a", "multipart": "true"}, {"error": "'size' not specified"}, {}),
    ({"targetPath": "{home}", "sourcePath": "a", "size": "-1"}, {"error": "'size' is not a whole number"}, {}),
    (
        {"targetPath": "{home}/no/where", "sourcePath": "a"},
        {"error": "'targetPath' directory not allowed"},
        {"X-Invalid-Path": "{home}/no is an invalid path."},
    ),
    (
        {"targetPath": "/etc", "sourcePath": "a"},
        {"error": "'targetPath' directory not allowed"},
        {"X-Permission-Denied": "User does not have permissions to access machine or path"},
    ),
    (
        {"targetPath": "{home}/text/below", "sourcePath": "a"},
        {"error": "'targetPath' directory not allowed"},
        {"X-Not-A-Directory": "{home}/text is not a directory"},
    ),
]


@pytest.mark.usefixtures("no_task_is_made")
@pytest.mark.parametrize(("form", "body", "headers"), REFUSED)
def test_an_upload_is_refused_in_the_contracts_words(alice: Client, folder: Folder, form: Any, body: Any, headers: Any) -> None:
    folder.file("text", b"x")
    answer = alice.post(UPLOAD, data={name: value.format(home=folder.path) for name, value in form.items()})

    assert answer.status_code == 400
    assert answer.json() == {"description": "Failed to upload file", **body}
    told = {name: value for name, value in answer.headers.items() if name.startswith("X-")}
    assert told == {name: value.format(home=folder.path) for name, value in headers.items()}
    assert names(folder.path) == ["text"]


@pytest.mark.usefixtures("no_task_is_made")
def test_a_download_is_refused_in_the_contracts_words(alice: Client, folder: Folder) -> None:
    secret = folder.file("secret", mode=0o000)
    cases = {
        f"{folder.path}/missing": ("X-Invalid-Path", f"{folder.path}/missing is an invalid path."),
        folder.path: ("X-A-Directory", f"{folder.path} is a directory"),
        secret: ("X-Permission-Denied", "User does not have permissions to access machine or path"),
    }
    for path, (name, value) in cases.items():
        answer = alice.post(DOWNLOAD, data={"sourcePath": path})
        assert (answer.status_code, answer.json(), answer.headers[name]) == (400, {"description": "sourcePath error"}, value)
    empty = alice.post(DOWNLOAD)
    assert (empty.status_code, empty.json()) == (400, {"description": "Failed to download file", "error": "'sourcePath' not specified"})


@pytest.mark.usefixtures("no_task_is_made")
@pytest.mark.parametrize("path", [UPLOAD, DOWNLOAD])
def test_the_system_must_be_named_and_known(alice: Client, path: str) -> None:
    unnamed = alice.post(path, headers={"X-Machine-Name": ""})
    unknown = alice.post(path, headers={"X-Machine-Name": "nowhere"})

    assert (unnamed.status_code, unnamed.json()) == (400, {"description": "No machine name given"})
    assert (unknown.status_code, unknown.json()) == (400, {"description": "Failed operation", "error": "Machine does not exists"})
    assert unknown.headers["X-Machine-Does-Not-Exist"] == "Machine does not exist"
    assert unknown.headers["X-Machine-Does-Not-Exists"] == "Machine does not exists"


def test_a_user_who_is_not_let_in_gets_404(site: Site) -> None:
    answer = Client(site, "nobody").post(DOWNLOAD, data={"sourcePath": "/etc/hostname"})

    assert (answer.status_code, answer.json()) == (404, {"description": "sourcePath error"})
    assert "X-Permission-Denied" in answer.headers


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
def test_a_cancelled_upload_leaves_nothing_and_its_file_is_not_taken(
    alice: Client, folder: Folder, local: Callable[..., str], staged: Any
) -> None:
    ticket = upload(alice, folder.path, local(b"late"))
    ready = at(alice, ticket, "111")
    cancelled = alice.delete(ticket.json()["task_url"])
    assert cancelled.status_code == 200
    assert (cancelled.json()["task"]["status"], cancelled.json()["task"]["data"]) == ("400", "Deleted on request")
    assert ready["task_id"] not in alice.site.redis().smembers("awaited:fcalice")
    assert names(folder.path) == []
    assert alice.delete(ticket.json()["task_url"]).status_code == 400


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_transfer_cancelled_while_bytes_move_stops_and_leaves_nothing(
    alice: Client, folder: Folder, local: Callable[..., str], direction: str
) -> None:
    content = bytes(400 * MB)
    if direction == "up":
        ticket = upload(alice, folder.path, local(content))
        send(at(alice, ticket, "111")["data"]["msg"]["command"])
        at(alice, ticket, "113")
    else:
        ticket = alice.post(DOWNLOAD, data={"sourcePath": folder.file("large", content)})
        at(alice, ticket, "116")
    before = set(names(folder.path))
    assert alice.delete(ticket.json()["task_url"]).status_code == 200

    eventually(lambda: ticket.json()["task_id"] not in _tasks_folders(), seconds=15)
    assert "local.bin" not in before | set(names(folder.path))
    assert not [
        line
        for line in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.split("\n")
        if "curl -q" in line
    ]


@pytest.mark.usefixtures("nothing_is_left")
def test_what_is_wrong_only_when_the_file_comes_ends_the_task_with_115(alice: Client, folder: Folder, local: Callable[..., str]) -> None:
    inside = folder.folder("inside")
    ticket = upload(alice, inside, local(b"content"))
    ready = at(alice, ticket, "111")
    Path(inside).chmod(0o500)
    send(ready["data"]["msg"]["command"])

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
    failed = at(alice, upload(alice, folder.path, "huge", size=most + 1), "400")
    assert failed["data"]["msg"] == "File exceeds size limit"

    ticket = upload(alice, folder.path, local(b"12345"), size=4)
    command = at(alice, ticket, "111")["data"]["msg"]["command"]
    assert subprocess.run(shlex.split(command), capture_output=True, check=False).returncode == 22
    alice.delete(ticket.json()["task_url"])


@pytest.mark.usefixtures("nothing_is_left")
def test_a_special_file_is_not_downloaded(alice: Client) -> None:
    failed = at(alice, alice.post(DOWNLOAD, data={"sourcePath": "/dev/zero"}), "400")

    assert failed["data"] == {"error": "/dev/zero is not a regular file", "source": "/dev/zero", "system_name": "cluster"}


def test_the_secret_of_a_link_is_not_in_the_list_of_processes(alice: Client, folder: Folder) -> None:
    ticket = alice.post(DOWNLOAD, data={"sourcePath": folder.file("large", bytes(200 * MB))})
    seen: list[str] = []
    while alice.get(ticket.json()["task_url"]).json()["task"]["status"] < "117":
        seen.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout)

    assert any("curl -q" in shown for shown in seen)
    assert not any("X-Amz-Signature" in shown for shown in seen)
    alice.post(INVALIDATE, headers={"X-Task-Id": ticket.json()["task_id"]})


def test_the_service_is_alive_and_listed(alice: Client) -> None:
    assert alice.get("/storage/status").json() == {"success": "ack"}
    assert alice.get("/status/services/storage").json()["status"] == "available"
