"""The object stores of the site, each as the gateway's settings describe it, and users who have not been there before."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from schemas.errors import StorageNotAvailable
from schemas.settings import Storage
from tests.conftest import started
from tests.real_site import STORES, Site, eventually
from workers.staging import STAGINGS
from workers.staging.client import Client
from workers.staging.staging import Staging


@pytest.fixture(scope="session")
def stores() -> Site:
    """The site with both of its object stores; started when they do not run."""
    return started("--no-gateway", "--with-swift")


@contextmanager
def unlisted(stores: Site, staging: Staging, bucket: str) -> Iterator[None]:
    """Meanwhile, what is put into a bucket of Swift never gets into a listing: its container server is stopped, and no updater runs."""
    stores.supervisor("stop", "swift-container")
    try:
        yield
    finally:
        stores.supervisor("start", "swift-container")
        eventually(lambda: _lists(staging, bucket), seconds=60, pause=0.5)


def _lists(staging: Staging, bucket: str) -> bool:
    try:
        list(staging.arrived(bucket))
    except StorageNotAvailable:
        return False
    return True


@pytest.fixture(scope="session", params=["radosgw", "swift"])
def store(request: pytest.FixtureRequest) -> str:
    """The name of an object store."""
    return str(request.param)


@pytest.fixture(scope="session")
def program(store: str) -> str:
    """The program of the site that answers for it."""
    return STORES[store]


@pytest.fixture
def new_storage(stores: Site, store: str) -> Callable[..., Storage]:
    """Settings of the object store, some of them changed."""

    def storage(**changes: Any) -> Storage:
        return Storage.model_validate({**stores.facts["stores"][store], "part_size": 5, "patience": 60, **changes})

    return storage


@pytest.fixture
def staging(new_storage: Callable[..., Storage]) -> Staging:
    """The object store."""
    return STAGINGS["s3v4"](new_storage())


@pytest.fixture
def client(new_storage: Callable[..., Storage]) -> Client:
    """The object store as its administrator sees it."""
    return Client(new_storage())


@pytest.fixture
def prefix(client: Client) -> Iterator[str]:
    """A start of names of buckets, which are removed at the end with all that they hold."""
    start = f"t{uuid4().hex[:10]}"
    yield start
    for bucket in client.owned_buckets():
        if bucket.startswith(start):
            _remove(client, bucket)


def _remove(client: Client, bucket: str) -> None:
    for entry in client.list_objects(bucket, recursive=True):
        client.remove_object(bucket, str(entry.object_name))
    for place, upload, _ in client.unfinished_uploads(bucket):
        client.abort_upload(place, upload)
    client.remove_bucket(bucket)


@pytest.fixture
def user(prefix: str) -> str:
    """A user who has not been there before."""
    return f"{prefix}user"
