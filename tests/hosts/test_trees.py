"""What a system does to send a directory as a tar archive, and to make one of what comes: every program of it, also on hostile archives."""

import hashlib
import io
import os
import pwd
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import CommandFailed, FirecrestError
from tests.hosts.tiny_store import Store
from tests.real_site import eventually
from workers import copies, trees
from workers.copies import Fate, Found, Run
from workers.host import Host
from workers.trees import FileResult

Packs = Callable[..., bytes]


def plant(top: Path, *, files: int = 0) -> None:
    """A tree of all that a tree may hold."""
    (top / "empty directory").mkdir(parents=True)
    (top / "ü 日本 🦀").write_text("utf-8")
    (top / "new\nline\tand tab").write_text("newline")
    (top / "back\\slash\\n").write_text("backslash")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff no utf-8")).write_text("bytes")
    (top / "-rf").write_text("option")
    (top / "zero").touch()
    (top / "link").symlink_to("zero")
    (top / "dangling").symlink_to("/no/where")
    (top / "hard").hardlink_to(top / "-rf")
    (top / "script").write_text("#!/bin/sh\n")
    (top / "script").chmod(0o750)
    deep = top.joinpath(*(f"{level:030}" for level in range(40)))
    deep.mkdir(parents=True)
    (deep / "deep").write_text("deep")
    for number in range(files):
        (top / "empty directory" / f"{number}").write_text(f"{number}")
    (top / "closed").mkdir()
    (top / "closed" / "in").write_text("in")
    (top / "closed").chmod(0o500)


def seen(top: Path) -> dict[str, tuple[str, ...]]:
    """All that a tree holds: of each its mode, time of change in seconds, and content or target."""
    found = {}
    for path in [top, *top.rglob("*")]:
        facts = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(top))] = (stat.filemode(facts.st_mode), "" if path.is_symlink() else str(int(facts.st_mtime)), content)
    return found


@pytest.fixture
def measured(here: Host, ended, tmp_path: Path) -> Callable[..., Found]:
    """What is found of a directory that is to be sent."""

    def measure(path: Path, number: int = 1) -> Found:
        run = Run(str(tmp_path / "job"), number, 0, 0)
        here.run(trees.measure(run, path=here.run(trees.locate(str(path), seconds=5)), seconds=5))
        return ended(run)

    return measure


