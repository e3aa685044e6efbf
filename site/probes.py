"""Whether a server answers: one look each, no waiting."""

import contextlib
import http
import json
import socket
import ssl
import struct
import urllib.error
import urllib.request
from pathlib import Path

from celery import Celery
from redis import Redis


def answers(port: int, *, said: bytes = b"", expected: bytes) -> bool:
    """Whether the server on a port of the loopback replies to `said` with `expected`."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(said)
        return connection.recv(1024).startswith(expected)
    return False


def serves(url: str, *, ca: Path | None = None) -> bool:
    """Whether the URL answers 200, with a certificate that the CA vouches for if it is https."""
    handlers = [urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))] if url.startswith("https:") else []
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)
    with contextlib.suppress(OSError, urllib.error.URLError), opener.open(url, timeout=5) as response:
        return bool(response.status == http.HTTPStatus.OK)
    return False


def ceph_state(admin_socket: Path, question: str) -> str:
    """The state of a Ceph daemon, asked at its admin socket: the ceph command takes half a second to load."""
    with contextlib.suppress(OSError, struct.error, ValueError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(str(admin_socket))
        connection.sendall(json.dumps({"prefix": question}).encode() + b"\0")
        with connection.makefile("rb") as stream:
            (length,) = struct.unpack(">I", stream.read(4))
            return str(json.loads(stream.read(length)).get("state", ""))
    return ""


def worker_answers(broker: str, name: str) -> bool:
    """Whether a Celery worker answers a ping."""
    with Celery(broker=broker, set_as_current=False) as celery:
        return bool(celery.control.inspect(destination=[name], timeout=1).ping())


def beats(broker: str) -> bool:
    """Whether a Celery beat holds redbeat's lock, which lets one at a time tick."""
    with Redis.from_url(broker) as redis:
        return bool(redis.exists("redbeat::lock"))
