"""Kombu's Redis transport, less what nobody here needs: a client made for every command, and a copy in Redis of all that is under way."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from broker.own_connections import DRIVER


class Channel(redis.Channel):  # type: ignore[misc]
    """A channel that keeps its client, which several threads may use at once, and tries once more what a broken connection cut short."""

    ack_emulation = False
    max_connections = 1000

    @contextmanager
    def conn_or_acquire(self, client: Redis | None = None) -> Iterator[Redis]:
        """The client that is kept, where none is given."""
        yield client or self.kept

    def basic_ack(self, *_: Any, **__: Any) -> None:
        """Nothing is left of a message that was taken."""

    def basic_reject(self, *_: Any, **__: Any) -> None:
        """As for those that are acknowledged."""

    @cached_property
    def kept(self) -> Redis:
        """The one client of this channel."""
        client: Redis = self._create_client()
        return client

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (kombu's)
        retry = {} if asynchronous else {"retry": Retry(ExponentialBackoff(cap=0.2, base=0.05), 1)}
        return {**super()._connparams(asynchronous), **retry, "driver_info": DRIVER}


class Transport(redis.Transport):  # type: ignore[misc]
    """Redis, by way of such channels."""

    Channel = Channel


def take_over() -> None:
    """Have kombu take this transport for URLs of Redis, which stay what they are for Flower and the log."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
