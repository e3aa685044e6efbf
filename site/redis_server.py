"""Redis: messages and task records, kept in an append-only file."""

from facts import Site
from folders import owned
from probes import answers
from program import Program


def programs(site: Site) -> list[Program]:
    """The Redis server."""
    login = f"AUTH {site.secrets['redis']}\r\nPING\r\n".encode()
    return [
        Program(
            "redis",
            ("/usr/bin/redis-server", str(site.layout.etc / "redis.conf")),
            ready=lambda: answers(site.ports["redis"], said=login, expected=b"+OK\r\n+PONG"),
            user="redis",
            prepare=lambda: _prepare(site),
        )
    ]


def _prepare(site: Site) -> None:
    owned(site.layout.data / "redis", "redis", 0o700)
