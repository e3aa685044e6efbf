"""Small file operations over HTTP: bodies, codes and headers (contract, 1.2)."""

import hashlib
import os
import random
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from requests import Request, Response

from tests.real_site import Client, Site, eventually, told
from tests.site.conftest import Folder

LIMIT = 5 * 1024 * 1024
NAMES = (
    *("plain", "two  blanks", " blank first", "blank last ", "it's", 'a "quote"', "new\nline", "tab\tand\rreturn", "\a\b\v\f\x1b[31m"),
    *("back\\slash", "-rf", "--help", "*", "$HOME", "`id`", "a;b", "é", "e\u0301", "日本語", "🦀", "\u2028", " -> ", "colon:"),
    *("No such file", "cannot open", "total 0", ".hidden", "\\303\\251"),
)


def entries(answer: Response) -> dict[str, dict[str, str]]:
    """The entries of a listing by their names."""
    assert (answer.status_code, answer.json()["description"]) == (200, "List of contents"), answer.text
    return {entry["name"]: entry for entry in answer.json()["output"]}


def failed(answer: Response, *, op: str, header: tuple[str, str], error: str, status: int = 400, manner: str = "") -> None:
    """The answer is a failure of the operation with just this header."""
    assert (answer.status_code, answer.json()["description"]) == (status, f"Error on {op} operation{manner}"), answer.text
    assert told(answer.headers) == dict([header])
    assert error in answer.json()["error"]
    assert "timeout" not in answer.json()["error"]


def ls(client: Client, path: str, **options: str | int) -> Response:
    return client.get("/utilities/ls", params={"targetPath": path, **options})


def test_a_listing_tells_everything_of_an_entry_as_text(alice: Client, folder: Folder) -> None:
    path = folder.file("file", b"12345", mode=0o640)
    os.utime(path, (0, 1_700_000_000))
    Path(folder.path, "link").symlink_to("no where")
    folder.folder("sub", mode=0o700)
    Path(folder.path, "sub").chmod(0o1700)
    found = entries(ls(alice, folder.path))
    when = found["file"].pop("last_modified")
    assert re.fullmatch(r"2023-11-1[45]T\d\d:\d\d:20", when)
    assert found["file"] == {
        "name": "file", "type": "-", "permissions": "rw-r-----", "user": "fcalice", "group": "fcalice", "size": "5", "link_target": "",
    }  # fmt: skip
    assert (found["link"]["type"], found["link"]["link_target"]) == ("l", "no where")
    assert (found["sub"]["type"], found["sub"]["permissions"]) == ("d", "rwx-----T")


def test_an_empty_directory_has_no_entries(alice: Client, folder: Folder) -> None:
    assert ls(alice, folder.path).json() == {"description": "List of contents", "output": []}


def test_names_come_as_they_are(alice: Client, folder: Folder) -> None:
    for name in NAMES:
        folder.file(name)
    Path(folder.path, "arrow").symlink_to('x" -> "y\n\\é')
    found = entries(ls(alice, folder.path, showhidden="true"))
    assert set(found) == {*NAMES, "arrow"}
    assert found["arrow"]["link_target"] == 'x" -> "y\n\\é'


def test_names_that_are_not_utf8_are_shown_as_far_as_they_are(alice: Client, folder: Folder) -> None:
    Path(os.fsdecode(folder.path.encode() + b"/caf\xe9.txt")).touch()
    assert set(entries(ls(alice, folder.path))) == {"caf�.txt"}


def test_special_files_are_listed(alice: Client, folder: Folder) -> None:
    os.mkfifo(f"{folder.path}/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder.path}/socket")
    found = entries(ls(alice, folder.path))
    assert {name: entry["type"] for name, entry in found.items()} == {"pipe": "p", "socket": "s"}
    assert entries(ls(alice, "/dev/null"))["/dev/null"]["type"] == "c"


def test_a_file_is_listed_under_the_path_that_was_asked_for(alice: Client, folder: Folder) -> None:
    path = folder.file("one")
    assert list(entries(ls(alice, path))) == [path]


def test_a_relative_path_starts_at_the_home_directory(alice: Client, folder: Folder) -> None:
    folder.file("here")
    assert list(entries(ls(alice, folder.path.removeprefix("/home/fcalice/")))) == ["here"]


def test_a_listing_follows_a_link_to_a_directory(alice: Client, folder: Folder) -> None:
    folder.folder("real")
    folder.file("real/inside")
    Path(folder.path, "link").symlink_to("real")
    assert list(entries(ls(alice, f"{folder.path}/link"))) == ["inside"]


