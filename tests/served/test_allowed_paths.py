"""A system on which only some paths may be used: whatever a parameter says, and wherever links lead, nothing else is read or changed."""

import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import schemas.catalogue  # noqa: F401 (every operation)
from schemas.operation import INTERNAL, OPERATIONS, Course, Operation
from schemas.places import NotOnSystem, OnSystem, mark
from schemas.settings import Settings
from tests.real_site import eventually

WORDS = "outside of the paths that may be used here"
SECRET = b"nobody's business\n"


@pytest.fixture
def root(settings: Settings) -> Iterator[Path]:
    """The folder that holds what is allowed to `somebody`, in `somebody`, and what is not, in `else`."""
    walled = settings.system("walled")
    assert walled
    root = Path(walled.allowed_paths[0]).parent
    for name in ("somebody/folder", "else/folder"):
        (root / name).mkdir(parents=True)
    for name in ("somebody/file", "else/secret", "else/folder/secret"):
        (root / name).write_bytes(SECRET)
    mine = root / "somebody"
    (mine / "to-else").symlink_to("../else")
    (mine / "to-secret").symlink_to(root / "else" / "secret")
    (mine / "to-nothing").symlink_to(root / "else" / "nothing")
    (mine / "around").symlink_to("folder")
    (mine / "folder" / "up").symlink_to("../..")
    yield root
    shutil.rmtree(root)
    root.mkdir()


@pytest.fixture
def outside(root: Path) -> Iterator[None]:
    """Whatever the test does, what is outside stays as it was."""
    before = looked_at(root)
    yield
    assert looked_at(root) == before


def looked_at(root: Path) -> dict[str, Any]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_nlink, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted((root / "else").rglob("*"))
    }


def sent(client: FlaskClient, operation: type[Operation], values: dict[str, Any]) -> TestResponse:
    how = "query_string" if operation.route.verb == "GET" else "data"
    values = {name: (io.BytesIO(value), "name") if isinstance(value, bytes) else value for name, value in values.items()}
    return client.open(operation.route.path, method=operation.route.verb, headers={"X-Machine-Name": "walled"}, **{how: values})


def failure(client: FlaskClient, answer: TestResponse) -> tuple[Any, Any]:
    """How a call fails, at once or by its task: the header if there is one, and the words."""
    if answer.status_code >= 400:
        return answer.headers.get("X-Permission-Denied"), (answer.json or {}).get("error")
    assert "task_id" in (answer.json or {}), answer.text

    def final() -> Any:
        task = client.get(f"/tasks/{answer.json['task_id']}").json["task"]
        return task if task["status"] >= "200" else None

    return None, eventually(final)["data"]


# What else a call needs to be one.
MORE: dict[str, dict[str, Any]] = {
    "utilities.UploadFile": {"file": b"content"},
    "utilities.Chmod": {"mode": "600"},
    "utilities.Chown": {"group": "root"},
    "utilities.Extract": {"extension": "tar"},
    "compute.ExtractJob": {"extension": "tar"},
    "storage.StageIn": {"sourcePath": "/somewhere/here"},
}
PARAMETERS = [
    (operation, field.alias) for operation in OPERATIONS for field in operation.model_fields.values() if isinstance(mark(field), OnSystem)
]
# Where a link itself is meant, and not what it points to.
ENTRIES = {
    ("utilities.Rm", "targetPath"), ("utilities.Rename", "sourcePath"), ("utilities.Copy", "sourcePath"), ("compute.CopyJob", "sourcePath"),
    ("compute.MoveJob", "sourcePath"), ("compute.RsyncJob", "sourcePath"), ("compute.RemoveJob", "targetPath"),
}  # fmt: skip
WAYS = {
    "named": "{root}/else/secret",
    "above": "{mine}/../else/secret",
    "through a link to a directory": "{mine}/to-else/secret",
    "through a link to above": "{mine}/around/up/else/secret",
    "by what begins alike": "{mine}-not/x",
    "below what is not there": "{mine}/none/../../else/new",
    "a link to a file": "{mine}/to-secret",
    "a link to what is not there": "{mine}/to-nothing",
    "all there is": "{root}",
    "relative": "../../../../../../../../etc/passwd",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("operation", "name"), PARAMETERS, ids=lambda item: item if isinstance(item, str) else item.task())
