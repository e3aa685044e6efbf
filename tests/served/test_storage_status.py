"""What is said of the service `storage`, given what has come through its queue and what the object store's probe has found."""

import time
from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient
from redis import Redis

from api.app import create_app
from broker.gateway import Gateway
from broker.health import Health, Probe
from broker.limits import Limiter
from schemas.settings import Settings, Storage
from tests.served.conftest import NamedCallers

Found = Callable[..., FlaskClient]


@pytest.fixture
def found(settings: Settings, gateway: Gateway, redis: Redis) -> Iterator[Found]:
    """The API of a deployment with an object store, or without, when that has been found; None: nothing lately."""
    health = Health(redis)

    def client(*, queue: bool, well: bool | None, stored: bool = True) -> FlaskClient:
        redis.hdel("passed", "storage")
        if queue:
            gateway.tasks.passed("storage", str(time.time()))
        redis.delete(f"health:{Probe.STORAGE}")
        if well is not None:
            health.record(Probe.STORAGE, "s3v4", {"s3v4": well})
        storage = Storage(private_url="http://s3", public_url="http://s3", access_key="k", secret_key="s") if stored else None
        api = create_app(settings.model_copy(update={"storage": storage}), gateway, NamedCallers(), health, Limiter(redis, settings.limits))
        return api.test_client()

    yield client
    redis.delete(f"health:{Probe.STORAGE}")


UP, DOWN = ("available", 200), ("not available", 400)


@pytest.mark.parametrize(
    ("queue", "well", "stored", "status", "description"),
    [
        (True, True, True, UP, "server up & flask running"),
        (True, False, True, DOWN, "server up, object store down"),
        (True, None, True, DOWN, "server up, object store has not been probed lately"),
        (False, True, True, DOWN, "server down"),
        (False, False, True, DOWN, "server down, object store down"),
        (True, None, False, UP, "server up & flask running"),
        (False, None, False, DOWN, "server down"),
    ],
)
def test_storage_is_available_when_its_queue_and_the_object_store_are(
    found: Found, queue: bool, well: bool | None, stored: bool, status: tuple[str, int], description: str
) -> None:
    client, headers = found(queue=queue, well=well, stored=stored), {"Authorization": "Bearer somebody"}
    said = {"service": "storage", "status": status[0], "status_code": status[1], "description": description}

    assert client.get("/status/services/storage", headers=headers).json == said
    listed = {service["service"]: service for service in client.get("/status/services", headers=headers).json["out"]}
    assert listed["storage"] == said
    assert "object store" not in "".join(service["description"] for name, service in listed.items() if name != "storage")
