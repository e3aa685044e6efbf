import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import requests

from schemas.errors import NotStaged
from workers.staging.checksums import etag
from workers.staging.staging import Part, Place

MB = 1024 * 1024


@pytest.fixture
def place(staging, user):
    place = staging.incoming(user, uuid4().hex, "large.bin")
    staging.prepare(place)
    return place


def send(parts, content, numbers=None):
    """Fill the slots, several at once; the parts as the object store names them."""

    def fill(slot):
        start = (slot.number - 1) * parts.part_size
        answer = requests.put(slot.url, data=content[start : start + slot.size], timeout=60)
        answer.raise_for_status()
        return Part(slot.number, slot.size, answer.headers["ETag"].strip('"'))

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(fill, [slot for slot in parts.slots if numbers is None or slot.number in numbers]))


def complete_document(sent):
    parts = "".join(f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{part.etag}"</ETag></Part>' for part in sent)
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"


def test_a_client_sends_64_mib_in_parts_and_completes_them(new_storage, user):
    from workers.staging import STAGINGS

    staging = STAGINGS["s3v4"](new_storage(part_size=12))
    place = staging.incoming(user, uuid4().hex, "lärge file.bin")
    staging.prepare(place)
    content = os.urandom(64 * MB)
    parts = staging.parts_to_send(place, staging.begin(place), size=len(content), seconds=60, side="clients")
    sent = send(parts, content)
    assert staging.found(place) is None
    assert list(staging.parts(place, parts.upload)) == sent

    complete = parts.parameters()["multipart"]["complete"]
    answer = requests.request(complete["method"], complete["url"], headers=complete["headers"], data=complete_document(sent), timeout=60)
    assert answer.ok, answer.text

    staged = staging.found(place)
    sums = [hashlib.md5(content[start : start + 12 * MB]).digest() for start in range(0, len(content), 12 * MB)]
    assert [part.etag for part in sent] == [md5.hex() for md5 in sums]
    assert (staged.size, staged.etag) == (len(content), etag(sums, in_parts=True))
    got = requests.get(staging.download_url(place, seconds=60, side="systems"), timeout=60).content
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()


def test_the_service_completes_what_a_system_sent_once_or_twice(staging, place):
    content = os.urandom(5 * MB + 1)
    upload = staging.begin(place)
    send(staging.parts_to_send(place, upload, size=len(content), seconds=60, side="systems"), content)
    staged = staging.complete(place, upload, size=len(content))
    sums = [hashlib.md5(content[: 5 * MB]).digest(), hashlib.md5(content[5 * MB :]).digest()]
    assert (staged.size, staged.etag) == (len(content), etag(sums, in_parts=True))
    assert staging.complete(place, upload, size=len(content)) == staged


def test_a_file_of_one_part_has_the_etag_of_parts(staging, place):
    upload = staging.begin(place)
    send(staging.parts_to_send(place, upload, size=3, seconds=60, side="systems"), b"abc")
    assert staging.complete(place, upload, size=3).etag == etag([hashlib.md5(b"abc").digest()], in_parts=True)


def test_an_upload_that_lacks_parts_is_not_completed_until_they_are_sent(staging, place):
    content = os.urandom(5 * MB + 1)
    upload = staging.begin(place)
    parts = staging.parts_to_send(place, upload, size=len(content), seconds=60, side="systems")
    send(parts, content, numbers={2})
    assert [part.number for part in staging.parts(place, upload)] == [2]
    with pytest.raises(NotStaged):
        staging.complete(place, upload, size=len(content))
    send(parts, content)
    assert staging.complete(place, upload, size=len(content)).size == len(content)


def test_a_part_of_another_size_is_refused(staging, place):
    parts = staging.parts_to_send(place, staging.begin(place), size=7, seconds=60, side="clients")
    assert requests.put(parts.slots[0].url, data=b"12345678", timeout=60).status_code == 403
    assert requests.put(parts.slots[0].url, data=b"123456", timeout=60).status_code == 403
    assert staging.parts(place, parts.upload) == ()


def test_all_unfinished_uploads_are_found_however_many_one_answer_lists(staging, client, place):
    other = Place(place.bucket, place.key.replace("large", "ünï +%"))
    begun = [(here, staging.begin(here)) for here in (place, place, place, other, other)]
    for size in (2, 1000):
        assert {(here, upload) for here, upload, _ in client.unfinished_uploads(place.bucket, page_size=size)} == set(begun)


def test_an_upload_that_was_aborted_is_gone(staging, place):
    upload = staging.begin(place)
    parts = staging.parts_to_send(place, upload, size=3, seconds=60, side="clients")
    send(parts, b"abc")
    staging.abort(place, upload)
    staging.abort(place, upload)
    with pytest.raises(NotStaged):
        staging.parts(place, upload)
    with pytest.raises(NotStaged):
        staging.complete(place, upload, size=3)
    assert requests.put(parts.slots[0].url, data=b"abc", timeout=60).status_code == 404


def test_all_uploads_to_a_place_are_aborted_and_no_others(staging, client, place):
    other = staging.incoming("somebody", uuid4().hex, "file")
    other = Place(place.bucket, other.key)
    ours = [staging.begin(place), staging.begin(place)]
    theirs = staging.begin(other)
    staging.abort_all(place)
    staging.abort_all(place)
    left = {upload for _, upload, _ in client.unfinished_uploads(place.bucket)}
    assert not left & set(ours)
    assert theirs in left
    staging.abort_all(Place("no-such-bucket-anywhere", place.key))