def test_no_path_leads_outside(client: FlaskClient, root: Path, outside: None, operation: type[Operation], name: str, way: str) -> None:
    if (operation.task(), name) in ENTRIES and way.startswith("a link to"):
        pytest.skip("the link is inside")
    mine = root / "somebody"
    path = WAYS[way].format(root=root, mine=mine)
    others = {alias: f"{mine}/file" for one, alias in PARAMETERS if one is operation}
    if operation.task() == "utilities.Stat":
        others = {}
    answer = sent(client, operation, others | MORE.get(operation.task(), {}) | {name: path})
    header, words = failure(client, answer)
    probed = operation.route.probe is not None and operation.route.service == "storage" and not operation.route.transfer_job
    if answer.status_code >= 400:
        assert header in ("User does not have permissions to access path", "User does not have permissions to access machine or path")
    assert probed or operation.task() == "compute.SubmitPath" or str(words).endswith(WORDS), words


@pytest.mark.parametrize(
    ("operation", "values"),
    [
        ("Ls", {"targetPath": "{mine}", "recursive": "true", "followLinks": "true"}),
        ("Ls", {"targetPath": "{mine}", "followLinks": "true"}),
        ("Ls", {"targetPath": "{mine}/around", "followLinks": "true", "recursive": "true"}),
        ("Symlink", {"linkPath": "{mine}/folder/new", "targetPath": "../../else"}),
        ("Symlink", {"linkPath": "{mine}/new", "targetPath": "/etc/passwd"}),
        ("Symlink", {"linkPath": "{mine}/folder", "targetPath": "../../else/secret"}),
        ("Symlink", {"linkPath": "{mine}/new", "targetPath": "to-secret"}),
        ("UploadFile", {"targetPath": "{mine}", "file": (io.BytesIO, "to-secret")}),
        ("UploadFile", {"targetPath": "{mine}", "file": (io.BytesIO, "to-nothing")}),
        ("Compress", {"sourcePath": "{mine}", "targetPath": "{mine}/a.tgz", "dereference": "true"}),
        ("CompressJob", {"sourcePath": "{mine}", "targetPath": "{mine}/a.tgz", "dereference": "true"}),
        ("Copy", {"sourcePath": "{mine}/tree", "targetPath": "{mine}/copies"}),
        ("CopyJob", {"sourcePath": "{mine}/tree", "targetPath": "{mine}/copies"}),
        ("Copy", {"sourcePath": "{mine}/tree/.", "targetPath": "{mine}/copies/tree"}),
        ("Copy", {"sourcePath": "{mine}/to-else/", "targetPath": "{mine}/new"}),
        ("Rename", {"sourcePath": "{mine}/to-else/secret", "targetPath": "{mine}/new"}),
        ("Mkdir", {"targetPath": "{mine}/to-nothing/a/b", "p": ""}),
        ("Rm", {"targetPath": "{mine}/to-else/"}),
        ("Extract", {"sourcePath": "{mine}/evil.tar", "targetPath": "{mine}"}),
        ("Extract", {"sourcePath": "{mine}/evil.zip", "targetPath": "{mine}"}),
        ("ExtractJob", {"sourcePath": "{mine}/evil.tar", "targetPath": "{mine}"}),
        ("Extract", {"sourcePath": "{mine}/evil.tar", "targetPath": "{mine}/folder/up"}),
    ],
)  # fmt: skip
def test_no_link_on_the_way_leads_outside(client: FlaskClient, root: Path, outside: None, operation: str, values: dict) -> None:
    mine = root / "somebody"
    for name in ("tree", "copies/tree"):
        (mine / name).mkdir(parents=True)
    (mine / "tree" / "file").write_text("mine")
    (mine / "copies" / "tree" / "file").symlink_to(root / "else" / "secret")
    with tarfile.open(mine / "evil.tar", "w") as archive:
        member = tarfile.TarInfo("to-else/secret")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    with zipfile.ZipFile(mine / "evil.zip", "w") as zipped:
        zipped.writestr("to-else/secret", "evil")
    before = sorted(mine.rglob("*"))
    kind = next(one for one in OPERATIONS if one.__name__ == operation)
    made = {name: value.format(mine=mine) if isinstance(value, str) else (value[0](b"evil"), value[1]) for name, value in values.items()}
    header, words = failure(client, sent(client, kind, made))
    assert str(words).endswith(WORDS), words
    assert kind.route.course is Course.DEFERRED or header == "User does not have permissions to access path"
    assert sorted(mine.rglob("*")) == before