@pytest.mark.parametrize("yes", ["true", "True", "TRUE", "yes", "1"])
def test_flags_are_set_by_true_yes_and_1(alice: Client, folder: Folder, yes: str) -> None:
    folder.file(".hidden")
    assert list(entries(ls(alice, folder.path, showhidden=yes))) == [".hidden"]


@pytest.mark.parametrize("no", ["false", "", "on", "0", "True "])
def test_flags_are_not_set_by_anything_else(alice: Client, folder: Folder, no: str) -> None:
    folder.file(".hidden")
    assert not entries(ls(alice, folder.path, showhidden=no))


def test_the_options_of_a_listing(alice: Client, folder: Folder) -> None:
    folder.folder("sub dir")
    folder.file("sub dir/ü", b"123")
    Path(folder.path, "link").symlink_to("sub dir/ü")
    number = alice.get("/utilities/whoami?groups=1").json()["output"]["user"]["id"]
    assert set(entries(ls(alice, folder.path, recursive="true"))) == {"link", "sub dir", "sub dir/ü"}
    assert entries(ls(alice, folder.path, numericUid="true"))["sub dir"]["user"] == number
    assert entries(ls(alice, folder.path, followLinks="true"))["link"]["size"] == "3"
    assert sorted(ls(alice, folder.path, unsorted="true", notListing="true").json()["output"]) == ['"."', '".."', '"link"', '"sub dir"']


@pytest.mark.parametrize(
    ("size", "number", "shown"),
    [
        *[(2, 1, "ab"), (2, 3, "e"), (99, 1, "abcde")],
        *[(2, 4, "abcde"), (2, 0, "abcde"), (0, 1, "abcde"), (-1, 1, "abcde"), (2, -1, "abcde"), ("x", 1, "abcde"), (5, "", "abcde")],
    ],
)
def test_pages_of_a_listing_start_at_1_and_what_is_no_page_is_all(
    alice: Client, folder: Folder, size: int, number: int, shown: str
) -> None:
    for name in "abcde":
        folder.file(name)
    assert "".join(entries(ls(alice, folder.path, pageSize=size, pageNumber=number))) == shown


def test_a_page_needs_both_values(alice: Client, folder: Folder) -> None:
    for name in "abc":
        folder.file(name)
    assert len(entries(ls(alice, folder.path, pageSize=1))) == len(entries(ls(alice, folder.path, pageNumber=1))) == 3


def test_who_the_caller_is(alice: Client, bob: Client) -> None:
    assert alice.get("/utilities/whoami").json() == {"description": "User information", "output": "fcalice"}
    assert bob.get("/utilities/whoami").json()["output"] == "fcbob"
    found = alice.get("/utilities/whoami", params={"groups": "True"}).json()["output"]
    assert set(found) == {"user", "group", "groups"}
    assert found["user"]["name"] == found["group"]["name"] == "fcalice"
    assert found["group"] in found["groups"]
    assert all(isinstance(value, str) for value in found["user"].values())


LINES = "".join(f"line {number}\n" for number in range(1, 21))


@pytest.mark.parametrize(
    ("program", "options", "shown"),
    [
        ("head", {}, LINES[: LINES.index("line 11")]),
        ("head", {"lines": "2"}, "line 1\nline 2\n"),
        ("head", {"lines": "2", "bytes": ""}, "line 1\nline 2\n"),
        ("head", {"lines": "", "bytes": "", "skip_ending": "false"}, LINES[: LINES.index("line 11")]),
        ("head", {"bytes": "4"}, "line"),
        ("head", {"lines": "0"}, ""),
        ("head", {"lines": "19", "skip_ending": "True"}, "line 1\n"),
        ("head", {"bytes": str(len(LINES) - 4), "skip_ending": "true"}, "line"),
        ("head", {"grep": "10"}, "line 10\n"),
        ("tail", {}, LINES[LINES.index("line 11") :]),
        ("tail", {"lines": "1"}, "line 20\n"),
        ("tail", {"bytes": "3"}, "20\n"),
        ("tail", {"lines": "20", "skip_beginning": "true"}, "line 20\n"),
        ("tail", {"bytes": str(len(LINES)), "skip_beginning": "true"}, "\n"),
        ("tail", {"lines": "20", "grep": "line 1$"}, None),
        ("view", {}, LINES),
        ("view", {"lines": "1"}, "line 1\n"),
        ("view", {"bytes": "3"}, "lin"),
        ("view", {"grep": "line 7"}, "line 7\n"),
    ],
)
def test_parts_of_a_file(alice: Client, folder: Folder, program: str, options: dict[str, str], shown: str | None) -> None:
    path = folder.file("file", LINES.encode())
    answer = alice.get(f"/utilities/{program}", params={"targetPath": path, **options})
    if shown is None:
        words = "pattern not found"
        failed(answer, op=f"{program}", manner=" with grep", header=("X-Not-Found", words), error=words, status=404)
        return
    description = f"Success to {'head' if program == 'view' else program} file."
    assert (answer.status_code, answer.json()) == (200, {"description": description, "output": shown})


