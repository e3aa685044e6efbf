"""What a system does to copy files to and from an object store: every program of it, started, cut off, gone on with, ended."""

import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from schemas.errors import CommandFailed, NotFound
from tests.hosts.tiny_store import Store
from tests.real_site import eventually
from workers import copies
from workers.copies import Fate, Found, Run
from workers.host import Host

SIZES = [(0, 0), (5, 5), (3_000_000, 1_000_000), (3_000_001, 1_000_000)]


def parts(size: int, part: int) -> int:
    return max(1, -(-size // max(1, part)))


@pytest.mark.parametrize(("size", "part"), SIZES)
def test_a_file_comes_whole_however_often_that_is_asked_for(here: Host, store: Store, ended, tmp_path: Path, size: int, part: int) -> None:
    store.kept["file"] = content = os.urandom(size)
    run, temporary, target = Run(str(tmp_path / "job"), 1, size, part), tmp_path / ".temporary", tmp_path / "it's there"
    for _ in range(3):
        here.run(copies.fetch(run, store.url("file"), temporary=str(temporary), etag="e", seconds=5))
    found = ended(run, temporary)

    assert (found.fate, len(found.sums)) == (Fate.WHOLE, parts(size, part))
    assert [hashlib.md5(content[n * part : (n + 1) * part] if part else content).hexdigest() for n in range(parts(size, part))] == list(
        found.sums
    )
    for _ in range(2):
        here.run(copies.place(run.folder, temporary=str(temporary), target=str(target), seconds=5))
    assert (target.read_bytes(), temporary.exists()) == (content, False)
    here.run(copies.clear(run.folder, temporary=str(temporary), seconds=5))
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("size", "part"), SIZES)
def test_a_file_goes_out_whole(here: Host, store: Store, ended, tmp_path: Path, size: int, part: int) -> None:
    path = tmp_path / "a file"
    path.write_bytes(content := os.urandom(size))
    measure = here.run(copies.measure(str(path), seconds=5))
    run = Run(str(tmp_path / "job"), 1, size, part)
    urls = [store.url(str(number)) for number in range(parts(size, part))]
    here.run(copies.send(run, urls, path=measure.path, version=measure.version, seconds=5))

    assert ended(run).fate is Fate.WHOLE
    assert measure.size == size
    assert b"".join(store.kept[str(number)] for number in range(len(urls))) == content
    here.run(copies.clear(run.folder, seconds=5))
    assert list(tmp_path.iterdir()) == [path]


def test_a_fetch_that_is_cut_off_goes_on_behind_its_last_whole_part(here: Host, store: Store, ended, tmp_path: Path) -> None:
    store.kept["file"] = content = os.urandom(3_500_000)
    store.most = 1_500_000
    temporary, fates = tmp_path / "temporary", []
    for number in range(1, 4):
        run = Run(str(tmp_path / "job"), number, len(content), 1_000_000)
        here.run(copies.fetch(run, store.url("file"), temporary=str(temporary), etag="e", seconds=5))
        fates.append(ended(run, temporary).fate)

    assert fates == [Fate.CUT, Fate.CUT, Fate.WHOLE]
    assert temporary.read_bytes() == content


def test_a_sending_that_was_killed_goes_on_with_the_part_it_was_at(here: Host, store: Store, ended, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content := os.urandom(3_000))
    measure = here.run(copies.measure(str(path), seconds=5))
    urls = [store.url(str(number)) for number in range(3)]
    first, second = (Run(str(tmp_path / "job"), number, 3_000, 1_000) for number in (1, 2))
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "sums").write_text(hashlib.md5(content[:1000]).hexdigest() + "\n")
    store.held.clear()
    here.run(copies.send(first, urls, path=measure.path, version=measure.version, seconds=5))
    eventually(lambda: "1" in store.kept)
    _kill(first.folder)
    assert ended(first).fate is Fate.LOST
    store.held.set()
    here.run(copies.send(second, urls, path=measure.path, version=measure.version, seconds=5))

    assert ended(second).fate is Fate.WHOLE
    assert (store.kept["1"] + store.kept["2"], "0" in store.kept) == (content[1000:], False)


