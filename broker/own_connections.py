"""Connections to Redis that belong to one thread."""

import threading
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004 (redis' own)


class OwnConnection(threading.local):
    """A connection for each thread that asks; a command costs a fraction of what it costs by way of a pool."""

    def __init__(self, redis: Redis) -> None:
        """Take one out of the pool of a client. Raises RedisError, to be asked again."""
        self.redis: Redis = redis.client()  # type: ignore[no-untyped-call]

    def command(self, *words: bytes | str | float) -> Any:
        """What Redis replies to a command, which is sent again on a new connection where the first has broken. Raises RedisError."""
        redis: Any = self.redis
        connection = redis.connection
        try:
            connection.send_command(*words)
            return connection.read_response()
        except (ConnectionError, TimeoutError):
            connection.disconnect()
            return redis.execute_command(*words)
