"""The running site with only home directories allowed on its system: real links on the disk lead nowhere else, whatever is called."""

import os
import pwd
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from bench.changed import replaced
from tests.real_site import Client, Site
from tests.site.conftest import Folder
from tests.site.transfers import DOWNLOAD, UPLOAD, at, download, invalidate, reached, send, upload
from tests.systems import System

pytestmark = pytest.mark.usefixtures("confined")
RESTARTED = ("api", "worker-1", "worker-2", "housekeeping")
WORDS = "outside of the paths that may be used here"
SECRET = b"#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n"


@pytest.fixture(scope="module")
def confined(site: Site) -> Iterator[None]:
    """The site allows home directories only, on its main system."""
    systems = yaml.safe_load(Path(site.facts["settings"]).read_text())["systems"]
    main = [one | {"allowed_paths": ["/home/{user}"]} if one["name"] == site.facts["system"] else one for one in systems]
    with replaced(site, {"systems": main}, restarted=RESTARTED):
        yield


@pytest.fixture
def outside(folder: Folder) -> Iterator[str]:
    """A directory of alice's own that is not allowed; links in her folder lead there. It stays as it is."""
    owner = pwd.getpwnam(folder.user)
    with tempfile.TemporaryDirectory(prefix="fc-outside-", dir="/var/tmp") as path:
        for name in ("secret", "folder/secret"):
            Path(path, name).parent.mkdir(exist_ok=True)
            Path(path, name).write_bytes(SECRET)
        Path(path, "empty").mkdir()
        for entry in (Path(path), *Path(path).rglob("*")):
            os.chown(entry, owner.pw_uid, owner.pw_gid)
        for name, target in (("way", path), ("secret", f"{path}/secret"), ("empty", f"{path}/empty")):
            Path(folder.path, name).symlink_to(target)
        folder.file("mine", SECRET)
        with tarfile.open(folder.file("evil.tar"), "w") as archive:
            archive.addfile(tarfile.TarInfo("way/new"), BytesIO())
        before = looked_at(path)
        yield path
        assert looked_at(path) == before


