"""API and worker on a Redis of their own, with this very machine as the system."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from celery.contrib.testing.worker import start_worker
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import ConnectionError as NoRedis
from werkzeug.datastructures import Headers

from api.app import create_app
from broker.blobs import Blobs
from broker.celery import QUEUES, create_celery
from broker.configuration import open_redis
from broker.gateway import Caller, Gateway
from broker.grants import GrantSigner
from broker.health import Health
from broker.keys import make_missing, sealing_key, signing_key
from broker.limits import Limiter
from broker.replies import Replies
from broker.tasks import Tasks
from deploy.firecrest_command import allowed
from schemas.errors import Unauthorized
from schemas.rights import EVERY_RIGHT, Right
from schemas.settings import Settings, System
from tests.real_site import eventually, not_here
from workers.app import create_worker
from workers.command_lists import rules
from workers.host import Command, LocalHost

T = TypeVar("T")


class NamedCallers:
    """Callers who are who they say they are."""

    def caller(self, headers: Headers) -> Caller:
        """The user named in the header, with the rights behind the name, or all."""
        if "Authorization" not in headers:
            raise Unauthorized(description="No Auth Header given")
        name, *rights = headers["Authorization"].removeprefix("Bearer ").split()
        return Caller(name, "a token", frozenset(map(Right, rights)) or EVERY_RIGHT)


class ListedHost(LocalHost):
    """This machine, where nothing is to be run that is not on the list that forced-command sites have."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self._rules = rules(system)

    def run(self, command: Command[T]) -> T:
        assert allowed(list(command.argv), self._rules), f"not in workers/command_lists.py: {command.argv}"
        return super().run(command)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis server of our own."""
    program = shutil.which("redis-server")
    if program is None:
        not_here("redis-server is missing")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    client = Redis.from_url(url)
    eventually(lambda: _answers(client))
    client.close()
    yield url
    server.terminate()
    server.wait()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except NoRedis:
        return False


@pytest.fixture(scope="session")
def settings(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings for a deployment whose systems are this machine, one of them with a command of its own for reservations."""
    folder = tmp_path_factory.mktemp("keys")
    tool = ["sh", str(Path(__file__).parent / "reservations.sh"), str(tmp_path_factory.mktemp("reservations"))]
    make_missing(folder / "private", folder / "public")
    walled = tmp_path_factory.mktemp("walled")
    return Settings.model_validate(
        {
            "systems": [
                {"name": "here", "host": "127.0.0.1", "host_keys": ["none"], "job_root": str(tmp_path_factory.mktemp("jobs"))},
                {"name": "tooled", "host": "127.0.0.1", "host_keys": ["none"], "reservation_command": tool},
                {"name": "walled", "host": "127.0.0.1", "host_keys": ["none"], "allowed_paths": [f"{walled}/{{user}}", f"{walled}/shared"]},
                {"name": "remote", "host": "127.0.0.1", "host_keys": ["none"], "transfer_system": "here"},
            ],
            "issuers": [{"jwks_url": "http://127.0.0.1:9/none"}],
            "broker": {"url": redis_url},
            "keys": {"private": folder / "private", "public": folder / "public"},
            "engine": {"lease_seconds": 1, "attempts": 3},
            "limits": {
                "utilities_max_file_size": 1,
                "patience": 10,
                "reservations_timeout": 2,
                "calls_per_second": 0,
                "calls_at_once": 0,
                "hold_seconds": 0,
            },
        }
    )


@pytest.fixture(scope="session")
def redis(settings: Settings) -> Iterator[Redis]:
    """A client for the Redis."""
    client = open_redis(settings)
    yield client
    client.close()


@pytest.fixture(scope="session")
def gateway(settings: Settings, redis: Redis) -> Iterator[Gateway]:
    """The API's way to the workers."""
    replies = Replies(redis)
    yield Gateway(
        create_celery(settings),
        tasks=Tasks(redis, lifetime=600),
        blobs=Blobs(redis),
        replies=replies,
        signer=GrantSigner(signing_key(settings.keys.private, "api"), sealing_key(settings.keys.public)),
        limits=settings.limits,
    )
    replies.close()


@pytest.fixture(scope="session")
def worker(settings: Settings) -> Iterator[None]:
    """A worker on all queues, whose host is this machine."""
    app = create_worker(settings, lambda system, *_: ListedHost(system))
    with start_worker(app, perform_ping_check=False, pool="threads", concurrency=8, queues=list(QUEUES), loglevel="ERROR"):
        yield


@pytest.fixture(scope="session")
def client(settings: Settings, gateway: Gateway, redis: Redis, worker: None) -> FlaskClient:
    """The API, called by `somebody` on the system `here`."""
    client = create_app(settings, gateway, NamedCallers(), Health(redis), Limiter(redis, settings.limits)).test_client()
    client.environ_base |= {"HTTP_AUTHORIZATION": "Bearer somebody", "HTTP_X_MACHINE_NAME": "here"}
    return client
