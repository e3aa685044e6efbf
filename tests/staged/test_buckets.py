import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import requests
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from schemas.errors import StorageRefused
from tests.staged.conftest import unlisted
from workers.staging import STAGINGS
from workers.staging.client import Client
from workers.staging.staging import Place

LATER = timedelta(minutes=5)


def put(staging, place, content=b"content"):
    answer = requests.put(staging.upload_url(place, size=len(content), seconds=60, side="clients"), data=content, timeout=60)
    answer.raise_for_status()
    return place


def new(staging, user, name="data.bin", *, outgoing=False):
    place = (staging.outgoing if outgoing else staging.incoming)(user, uuid4().hex, name)
    staging.prepare(place)
    return place


@pytest.fixture(params=["per_user", "shared"])
def laid_out(request, new_storage, prefix):
    """The object store in each layout."""
    return STAGINGS["s3v4"](new_storage(layout=request.param, bucket=f"{prefix}all", bucket_prefix=prefix))


def test_users_of_like_names_share_no_place(laid_out):
    users = ["anna", "Anna", "ANNA", "an.na", "an_na", "an-na", "änna"]
    places = [laid_out.incoming(user, "0" * 32, "x") for user in users]
    for user, place in zip(users, places, strict=True):
        laid_out.prepare(place)
        put(laid_out, place, user.encode())
    assert [laid_out.found(place).size for place in places] == [len(user.encode()) for user in users]
    assert len({(place.bucket, place.key.split("/")[0]) for place in places}) in {1, len(users)}


def test_only_what_clients_have_put_has_arrived(laid_out):
    names = ["plain", "with blank", "ünï+%&?#", "new\nline"]
    awaited, here = new(laid_out, "anna"), [put(laid_out, new(laid_out, "anna", name)) for name in names]
    laid_out.begin(new(laid_out, "anna"))
    put(laid_out, new(laid_out, "anna", outgoing=True))
    arrived = {staged.place: staged for staged in laid_out.arrived(awaited.bucket)}
    assert set(arrived) == set(here)
    assert all(staged == laid_out.found(place) or staged.size == 7 for place, staged in arrived.items())
    assert {staged.place.task_id for staged in arrived.values()} == {place.key.split("/")[-2] for place in here}


def test_more_arrivals_than_one_answer_lists_are_all_found(staging, user):
    first = new(staging, user)
    places = [Place(first.bucket, f"{number:032x}/x") for number in range(1003)]
    with ThreadPoolExecutor(8) as pool, requests.Session() as session:
        urls = [staging.upload_url(place, size=1, seconds=600, side="clients") for place in places]
        assert all(pool.map(lambda url: session.put(url, data=b"x", timeout=60).ok, urls))
    assert [staged.place for staged in staging.arrived(first.bucket)] == places
    assert staging.sweep(first.bucket, before=datetime.now(UTC) + LATER, gone=lambda tasks: tasks) == 1003
    assert list(staging.arrived(first.bucket)) == []


def test_nothing_has_arrived_where_no_bucket_is(staging, user):
    place = staging.incoming(user, uuid4().hex, "x")
    assert list(staging.arrived(place.bucket)) == []
    assert staging.found(place) is None
    assert place.bucket not in staging.buckets()
    assert staging.sweep(place.bucket, before=datetime.now(UTC), gone=lambda tasks: tasks) == 0
    staging.delete(place)


@pytest.mark.parametrize("store", ["swift"])
def test_a_file_may_be_there_and_in_no_listing(stores, staging, user):
    place = new(staging, user)
    with unlisted(stores, staging, place.bucket):
        put(staging, place)
    assert list(staging.arrived(place.bucket)) == []
    assert staging.found(place) is not None
    staging.delete(place)


def test_many_may_make_one_bucket_at_once(new_storage, user):
    stagings = [STAGINGS["s3v4"](new_storage()) for _ in range(8)]
    place = stagings[0].incoming(user, uuid4().hex, "x")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda staging: staging.prepare(place), stagings))
    assert put(stagings[0], place)


def test_a_bucket_that_somebody_removed_is_made_again(staging, client, user):
    place = new(staging, user)
    client.remove_bucket(place.bucket)
    staging.prepare(place)
    assert put(staging, place)