def test_text_keeps_its_letters_line_ends_and_blanks(alice: Client, folder: Folder) -> None:
    text = "ünï\r\n\ttwo  blanks \u2028 日本\x0b\x1b[0m\nNo such file or directory\n\n"
    path = folder.file("file", text.encode())
    for program in ("head", "tail", "view"):
        assert alice.get(f"/utilities/{program}", params={"targetPath": path}).json()["output"] == text


def test_a_view_goes_up_to_the_limit_to_the_byte(alice: Client, folder: Folder) -> None:
    largest = folder.file("largest", b"x" * LIMIT)
    larger = folder.file("larger", b"x" * (LIMIT + 1))
    assert len(alice.get("/utilities/view", params={"targetPath": largest}).json()["output"]) == LIMIT
    answer = alice.get("/utilities/view", params={"targetPath": larger})
    assert (answer.status_code, answer.json()) == (400, {"description": "Failed to view file content"})
    assert answer.headers["X-Size-Limit"] == "File exceeds size limit"


@pytest.mark.parametrize("size", [0, 1, 32767, 32768, 32769, 65535, 65536, 65537, LIMIT - 1, LIMIT])
def test_a_file_goes_up_and_down_to_the_byte(alice: Client, folder: Folder, size: int) -> None:
    content = random.Random(size).randbytes(size)
    up = alice.post("/utilities/upload", data={"targetPath": folder.path}, files={"file": ("any name.bin", content)})
    assert (up.status_code, up.json()) == (201, {"description": "File upload successful", "output": ""})
    path = f"{folder.path}/any name.bin"
    assert hashlib.sha256(Path(path).read_bytes()).digest() == hashlib.sha256(content).digest()
    assert Path(path).owner() == "fcalice"
    down = alice.get("/utilities/download", params={"sourcePath": path})
    assert (down.status_code, down.headers["Content-Type"]) == (200, "application/octet-stream")
    assert re.fullmatch(r'attachment; filename="?any name\.bin"?', down.headers["Content-Disposition"])
    assert hashlib.sha256(down.content).digest() == hashlib.sha256(content).digest()


def test_a_download_over_the_limit_is_refused(alice: Client, folder: Folder) -> None:
    path = folder.file("larger", bytes(LIMIT + 1))
    answer = alice.get("/utilities/download", params={"sourcePath": path})
    assert (answer.status_code, answer.json()) == (400, {"description": "Failed to download file"})
    assert answer.headers["X-Size-Limit"] == "File exceeds size limit"


@pytest.mark.parametrize("name", ["ü 日.bin", "-rf", "a  b", "50%,x!"])
def test_files_of_any_name_go_up_and_down(alice: Client, folder: Folder, name: str) -> None:
    up = alice.post("/utilities/upload", data={"targetPath": folder.path}, files={"file": (name, b"\0\xff\n")})
    assert up.status_code == 201, up.text
    assert [entry.name for entry in Path(folder.path).iterdir()] == [name]
    down = alice.get("/utilities/download", params={"sourcePath": f"{folder.path}/{name}"})
    assert (down.status_code, down.content) == (200, b"\0\xff\n")


def test_an_upload_replaces_what_was_there_and_may_name_a_file(alice: Client, folder: Folder) -> None:
    path = folder.file("kept", b"a longer text")
    assert alice.post("/utilities/upload", data={"targetPath": folder.path}, files={"file": ("kept", b"short")}).status_code == 201
    assert Path(path).read_bytes() == b"short"


