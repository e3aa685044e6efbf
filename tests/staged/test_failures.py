import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest

from schemas.errors import NotStaged, StorageNotAvailable, StorageRefused, error_from_wire, error_to_wire
from tests.real_site import eventually
from workers.staging import STAGINGS


@contextmanager
def takes_less(seconds):
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def everything_asked(staging, place):
    yield lambda: staging.prepare(place)
    yield lambda: staging.begin(place)
    yield lambda: staging.parts(place, "upload")
    yield lambda: staging.complete(place, "upload", size=1)
    yield lambda: staging.abort(place, "upload")
    yield lambda: staging.found(place)
    yield lambda: list(staging.arrived(place.bucket))
    yield lambda: staging.delete(place)
    yield staging.buckets
    yield staging.check


def test_a_stopped_object_store_is_told_at_once_and_found_again_when_it_is_back(stores, program, staging, user):
    place = staging.incoming(user, uuid4().hex, "x")
    staging.prepare(place)
    stores.supervisor("stop", program)
    try:
        for ask in everything_asked(staging, place):
            with takes_less(3), pytest.raises(StorageNotAvailable) as told:
                ask()
            assert told.value.transient
            assert staging.form(place, "x", seconds=60)
    finally:
        stores.supervisor("start", program)

    def back():
        try:
            staging.check()
        except StorageNotAvailable:
            return False
        return True

    eventually(back, seconds=60)
    assert staging.found(place) is None


def test_a_silent_object_store_is_not_waited_for_longer_than_told(new_storage, user):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        staging = STAGINGS["s3v4"](new_storage(private_url=f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.5))
        with takes_less(5), pytest.raises(StorageNotAvailable):
            staging.check()


def test_what_is_no_object_store_is_told_as_not_available(stores, new_storage, user):
    with pytest.raises(StorageNotAvailable):
        STAGINGS["s3v4"](new_storage(private_url=stores.facts["urls"]["issuer"].partition("/realms")[0])).buckets()


@pytest.mark.parametrize("wrong", [{"secret_key": "0" * 40}, {"access_key": "nobody"}])
def test_wrong_keys_are_told_without_telling_keys(new_storage, user, wrong):
    storage = new_storage(**wrong)
    staging = STAGINGS["s3v4"](storage)
    place = staging.incoming(user, uuid4().hex, "x")
    for ask in (lambda: staging.prepare(place), lambda: staging.found(place), staging.check, staging.buckets):
        with pytest.raises(StorageRefused) as told:
            ask()
        assert told.value.text == "Staging Area auth error, try again later"
        assert not told.value.transient
        assert storage.secret_key not in repr(told.value) + repr(told.value.__cause__)
        assert type(error_from_wire(error_to_wire(told.value))) is StorageRefused


def test_an_upload_that_never_was_is_not_staged(staging, user):
    place = staging.incoming(user, uuid4().hex, "x")
    staging.prepare(place)
    with pytest.raises(NotStaged):
        staging.complete(place, "upload", size=1)


def test_threads_share_one_object(staging, user):
    place = staging.incoming(user, uuid4().hex, "x")
    staging.prepare(place)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: staging.found(place), range(100))) == [None] * 100