def test_what_is_forgotten_expires_where_the_object_store_can_do_that(store, new_storage, client, user):
    staging = STAGINGS["s3v4"](new_storage(url_seconds=86401))
    place = staging.incoming(user, uuid4().hex, "x")
    client.make_bucket(place.bucket)
    theirs = Rule(ENABLED, rule_id="theirs", rule_filter=Filter(prefix="theirs/"), expiration=Expiration(days=9))
    if store != "swift":
        client.set_bucket_lifecycle(place.bucket, LifecycleConfig([theirs]))
    staging.prepare(place)
    STAGINGS["s3v4"](new_storage(url_seconds=86401)).prepare(place)
    found = client.get_bucket_lifecycle(place.bucket)
    rules = {} if found is None else {rule.rule_id: rule for rule in found.rules}
    if store == "swift":
        assert rules == {}
    else:
        assert set(rules) == {"theirs", "firecrest"}
        assert rules["theirs"] == theirs
        assert rules["firecrest"].expiration.days == 2
        assert rules["firecrest"].abort_incomplete_multipart_upload.days_after_initiation == 2


def test_orphans_are_swept_and_nothing_else(laid_out, client):
    lost, lost_out, kept = (put(laid_out, new(laid_out, "anna", outgoing=out)) for out in (False, True, False))
    lost_parts, kept_parts = new(laid_out, "anna", "ünï +%.bin"), new(laid_out, "anna")
    uploads = [(place, laid_out.begin(place)) for place in (lost_parts, kept_parts)]
    foreign = put(laid_out, Place(kept.bucket, "somebody/else.txt"))
    gone = {place.task_id for place in (lost, lost_out, lost_parts)}
    asked = set()

    def which_are_gone(tasks):
        asked.update(tasks)
        return tasks & gone

    bucket = kept.bucket
    assert bucket in laid_out.buckets()
    assert laid_out.sweep(bucket, before=datetime.now(UTC) - LATER, gone=which_are_gone) == 0
    assert asked == set()
    assert laid_out.sweep(bucket, before=datetime.now(UTC) + LATER, gone=which_are_gone) == 3
    assert asked == gone | {kept.task_id, kept_parts.task_id}
    assert [laid_out.found(place) is None for place in (lost, lost_out, kept, foreign)] == [True, True, False, False]
    assert [(place, upload) for place, upload, _ in client.unfinished_uploads(bucket)] == uploads[1:]
    assert laid_out.sweep(bucket, before=datetime.now(UTC) + LATER, gone=which_are_gone) == 0


def test_places_with_a_prefix_are_the_only_ones_that_are_ours(new_storage, staging, client, prefix):
    ours = STAGINGS["s3v4"](new_storage(bucket_prefix=f"{prefix}a"))
    place, other = new(ours, "anna"), new(staging, f"{prefix}b")
    assert ours.buckets() == [place.bucket]
    assert {place.bucket, other.bucket} <= set(staging.buckets())


# Swift's accounts have their buckets each for itself
@pytest.mark.parametrize("store", ["radosgw"])
def test_a_strangers_bucket_is_not_taken_for_ours(stores, new_storage, staging, user):
    keys = {"access_key": "stranger", "secret_key": uuid4().hex}
    admin = ("radosgw-admin", "-n", "client.rgw.a", "--uid=stranger")
    environment = {"CEPH_CONF": stores.facts["ceph_conf"], "PATH": "/usr/bin:/bin"}
    made = [*admin, "user", "create", "--display-name=Stranger", *(f"--{name.replace('_', '-')}={key}" for name, key in keys.items())]
    subprocess.run(made, env=environment, check=True, capture_output=True, timeout=60)
    try:
        theirs = Client(new_storage(**keys))
        place = staging.incoming(user, uuid4().hex, "x")
        theirs.make_bucket(place.bucket)
        STAGINGS["s3v4"](new_storage(bucket=place.bucket)).check()  # no such bucket is ours to ask for
        with pytest.raises(StorageRefused, match="Could not create container"):
            staging.prepare(place)
        theirs.remove_bucket(place.bucket)
    finally:
        subprocess.run([*admin, "user", "rm", "--purge-data"], env=environment, check=True, capture_output=True, timeout=60)
