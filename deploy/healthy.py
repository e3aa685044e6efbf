"""`python -m deploy.healthy KIND …`: whether a container's process does its work; exit status 0 or 1.

KIND is `http URL [CA]`, `ssh PORT`, `worker NAME` (answers Celery's ping) or `beat` (holds redbeat's lock).
"""

import socket
import ssl
import sys
import urllib.request
from collections.abc import Callable

from broker.celery import create_celery
from broker.configuration import open_redis, read_settings


def http(url: str, ca: str | None = None) -> bool:
    """Whether the URL answers 200."""
    context = ssl.create_default_context(cafile=ca)
    with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310 - the URL is written in docker-compose.yml
        return bool(answer.status == 200)


def ssh(port: str) -> bool:
    """Whether an SSH server greets."""
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection:
        return connection.recv(4) == b"SSH-"


def worker(name: str) -> bool:
    """Whether the Celery worker of that name on this host answers."""
    with create_celery(read_settings("probe")) as celery:
        return bool(celery.control.inspect(destination=[f"{name}@{socket.gethostname()}"], timeout=5).ping())


def beat() -> bool:
    """Whether some beat holds the lock."""
    return bool(open_redis(read_settings("probe")).exists("redbeat::lock"))


KINDS: dict[str, Callable[..., bool]] = {"http": http, "ssh": ssh, "worker": worker, "beat": beat}

if __name__ == "__main__":
    sys.exit(not KINDS[sys.argv[1]](*sys.argv[2:]))
