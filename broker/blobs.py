"""Bytes too big for a message."""

import hashlib
from typing import cast
from uuid import uuid4

from redis import Redis

from schemas.errors import CommandFailed
from schemas.fields import Upload
from schemas.operation import Operation


class BlobLost(CommandFailed):
    """The bytes are gone, or are not the bytes that were put."""


class Blobs:
    """Bytes in Redis under unguessable keys, for a while."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def put(self, content: bytes, *, seconds: int, key: str | None = None) -> str:
        """Keep the bytes for `seconds`; returns their key."""
        key = key or uuid4().hex
        self._redis.set(f"blob:{key}", content, ex=seconds)
        return key

    def read(self, upload: Upload) -> bytes:
        """The content of a file that came with a call; raises BlobLost."""
        content = cast(bytes | None, self._redis.get(f"blob:{upload.key}"))
        if content is None or hashlib.sha256(content).hexdigest() != upload.sha256:
            raise BlobLost(f"the content of {upload.name!r} is gone")
        return content

    def take(self, key: str) -> bytes:
        """The bytes, which are then gone; raises BlobLost."""
        content = cast(bytes | None, self._redis.getdel(f"blob:{key}"))
        if content is None:
            raise BlobLost("the answer is gone")
        return content

    def forget(self, op: Operation) -> None:
        """Forget the files that came with a call."""
        for _, value in op:
            if isinstance(value, Upload):
                self._redis.delete(f"blob:{value.key}")
