"""Files on their way: in pieces through Redis, and only as they were sent."""

import hashlib
import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
from redis import Redis

from broker.blobs import PIECE, Blob, BlobLost, Blobs, BlobWriter
from broker.gateway import Caller, Gateway
from schemas.compute import SubmitUpload
from schemas.errors import CommandFailed, SizeLimit
from schemas.fields import Upload
from schemas.rights import EVERY_RIGHT
from schemas.settings import Broker, Settings
from schemas.task import Status
from schemas.utilities import Download, UploadFile
from tests.real_site import eventually
from workers.contents import download
from workers.host import Command, LocalHost
from workers.performing import Scene

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
MEGABYTE = 1024 * 1024
CONTENT = random.Random(20261122).randbytes(1024 * 1024)
SOMEBODY = Caller("somebody", "a token", EVERY_RIGHT)
# what allocators and buffers may take, whatever the size of the file
MOST_GROWTH = 40 * MEGABYTE


def pieces(content: bytes) -> list[bytes]:
    return [content[at : at + PIECE] for at in range(0, len(content), PIECE)]


def upload(content: bytes, name: str = "file") -> Upload:
    return Upload(name=name, key=uuid4().hex, size=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 4 * PIECE])
def test_an_answer_is_taken_as_it_was_written_and_is_gone(redis: Redis, size: int) -> None:
    content, blobs = CONTENT[:size], Blobs(redis)
    writer = BlobWriter(blobs, size + len(b"something"))
    for start in (b"something", b""):
        writer.begin()
        writer.take(start)
        for at in range(0, size, 1000):
            writer.take(content[at : at + 1000])
    blob = writer.finish()
    found = list(blobs.take(blob))

    assert (blob.size, b"".join(found)) == (size, content)
    assert all(len(piece) <= PIECE for piece in found)
    assert not redis.exists(f"blob:{blob.key}")


def test_an_answer_without_end_is_not_kept(redis: Redis) -> None:
    writer = BlobWriter(Blobs(redis), 2 * PIECE)
    with pytest.raises(CommandFailed, match="exceeded buffer limit"):
        deque(map(writer.take, repeat(bytes(1000))), maxlen=0)
    assert PIECE < writer.finish().size <= 2 * PIECE


def test_an_answer_that_nobody_takes_to_the_end_is_dropped(redis: Redis) -> None:
    blobs = Blobs(redis)
    blob = blobs.put(pieces(CONTENT), seconds=60)
    taken = blobs.take(blob)
    next(taken)
    assert redis.hlen(f"blob:{blob.key}") == len(pieces(CONTENT)) - 1
    taken.close()
    assert not redis.exists(f"blob:{blob.key}")


def test_an_answer_of_which_something_is_missing_is_lost(redis: Redis) -> None:
    blobs = Blobs(redis)
    blob = blobs.put(pieces(CONTENT), seconds=60)
    redis.hdel(f"blob:{blob.key}", "2")
    with pytest.raises(BlobLost):
        list(blobs.take(blob))
    with pytest.raises(BlobLost):
        list(blobs.take(Blob("never put", 1)))


def test_bytes_wait_no_longer_than_they_may(redis: Redis) -> None:
    blob = Blobs(redis).put(pieces(CONTENT), seconds=7)
    assert 0 < redis.ttl(f"blob:{blob.key}") <= 7


class Meddled(LocalHost):
    """This machine, on which something is done before each command."""

    def __init__(self, *deeds: Callable[[], object]) -> None:
        super().__init__()
        self._deeds = iter(deeds)

    def run(self, command: Command[T]) -> T:
        next(self._deeds)()
        return super().run(command)


def downloaded(redis: Redis, settings: Settings, path: Path, *deeds: Callable[[], object]) -> bytes:
    """The content of a file that is meddled with before it is measured, before it is read, and before it is measured again."""
    blobs = Blobs(redis)
    scene = Scene("task", "somebody", settings.systems[0], settings.limits, blobs)
    return b"".join(blobs.take(download(Download(source_path=str(path)), Meddled(*deeds), scene)))


def nothing() -> None:
    pass


