"""The commands of utilities as text, and what they print, recorded, as the gateway reads it."""

import shlex
from typing import Any

import pytest
from redis import Redis

from broker.blobs import Blobs
from schemas.errors import CommandFailed, PatternNotFound, PermissionDenied
from schemas.operation import Operation
from schemas.settings import Limits, System
from schemas.utilities import (
    Checksum,
    Chmod,
    Chown,
    Compress,
    Copy,
    Extract,
    FileStatus,
    FileType,
    Ls,
    Mkdir,
    Rename,
    Rm,
    Stat,
    Symlink,
    Whoami,
)
from workers.archives import packing
from workers.contents import lines_with
from workers.host import Command
from workers.listing import listing, rows, unquoted
from workers.performing import PERFORMERS, Scene
from workers.utilities import digest, identities, kind, status, text

RECURSIVE = b"""\
"/data":
total 8
drwxr-xr-x 2 ann staff 4096 2026-01-02T03:04:05 "a \\"b\\" \\\\ c"
lrwxrwxrwx 1 ann staff    4 2026-01-02T03:04:05 "link" -> "some where"
crw-rw-rw- 1 root root 1, 3 2026-01-02T03:04:05 "null"
-rw-r--r--+ 1 ann 1234 7 2026-01-02T03:04:05 "x"

"/data/a \\"b\\" \\\\ c":
total 0
-rw-r--r-- 1 ann staff 0 2026-01-02T03:04:05 "line\\nbreak"
"""


def test_a_listing_is_read_with_headings_totals_links_devices_and_access_lists() -> None:
    folder, link, device, listed, nested = listing(RECURSIVE)

    assert (folder.name, folder.type, folder.permissions) == ('a "b" \\ c', "d", "rwxr-xr-x")
    assert (link.name, link.type, link.link_target) == ("link", "l", "some where")
    assert (device.type, device.size) == ("c", "1, 3")
    assert (listed.permissions, listed.group, listed.last_modified) == ("rw-r--r--", "1234", "2026-01-02T03:04:05")
    assert nested.name == 'a "b" \\ c/line\nbreak'


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [
        ('"a"', "a"),
        ('"\\303\\251"', "é"),
        ('"é"', "é"),
        ('"\\t\\n\\a\\""', '\t\n\a"'),
        ('"\\\\n"', "\\n"),
        ('"\\3771"', "\ufffd1"),
    ],
)
def test_c_quotes_are_undone(quoted: str, plain: str) -> None:
    assert unquoted(quoted) == plain


def test_identities_are_read_with_and_without_names() -> None:
    groups = identities(b"uid=5(ann) gid=6 groups=6,7(a b),8(c)\n")

    assert (groups.user.name, groups.user.id, groups.group.name, groups.group.id) == ("ann", "5", "", "6")
    assert [(group.id, group.name) for group in groups.groups] == [("6", ""), ("7", "a b"), ("8", "c")]


def test_a_pattern_is_text_and_not_an_expression() -> None:
    assert lines_with(".", "a.b\nab\n") == "a.b\n"
    assert lines_with(None, "ab") == "ab"
    with pytest.raises(PatternNotFound):
        lines_with("x.*", "xyz\n")


def test_what_is_not_utf8_is_no_text() -> None:
    with pytest.raises(CommandFailed, match="codec can't decode"):
        text(b"\xff")


class Recorder:
    """A host that keeps the command and runs nothing."""

    def run(self, command: Command[Any]) -> None:
        """Keep the command."""
        self.command = command


SCENE = Scene("id", "ann", System(name="s", host="h", host_keys=("k",)), Limits(utilities_timeout=5), Blobs(Redis()))
STATUS = "%f %i %d %h %u %g %s %X %Y %Z"
LS = "ls -1 --quoting-style=c --time-style=+%Y-%m-%dT%H:%M:%S"
DIRECT = "--dereference-command-line-symlink-to-dir"
READS = [
    (Ls(target_path="a b"), f"{LS} -l {DIRECT} -- 'a b'"),
    (Ls(target_path="-x", show_hidden=True, numeric_uid=True, recursive=True), f"{LS} -l -A --numeric-uid-gid -R {DIRECT} -- -x"),
    (Ls(target_path="x", follow_links=True, unsorted=True), f"{LS} -l -L -Ua -- x"),
    (Ls(target_path="x", not_listing=True, numeric_uid=True, unsorted=True), f"{LS} {DIRECT} -Ua -- x"),
    (FileType(target_path="-f"), "file -E -b -- -f"),
    (Stat(target_path="x"), f"stat -c '{STATUS}' -- x"),
    (Stat(source_path="-", dereference=True), f"stat --dereference -c '{STATUS}' -- ./-"),
    (Checksum(target_path="-"), "sha256sum -- ./-"),
    (Whoami(), "id -un"),
    (Whoami(groups=True), "id"),
]
SHOWN_AS_PRINTED = [
    Ls(target_path="/nö"),
    Ls(target_path="/a", not_listing=True),
    Ls(target_path="/a", recursive=True),
    Ls(target_path="/a", follow_links=True),
]
CHANGES = [
    (Mkdir(target_path="-p"), "mkdir -- -p"),
    (Mkdir(target_path="a/b", parents=True), "mkdir -p -- a/b"),
    (Rename(target_path="b", source_path="a"), "mv --force -- a b"),
    (Copy(target_path="b", source_path="a"), "cp --force -dR --preserve=all -- a b"),
    (Chmod(target_path="x", mode="-w"), "chmod -v -- -w x"),
    (Chown(target_path="x", owner="ann", group="staff"), "chown -v -- ann:staff x"),
    (Chown(target_path="x", owner="ann"), "chown -v -- ann: x"),
    (Chown(target_path="x", group="staff"), "chown -v -- :staff x"),
    (Symlink(target_path="there", link_path="here"), "ln -s -- there here"),
    (Rm(target_path="-rf"), "rm -r --interactive=never -- -rf"),
    (Compress(target_path="/a:b.tgz", source_path="/x/-y/"), "tar -cz --force-local --file=/a:b.tgz --directory=/x -- -y"),
    (
        Compress(target_path="-o", source_path="y", dereference=True),
        "tar --dereference -cz --force-local --file=./-o --directory=. -- y",
    ),
    (Extract(target_path="-d", source_path="a.tar"), "tar -xv --force-local --file=./a.tar --directory=-d"),
    (Extract(target_path="d", source_path="a.TGZ"), "tar -xv --gzip --force-local --file=./a.TGZ --directory=d"),
    (Extract(target_path="d", source_path="/a.tar.bz2"), "tar -xv --bzip2 --force-local --file=/a.tar.bz2 --directory=d"),
    (Extract(target_path="d", source_path="a.zip", extension=".xz"), "tar -xv --xz --force-local --file=./a.zip --directory=d"),
    (Extract(target_path="d", source_path="a", extension="auto", type="gz"), "tar -xv --gzip --force-local --file=./a --directory=d"),
    (Extract(target_path="-d", source_path="/b/[1]*?.zip"), "unzip -o '/b/[[]1][*][?].zip' -d ./-d"),
]


