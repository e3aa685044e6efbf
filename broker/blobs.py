"""Bytes too big for a message: in Redis, in pieces, of which each side holds one at a time."""

import hashlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, cast
from uuid import uuid4

from redis import Redis

from schemas.errors import CommandFailed
from schemas.fields import Upload
from schemas.operation import Operation

PIECE: Final = 256 * 1024
ANSWER_SECONDS: Final = 60


class BlobLost(CommandFailed):
    """The bytes are gone, or are not the bytes that were put."""


@dataclass(frozen=True)
class Blob:
    """Where bytes are, and how many."""

    key: str
    size: int


class Blobs:
    """Bytes in Redis under unguessable keys, for a while: numbered pieces, so that a command tried again adds none twice."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def put(self, pieces: Iterable[bytes], *, seconds: int, key: str | None = None) -> Blob:
        """Keep the bytes until `seconds` after the last piece."""
        key, size = key or uuid4().hex, 0
        for number, piece in enumerate(pieces):
            self.add(key, number, piece, seconds=seconds)
            size += len(piece)
        return Blob(key, size)

    def add(self, key: str, number: int, piece: bytes, *, seconds: int) -> None:
        """Keep one piece, and those before it, for another `seconds`."""
        with self._redis.pipeline() as pipeline:
            pipeline.hset(_name(key), str(number), cast(str, piece))
            pipeline.expire(_name(key), seconds)
            pipeline.execute()

    def read(self, upload: Upload) -> Iterator[bytes]:
        """The pieces of a file that came with a call. Raises BlobLost instead of giving the last when they are not its content."""
        digest, left, number = hashlib.sha256(), upload.size, 0
        while left > 0:
            piece = cast(bytes | None, self._redis.hget(_name(upload.key), str(number))) or b""
            digest.update(piece)
            left -= len(piece)
            if not piece or left < 0 or (left == 0 and digest.hexdigest() != upload.sha256):
                raise BlobLost(f"the content of {upload.name!r} is gone")
            yield piece
            number += 1

    def take(self, blob: Blob) -> Generator[bytes]:
        """The pieces of an answer, each of which is then gone; the others stay for a while. Closed, it drops them. Raises BlobLost."""
        left, number = blob.size, 0
        try:
            while left > 0:
                piece = self._pop(_name(blob.key), str(number))
                left -= len(piece)
                if not piece or left < 0:
                    raise BlobLost("the answer is gone")
                yield piece
                number += 1
        finally:
            if left:
                self.drop(blob.key)

    def forget(self, op: Operation) -> None:
        """Forget the files that came with a call."""
        for _, value in op:
            if isinstance(value, Upload):
                self.drop(value.key)

    def drop(self, key: str) -> None:
        """Forget the bytes."""
        self._redis.unlink(_name(key))

    def _pop(self, name: str, number: str) -> bytes:
        with self._redis.pipeline() as pipeline:
            pipeline.hget(name, number)
            pipeline.hdel(name, number)
            pipeline.expire(name, ANSWER_SECONDS)
            return cast(bytes | None, pipeline.execute()[0]) or b""


class BlobWriter:
    """An answer on its way into a blob, as a sink (`workers.streams.Sink`): it holds less than a piece, beside what it takes.

    Beyond `most` bytes it raises CommandFailed: what a user's session prints may have no end, whatever was asked of it.
    """

    def __init__(self, blobs: Blobs, most: int) -> None:
        self._blobs = blobs
        self._most = most
        self._held = bytearray()
        self._blob = Blob(uuid4().hex, 0)
        self._count = 0

    def begin(self) -> None:
        """Start anew, in another blob; the former one expires."""
        self._held.clear()
        self._blob, self._count = Blob(uuid4().hex, 0), 0

    def take(self, piece: bytes) -> None:
        """Put it too."""
        if self._blob.size + len(self._held) + len(piece) > self._most:
            raise CommandFailed(f"Command output exceeded buffer limit ({self._most})")
        self._held += piece
        while len(self._held) >= PIECE:
            self._put(PIECE)

    def finish(self) -> Blob:
        """The blob, all of which is put."""
        if self._held:
            self._put(len(self._held))
        return self._blob

    def _put(self, size: int) -> None:
        self._blobs.add(self._blob.key, self._count, bytes(self._held[:size]), seconds=ANSWER_SECONDS)
        del self._held[:size]
        self._blob, self._count = Blob(self._blob.key, self._blob.size + size), self._count + 1


def _name(key: str) -> str:
    return f"blob:{key}"
