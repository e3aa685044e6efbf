"""Redis: messages and task records, kept in an append-only file; its users may do what broker/redis_users.py says."""

import shutil
import sys
import time
from pathlib import Path

from redis import Redis

from commands import run
from facts import Site, private
from folders import owned
from layout import REPOSITORY
from probes import answers
from program import Program


def programs(site: Site) -> list[Program]:
    """The Redis server."""
    login = f"AUTH admin {site.secrets['redis']}\r\nPING\r\n".encode()
    return [
        Program(
            "redis",
            ("/usr/bin/redis-server", str(site.layout.etc / "redis.conf")),
            ready=lambda: answers(site.ports["redis"], said=login, expected=b"+OK\r\n+PONG"),
            user="redis",
            prepare=lambda: _prepare(site),
            settle=lambda: _load_users(site),
        )
    ]


def make_users(site: Site) -> None:
    """Write down the users of Redis, and the passwords that are missing."""
    folder, acl = site.layout.redis_passwords, _users(site)
    folder.mkdir(mode=0o700, exist_ok=True)
    private(folder / "admin.password", site.secrets["redis"])
    run(sys.executable, "-m", "broker.redis_users", str(acl), str(folder), "0", "1", "2", directory=REPOSITORY)
    shutil.chown(acl, "redis")


def _prepare(site: Site) -> None:
    owned(site.layout.data / "redis", "redis", 0o700)


def _load_users(site: Site) -> None:
    """Have a Redis that was running before read them anew if they have changed: with that it ends everybody's connections."""
    with Redis.from_url(site.gateway.redis_url) as redis:
        started = time.time() - redis.info("server")["uptime_in_seconds"]
        if _users(site).stat().st_mtime > started:
            redis.acl_load()


def _users(site: Site) -> Path:
    return site.layout.etc / "users.acl"