def _kill(folder: str) -> None:
    """Kill all that works in the folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str((entry / "cwd").readlink()) == folder:
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


@pytest.mark.parametrize("other", [b"other", bytes(2_004)])
def test_a_file_that_changes_while_it_is_read_is_not_taken_for_whole(here: Host, store: Store, ended, tmp_path: Path, other) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(2_000))
    measure = here.run(copies.measure(str(path), seconds=5))
    run = Run(str(tmp_path / "job"), 1, 2_000, 1_000)
    store.held.clear()
    here.run(copies.send(run, [store.url("0"), store.url("1")], path=measure.path, version=measure.version, seconds=5))
    eventually(lambda: "0" in store.kept)
    path.write_bytes(other)
    store.held.set()
    found = ended(run)

    assert (found.fate, found.text, found.can_go_on()) == (Fate.FAILED, "The file has changed while it was read", False)


def test_a_copy_that_is_cleared_away_while_it_runs_stops_and_leaves_nothing(here: Host, store: Store, tmp_path: Path) -> None:
    store.kept["file"], store.most = bytes(1_000_000), 500_000
    store.held.clear()
    run, temporary = Run(str(tmp_path / "job"), 1, 1_000_000, 1_000_000), tmp_path / "temporary"
    here.run(copies.fetch(run, store.url("file"), temporary=str(temporary), etag="e", seconds=5))
    eventually(lambda: here.run(copies.look(run, temporary=str(temporary), seconds=5)).moved > 400_000)

    here.run(copies.clear(run.folder, temporary=str(temporary), seconds=10))

    assert list(tmp_path.iterdir()) == []
    eventually(lambda: f"{store.server_port}/file" not in _processes() and str(temporary) not in _processes())


def _processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("url", "temporary", "fate", "goes_on", "text"),
    [
        ("{store}none", "{home}/t", Fate.CUT, False, "The requested URL returned error: 404"),
        ("http://127.0.0.1:9/", "{home}/t", Fate.CUT, True, "Failed to connect"),
        ("{store}file", "{home}/missing/t", Fate.FAILED, False, "No such file or directory"),
        ("{store}file", "{home}", Fate.FAILED, False, "Is a directory"),
    ],
)
def test_what_goes_wrong_says_whether_it_may_go_well_later(
    here: Host, store: Store, ended, tmp_path: Path, *, url: str, temporary: str, fate: Fate, goes_on: bool, text: str
) -> None:
    store.kept["file"] = b"12345"
    run = Run(str(tmp_path / "job"), 1, 5, 5)
    here.run(copies.fetch(run, url.format(store=store.url("")), temporary=temporary.format(home=tmp_path), etag="e", seconds=5))
    found = ended(run)

    assert (found.fate, found.can_go_on()) == (fate, goes_on)
    assert text in found.text


@pytest.mark.parametrize("link", [True, False])
def test_nothing_is_written_into_what_others_have_put_where_the_file_is_to_come(
    here: Host, store: Store, ended, tmp_path: Path, *, link: bool
) -> None:
    store.kept["file"] = b"12345"
    temporary, planted = tmp_path / "temporary", tmp_path / "planted"
    planted.touch(0o666)
    if link:
        temporary.symlink_to(planted)
    else:
        temporary.hardlink_to(planted)
    run = Run(str(tmp_path / "job"), 1, 5, 5)
    here.run(copies.fetch(run, store.url("file"), temporary=str(temporary), etag="e", seconds=5))

    assert ended(run).fate is Fate.WHOLE
    assert (temporary.read_bytes(), planted.read_bytes()) == (b"12345", b"")


def test_a_full_file_system_is_told(here: Host, store: Store, ended, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    store.kept["file"] = bytes(2_000_000)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=True)
    try:
        run = Run(str(tmp_path / "job"), 1, 2_000_000, 2_000_000)
        here.run(copies.fetch(run, store.url("file"), temporary=str(small / "t"), etag="e", seconds=5))
        found = ended(run, small / "t")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)

    assert (found.fate, found.can_go_on()) == (Fate.FAILED, False)
    assert "No space left on device" in found.text


def test_where_a_file_goes_and_what_may_be_sent(here: Host, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub/file")
    resolved = {target: here.run(copies.resolve(f"{tmp_path}/{target}", "name", seconds=5)) for target in ("sub", "sub/", "new", "link")}

    assert {target: found.shown for target, found in resolved.items()} == {
        "sub": f"{tmp_path}/sub/name",
        "sub/": f"{tmp_path}/sub/name",
        "new": f"{tmp_path}/new",
        "link": f"{tmp_path}/link",
    }
    assert resolved["link"].path == f"{tmp_path}/sub/file"
    with pytest.raises(CommandFailed, match="Is a directory"):
        here.run(copies.resolve(str(tmp_path), "sub", seconds=5))
    with pytest.raises(CommandFailed, match="Not a regular file"):
        here.run(copies.resolve("/dev/null", "name", seconds=5))
    with pytest.raises(CommandFailed, match="is not a regular file"):
        here.run(copies.measure("/dev/zero", seconds=5))
    with pytest.raises((CommandFailed, NotFound)):
        here.run(copies.measure(f"{tmp_path}/missing", seconds=5))


def test_a_sending_whose_later_parts_have_arrived_sends_only_the_others(here: Host, store: Store, ended, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content := os.urandom(11_500))
    measure = here.run(copies.measure(str(path), seconds=5))
    urls = [store.url(str(number)) for number in range(12)]
    run = Run(str(tmp_path / "job"), 2, 11_500, 1_000)
    (tmp_path / "job").mkdir()
    whole = [hashlib.md5(content[n * 1000 : n * 1000 + 1000]).hexdigest() for n in range(12)]
    (tmp_path / "job" / "sums").write_text(whole[0] + "\n")
    for number in (1, 2, 5, 11):
        (tmp_path / "job" / f"part.{number + 1}").write_text(whole[number] + "\n")
    here.run(copies.send(run, urls, path=measure.path, version=measure.version, seconds=5))

    assert ended(run) == Found(Fate.WHOLE, sums=tuple(whole))
    assert sorted(map(int, store.kept)) == [3, 4, 6, 7, 8, 9, 10]
    assert all(store.kept[str(n)] == content[n * 1000 : n * 1000 + 1000] for n in (3, 4, 6, 7, 8, 9, 10))


def test_a_part_that_is_refused_ends_the_sending_of_the_others(here: Host, store: Store, ended, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4_000))
    measure = here.run(copies.measure(str(path), seconds=5))
    run = Run(str(tmp_path / "job"), 1, 4_000, 1_000)
    store.held.clear()
    urls = [*(store.url(str(number)) for number in range(3)), "http://127.0.0.1:9/"]
    here.run(copies.send(run, urls, path=measure.path, version=measure.version, seconds=5))
    found = ended(run)

    assert (found.fate, found.can_go_on()) == (Fate.CUT, True)
    assert "Failed to connect" in found.text
    eventually(lambda: f"127.0.0.1:{store.server_port}/" not in _processes())
    here.run(copies.clear(run.folder, seconds=10))
    assert list(tmp_path.iterdir()) == [path]


def test_more_than_the_file_is_not_taken_for_it(here: Host, store: Store, ended, tmp_path: Path) -> None:
    store.kept["file"] = bytes(1_500)
    run, temporary = Run(str(tmp_path / "job"), 1, 1_000, 1_000), tmp_path / "temporary"
    here.run(copies.fetch(run, store.url("file"), temporary=str(temporary), etag="e", seconds=5))

    assert ended(run, temporary) == Found(Fate.FAILED, text="The object store has sent more than the file")
