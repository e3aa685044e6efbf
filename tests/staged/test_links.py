import time
from uuid import uuid4

import pytest
import requests


@pytest.fixture
def place(staging, user):
    place = staging.outgoing(user, uuid4().hex, "out put.bin")
    staging.prepare(place)
    assert put(staging, place, b"content").ok
    return place


def put(staging, place, content):
    url = staging.upload_url(place, size=len(content), seconds=60, side="systems")
    return requests.put(url, data=content, timeout=60)


def test_a_link_gives_the_file(staging, place):
    for side in ("clients", "systems"):
        assert requests.get(staging.download_url(place, seconds=60, side=side), timeout=60).content == b"content"


def test_a_link_gives_a_piece_of_the_file(staging, place):
    url = staging.download_url(place, seconds=60, side="clients")
    answer = requests.get(url, headers={"Range": "bytes=3-5"}, timeout=60)
    assert (answer.status_code, answer.content) == (206, b"ten")


def test_a_link_allows_one_method_only(staging, place):
    url = staging.download_url(place, seconds=60, side="clients")
    assert requests.put(url, data=b"other", timeout=60).status_code == 403
    assert requests.delete(url, timeout=60).status_code == 403
    assert staging.found(place).size == 7


def test_an_expired_link_is_refused(staging, place):
    links = [staging.download_url(place, seconds=1, side="clients"), staging.upload_url(place, size=5, seconds=1, side="systems")]
    time.sleep(2.1)
    assert requests.get(links[0], timeout=60).status_code == 403
    assert requests.put(links[1], data=b"other", timeout=60).status_code == 403
    assert staging.found(place).size == 7


@pytest.mark.parametrize(
    ("old", "new"), [("out%20put.bin", "other.bin"), ("X-Amz-Expires=60", "X-Amz-Expires=61"), ("X-Amz-Signature=", "X-Amz-Signature=0")]
)
def test_a_tampered_link_is_refused(staging, place, old, new):
    url = staging.download_url(place, seconds=60, side="clients")
    assert old in url
    assert requests.get(url.replace(old, new), timeout=60).status_code == 403


def test_a_link_dies_with_its_file(staging, place):
    url = staging.download_url(place, seconds=60, side="clients")
    staging.delete(place)
    assert requests.get(url, timeout=60).status_code == 404
    assert staging.found(place) is None
    staging.delete(place)


def test_an_upload_url_takes_exactly_its_size(staging, place):
    url = staging.upload_url(place, size=3, seconds=60, side="systems")
    assert requests.put(url, data=b"1234", timeout=60).status_code == 403
    assert requests.put(url, data=b"12", timeout=60).status_code == 403
    assert requests.put(url, data=b"123", timeout=60).ok
    assert staging.found(place).size == 3
