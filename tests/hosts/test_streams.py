"""What commands read and print in pieces, however a host is entered."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from schemas.errors import CommandFailed, FirecrestError, MachineNotAvailable, SizeLimit, TimedOut
from tests.hosts.own_sshd import OwnSshd, eventually
from workers.contents import replacement
from workers.framing import MAX_OUTPUT
from workers.host import Command, Host
from workers.shells import SMALL_INPUT
from workers.ssh import SSHPool
from workers.streams import Kept, Source

PIECE = bytes(range(256)) * 1024
MEGABYTE = 1024 * 1024
# pipes, both sides' windows of a session (2 MB each), what sshd and paramiko have in hand
MOST_UNDER_WAY = 8 * MEGABYTE


class Counted:
    """A sink that keeps no more than how much it was given; it may wait for leave to go on."""

    def __init__(self) -> None:
        self.size = 0
        self.runs = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def begin(self) -> None:
        self.size = 0
        self.runs += 1

    def take(self, piece: bytes) -> None:
        self.size += len(piece)
        assert self.go_on.wait(30)


def failing(size: int, after: int, error: Exception) -> Source:
    """A source of `size` bytes that raises once it has given `after` of them."""

    def pieces() -> Iterator[bytes]:
        yield b"x" * after
        raise error

    return Source(size, pieces)


@pytest.fixture
def place(host: Host) -> Iterator[str]:
    """A folder that whoever runs commands on the host has made there."""
    path = f"/tmp/streams-{uuid4().hex}"
    host.run(Command(("mkdir", path), bytes))
    yield path
    host.run(Command(("rm", "-rf", path), bytes))


def put(host: Host, path: str, content: bytes | Source) -> None:
    source = Source.of(content) if isinstance(content, bytes) else content
    host.run(replacement(path, source, seconds=20))


def resident(field: str) -> int:
    """A figure of this process' memory, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def test_a_stream_longer_than_any_memory_for_it_goes_in_and_out(host: Host) -> None:
    count = 1024
    source, sink = Source(count * len(PIECE), lambda: itertools.repeat(PIECE, count)), Counted()
    host.run(Command(("cat",), bytes, stdin=Source.of(PIECE), sink=sink))
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmHWM")

    host.run(Command(("cat",), bytes, stdin=source, sink=sink, seconds=60))

    assert sink.size == source.size > 2 * MAX_OUTPUT
    assert resident("VmHWM") - before < 48 * MEGABYTE


