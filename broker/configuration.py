"""Where the settings are read: once, at the edge."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from redis import BlockingConnectionPool, ConnectionPool, Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from broker.celery import redis_tls
from broker.own_connections import DRIVER
from broker.redis_users import password_file
from schemas.settings import Broker, Settings

VARIABLE = "FIRECREST_SETTINGS"


def read_settings(user: str) -> Settings:
    """The settings in the YAML file that $FIRECREST_SETTINGS names, for a process that is that user of Redis.

    Raises KeyError when the variable is not set, OSError and pydantic.ValidationError when the file is no good.
    """
    return settings_in(Path(os.environ[VARIABLE]), user)


def settings_in(file: Path, user: str) -> Settings:
    """The settings in a YAML file, for a process that is that user of Redis. Raises OSError and pydantic.ValidationError."""
    settings = Settings.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    return settings.model_copy(update={"broker": _logged_in(settings.broker, user)})


def _logged_in(broker: Broker, user: str) -> Broker:
    if broker.passwords is None:
        return broker
    password = password_file(broker.passwords, user).read_text(encoding="utf-8").strip()
    url = urlsplit(broker.url)
    return broker.model_copy(update={"url": url._replace(netloc=f"{user}:{password}@{url.netloc}").geturl()})


def open_redis(settings: Settings, *, retries: int = 1, connections: int | None = None) -> Redis:
    """A client for the deployment's Redis that tries a failed command again, for at most about `retries` seconds.

    Commands wait for each other, ten seconds at most, when there would be more than so many connections.
    """
    backoff = ExponentialBackoff(cap=1, base=0.05)
    kind, bounds = (BlockingConnectionPool, {"max_connections": connections, "timeout": 10}) if connections else (ConnectionPool, {})
    pool = kind.from_url(
        settings.broker.url,
        **bounds,
        **redis_tls(settings.broker),
        driver_info=DRIVER,
        retry=Retry(backoff, retries),
        socket_timeout=10,
        socket_connect_timeout=2,
        socket_keepalive=True,
        socket_keepalive_options={socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3, socket.TCP_USER_TIMEOUT: 20000},
        health_check_interval=10,
    )
    return Redis.from_pool(pool)