@pytest.mark.parametrize(("op", "line"), [*READS, *CHANGES], ids=[line for _, line in (*READS, *CHANGES)])
def test_an_operation_is_one_command_with_a_time_limit(op: Operation, line: str) -> None:
    host = Recorder()
    PERFORMERS[type(op)](op, host, SCENE)
    assert shlex.split(host.command.line()) == ["LC_ALL=C.UTF-8", "timeout", "5", *shlex.split(line)]
    assert host.command.repeatable == ((op, line) in READS), "what changes files is not done twice"


@pytest.mark.parametrize("op", SHOWN_AS_PRINTED)
def test_names_that_may_be_shown_as_printed_are_printed_with_their_characters(op: Ls) -> None:
    usual, host = Recorder(), Recorder()
    PERFORMERS[Ls](Ls(target_path="/a", show_hidden=True), usual, SCENE)
    PERFORMERS[Ls](op, host, SCENE)

    assert usual.command.line_within().startswith("LC_ALL=C ls ")
    assert " LC_CTYPE=C.UTF-8 " in host.command.line_within()


@pytest.mark.parametrize(
    ("source", "folder", "name"),
    [("/", "/", "."), ("//", "/", "."), ("/a", "/", "a"), ("/a/b//", "/a", "b"), ("a", ".", "a"), ("a/b", "a", "b"), ("..", ".", "..")],
)
def test_the_last_name_of_a_path_is_packed_from_its_folder(source: str, folder: str, name: str) -> None:
    assert packing(source, "x", dereference=False)[-3:] == (f"--directory={folder}", "--", name)


def test_a_listing_with_groups_of_two_words_and_rows_that_cannot_be_read() -> None:
    (entry,) = listing(b'-rw-r--r-- 1 ann domain users 5 2026-01-02T03:04:05 "a"\n')
    assert (entry.user, entry.group, entry.size) == ("ann", "domain users", "5")
    with pytest.raises(CommandFailed, match="cannot be read"):
        listing(b'total 4\nl????????? ? ? ? ? ? "dangling"\n')


def test_only_line_feeds_end_the_rows_of_a_listing() -> None:
    assert rows('"a\u2028b"\n"c\x85"\n'.encode()) == ['"a\u2028b"', '"c\x85"']
    assert rows(b"") == []


@pytest.mark.parametrize("root", ["/", "/a", "a", ".", "./a/", "./a//", "/a/../a"])
def test_names_in_subdirectories_start_at_the_directory(root: str) -> None:
    nested = f"{root.rstrip('/')}/sub dir"
    found = listing(f'"{root}":\ntotal 0\n\n"{nested}":\ntotal 0\n-rw-r--r-- 1 a b 5 2026-01-02T03:04:05 "f"\n'.encode())
    assert [entry.name for entry in found] == ["sub dir/f"]


def test_identities_may_be_of_two_words_and_have_a_context() -> None:
    groups = identities(b"uid=5(ann b) gid=6(domain users) groups=6(domain users),7(x) context=u:r:t:s0\n")
    assert (groups.user.name, groups.group.name) == ("ann b", "domain users")
    assert [group.name for group in groups.groups] == ["domain users", "x"]


def test_a_status_is_read_with_its_mode_in_hex() -> None:
    read = status(b"81a4 5 64768 1 1000 100 7 -1 2 3\n")
    assert read == FileStatus(mode=0o100644, ino=5, dev=64768, nlink=1, uid=1000, gid=100, size=7, atime=-1, mtime=2, ctime=3)


def test_a_checksum_is_read_whatever_the_name() -> None:
    assert digest(b"ab12  a name\n") == digest(b"\\ab12  a\\nname\n") == "ab12"


def test_a_type_is_what_file_says_unless_the_file_cannot_be_read() -> None:
    assert kind(b"symbolic link to regular file, no read permission\n") == "symbolic link to regular file, no read permission"
    for said in (b"regular file, no read permission\n", b"setuid, writable, executable, regular file, no read permission\n"):
        with pytest.raises(PermissionDenied, match="no read permission"):
            kind(said)
