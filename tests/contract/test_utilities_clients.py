"""The utilities as pyfirecrest calls them: synchronous, asynchronous and on the command line."""

import hashlib
import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import firecrest
import pytest

from tests.real_site import told

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(client: Any, system: str) -> Iterator[Path]:
    """A folder of alice on the system, made and deleted by the client, with a file in it."""
    path = Path(f"/home/fcalice/test-{uuid4().hex}")
    client.mkdir(system, str(path))
    client.mkdir(system, f"{path}/place", p=True)
    client.simple_upload(system, BytesIO(b"content\n"), str(path), filename="a file")
    yield path
    client.simple_delete(system, str(path))
    assert not path.exists()


def test_what_a_file_is(client: Any, system: str, home: Path) -> None:
    path = str(home / "a file")
    assert client.file_type(system, path) == "ASCII text"
    assert client.checksum(system, path) == hashlib.sha256(b"content\n").hexdigest()
    found = client.stat(system, path)
    assert (found["size"], found["mode"]) == (8, Path(path).stat().st_mode)
    assert set(found) == {"mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "mtime", "ctime"}
    assert all(isinstance(value, int) for value in found.values())


def test_links_are_made_and_followed(client: Any, system: str, home: Path) -> None:
    client.symlink(system, str(home / "a file"), str(home / "link"))
    assert (home / "link").readlink() == home / "a file"
    assert stat.S_ISLNK(client.stat(system, str(home / "link"))["mode"])
    assert stat.S_ISREG(client.stat(system, str(home / "link"), dereference=True)["mode"])
    assert client.file_type(system, str(home / "link")).startswith("symbolic link to")


def test_files_are_moved_and_copied(client: Any, system: str, home: Path) -> None:
    assert client.copy(system, str(home / "a file"), str(home / "ü copy")) == str(home / "ü copy")
    assert client.mv(system, str(home / "ü copy"), str(home / "place")) == str(home / "place")
    assert (home / "place" / "ü copy").read_bytes() == b"content\n"
    assert not (home / "ü copy").exists()


def test_modes_and_owners_are_changed(client: Any, system: str, home: Path) -> None:
    path = home / "a file"
    client.chmod(system, str(path), "600")
    assert path.stat().st_mode & 0o777 == 0o600
    client.chown(system, str(path), owner="fcalice")
    client.chown(system, str(path), group="fcalice")
    client.chown(system, str(path), owner="fcalice", group="fcalice")
    client.chown(system, str(path))
    assert (path.owner(), path.group()) == ("fcalice", "fcalice")


@pytest.mark.parametrize("extension", ["auto", ".tgz", ".gz"])
def test_archives_are_packed_and_unpacked(client: Any, system: str, home: Path, extension: str) -> None:
    (home / "link").symlink_to("a file")
    name = str(home / ("an archive.tar.gz" if extension == "auto" else "archive"))
    assert client.compress(system, str(home / "link"), name, dereference=True) == name
    assert client.extract(system, name, str(home / "place"), extension=extension) == str(home / "place")
    assert not (home / "place" / "link").is_symlink()
    assert (home / "place" / "link").read_bytes() == b"content\n"


@pytest.mark.parametrize("kind", ["zip", "tar", "bz2"])
def test_other_archives_are_unpacked(client: Any, system: str, home: Path, kind: str) -> None:
    packer = {"zip": ("zip", "-q"), "tar": ("tar", "-cf"), "bz2": ("tar", "-cjf")}[kind]
    subprocess.run((*packer, f"{home}/archive.{kind}", "a file"), cwd=home, check=True)
    client.extract(system, f"{home}/archive.{kind}", str(home / "place"), extension=f".{kind}")
    assert (home / "place" / "a file").read_bytes() == b"content\n"


@pytest.mark.parametrize(
    ("call", "kind", "header"),
    [
        (lambda c: c.file_type("cluster", "/missing"), firecrest.HeaderException, "X-Invalid-Path"),
        (lambda c: c.file_type("cluster", "/etc/shadow"), firecrest.HeaderException, "X-Permission-Denied"),
        (lambda c: c.stat("cluster", "/missing"), firecrest.HeaderException, "X-Not-Found"),
        (lambda c: c.checksum("cluster", "/home"), firecrest.HeaderException, "X-A-Directory"),
        (lambda c: c.checksum("cluster", "/etc/shadow"), firecrest.HeaderException, "X-Permission-Denied"),
        (lambda c: c.mv("cluster", "/missing", "/tmp/x"), firecrest.HeaderException, "X-Not-Found"),
        (lambda c: c.copy("cluster", "/missing", "/tmp/x"), firecrest.HeaderException, "X-Not-Found"),
        (lambda c: c.copy("cluster", "/etc/passwd", "/missing/x"), firecrest.HeaderException, "X-Invalid-Path"),
        (lambda c: c.chmod("cluster", "/etc/passwd", "600"), firecrest.HeaderException, "X-Permission-Denied"),
        (lambda c: c.chmod("cluster", "/home/fcalice", "x"), firecrest.FirecrestException, "X-Invalid-Mode"),
        (lambda c: c.chown("cluster", "/home/fcalice", owner="nosuch"), firecrest.FirecrestException, "X-Invalid-Owner"),
        (lambda c: c.chown("cluster", "/home/fcalice", group="nosuch"), firecrest.FirecrestException, "X-Invalid-Group"),
        (lambda c: c.chown("cluster", "/home/fcalice", owner=""), firecrest.FirecrestException, None),
        (lambda c: c.symlink("cluster", "/x", "/etc/passwd/x"), firecrest.HeaderException, "X-Not-A-Directory"),
        (lambda c: c.symlink("cluster", "/x", "/etc/passwd"), firecrest.FirecrestException, "X-Exists"),
        (lambda c: c.compress("cluster", "/missing", "/tmp/fc-none/x"), firecrest.HeaderException, "X-Invalid-Path"),
        (lambda c: c.extract("cluster", "/missing.tgz", "/tmp"), firecrest.HeaderException, "X-Invalid-Path"),
        (lambda c: c.extract("cluster", "/etc/passwd", "/tmp"), firecrest.FirecrestException, None),
    ],
)
def test_failures_are_the_client_s_own_exceptions(
    client: Any, call: Callable[[Any], Any], kind: type[Exception], header: str | None
) -> None:
    with pytest.raises(kind) as failed:
        call(client)
    answer = failed.value.responses[-1]
    assert type(failed.value) is kind
    assert (answer.status_code, [name.title() for name in told(answer.headers)]) == (400, [header] if header else [])


def test_the_command_line_changes_files(cli: Cli, tmp_path: Path) -> None:
    home = Path(f"/home/fcalice/test-{uuid4().hex}")
    (tmp_path / "a file").write_bytes(b"content\n")
    cli("mkdir", str(home))
    try:
        cli("upload", "a file", str(home))
        cli("cp", f"{home}/a file", f"{home}/copy")
        cli("mv", f"{home}/copy", f"{home}/moved")
        cli("symlink", f"{home}/moved", f"{home}/link")
        cli("chmod", f"{home}/moved", "604")
        cli("chown", f"{home}/moved", "--owner", "fcalice", "--group", "fcalice")
        assert cli("file", f"{home}/moved").stdout == "ASCII text\n"
        assert cli("checksum", f"{home}/moved").stdout.split()[-1] == hashlib.sha256(b"content\n").hexdigest()
        assert json.loads(cli("stat", "--json", "-L", f"{home}/link").stdout)["mode"] == stat.S_IFREG | 0o604
        assert "size" in cli("stat", f"{home}/link").stdout
        cli("compress", f"{home}/moved", f"{home}/archive.tgz")
        cli("mkdir", f"{home}/place")
        cli("extract", f"{home}/archive.tgz", f"{home}/place")
        assert (home / "place" / "moved").read_bytes() == b"content\n"
        assert "Operation failed" in cli("checksum", f"{home}/none", code=1).stdout
    finally:
        cli("rm", "--force", str(home))
    assert not home.exists()