@pytest.mark.parametrize("way", ["{root}/else", "../else", "in/../../else"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_archive_leads_nowhere_by_links_that_it_brings(client: FlaskClient, root: Path, outside: None, way: str, kind: bytes) -> None:
    mine = root / "somebody"
    (mine / "new" / "in").mkdir(parents=True)
    with tarfile.open(mine / "evil.tar", "w") as archive:
        for name, link in (("way", way.format(root=root)), ("stolen", f"{way.format(root=root)}/secret")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member)
        member = tarfile.TarInfo("way/new")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    extract = next(one for one in OPERATIONS if one.__name__ == "Extract")
    sent(client, extract, {"sourcePath": f"{mine}/evil.tar", "targetPath": f"{mine}/new"})
    for path in ("new/stolen", "new/way/secret"):
        answer = client.get("/utilities/head", query_string={"targetPath": f"{mine}/{path}"}, headers={"X-Machine-Name": "walled"})
        assert answer.status_code == 400
        assert SECRET not in answer.data


def test_what_is_inside_can_be_used_as_ever(client: FlaskClient, root: Path, outside: None) -> None:
    def call(verb: str, name: str, **values: str) -> Any:
        how = "query_string" if verb == "GET" else "data"
        found = {key: value.format(mine=mine) for key, value in values.items()}
        answer = client.open(f"/utilities/{name}", method=verb, headers={"X-Machine-Name": "walled"}, **{how: found})
        assert answer.status_code < 300, answer.text
        return answer.json["output"] if answer.data else None

    mine = root / "somebody"
    (mine / "odd\n: name").mkdir()
    (mine / "odd\n: name" / "link").symlink_to("../folder")
    (mine / "folder" / "up").unlink()
    assert call("GET", "head", targetPath="{mine}/around/../file") == SECRET.decode()
    assert {entry["name"] for entry in call("GET", "ls", targetPath="{mine}")} >= {"to-else", "to-secret", "file"}
    for name in ("to-else", "to-secret", "to-nothing"):
        call("PUT", "rename", sourcePath=f"{{mine}}/{name}", targetPath="{mine}/moved")
        call("DELETE", "rm", targetPath="{mine}/moved")
    assert "folder" in {entry["name"] for entry in call("GET", "ls", targetPath="{mine}", recursive="true", followLinks="true")}
    call("POST", "symlink", linkPath="{mine}/folder/new", targetPath="../file")
    assert call("GET", "head", targetPath="{mine}/folder/new") == SECRET.decode()
    call("POST", "compress", sourcePath="{mine}/folder", targetPath="{mine}/a.tgz", dereference="true")
    call("POST", "mkdir", targetPath="{mine}/out/of/it", p="")
    call("POST", "extract", sourcePath="{mine}/a.tgz", targetPath="{mine}/out/of/it")
    assert (mine / "out/of/it/folder/new").read_bytes() == SECRET
    call("POST", "copy", sourcePath="{mine}/out", targetPath="{mine}/copy")
    call("POST", "mkdir", targetPath=f"{root}/shared")
    call("DELETE", "rm", targetPath=f"{root}/shared")
    assert call("GET", "whoami")


PATHLIKE = ("path", "file", "folder", "director", "link", "output", "error")


def test_every_parameter_that_reads_like_a_path_is_declared() -> None:
    undeclared = [
        f"{operation.task()}.{name}"
        for operation in (*OPERATIONS, *INTERNAL)
        for name, field in operation.model_fields.items()
        if any(word in f"{name} {field.description or ''}".lower() for word in PATHLIKE)
        and "str" in str(field.annotation)
        and name != "extension"  # whose description speaks of the path beside it
        and not isinstance(mark(field), OnSystem | NotOnSystem)
    ]
    assert undeclared == []


def test_a_parameter_is_of_the_system_or_says_why_not() -> None:
    told = {
        f"{operation.task()}.{name}": found.why
        for operation in (*OPERATIONS, *INTERNAL)
        for name, field in operation.model_fields.items()
        if isinstance(found := mark(field), NotOnSystem)
    }
    assert set(told) == {
        "compute.SubmitUpload.output", "compute.SubmitUpload.error", "compute.SubmitPath.output", "compute.SubmitPath.error",
        "storage.StageIn.source_path", "storage.Unstage.source_path",
    }  # fmt: skip
    assert all(told.values())