def looked_at(root: str) -> dict[str, Any]:
    """All that there is in a directory, links as they are."""
    found = {}
    for path in (Path(root), *Path(root).rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (facts.st_mode, facts.st_nlink, facts.st_gid, facts.st_mtime_ns, content)
    return found


def put(values: dict[str, str], folder: Folder, outside: str) -> dict[str, str]:
    """Values with the places put in."""
    return {name: value.format(mine=folder.path, out=outside) for name, value in values.items()}


def called(alice: Client, verb: str, path: str, values: dict[str, str]) -> requests.Response:
    """The answer to a call; an upload has its file."""
    files = {"file": (values.pop("name"), b"evil")} if "name" in values else None
    how = "params" if verb == "GET" else "data"
    return alice.request(verb, path, files=files, **{how: values})


def open_tasks(alice: Client) -> set[str]:
    """The tasks of the user that are not final."""
    tasks = alice.get("/tasks").json()["tasks"]
    return {name for name, task in tasks.items() if task["status"] not in ("114", "115", "117", "118") and task["status"] < "200"}


AT_ONCE = [
    ("GET", "/utilities/ls", {"targetPath": "{out}"}),
    ("GET", "/utilities/ls", {"targetPath": "{mine}/way/folder"}),
    ("GET", "/utilities/head", {"targetPath": "{mine}/secret"}),
    ("GET", "/utilities/stat", {"targetPath": "{mine}/../../..{out}/secret"}),
    ("GET", "/utilities/download", {"sourcePath": "{mine}/way/secret"}),
    ("POST", "/utilities/upload", {"targetPath": "{mine}/way", "name": "new"}),
    ("POST", "/utilities/upload", {"targetPath": "{mine}", "name": "secret"}),
    ("PUT", "/utilities/rename", {"sourcePath": "{mine}/mine", "targetPath": "{out}/new"}),
    ("PUT", "/utilities/rename", {"sourcePath": "{mine}/way/secret", "targetPath": "{mine}/new"}),
    ("POST", "/utilities/copy", {"sourcePath": "{mine}/mine", "targetPath": "{mine}/way/new"}),
    ("PUT", "/utilities/chmod", {"targetPath": "{mine}/secret", "mode": "777"}),
    ("DELETE", "/utilities/rm", {"targetPath": "{mine}/way/folder"}),
    ("POST", "/utilities/mkdir", {"targetPath": "{mine}/way/a/b", "p": ""}),
    ("POST", "/utilities/symlink", {"linkPath": "{mine}/new", "targetPath": "{out}/secret"}),
    ("POST", "/utilities/symlink", {"linkPath": "{mine}/way/new", "targetPath": "{mine}/mine"}),
    ("POST", "/utilities/compress", {"sourcePath": "{mine}", "targetPath": "{mine}/new.tgz", "dereference": "true"}),
    ("POST", "/utilities/extract", {"sourcePath": "{mine}/evil.tar", "targetPath": "{mine}"}),
    ("POST", UPLOAD, {"sourcePath": "new", "targetPath": "{out}"}),
    ("POST", UPLOAD, {"sourcePath": "new", "targetPath": "{mine}/way"}),
    ("POST", DOWNLOAD, {"sourcePath": "{out}/secret"}),
    ("POST", DOWNLOAD, {"sourcePath": "{mine}/secret"}),
    ("POST", DOWNLOAD, {"sourcePath": "{mine}/way/folder", "directory": "true"}),
    ("POST", "/compute/jobs/path", {"targetPath": "{out}/secret"}),
    ("POST", "/compute/jobs/path", {"targetPath": "{mine}/way/secret"}),
]


@pytest.mark.parametrize(("verb", "path", "values"), AT_ONCE)
def test_what_leads_outside_is_refused(alice: Client, folder: Folder, outside: str, verb: str, path: str, values: dict[str, str]) -> None:
    mine, tasks = looked_at(folder.path), open_tasks(alice)
    answer = called(alice, verb, path, put(values, folder, outside))
    assert answer.status_code == 400, answer.text
    assert "X-Permission-Denied" in answer.headers
    assert looked_at(folder.path) == mine
    assert open_tasks(alice) <= tasks


BY_TASK = [
    ("/storage/xfer-internal/cp", {"sourcePath": "{mine}/mine", "targetPath": "{mine}/way/new"}),
    ("/storage/xfer-internal/cp", {"sourcePath": "{out}/secret", "targetPath": "{mine}/new"}),
    ("/storage/xfer-internal/rm", {"targetPath": "{mine}/way/folder"}),
    (UPLOAD, {"sourcePath": "secret", "targetPath": "{mine}"}),
    (UPLOAD, {"sourcePath": "empty.tar", "targetPath": "{mine}", "directory": "true"}),
]


@pytest.mark.parametrize(("path", "values"), BY_TASK)
def test_what_a_task_finds_outside_ends_it(alice: Client, folder: Folder, outside: str, path: str, values: dict[str, str]) -> None:
    mine, tasks = looked_at(folder.path), open_tasks(alice)
    answer = called(alice, "POST", path, put(values, folder, outside))
    if answer.status_code == 400:
        assert "X-Permission-Denied" in answer.headers
    else:
        task = at(alice, answer, "115", "400")
        words = task["data"]["msg"] if isinstance(task["data"], dict) else task["data"]
        assert words.endswith(WORDS), task
    assert set(looked_at(folder.path)) == set(mine)
    assert open_tasks(alice) <= tasks


def test_what_is_inside_can_be_used_as_ever(alice: Client, folder: Folder, outside: str, local: Callable[..., str], system: System) -> None:
    path = folder.path
    Path(path, "near").symlink_to("mine")
    assert alice.get("/utilities/head", params={"targetPath": f"{path}/near"}).json()["output"] == SECRET.decode()
    sent = alice.post("/utilities/upload", data={"targetPath": path}, files={"file": ("sent", b"content")})
    assert sent.status_code == 201, sent.text
    moved = alice.put("/utilities/rename", data={"sourcePath": f"{path}/sent", "targetPath": f"{path}/moved"})
    assert moved.status_code == 200, moved.text
    assert alice.delete("/utilities/rm", data={"targetPath": f"{path}/way"}).status_code == 204
    assert (Path(path, "moved").read_bytes(), Path(path, "way").is_symlink()) == (b"content", False)

    ready = at(alice, upload(alice, path, local(b"staged", "staged")), "111")
    send(ready)
    reached(alice, ready["task_id"], "114", seconds=60)
    assert Path(path, "staged").read_bytes() == b"staged"
    staged = at(alice, download(alice, f"{path}/staged"), "117", seconds=60)
    assert requests.get(staged["data"]["url"], timeout=60).content == b"staged"
    assert invalidate(alice, staged["task_id"]).status_code == 201

    task = alice.task(alice.post("/compute/jobs/path", data={"targetPath": f"{path}/mine"}), seconds=60)
    assert task["status"] == "200", task
    system.cancel_all("fcalice")
