"""Connections to Redis that belong to one thread."""

import threading
from typing import Any

from redis import Redis


class OwnConnection(threading.local):
    """A connection for each thread that asks; a command costs a fraction of what it costs by way of a pool."""

    def __init__(self, redis: Redis) -> None:
        """Take one out of the pool of a client. Raises RedisError, to be asked again."""
        self.redis: Redis = redis.client()  # type: ignore[no-untyped-call]

    def command(self, *words: bytes | str | float) -> Any:
        """What Redis replies to a command; where the connection breaks it is sent again, as the client retries. Raises RedisError."""
        connection: Any = self.redis.connection

        def send() -> Any:
            connection.send_command(*words)
            return connection.read_response()

        return connection.retry.call_with_retry(send, lambda _: connection.disconnect())