def test_an_upload_keeps_the_permissions_of_what_it_replaces_and_needs_leave_to_write_it(alice: Client, folder: Folder) -> None:
    folder.file("private", b"before", mode=0o600)
    folder.file("fixed", b"before", mode=0o444)
    folder.folder("folder")

    def put(name: str) -> Response:
        return alice.post("/utilities/upload", data={"targetPath": folder.path}, files={"file": (name, b"after")})

    assert put("private").status_code == 201
    assert (Path(folder.path, "private").read_bytes(), Path(folder.path, "private").stat().st_mode) == (b"after", 0o100600)
    failed(put("fixed"), op="upload", header=DENIED, error="Permission denied")
    failed(put("folder"), op="upload", header=A_FOLDER, error="Is a directory")
    failed(put(".."), op="upload", header=A_FOLDER, error="Is a directory")
    assert Path(folder.path, "fixed").read_bytes() == b"before"
    assert sorted(entry.name for entry in Path(folder.path).iterdir()) == ["fixed", "folder", "private"]


def test_a_client_that_leaves_amid_its_upload_leaves_nothing(site: Site, alice: Client, folder: Folder) -> None:
    kept = set(site.redis().scan_iter("blob:*"))
    alice.get("/utilities/whoami")
    headers = {"Authorization": str(alice.headers["Authorization"]), "X-Machine-Name": str(alice.headers["X-Machine-Name"])}
    form = Request("POST", site.url, data={"targetPath": folder.path}, files={"file": ("file", bytes(LIMIT))}, headers=headers).prepare()
    assert isinstance(form.body, bytes)
    lines = "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
    host, _, port = site.url.removeprefix("http://").partition(":")
    for sent in (len(form.body) // 2, len(form.body) - 100):  # the form ends within the last 60 bytes
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"POST /utilities/upload HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode() + form.body[:sent])
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
        assert not answer or int(answer.split()[1]) == 400
    assert alice.get("/utilities/whoami").status_code == 200
    assert list(Path(folder.path).iterdir()) == []
    assert set(site.redis().scan_iter("blob:*")) <= kept


def test_a_client_that_leaves_amid_its_download_leaves_nothing(site: Site, alice: Client, folder: Folder) -> None:
    path, kept = folder.file("file", bytes(LIMIT)), set(site.redis().scan_iter("blob:*"))
    with alice.get("/utilities/download", params={"sourcePath": path}, stream=True) as answer:
        assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(LIMIT))
        assert len(answer.raw.read(1000)) == 1000
        alice.close()
    eventually(lambda: set(site.redis().scan_iter("blob:*")) <= kept)


