"""A worker on a host whose commands end when the test says so: each takes a word from the list `go` in Redis."""

from typing import Any, cast

from broker.configuration import open_redis, read_settings
from workers.app import create_worker

_settings = read_settings("worker")
_redis = open_redis(_settings)


class WaitingHost:
    """A host."""

    def run(self, _command: Any) -> str:
        """The word."""
        _redis.rpush("begun", "1")
        while not (taken := cast(tuple[bytes, bytes] | None, _redis.blpop(["go"], timeout=5))):
            pass
        return taken[1].decode()


app = create_worker(_settings, lambda *_: WaitingHost())  # type: ignore[arg-type,return-value]