def test_a_file_that_changes_between_measuring_and_reading_is_had_sound_or_not_at_all(
    redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    path, other = tmp_path / "file", tmp_path / "other"

    def replaced(size: int) -> Callable[[], object]:
        other.write_bytes(b"n" * size)
        return lambda: other.replace(path)

    for size in (10, 5000, 500_000):
        path.write_bytes(b"o" * 5000)
        assert downloaded(redis, settings, path, nothing, replaced(size), nothing) == b"n" * size
    path.write_bytes(b"o" * 5000)
    with pytest.raises(SizeLimit):
        downloaded(redis, settings, path, nothing, replaced(MEGABYTE + 1))
    path.write_bytes(b"o" * 5000)
    with pytest.raises(CommandFailed, match="changed while it was read"):
        downloaded(redis, settings, path, nothing, lambda: os.truncate(path, 100), lambda: path.write_bytes(b"n" * 5000))
    path.write_bytes(b"o" * 5000)
    assert downloaded(redis, settings, path, nothing, lambda: os.truncate(path, 100), nothing) == b"o" * 100


def altered(redis: Redis, key: str) -> None:
    redis.hset(key, "0", b"!" + (redis.hget(key, "0") or b"")[1:])


def swapped(redis: Redis, key: str) -> None:
    first, last = redis.hmget(key, "0", "3")
    redis.hset(key, mapping={"0": last, "3": first})


def shortened(redis: Redis, key: str) -> None:
    redis.hset(key, "0", (redis.hget(key, "0") or b"")[1:])


def lengthened(redis: Redis, key: str) -> None:
    redis.hset(key, "0", (redis.hget(key, "0") or b"") + b"!")


def lost(redis: Redis, key: str) -> None:
    redis.hdel(key, "0")


def gone(redis: Redis, key: str) -> None:
    redis.delete(key)


MISDEEDS = [altered, shortened, lengthened, lost, gone]


@pytest.mark.parametrize(
    ("size", "misdeed"), [*((100, deed) for deed in MISDEEDS), *((len(CONTENT), deed) for deed in [*MISDEEDS, swapped])]
)
def test_a_file_that_is_not_what_was_granted_never_gets_to_its_place(
    redis: Redis, gateway: Gateway, worker: None, tmp_path: Path, size: int, misdeed: Callable[[Redis, str], None]
) -> None:
    target = tmp_path / "file"
    target.write_text("before")
    content = CONTENT[:size]
    op = UploadFile(target_path=str(tmp_path), file=upload(content))
    gateway.keep(op, pieces(content))
    misdeed(redis, f"blob:{op.file.key}")

    with pytest.raises(CommandFailed, match="the content of 'file' is gone"):
        gateway.call(op, SOMEBODY, "here")

    eventually(lambda: [entry.name for entry in tmp_path.iterdir()] == ["file"])
    assert target.read_text() == "before"
    eventually(lambda: not redis.exists(f"blob:{op.file.key}"))


@pytest.mark.parametrize("size", [100, len(CONTENT)])
def test_a_script_that_is_not_what_was_granted_is_never_submitted(
    redis: Redis, settings: Settings, gateway: Gateway, worker: None, size: int
) -> None:
    content = CONTENT[:size]
    op = SubmitUpload(file=upload(content, "job.sh"))
    gateway.keep(op, pieces(content))
    altered(redis, f"blob:{op.file.key}")
    task = gateway.defer(op, SOMEBODY, "here")

    ended = eventually(lambda: (found := gateway.tasks.find(task.task_id, "somebody")).status is Status.ERROR and found)
    assert ended.data == "the content of 'job.sh' is gone"
    folder = Path(settings.systems[0].job_root, "somebody", "firecrest", task.task_id)
    assert {path.name for path in folder.rglob("*")} <= {".firecrest", "lock"}


def test_neither_api_nor_worker_needs_more_memory_for_a_larger_file(settings: Settings, tmp_path: Path) -> None:
    limits = settings.limits.model_copy(update={"utilities_max_file_size": 128, "utilities_timeout": 60, "patience": 90})
    broker = Broker(url=settings.broker.url.removesuffix("/0") + "/1")
    own = settings.model_copy(update={"broker": broker, "limits": limits}).model_dump_json()
    command = (sys.executable, "-m", "tests.served.large_files", str(tmp_path), "1", "128")
    done = subprocess.run(command, input=own, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    small, large = map(int, done.stdout.split())
    assert large - small < MOST_GROWTH
