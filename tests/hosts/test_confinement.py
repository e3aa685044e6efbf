"""The program that keeps commands within allowed paths: over SSH as on this machine, and in the scripts of transfer jobs."""

import os
import pwd
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import PermissionDenied
from schemas.places import Place, Reach
from schemas.transfer_jobs import CopyJob
from workers.confinement import ConfinedHost, Confinement, also_within, unconfined, within
from workers.host import Command, Host
from workers.transfer_jobs import script
from workers.utilities import copying

ECHO = Command(("echo", "done", "*", "a  b", "'"), bytes.decode, seconds=20)


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder with `in`, where all is allowed, and `out`, where nothing is."""
    for name in ("in/a/b", "in/loop", "out/c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "in/loop/again").symlink_to("..")
    (tmp_path / "in/out").symlink_to(tmp_path / "out")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == pwd.getpwuid(os.geteuid()).pw_name and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


@pytest.mark.parametrize(
    ("reach", "path", "allowed"),
    [
        (Reach.PATH, "in", True),
        (Reach.PATH, "in/", True),
        (Reach.PATH, "in/a/../a//./b", True),
        (Reach.PATH, "in/new/newer", True),
        (Reach.PATH, "out/../in", True),
        (Reach.PATH, "in-not", False),
        (Reach.PATH, "in/..", False),
        (Reach.PATH, "in/out", False),
        (Reach.PATH, "in/out/../in", True),
        (Reach.PATH, "in/new/../../out", False),
        (Reach.ENTRY, "in/out", True),
        (Reach.ENTRY, "in/out/", False),
        (Reach.ENTRY, "in/out/.", False),
        (Reach.ENTRY, "in/out/..", False),
        (Reach.ENTRY, "in/out/c", False),
        (Reach.ENTRY, "out", False),
        (Reach.LINKS, "in/a", True),
        (Reach.LINKS, "in", False),
        (Reach.LINKS, "in/loop", True),
        (Reach.TREE, "in/a", True),
        (Reach.TREE, "in/loop", False),
        (Reach.TREE, "in", False),
        (Reach.TREE, "in/new", True),
    ],
)
def test_a_command_runs_where_its_place_is_allowed(host: Host, places: Path, reach: Reach, path: str, allowed: bool) -> None:
    bounds = Confinement((str(places / "none"), str(places / "in")), (Place(f"{places}/{path}", reach),))
    if allowed:
        assert within(host, bounds).run(ECHO) == "done * a  b '\n"
    else:
        with pytest.raises(PermissionDenied, match="outside of the paths"):
            within(host, bounds).run(ECHO)


@pytest.mark.parametrize("name", ["-rf", "line\nbreak", "two  blanks", "*", "'quote'", "ünï", "[a]", "\\", "$HOME", "(", "!", "end\n"])
def test_any_name_can_be_allowed_and_used(here: Host, places: Path, name: str) -> None:
    folder = places / "in" / name
    folder.mkdir()
    (folder / name).symlink_to(folder)
    for reach in Reach:
        assert within(here, Confinement((f"{places}/in",), (Place(f"{folder}/{name}", reach),))).run(ECHO)
    (folder / "out").symlink_to(places / "out")
    for reach in (Reach.LINKS, Reach.TREE):
        with pytest.raises(PermissionDenied):
            within(here, Confinement((f"{places}/in",), (Place(str(folder), reach),))).run(ECHO)


def test_an_allowed_path_may_be_a_link_or_everything(here: Host, places: Path) -> None:
    (places / "link").symlink_to("in")
    for root in (f"{places}/link", "/", "//", f"{places}/in/"):
        assert within(here, Confinement((root,), (Place(f"{places}/in/a", Reach.TREE),))).run(ECHO)


def test_what_cannot_be_found_out_is_outside(here: Host, places: Path) -> None:
    (places / "bin").mkdir()
    for tool in ("sh", "readlink", "tr", "echo", "printf", "timeout"):
        (places / "bin" / tool).symlink_to(f"/usr/bin/{tool}")
    argv = Confinement((f"{places}/in",), (Place(f"{places}/in/a", Reach.TREE),)).words(ECHO.argv)
    without_find = Command(("env", f"PATH={places}/bin", *argv), bytes.decode, seconds=20)
    with pytest.raises(Exception, match="outside of the paths"):
        here.run(without_find)
    (places / "bin" / "find").symlink_to("/usr/bin/find")
    assert here.run(without_find)


def test_failures_and_what_is_read_pass_through(here: Host, places: Path) -> None:
    confined = within(here, Confinement((f"{places}/in",), (Place(f"{places}/in"),)))
    assert confined.run(replace(ECHO, argv=("cat",), stdin=b"read")) == "read"
    with pytest.raises(PermissionDenied, match="somewhere: Permission denied"):
        confined.run(replace(ECHO, argv=("sh", "-c", "echo 'x: somewhere: Permission denied' >&2; exit 116")))


def test_a_transfer_is_held_to_where_its_path_led_too(here: Host, places: Path) -> None:
    confined = within(here, Confinement((f"{places}/in",), (Place(f"{places}/in"),)))
    assert isinstance(confined, ConfinedHost)
    assert also_within(confined, f"{places}/in/a").run(ECHO)
    assert also_within(confined, "").run(ECHO)
    with pytest.raises(PermissionDenied):
        also_within(confined, f"{places}/in/out/new").run(ECHO)
    assert unconfined(confined) is here
    assert within(here, Confinement()) is here
    assert also_within(here, f"{places}/out") is here


def test_a_transfer_job_finds_out_when_it_runs(places: Path) -> None:
    op = CopyJob(source_path=f"{places}/in/a", target_path=f"{places}/in/copy")
    text = script(Confinement((f"{places}/in",), op.places()).words(copying(op.source_path, op.target_path)))
    assert subprocess.run(("bash",), input=text.encode(), check=False).returncode == 0
    assert (places / "in/copy/b").is_dir()
    (places / "in/copy/b").rmdir()
    (places / "in/copy").rmdir()
    (places / "in/copy").symlink_to(places / "out")
    done = subprocess.run(("bash",), input=text.encode(), check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (116, f"{places}/in/copy: outside of the paths that may be used here\n".encode())
    assert sorted(path.name for path in (places / "out").rglob("*")) == ["c"]
