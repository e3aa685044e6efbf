"""Where the settings are read: once, at the edge."""

import os
import socket
from pathlib import Path

import yaml
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from schemas.settings import Settings

VARIABLE = "FIRECREST_SETTINGS"


def read_settings() -> Settings:
    """The settings in the YAML file that $FIRECREST_SETTINGS names.

    Raises KeyError when the variable is not set, OSError and pydantic.ValidationError when the file is no good.
    """
    return Settings.model_validate(yaml.safe_load(Path(os.environ[VARIABLE]).read_text(encoding="utf-8")))


def open_redis(settings: Settings, *, retries: int = 1) -> Redis:
    """A client for the deployment's Redis that tries a failed command again, for at most about `retries` seconds."""
    backoff = ExponentialBackoff(cap=1, base=0.05)
    return Redis.from_url(
        settings.broker.url,
        retry=Retry(backoff, retries),
        socket_timeout=10,
        socket_connect_timeout=2,
        socket_keepalive=True,
        socket_keepalive_options={socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3, socket.TCP_USER_TIMEOUT: 20000},
        health_check_interval=10,
    )