@pytest.fixture
def packed(here: Host, store: Store, ended, measured, tmp_path: Path) -> Callable[..., bytes]:
    """The archive of a directory, sent in parts of that size."""

    def send(path: Path, part: int = 10**9) -> bytes:
        size, version = measured(path).sums
        urls = [store.url(str(number)) for number in range(-(-int(size) // part))]
        run = Run(str(tmp_path / "job"), 2, int(size), part)
        here.run(trees.send(run, urls, path=str(path), version=version, seconds=5))
        assert ended(run).fate is Fate.WHOLE
        content = b"".join(store.kept[str(number)] for number in range(len(urls)))
        assert len(content) == int(size)
        return content

    return send


@pytest.fixture
def unpacked(here: Host, ended, tmp_path: Path) -> Callable[..., Found]:
    """What is found when an archive was unpacked."""

    def unpack(content: bytes, number: int = 1) -> Found:
        work = str(tmp_path / "work")
        here.run(trees.prepare(work, seconds=5))
        Path(trees.archive(work)).write_bytes(content)
        run = Run(str(tmp_path / "unpacking"), number, len(content), 0)
        here.run(trees.unpack(run, work=work, seconds=5))
        return ended(run)

    return unpack


def told(here: Host, folder: Path) -> trees.Results:
    return here.run(trees.results(str(folder), seconds=5))


def place(here: Host, tmp_path: Path, target: Path) -> None:
    here.run(trees.place(str(tmp_path / "unpacking"), work=str(tmp_path / "work"), target=str(target), seconds=5))


def clear(here: Host, tmp_path: Path) -> None:
    here.run(copies.clear(str(tmp_path / "job"), seconds=5))
    here.run(copies.clear(str(tmp_path / "unpacking"), temporary=str(tmp_path / "work"), seconds=5))


@pytest.mark.parametrize("name", ["plain", "-x", "it's ü\n!", "(", "%s\\n"])
@pytest.mark.parametrize("part", [10**9, 7_777])
def test_a_directory_goes_out_and_comes_back_as_it_was(here: Host, packed, unpacked, tmp_path: Path, *, name: str, part: int) -> None:
    source, target = tmp_path / "from" / name, tmp_path / "to"
    plant(source)
    content = packed(source, part)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert {member.name.split("/")[0] for member in archive} == {name}
    assert unpacked(content).fate is Fate.WHOLE
    results = told(here, tmp_path / "unpacking")
    for _ in range(2):
        place(here, tmp_path, target)

    assert seen(target) == seen(source)
    assert (target / "hard").samefile(target / "-rf")
    assert FileResult("zero", 0, "ok") in results.files
    assert results.files_in_all == len(results.files) == len([path for path in source.rglob("*") if path.is_symlink() or path.is_file()])
    assert {result.name for result in told(here, tmp_path / "job").files} == {result.name for result in results.files}
    clear(here, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from", "to"]


def test_the_archive_is_the_same_every_time(packed, here: Host, tmp_path: Path) -> None:
    plant(tmp_path / "tree", files=50)
    first = packed(tmp_path / "tree")
    clear(here, tmp_path)

    assert hashlib.sha256(packed(tmp_path / "tree", 10_000)).digest() == hashlib.sha256(first).digest()


def test_an_empty_directory_is_one_too(here: Host, packed, unpacked, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert unpacked(packed(tmp_path / "tree")).fate is Fate.WHOLE
    place(here, tmp_path, tmp_path / "to")

    assert (list((tmp_path / "to").iterdir()), told(here, tmp_path / "unpacking")) == ([], trees.Results((), 0))


def test_of_very_many_files_not_all_are_told_but_counted(here: Host, measured, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(1_500):
        (tmp_path / "tree" / f"{number}").touch()
    measured(tmp_path / "tree")
    results = told(here, tmp_path / "job")

    assert (len(results.files), results.files_in_all) == (trees.MOST_FILES, 1_500)


def test_a_sending_that_was_cut_off_goes_on_with_the_part_it_was_at(
    here: Host, store: Store, ended, measured, packed, tmp_path: Path
) -> None:
    plant(tmp_path / "tree")
    content = packed(tmp_path / "tree")
    clear(here, tmp_path)
    size, version = measured(tmp_path / "tree").sums
    part = 20_000
    (tmp_path / "job" / "sums").write_text(hashlib.md5(content[:part]).hexdigest() + "\n")
    urls = [store.url("none"), *(store.url(str(number)) for number in range(1, -(-int(size) // part)))]
    run = Run(str(tmp_path / "job"), 2, int(size), part)
    here.run(trees.send(run, urls, path=str(tmp_path / "tree"), version=version, seconds=5))

    assert ended(run).fate is Fate.WHOLE
    assert b"".join(store.kept[str(number)] for number in range(1, len(urls))) == content[part:]
    assert "none" not in store.kept


def _append(tree: Path) -> None:
    with (tree / "b").open("a") as file:
        file.write("more")


CHANGES: dict[str, Callable[[Path], object]] = {
    "grown": _append,
    "shrunk": lambda tree: os.truncate(tree / "b", 10),
    "gone": lambda tree: (tree / "b").unlink(),
    "new": lambda tree: (tree / "c").touch(),
    "mode": lambda tree: (tree / "b").chmod(0o600),
    "first": lambda tree: (tree / "a").write_bytes(os.urandom(100_000)),
    "all gone": shutil.rmtree,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_directory_that_changes_while_it_is_read_is_not_taken_for_whole(
    here: Host, store: Store, ended, measured, tmp_path: Path, change: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in "ab":
        (tree / name).write_bytes(os.urandom(400_000))
    size, version = measured(tree).sums
    part = 100_000
    urls = [store.url(str(number)) for number in range(-(-int(size) // part))]
    run = Run(str(tmp_path / "job"), 2, int(size), part)
    store.held.clear()
    here.run(trees.send(run, urls, path=str(tree), version=version, seconds=5))
    eventually(lambda: "0" in store.kept)
    CHANGES[change](tree)
    store.held.set()
    found = ended(run)

    assert (found.fate, found.text) == (Fate.FAILED, "The directory has changed while it was read")


def test_a_directory_that_changed_between_runs_is_not_sent(here: Host, store: Store, ended, measured, tmp_path: Path) -> None:
    plant(tmp_path / "tree")
    size, version = measured(tmp_path / "tree").sums
    (tmp_path / "tree" / "zero").write_text("no more")
    run = Run(str(tmp_path / "job"), 2, int(size), 10**6)
    here.run(trees.send(run, [store.url("0")], path=str(tmp_path / "tree"), version=version, seconds=5))

    assert ended(run).text == "The directory has changed while it was read"
    assert not store.kept


def test_special_files_are_left_out_and_told(here: Host, packed, tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "file").write_text("file")
    os.mkfifo(tmp_path / "tree" / "sub" / "pipe")
    subprocess.run(["python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('s')"], cwd=tmp_path / "tree", check=True)
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path / "tree"))) as archive:
        assert archive.getnames() == ["tree", "tree/file", "tree/sub"]

    assert told(here, tmp_path / "job").files == (
        FileResult("s", 0, "left out: a socket"),
        FileResult("sub/pipe", 0, "left out: a named pipe"),
        FileResult("file", 4, "ok"),
    )


def test_what_is_not_a_directory_is_not_sent_as_one(here: Host, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "root").symlink_to("/")
    for path, words in (("file", "Not a directory"), ("missing/x", "No such file"), ("root", "root of all")):
        with pytest.raises(FirecrestError, match=words):
            here.run(trees.locate(str(tmp_path / path), seconds=5))


def member(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", content: bytes = b"", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size, entry.mode = kind, link, len(content), mode
    return entry, content


def tar_of(*members: tuple[tarfile.TarInfo, bytes], format_: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format_) as archive:
        for entry, content in members:
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


TOP = member("top", tarfile.DIRTYPE, mode=0o755)
SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
EVIL = {"content": b"evil"}

# Each of these tries to write, or to link, to {out}/victim or beside it, from within {out}/work/tree.
HOSTILE = {
    "absolute": lambda out: tar_of(TOP, member(f"{out}/written", **EVIL)),
    "dots": lambda _: tar_of(TOP, member("top/../../../written", **EVIL)),
    "dots first": lambda _: tar_of(TOP, member("../../written", **EVIL)),
    "hard link, absolute": lambda out: tar_of(TOP, member("top/h", HARD, link=f"{out}/victim"), member("top/h", **EVIL)),
    "hard link, dots": lambda _: tar_of(TOP, member("top/h", HARD, link="../../../victim"), member("top/h", **EVIL)),
    "through a hard link to a link": lambda out: tar_of(
        TOP, member("top/l", SYM, link=str(out)), member("top/h", HARD, link="top/l"), member("top/h/written", **EVIL)
    ),
    "through a link, absolute": lambda out: tar_of(TOP, member("top/l", SYM, link=str(out)), member("top/l/written", **EVIL)),
    "through a link, dots": lambda _: tar_of(TOP, member("top/l", SYM, link="../../.."), member("top/l/written", **EVIL)),
    "through two links": lambda _: tar_of(
        TOP, member("top/a", SYM, link="."), member("top/b", SYM, link="a/../../.."), member("top/b/written", **EVIL)
    ),
    "through a link at the top": lambda out: tar_of(member("top", SYM, link=str(out)), member("top/written", **EVIL)),
    "hard link to a file behind a link": lambda out: tar_of(
        TOP, member("top/l", SYM, link=str(out)), member("top/h", HARD, link="top/l/victim"), member("top/h", **EVIL)
    ),
    "device": lambda _: tar_of(TOP, member("top/d", tarfile.CHRTYPE)),
    "block device": lambda _: tar_of(TOP, member("top/d", tarfile.BLKTYPE)),
    "pipe": lambda _: tar_of(TOP, member("top/p", tarfile.FIFOTYPE)),
    "two tops": lambda _: tar_of(TOP, member("other", **EVIL)),
    "only a file": lambda _: tar_of(member("file", **EVIL)),
    "only a link": lambda out: tar_of(member("top", SYM, link=str(out))),
    "a directory made a link": lambda out: tar_of(
        TOP, member("top/d", tarfile.DIRTYPE), member("top/d", SYM, link=str(out)), member("top/d/written", **EVIL)
    ),
    "cut off": lambda _: tar_of(TOP, member("top/a", content=b"x" * 2000))[:2048],
    "cut off between files": lambda _: tar_of(TOP, member("top/a", content=b"x" * 512), member("top/b", **EVIL))[:1536],
    "cut off after zeros": lambda _: tar_of(TOP, member("top/a", content=bytes(4096)))[: 1024 + 4096],
    "two archives": lambda _: tar_of(TOP) + tar_of(TOP, member("top/b", **EVIL)),
    "empty": lambda _: b"",
    "zeros": lambda _: bytes(10240),
    "no tar": lambda _: os.urandom(5000),
    "text": lambda _: b"hello\n",
    "compressed": lambda _: subprocess.run(["gzip"], input=tar_of(TOP), capture_output=True, check=True).stdout,
    "damaged": lambda _: tar_of(TOP, member("top/a", **EVIL))[:512] + b"x" * 100 + tar_of(TOP, member("top/a", **EVIL))[612:],
    "sparse bomb": lambda _: _sparse(),
}


def _sparse() -> bytes:
    """An archive of 10 KB that states a file of 8 GiB."""
    entry = tarfile.TarInfo("top/bomb")
    entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "top/bomb", "GNU.sparse.realsize": str(2**33)}
    content = f"1\n{2**33}\n0\n".encode().ljust(512, b"\0")
    entry.size = len(content)
    return tar_of(TOP, (entry, content), format_=tarfile.PAX_FORMAT)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_writes_nothing_outside_and_makes_nothing_whole(here: Host, unpacked, tmp_path: Path, case: str) -> None:
    (tmp_path / "victim").write_text("as it was")
    found = unpacked(HOSTILE[case](tmp_path))

    assert found.fate is Fate.FAILED, found
    assert found.text
    assert (tmp_path / "victim").read_text() == "as it was"
    assert (tmp_path / "victim").stat().st_nlink == 1
    with pytest.raises(CommandFailed):
        place(here, tmp_path, tmp_path / "to")
    told(here, tmp_path / "unpacking")
    clear(here, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]


@pytest.mark.parametrize("link", [True, False])
def test_nothing_is_unpacked_in_a_directory_that_others_have_put_there(here: Host, tmp_path: Path, *, link: bool) -> None:
    work, planted = tmp_path / "work", tmp_path / "planted"
    planted.mkdir(0o777)
    if os.geteuid() != 0 and not link:
        pytest.skip("giving directories away needs root")
    if link:
        work.symlink_to(planted)
    else:
        os.chown(planted.rename(work), 65534, 65534)

    with pytest.raises(FirecrestError, match="exists") as failed:
        here.run(trees.prepare(str(work), seconds=5))
    assert not failed.value.transient


def test_what_went_wrong_with_single_files_is_told(here: Host, unpacked, tmp_path: Path) -> None:
    unpacked(tar_of(TOP, member("top/fine"), member("top/device", tarfile.CHRTYPE)))
    assert told(here, tmp_path / "unpacking").files == (FileResult("top/device", 0, "Neither file, directory nor link"),)
    unpacked(tar_of(TOP, member("top/h", HARD, link="top/missing")), 2)
    (result,) = told(here, tmp_path / "unpacking").files
    assert (result.name, result.result) == ("top/h", "Cannot hard link to \u2018top/missing\u2019: No such file or directory")


def test_links_that_lead_outside_are_links_and_rights_are_the_users(here: Host, unpacked, tmp_path: Path) -> None:
    os.umask(0o027)
    try:
        found = unpacked(
            tar_of(
                TOP,
                member("top/l", SYM, link="/etc/hostname"),
                member("top/up", SYM, link="../../x"),
                member("top/s", mode=0o6777, **EVIL),  # type: ignore[arg-type]
                member("top/sub", tarfile.DIRTYPE, mode=0o7777),
            )
        )
    finally:
        os.umask(0o022)
    assert found.fate is Fate.WHOLE, found
    place(here, tmp_path, tmp_path / "to")

    assert (tmp_path / "to" / "l").readlink() == Path("/etc/hostname")
    assert (tmp_path / "to" / "up").readlink() == Path("../../x")
    assert (tmp_path / "to" / "s").stat().st_mode & 0o7777 == 0o750
    assert (tmp_path / "to" / "sub").stat().st_mode & 0o7777 == 0o750


@pytest.mark.parametrize("options", [["-C", "top", "."], ["top"], ["--format=pax", "top"], ["--format=ustar", "./top"], ["-b1", "top"]])
def test_archives_are_taken_as_tars_make_them(here: Host, unpacked, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "top" / "sub").mkdir(parents=True)
    (tmp_path / "top" / ".hidden").write_text("hidden")
    content = subprocess.run(["tar", "-cf", "-", *options], cwd=tmp_path, capture_output=True, check=True).stdout
    assert unpacked(content).fate is Fate.WHOLE
    place(here, tmp_path, tmp_path / "to")

    assert seen(tmp_path / "to") == seen(tmp_path / "top")


def test_an_unpacking_that_was_cut_off_begins_anew(here: Host, unpacked, tmp_path: Path) -> None:
    rest = tmp_path / "work" / "tree" / "other"
    rest.mkdir(parents=True)
    (rest / "file").touch()
    rest.chmod(0o500)
    assert unpacked(tar_of(TOP, member("top/a"))).fate is Fate.WHOLE
    place(here, tmp_path, tmp_path / "to")

    assert [path.name for path in (tmp_path / "to").iterdir()] == ["a"]


def test_only_an_empty_directory_gives_way(here: Host, unpacked, tmp_path: Path) -> None:
    for name in ("empty", "full", "full/sub"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("full")
    for name in ("full", "file", "link"):
        unpacked(tar_of(TOP))
        with pytest.raises(FirecrestError):
            place(here, tmp_path, tmp_path / name)
    place(here, tmp_path, tmp_path / "empty")

    assert (tmp_path / "full" / "sub").is_dir()
    assert (tmp_path / "file").is_file()
    assert (tmp_path / "link").is_symlink()


def test_where_a_directory_goes(here: Host, tmp_path: Path) -> None:
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    (tmp_path / "sub" / "full" / "x").mkdir(parents=True)
    (tmp_path / "file").touch()

    def path(target: str, name: str) -> str:
        return here.run(trees.resolve(f"{tmp_path}/{target}", name, seconds=5)).path

    assert path("sub", "new") == f"{tmp_path}/sub/new"
    assert path("sub", "empty") == f"{tmp_path}/sub/empty"
    assert path("new", "name") == f"{tmp_path}/new"
    for target, name in (("sub", "full"), ("file", "name"), ("", "file")):
        with pytest.raises(CommandFailed, match="File exists"):
            path(target, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_cannot_be_read_makes_it_fail_and_is_told(tmp_path: Path) -> None:
    """As a user: root can read everything."""
    user = pwd.getpwnam("nobody")
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "fine").write_text("fine")
    (tree / "secret").touch(mode=0o000)
    (tree / "closed").chmod(0o311)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o005 != 0o005 and path.is_relative_to("/tmp"):
            path.chmod(0o755)
    job = tmp_path / "job"
    job.mkdir()
    os.chown(job, user.pw_uid, user.pw_gid)

    def run(command: object) -> bytes:
        words = command.argv  # type: ignore[attr-defined]
        return subprocess.run(words, user=user.pw_uid, group=user.pw_gid, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout

    measuring = Run(str(job), 1, 0, 0)
    run(trees.measure(measuring, path=str(tree), seconds=5))
    found = eventually(
        lambda: (seen := copies.look(measuring, seconds=5).parse(run(copies.look(measuring, seconds=5)))).fate is not Fate.RUNNING and seen
    )

    assert (found.fate, found.text) == (Fate.FAILED, "Permission denied: 2 in the directory cannot be read")
    results = trees.results(str(job), seconds=5)
    assert results.parse(run(results)).files == (
        FileResult("closed", 0, "Permission denied"),
        FileResult("secret", 0, "Permission denied"),
        FileResult("fine", 4, "ok"),
    )
