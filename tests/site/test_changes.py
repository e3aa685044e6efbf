"""What the utilities that change files do, and what those say that only look (contract, 1.2)."""

import grp
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from requests import Response

from tests.real_site import Client, told
from tests.site.conftest import Folder
from tests.site.test_utilities import A_FOLDER, DENIED, EXISTS, INVALID, NEITHER, NO_FOLDER, NO_SOURCE, failed

NAMES = (
    "plain",
    "two  blanks ",
    "ü 日本 🦀",
    "-rf",
    "--help",
    "*",
    "[a-z]?",
    "$HOME",
    "~",
    "a:b",
    "{x,y}!#%=+@^",
    "No such file or directory",
)
STATUS = {"mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "mtime", "ctime"}


def get(client: Client, name: str, path: str, **options: str) -> Response:
    return client.get(f"/utilities/{name}", params={"targetPath": path, **options})


def done(answer: Response, status: int, description: str, output: str = "") -> None:
    """The answer is a success in just these words."""
    assert (answer.status_code, answer.json()) == (status, {"description": description, "output": output}), answer.text
    assert not told(answer.headers)


@pytest.mark.parametrize(
    ("name", "content", "type_"),
    [
        ("text", b"hello\n", "ASCII text"),
        ("script", b"#!/bin/sh\necho\n", "POSIX shell script, ASCII text executable"),
        ("utf8", "ü\n".encode(), "Unicode text, UTF-8 text"),
        ("empty", b"", "empty"),
        ("cannot open", b"No such file or directory", "ASCII text, with no line terminators"),
        ("-b", b"x\n", "ASCII text"),
    ],
)
def test_the_type_of_a_file(alice: Client, folder: Folder, name: str, content: bytes, type_: str) -> None:
    done(get(alice, "file", folder.file(name, content)), 200, "Success to file file.", type_)


def test_the_type_of_what_is_no_regular_file(alice: Client, folder: Folder) -> None:
    os.mkfifo(f"{folder.path}/pipe")
    Path(folder.path, "link").symlink_to("pipe")
    Path(folder.path, "dangling").symlink_to("no where")
    Path(folder.path, "round").symlink_to("round")
    said = "Success to file file."
    done(get(alice, "file", folder.path), 200, said, "directory")
    done(get(alice, "file", folder.folder("closed", mode=0)), 200, said, "directory")
    done(get(alice, "file", f"{folder.path}/pipe"), 200, said, "fifo (named pipe)")
    done(get(alice, "file", f"{folder.path}/link"), 200, said, "symbolic link to pipe")
    done(get(alice, "file", f"{folder.path}/dangling"), 200, said, "broken symbolic link to no where")
    done(get(alice, "file", f"{folder.path}/round"), 200, said, "broken symbolic link to round")


def test_the_status_of_a_file_is_all_integers(alice: Client, folder: Folder) -> None:
    path = folder.file("a file", b"12345", mode=0o640)
    os.utime(path, (1_600_000_000, 1_700_000_000))
    answer = get(alice, "stat", path)
    assert (answer.status_code, answer.json()["description"]) == (200, "Success to stat file.")
    found, real = answer.json()["output"], Path(path).stat()
    assert found == {key: int(getattr(real, f"st_{key}")) for key in STATUS}
    assert found["mode"] == stat.S_IFREG | 0o640
    assert (found["size"], found["atime"], found["mtime"]) == (5, 1_600_000_000, 1_700_000_000)


def test_the_status_is_that_of_a_link_until_it_is_followed(alice: Client, folder: Folder) -> None:
    folder.file("file", b"12345")
    Path(folder.path, "link").symlink_to("file")
    modes = {options: get(alice, "stat", f"{folder.path}/link", dereference=options).json()["output"] for options in ("", "False", "True")}
    assert [stat.S_ISLNK(modes[options]["mode"]) for options in ("", "False", "True")] == [True, True, False]
    assert modes["True"]["size"] == 5
    assert stat.S_ISDIR(get(alice, "stat", folder.path).json()["output"]["mode"])


def test_the_status_of_a_source_path_is_told_too(alice: Client, folder: Folder) -> None:
    answer = alice.get("/utilities/stat", params={"sourcePath": folder.file("file", b"123")})
    assert answer.json()["output"]["size"] == 3


@pytest.mark.parametrize("content", [b"", b"\0\xff" * 40_000])
def test_the_checksum_is_sha256_in_hex(alice: Client, folder: Folder, content: bytes) -> None:
    path = folder.file("a file", content)
    Path(folder.path, "link").symlink_to("a file")
    for name in ("a file", "link"):
        done(get(alice, "checksum", f"{folder.path}/{name}"), 200, "Success to checksum file.", hashlib.sha256(content).hexdigest())
    assert Path(path).read_bytes() == content


def test_a_dash_is_a_file_like_others(alice: Client) -> None:
    home = Folder("/home/fcalice", "fcalice")
    place = home.file("-", b"a dash\n")
    try:
        assert get(alice, "checksum", "-").json()["output"] == hashlib.sha256(b"a dash\n").hexdigest()
        assert get(alice, "stat", "-").json()["output"]["size"] == 7
        assert get(alice, "file", "-").json()["output"] == "ASCII text"
        assert get(alice, "head", "-").json()["output"] == get(alice, "view", "-").json()["output"] == "a dash\n"
    finally:
        Path(place).unlink()


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name_are_changed(alice: Client, folder: Folder, name: str) -> None:
    path, other = f"{folder.path}/{name}", f"{folder.path}/.{name}"
    folder.file(name, b"x", mode=0o600)
    assert alice.post("/utilities/copy", data={"sourcePath": path, "targetPath": other}).status_code == 201
    assert alice.delete("/utilities/rm", data={"targetPath": path}).status_code == 204
    assert alice.put("/utilities/rename", data={"sourcePath": other, "targetPath": path}).status_code == 200
    assert alice.put("/utilities/chmod", data={"targetPath": path, "mode": "640"}).status_code == 200
    assert alice.put("/utilities/chown", data={"targetPath": path, "group": "fcalice"}).status_code == 200
    assert alice.post("/utilities/symlink", data={"targetPath": path, "linkPath": other}).status_code == 201
    assert get(alice, "stat", path).json()["output"]["mode"] == stat.S_IFREG | 0o640
    assert get(alice, "checksum", path).json()["output"] == hashlib.sha256(b"x").hexdigest()
    assert get(alice, "file", other).json()["output"].startswith("symbolic link to ")
    assert {entry.name for entry in Path(folder.path).iterdir()} == {name, f".{name}"}
    assert Path(other).readlink() == Path(path)


def test_relative_names_are_of_the_home_directory(alice: Client, folder: Folder) -> None:
    here = folder.path.removeprefix("/home/fcalice/")
    folder.file("one", b"1")
    assert alice.post("/utilities/copy", data={"sourcePath": f"{here}/one", "targetPath": f"{here}/two"}).status_code == 201
    assert Path(folder.path, "two").read_bytes() == b"1"


def test_a_rename_replaces_a_file_and_goes_into_a_directory(alice: Client, folder: Folder) -> None:
    new, old, place = folder.file("new", b"new"), folder.file("old", b"old", mode=0o400), folder.folder("place")
    done(alice.put("/utilities/rename", data={"sourcePath": new, "targetPath": old}), 200, "Success to rename file.")
    assert Path(old).read_bytes() == b"new"
    done(alice.put("/utilities/rename", data={"sourcePath": old, "targetPath": place}), 200, "Success to rename file.")
    assert [entry.name for entry in Path(place).iterdir()] == ["old"]


def test_a_copy_is_whole_and_keeps_links_modes_and_times(alice: Client, folder: Folder) -> None:
    source = folder.folder("source")
    folder.folder("source/deep")
    path = folder.file("source/deep/line\nbreak", b"x", mode=0o751)
    os.utime(path, (0, 1_700_000_000))
    Path(source, "link").symlink_to("deep")
    done(alice.post("/utilities/copy", data={"sourcePath": source, "targetPath": f"{folder.path}/copy"}), 201, "Success to copy file.")
    copied = Path(folder.path, "copy/deep/line\nbreak").stat()
    assert (copied.st_mode & 0o777, copied.st_mtime) == (0o751, 1_700_000_000)
    assert str(Path(folder.path, "copy/link").readlink()) == "deep"
    assert Path(source, "link").is_symlink()


@pytest.mark.parametrize("sent", ["data", "files"])
def test_a_mode_is_set_and_told(alice: Client, folder: Folder, sent: str) -> None:
    path = folder.file("file", mode=0o600)
    values = {"targetPath": path, "mode": "u=rwx,go=r"}
    answer = alice.put("/utilities/chmod", **{sent: values if sent == "data" else {key: (None, value) for key, value in values.items()}})
    said = f"mode of '{path}' changed from 0600 (rw-------) to 0744 (rwxr--r--)"
    done(answer, 200, "Success to chmod file or directory.", said)
    done(
        alice.put("/utilities/chmod", data={"targetPath": path, "mode": "-x"}),
        *(200, "Success to chmod file or directory.", f"mode of '{path}' changed from 0744 (rwxr--r--) to 0644 (rw-r--r--)"),
    )


def test_owner_and_group_are_set_and_told(alice: Client, folder: Folder) -> None:
    path, said = folder.file("file"), "Success to chown file or directory."

    def chown(**values: str) -> Response:
        os.chown(path, -1, grp.getgrnam("users").gr_gid)
        return alice.put("/utilities/chown", data={"targetPath": path, **values})

    group = f"changed ownership of '{path}' from fcalice:users to :fcalice"
    owner = f"changed ownership of '{path}' from fcalice:users to fcalice:fcalice"
    done(chown(group="fcalice"), 200, said, group)
    done(chown(group="fcalice", owner=""), 200, said, group)
    done(chown(owner="fcalice", group="fcalice"), 200, said, owner)
    done(chown(owner="fcalice", group="users"), 200, said, f"ownership of '{path}' retained as fcalice:users")
    done(chown(owner="fcalice"), 200, said, owner), "the group becomes the login group, as in FirecREST v1"
    done(chown(owner="fcalice", group=""), 200, said, owner)


def test_a_link_is_made_to_whatever_is_named(alice: Client, folder: Folder) -> None:
    for target, name in (("no where", "link"), ("../x", "other link")):
        answer = alice.post("/utilities/symlink", data={"targetPath": target, "linkPath": f"{folder.path}/{name}"})
        done(answer, 201, "Success to symlink file.")
        assert str(Path(folder.path, name).readlink()) == target


def test_trees_with_names_of_every_kind_are_removed(alice: Client, folder: Folder) -> None:
    folder.folder("tree")
    for name in ("line\nbreak", "it's", 'a "quote"', "-rf", "\x1b[31m"):
        folder.file(f"tree/{name}")
    Path(folder.path, "tree", "link").symlink_to(folder.file("kept"))
    assert alice.delete("/utilities/rm", data={"targetPath": f"{folder.path}/tree"}).status_code == 204
    assert [entry.name for entry in Path(folder.path).iterdir()] == ["kept"]


A_FILE = ("X-Invalid-Path", "path is an invalid path.")
OWNER = ("X-Invalid-Owner", "owner is an invalid user")
GROUP = ("X-Invalid-Group", "group is an invalid group")
MODE = ("X-Invalid-Mode", "mode is an invalid mode")


@pytest.mark.parametrize(
    ("verb", "name", "values", "header", "error"),
    [
        ("GET", "file", {"targetPath": "missing"}, INVALID, "No such file or directory"),
        ("GET", "file", {"targetPath": "unreadable"}, DENIED, "no read permission"),
        ("GET", "file", {"targetPath": "closed/x"}, DENIED, "Permission denied"),
        ("GET", "file", {"targetPath": "Permission denied"}, INVALID, "No such file or directory"),
        ("GET", "stat", {"targetPath": "missing"}, NO_SOURCE, "No such file or directory"),
        ("GET", "stat", {"sourcePath": "missing"}, NO_SOURCE, "No such file or directory"),
        ("GET", "stat", {"targetPath": "closed/x"}, DENIED, "Permission denied"),
        ("GET", "stat", {"targetPath": "file/x"}, NO_FOLDER, "Not a directory"),
        ("GET", "stat", {"targetPath": "dangling", "dereference": "true"}, NO_SOURCE, "No such file or directory"),
        ("GET", "checksum", {"targetPath": "missing"}, INVALID, "No such file or directory"),
        ("GET", "checksum", {"targetPath": "unreadable"}, DENIED, "Permission denied"),
        ("GET", "checksum", {"targetPath": "folder"}, A_FOLDER, "Is a directory"),
        ("PUT", "rename", {"sourcePath": "missing", "targetPath": "x"}, NO_SOURCE, "cannot stat"),
        ("PUT", "rename", {"sourcePath": "file", "targetPath": "missing/x"}, NEITHER, "cannot move"),
        ("PUT", "rename", {"sourcePath": "folder", "targetPath": "file"}, A_FOLDER, "cannot overwrite non-directory"),
        ("PUT", "rename", {"sourcePath": "file", "targetPath": "/etc/x"}, DENIED, "Permission denied"),
        ("POST", "copy", {"sourcePath": "missing", "targetPath": "x"}, NO_SOURCE, "cannot stat"),
        ("POST", "copy", {"sourcePath": "file", "targetPath": "missing/x"}, NEITHER, "cannot create regular file"),
        ("POST", "copy", {"sourcePath": "unreadable", "targetPath": "x"}, DENIED, "Permission denied"),
        ("PUT", "chmod", {"targetPath": "missing", "mode": "600"}, INVALID, "cannot access"),
        ("PUT", "chmod", {"targetPath": "file", "mode": "999"}, MODE, "invalid mode: ‘999’\nTry"),  # noqa: RUF001
        ("PUT", "chmod", {"targetPath": "file", "mode": "--reference=/etc"}, MODE, "invalid mode"),
        ("PUT", "chmod", {"targetPath": "/etc/passwd", "mode": "600"}, DENIED, "Operation not permitted"),
        ("PUT", "chown", {"targetPath": "missing", "group": "fcalice"}, INVALID, "cannot access"),
        ("PUT", "chown", {"targetPath": "file", "owner": "nosuchuser"}, OWNER, "invalid spec"),
        ("PUT", "chown", {"targetPath": "file", "owner": "nosuchuser", "group": "fcalice"}, OWNER, "invalid user"),
        ("PUT", "chown", {"targetPath": "file", "owner": "Permission denied"}, OWNER, "invalid spec"),
        ("PUT", "chown", {"targetPath": "file", "group": "nosuchgroup"}, GROUP, "invalid group"),
        ("PUT", "chown", {"targetPath": "file", "owner": "fcbob"}, DENIED, "Operation not permitted"),
        ("PUT", "chown", {"targetPath": "file", "group": "fcbob"}, DENIED, "Operation not permitted"),
        ("POST", "symlink", {"targetPath": "x", "linkPath": "file"}, EXISTS, "File exists"),
        ("POST", "symlink", {"targetPath": "x", "linkPath": "missing/x"}, INVALID, "No such file or directory"),
        ("POST", "symlink", {"targetPath": "x", "linkPath": "closed/x"}, DENIED, "Permission denied"),
        ("POST", "symlink", {"targetPath": "x", "linkPath": "file/x"}, NO_FOLDER, "Not a directory"),
        ("POST", "mkdir", {"targetPath": "No such file or directory"}, EXISTS, "File exists"),
        ("DELETE", "rm", {"targetPath": "missing"}, A_FILE, "cannot remove"),
    ],
)  # fmt: skip
def test_failures_on_the_system_have_their_header(
    alice: Client, folder: Folder, verb: str, name: str, values: dict[str, Any], header: tuple[str, str], error: str
) -> None:
    folder.file("file", b"x")
    folder.file("unreadable", b"x", mode=0)
    folder.folder("No such file or directory")
    folder.folder("folder")
    folder.folder("closed", mode=0)
    Path(folder.path, "dangling").symlink_to("no where")
    paths = ("targetPath", "sourcePath", "linkPath")
    sent = {key: os.path.join(folder.path, value) if key in paths else value for key, value in values.items()}  # noqa: PTH118
    before = Path(folder.path, "file").stat()
    answer = alice.request(verb, f"/utilities/{name}", **{"params" if verb == "GET" else "data": sent})
    failed(answer, op=name, header=header, error=error)
    assert Path(folder.path, "file").stat() == before
