"""Small file operations through API, broker and worker."""

import gc
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

MEGABYTE = 1024 * 1024

# werkzeug's test client leaves the temporary file of a large form open
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The open file is noticed within the test that left it."""
    yield
    gc.collect()


HOSTILE = "a 'b' \"c\"\nd é -e"


def ls(client: FlaskClient, path: Path, **options: str):
    return client.get("/utilities/ls", query_string={"targetPath": str(path), **options})


def test_ls_lists_names_of_every_kind(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / HOSTILE).write_text("xyz")
    (tmp_path / "-dash").mkdir()
    (tmp_path / "link").symlink_to("some where")

    answer = ls(client, tmp_path)

    assert (answer.status_code, answer.json["description"]) == (200, "List of contents")
    found = {file["name"]: file for file in answer.json["output"]}
    assert {name: (file["type"], file["link_target"]) for name, file in found.items()} == {
        HOSTILE: ("-", ""),
        "-dash": ("d", ""),
        "link": ("l", "some where"),
    }
    assert found[HOSTILE]["size"] == "3"


def test_ls_lists_recursively_with_relative_names(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()

    assert {file["name"] for file in ls(client, tmp_path, recursive="true").json["output"]} == {"a", "a/b", "a/b/c"}


def test_ls_enters_a_linked_directory(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "link").symlink_to("real")

    assert [file["name"] for file in ls(client, tmp_path / "link").json["output"]] == ["file"]


def test_ls_of_an_empty_directory_is_empty(client: FlaskClient, tmp_path: Path) -> None:
    assert ls(client, tmp_path).json["output"] == []


@pytest.mark.parametrize(
    ("page", "size", "names"),
    [("1", "2", ["0", "1"]), ("2", "2", ["2"]), ("3", "2", ["0", "1", "2"]), ("x", "2", ["0", "1", "2"]), ("", "2", ["0", "1", "2"])],
)
def test_ls_shows_pages_from_one_and_all_when_out_of_range(client: FlaskClient, tmp_path: Path, page: str, size: str, names: list) -> None:
    for number in range(3):
        (tmp_path / str(number)).touch()

    answer = ls(client, tmp_path, pageNumber=page, pageSize=size)

    assert [file["name"] for file in answer.json["output"]] == names


def test_ls_hides_names_with_a_dot_until_asked(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()

    assert ls(client, tmp_path).json["output"] == []
    assert [file["name"] for file in ls(client, tmp_path, showhidden="True").json["output"]] == [".hidden"]


def test_ls_gives_names_alone(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "a b").touch()

    names = ls(client, tmp_path, unsorted="1", notListing="1").json["output"]

    assert sorted(names) == ['"."', '".."', '"a b"']


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({}, "'targetPath' not specified"),
        ({"targetPath": ""}, "'targetPath' is empty"),
        ({"targetPath": "/a;b"}, "'targetPath' has invalid char"),
        ({"targetPath": "/a\nb"}, "'targetPath' has invalid char"),
        ({"targetPath": "$(id)"}, "'targetPath' has invalid char"),
    ],
)
def test_parameters_are_refused_in_the_words_of_firecrest(client: FlaskClient, query: dict, error: str) -> None:
    answer = client.get("/utilities/ls", query_string=query)

    assert (answer.status_code, answer.json) == (400, {"description": "Error on ls operation", "error": error})


def test_a_missing_path_is_told_by_a_header(client: FlaskClient, tmp_path: Path) -> None:
    answer = ls(client, tmp_path / "nowhere")

    assert answer.status_code == 400
    assert answer.headers["X-Invalid-Path"] == "path is an invalid path"
    assert answer.json["description"] == "Error on ls operation"


LINES = "".join(f"line {number}\n" for number in range(20))


@pytest.mark.parametrize(
    ("call", "options", "output"),
    [
        ("head", {}, "".join(f"line {n}\n" for n in range(10))),
        ("head", {"lines": "2", "bytes": ""}, "line 0\nline 1\n"),
        ("head", {"bytes": "4"}, "line"),
        ("head", {"lines": "19", "skip_ending": "True"}, "line 0\n"),
        ("head", {"grep": "ne 3"}, "line 3\n"),
        ("tail", {"lines": "1"}, "line 19\n"),
        ("tail", {"bytes": "3", "skip_beginning": "false"}, "19\n"),
        ("tail", {"lines": "20", "skip_beginning": "true"}, "line 19\n"),
        ("view", {}, LINES),
        ("view", {"lines": "1"}, "line 0\n"),
        ("view", {"grep": "19"}, "line 19\n"),
    ],
)
def test_parts_of_a_file_are_shown(client: FlaskClient, tmp_path: Path, call: str, options: dict, output: str) -> None:
    (tmp_path / "file").write_text(LINES)

    answer = client.get(f"/utilities/{call}", query_string={"targetPath": str(tmp_path / "file"), **options})

    assert (answer.status_code, answer.json["output"]) == (200, output)


@pytest.mark.parametrize(
    ("call", "query", "status", "error"),
    [
        ("head", {"lines": "1", "bytes": "1"}, 400, "Can not specify both 'bytes' and 'lines'"),
        ("head", {"lines": "x"}, 400, "'lines' is not a whole number"),
        ("tail", {"bytes": "1;2"}, 400, "'bytes' has invalid char"),
        ("tail", {"bytes": "-1"}, 400, "'bytes' is not a whole number"),
        ("head", {"grep": "nothing like it"}, 404, "pattern not found"),
    ],
)
def test_impossible_parts_are_refused(client: FlaskClient, tmp_path: Path, call: str, query: dict, status: int, error: str) -> None:
    (tmp_path / "file").write_text(LINES)

    answer = client.get(f"/utilities/{call}", query_string={"targetPath": str(tmp_path / "file"), **query})

    assert (answer.status_code, answer.json["error"]) == (status, error)


def test_a_file_that_is_no_text_cannot_be_viewed(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\0")

    answer = client.get("/utilities/view", query_string={"targetPath": str(tmp_path / "file")})

    assert answer.status_code == 400
    assert answer.headers["X-Error"].startswith("'utf-8' codec can't decode")
    assert answer.json["description"] == "Error on head operation"


@pytest.mark.parametrize("size", [0, 1, 32767, 32768, 32769, 65535, 65536, 65537, MEGABYTE - 1, MEGABYTE])
def test_files_go_up_and_down_unchanged(client: FlaskClient, tmp_path: Path, size: int) -> None:
    content = (bytes(range(256)) * 4096)[:size]
    form = {"targetPath": str(tmp_path), "file": (io.BytesIO(content), "a name.bin")}

    up = client.post("/utilities/upload", data=form)
    down = client.get("/utilities/download", query_string={"sourcePath": str(tmp_path / "a name.bin")})

    assert (up.status_code, up.json) == (201, {"description": "File upload successful", "output": ""})
    assert (tmp_path / "a name.bin").read_bytes() == content
    assert (down.status_code, down.data) == (200, content)
    assert down.headers["Content-Type"] == "application/octet-stream"
    assert down.headers["Content-Disposition"] == 'attachment; filename="a name.bin"'


def test_a_file_over_the_limit_goes_neither_up_nor_down(client: FlaskClient, tmp_path: Path) -> None:
    content = bytes(MEGABYTE + 1)
    (tmp_path / "big").write_bytes(content)
    query = {"sourcePath": str(tmp_path / "big"), "targetPath": str(tmp_path / "big")}

    up = client.post("/utilities/upload", data={"targetPath": str(tmp_path), "file": (io.BytesIO(content), "new")})
    down = client.get("/utilities/download", query_string=query)
    view = client.get("/utilities/view", query_string=query)

    assert (up.status_code, up.json) == (413, {"description": f"Failed to upload file. The file is over {MEGABYTE} bytes"})
    assert not (tmp_path / "new").exists()
    assert (down.status_code, down.json) == (400, {"description": "Failed to download file"})
    assert (view.status_code, view.json) == (400, {"description": "Failed to view file content"})
    assert down.headers["X-Size-Limit"] == view.headers["X-Size-Limit"] == "File exceeds size limit"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "No file in query"),
        ({"file": "text"}, "No file in query"),
        ({"file": (io.BytesIO(b"x"), "a;b")}, "Filename has invalid char"),
    ],
)
def test_an_upload_without_a_proper_file_is_refused(client: FlaskClient, tmp_path: Path, form: dict, error: str) -> None:
    answer = client.post("/utilities/upload", data={"targetPath": str(tmp_path), **form})

    assert (answer.status_code, answer.json) == (400, {"description": "Failed to upload file", "error": error})


def test_directories_come_and_go(client: FlaskClient, tmp_path: Path) -> None:
    path = str(tmp_path / "x" / "y")

    refused = client.post("/utilities/mkdir", data={"targetPath": path})
    made = client.post("/utilities/mkdir", data={"targetPath": path, "p": ""})
    again = client.post("/utilities/mkdir", data={"targetPath": path})
    gone = client.delete("/utilities/rm", data={"targetPath": str(tmp_path / "x")})
    missing = client.delete("/utilities/rm", data={"targetPath": str(tmp_path / "x")})

    assert refused.headers["X-Invalid-Path"] == "sourcePath and/or targetPath are invalid paths"
    assert (made.status_code, made.json) == (201, {"description": "Success to mkdir file.", "output": ""})
    assert again.headers["X-Exists"] == "targetPath already exists"
    assert (gone.status_code, gone.data) == (204, b"")
    assert not (tmp_path / "x").exists()
    assert missing.headers["X-Invalid-Path"] == "path is an invalid path."


def test_the_download_of_a_directory_is_refused(client: FlaskClient, tmp_path: Path) -> None:
    answer = client.get("/utilities/download", query_string={"sourcePath": str(tmp_path)})

    assert answer.headers["X-A-Directory"] == "path is a directory, can't checksum directories"
    assert answer.json["description"] == "Error on base64 operation"


def test_whoami_names_the_user_and_all_groups(client: FlaskClient) -> None:
    name = client.get("/utilities/whoami").json["output"]
    groups = client.get("/utilities/whoami", query_string={"groups": "true"}).json["output"]

    assert groups["user"]["name"] == name
    assert groups["group"] in groups["groups"]