def test_what_is_given_and_taken_in_pieces_arrives_as_it_was(host: Host) -> None:
    for size in (0, 1, SMALL_INPUT, SMALL_INPUT + 1, 65535, 65536, 65537, 3_000_001):
        content = (PIECE * 12)[:size]
        kept = Kept()
        halves = (content[: size // 3], b"", content[size // 3 :])
        host.run(Command(("cat",), bytes, stdin=Source(size, lambda halves=halves: halves), sink=kept))
        assert kept.content() == content


def test_a_source_is_not_read_ahead_of_a_command_that_does_not_read(host: Host) -> None:
    given = 0

    def pieces() -> Iterator[bytes]:
        nonlocal given
        for _ in range(256):
            given += len(PIECE)
            yield PIECE

    assert host.run(Command(("sleep", "1.5"), bytes, stdin=Source(256 * len(PIECE), pieces))) == b""
    assert SMALL_INPUT < given < MOST_UNDER_WAY


def test_a_command_is_not_read_ahead_of_a_sink_that_does_not_take(host: Host, place: str) -> None:
    sink = Counted()
    sink.go_on.clear()
    script = 'i=0; while [ $i -lt 512 ]; do head -c 32768 /dev/zero; i=$((i + 1)); echo $i >"$1"; done'
    running = threading.Thread(target=host.run, args=(Command(("sh", "-c", script, "sh", f"{place}/printed"), bytes, sink=sink),))
    running.start()
    time.sleep(1.5)
    printed = int(host.run(Command(("cat", f"{place}/printed"), bytes))) * 32768
    sink.go_on.set()
    running.join()

    assert 0 < printed < MOST_UNDER_WAY
    assert sink.size == 512 * 32768


def test_what_a_sink_raises_ends_the_command(host: Host) -> None:
    class Full(Counted):
        def take(self, piece: bytes) -> None:
            super().take(piece)
            raise SizeLimit

    sink = Full()
    started = time.monotonic()
    with pytest.raises(SizeLimit):
        host.run(Command(("cat", "/dev/zero"), bytes, sink=sink, repeatable=True))
    assert (sink.runs, time.monotonic() - started < 5) == (1, True)
    with pytest.raises(CommandFailed, match=r"exceeded buffer limit \(1000\)"):
        host.run(Command(("cat", "/dev/zero"), bytes, sink=Kept(1000)))
    assert host.run(Command(("echo", "next"), bytes)) == b"next\n"


@pytest.mark.parametrize("size", [1000, 5 * MEGABYTE])
def test_what_a_source_raises_is_told_instead_of_what_the_command_made_of_a_part(host: Host, size: int) -> None:
    with pytest.raises(SizeLimit):
        host.run(Command(("cat",), bytes, stdin=failing(size, size // 2, SizeLimit())))
    assert host.run(Command(("echo", "next"), bytes)) == b"next\n"


def test_the_status_of_a_command_with_streams_counts(host: Host) -> None:
    sink = Counted()
    script = "cat; echo 'x: Is a directory' >&2; exit 3"
    with pytest.raises(FirecrestError, match="Is a directory"):
        host.run(Command(("sh", "-c", script), bytes, stdin=Source.of(PIECE), sink=sink))
    assert sink.size == len(PIECE)


def listed(host: Host, place: str) -> list[str]:
    return host.run(Command(("ls", "-A", place), bytes)).decode().split()


def content(host: Host, path: str) -> bytes:
    return host.run(Command(("cat", path), bytes))


@pytest.mark.parametrize("size", [0, 1, SMALL_INPUT, SMALL_INPUT + 1, 1_000_000])
def test_a_replacement_is_the_content_and_nothing_else_stays(host: Host, place: str, size: int) -> None:
    wanted = (PIECE * 4)[:size]
    for _ in range(2):
        put(host, f"{place}/file", wanted)
        assert (content(host, f"{place}/file"), listed(host, place)) == (wanted, ["file"])


@pytest.mark.parametrize("size", [1000, 3 * MEGABYTE])
@pytest.mark.parametrize("there", [True, False])
def test_a_part_of_the_content_never_gets_to_its_place(host: Host, place: str, size: int, there: bool) -> None:
    if there:
        put(host, f"{place}/file", b"before")
    with pytest.raises(SizeLimit):
        put(host, f"{place}/file", failing(size, size - 1, SizeLimit()))

    assert listed(host, place) == (["file"] if there else [])
    assert not there or content(host, f"{place}/file") == b"before"


def test_content_that_takes_too_long_leaves_nothing(host: Host, place: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield PIECE
        time.sleep(3)
        yield PIECE

    put(host, f"{place}/file", b"before")
    with pytest.raises(TimedOut):
        host.run(replacement(f"{place}/file", Source(2 * len(PIECE), pieces), seconds=1))
    assert (content(host, f"{place}/file"), listed(host, place)) == (b"before", ["file"])


@pytest.mark.parametrize("mode", ["600", "640", "755", "666"])
def test_permissions_and_links_stay_when_content_is_replaced(host: Host, place: str, mode: str) -> None:
    put(host, f"{place}/file", b"before")
    host.run(Command(("chmod", mode, f"{place}/file"), bytes))
    host.run(Command(("ln", "-s", "file", f"{place}/link"), bytes))
    put(host, f"{place}/link", b"after")

    assert host.run(Command(("stat", "-c", "%a %F", f"{place}/file", f"{place}/link"), bytes)).decode() == (
        f"{mode} regular file\n777 symbolic link\n"
    )
    assert content(host, f"{place}/file") == b"after"


def test_a_new_file_is_as_the_umask_has_it_and_where_a_link_leads_nowhere_it_is_made(host: Host, place: str) -> None:
    host.run(Command(("ln", "-s", "new\n", f"{place}/link"), bytes))
    put(host, f"{place}/link", b"content")
    made = host.run(Command(("sh", "-c", 'touch "$1/plain"; stat -c %a "$1/plain" "$1/new\n"', "sh", place), bytes)).split()
    assert made[0] == made[1]


def test_content_is_not_put_where_no_file_is(host: Host, place: str) -> None:
    host.run(Command(("mkfifo", f"{place}/pipe"), bytes))
    with pytest.raises(CommandFailed, match="Not a regular file"):
        put(host, f"{place}/pipe", b"content")
    with pytest.raises(FirecrestError, match="Is a directory"):
        put(host, place, b"content")
    with pytest.raises(FirecrestError, match="No such file or directory"):
        put(host, f"{place}/missing/file", b"content")
    assert listed(host, place) == ["pipe"]


def disconnect(sshd: OwnSshd) -> None:
    """Kill what serves the connections of the server, but nothing that runs in them."""
    for process in sshd.processes()[1:]:
        with suppress(psutil.NoSuchProcess):
            if process.name() == "sshd":
                process.kill()


def test_a_connection_lost_amid_the_content_leaves_the_former_one(make_pool: Callable[..., SSHPool], sshd: OwnSshd) -> None:
    host = make_pool().host(sshd.system(), sshd.user, sshd.certify)
    place = f"/tmp/streams-{uuid4().hex}"
    host.run(Command(("mkdir", place), bytes))
    put(host, f"{place}/file", b"before")
    asked = 0

    def pieces() -> Iterator[bytes]:
        nonlocal asked
        asked += 1
        yield PIECE
        eventually(lambda: len(list(Path(place).iterdir())) == 2)
        disconnect(sshd)
        yield PIECE

    with pytest.raises(MachineNotAvailable):
        put(host, f"{place}/file", Source(2 * len(PIECE), pieces))
    assert asked == 1
    eventually(lambda: listed(host, place) == ["file"])
    assert content(host, f"{place}/file") == b"before"
    host.run(Command(("rm", "-r", place), bytes))


def test_a_stream_that_is_run_again_starts_from_the_beginning(make_pool: Callable[..., SSHPool], sshd: OwnSshd) -> None:
    host = make_pool().host(sshd.system(), sshd.user, sshd.certify)
    kept = Kept()
    given: list[int] = []

    def pieces() -> Iterator[bytes]:
        given.append(0)
        for number in range(8):
            yield PIECE
            given[-1] += 1
            if number == 3 and len(given) == 1:
                eventually(lambda: len(kept.content()) > 0)
                sshd.cut()

    host.run(Command(("cat",), bytes, stdin=Source(8 * len(PIECE), pieces), sink=kept, repeatable=True))

    assert (len(given), given[-1], kept.content()) == (2, 8, PIECE * 8)