def test_a_file_that_grows_amid_its_download_is_had_as_far_as_it_came(alice: Client, folder: Folder) -> None:
    path = folder.file("log", b"line\n" * 1000)
    with Path(path).open("ab") as log, ThreadPoolExecutor(1) as pool:
        over = threading.Event()

        def grow() -> None:
            while not over.wait(0.001):
                log.write(b"line\n" * 100)
                log.flush()

        growing = pool.submit(grow)
        found = [alice.get("/utilities/download", params={"sourcePath": path}) for _ in range(20)]
        over.set()
        growing.result()
    assert {answer.status_code for answer in found} == {200}
    assert all(answer.content == b"line\n" * (len(answer.content) // 5) for answer in found)
    sizes = [len(answer.content) for answer in found]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 5000


def test_the_folders_of_an_upload_s_file_name_are_dropped(alice: Client, folder: Folder) -> None:
    answer = alice.post("/utilities/upload", data={"targetPath": folder.path}, files={"file": ("../../etc/evil", b"x")})
    assert answer.status_code == 201
    assert [entry.name for entry in Path(folder.path).iterdir()] == ["evil"]


def test_directories_are_made_and_removed(alice: Client, folder: Folder) -> None:
    made = alice.post("/utilities/mkdir", data={"targetPath": f"{folder.path}/one"})
    assert (made.status_code, made.json()) == (201, {"description": "Success to mkdir file.", "output": ""})
    assert alice.post("/utilities/mkdir", data={"targetPath": f"{folder.path}/a/b/c", "p": ""}).status_code == 201
    assert alice.post("/utilities/mkdir", data={"targetPath": f"{folder.path}/a/b/c", "p": "false"}).status_code == 201
    assert alice.post("/utilities/mkdir", files={"targetPath": (None, f"{folder.path}/two")}).status_code == 201
    gone = alice.delete("/utilities/rm", data={"targetPath": f"{folder.path}/a"})
    assert (gone.status_code, gone.content) == (204, b"")
    assert sorted(entry.name for entry in Path(folder.path).iterdir()) == ["one", "two"]


INVALID = ("X-Invalid-Path", "path is an invalid path")
NEITHER = ("X-Invalid-Path", "sourcePath and/or targetPath are invalid paths")
DENIED = ("X-Permission-Denied", "User does not have permissions to access path")
NO_SOURCE = ("X-Not-Found", "sourcePath not found")
A_FOLDER = ("X-A-Directory", "path is a directory, can't checksum directories")
NO_FOLDER = ("X-Not-A-Directory", "targetPath is not a directory")
EXISTS = ("X-Exists", "targetPath already exists")


@pytest.mark.parametrize(
    ("verb", "name", "path", "op", "header", "error"),
    [
        ("GET", "ls", "missing", "ls", INVALID, "cannot access"),
        ("GET", "ls", "closed", "ls", DENIED, "cannot open directory"),
        ("GET", "ls", "file/x", "ls", INVALID, "Not a directory"),
        ("GET", "head", "missing", "head", INVALID, "No such file or directory"),
        ("GET", "head", "unreadable", "head", DENIED, "Permission denied"),
        ("GET", "head", "folder", "head", A_FOLDER, "Is a directory"),
        ("GET", "head", "file/x", "head", DENIED, "Not a directory"),
        ("GET", "tail", "missing", "tail", INVALID, "No such file or directory"),
        ("GET", "tail", "unreadable", "tail", DENIED, "Permission denied"),
        ("GET", "tail", "folder", "tail", A_FOLDER, "Is a directory"),
        ("GET", "view", "missing", "fsize", NO_SOURCE, "No such file or directory"),
        ("GET", "view", "unreadable", "head", DENIED, "Permission denied"),
        ("GET", "view", "folder", "head", A_FOLDER, "Is a directory"),
        ("GET", "view", "closed/x", "fsize", DENIED, "Permission denied"),
        ("GET", "download", "missing", "fsize", NO_SOURCE, "No such file or directory"),
        ("GET", "download", "unreadable", "base64", DENIED, "Permission denied"),
        ("GET", "download", "folder", "base64", A_FOLDER, "Is a directory"),
        ("POST", "mkdir", "folder", "mkdir", EXISTS, "File exists"),
        ("POST", "mkdir", "missing/x", "mkdir", NEITHER, "No such file or directory"),
        ("POST", "mkdir", "closed/x", "mkdir", DENIED, "Permission denied"),
        ("POST", "mkdir", "file/x", "mkdir", NO_FOLDER, "Not a directory"),
        ("DELETE", "rm", "missing", "rm", ("X-Invalid-Path", "path is an invalid path."), "cannot remove"),
        ("DELETE", "rm", "/etc/passwd", "rm", DENIED, "Permission denied"),
        ("POST", "upload", "missing", "upload", INVALID, "No such file or directory"),
        ("POST", "upload", "closed", "upload", DENIED, "Permission denied"),
        ("POST", "upload", "/etc", "upload", DENIED, "Permission denied"),
    ],
)  # fmt: skip
def test_failures_on_the_system_have_their_header(
    alice: Client, folder: Folder, verb: str, name: str, path: str, op: str, header: tuple[str, str], error: str
) -> None:
    folder.file("file", b"x")
    folder.file("unreadable", b"x", mode=0)
    folder.folder("folder")
    folder.folder("closed", mode=0)
    place = os.path.join(folder.path, path)  # noqa: PTH118 (some are absolute)
    values = {"sourcePath" if name == "download" else "targetPath": place}
    files = {"files": {"file": ("x", b"x")}} if name == "upload" else {}
    answer = alice.request(verb, f"/utilities/{name}", **{"params" if verb == "GET" else "data": values}, **files)
    failed(answer, op=op, header=header, error=error)


def test_what_is_not_text_is_no_view(alice: Client, folder: Folder) -> None:
    path = folder.file("binary", b"\xff\xfe\0\x80")
    answer = alice.get("/utilities/view", params={"targetPath": path})
    assert answer.status_code == 400
    assert "utf-8" in answer.headers["X-Error"]


def test_what_takes_too_long_is_a_timeout(alice: Client, folder: Folder) -> None:
    os.mkfifo(f"{folder.path}/pipe")
    Path(folder.path, "pipe").chmod(0o666)
    answer = alice.get("/utilities/head", params={"targetPath": f"{folder.path}/pipe"})
    text = "Command has finished with timeout signal"
    assert (answer.status_code, answer.json()) == (400, {"description": "Error on head operation", "error": text})
    assert answer.headers["X-Timeout"] == text


def test_a_special_file_downloads_as_nothing(alice: Client) -> None:
    answer = alice.get("/utilities/download", params={"sourcePath": "/dev/zero"})
    assert (answer.status_code, answer.content) == (200, b"")
