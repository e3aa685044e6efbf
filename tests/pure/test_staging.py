import hashlib
import re
import shlex
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minio import Minio
from minio.helpers import BaseURL
from pydantic import ValidationError

from schemas.errors import InvalidParameter, SizeLimit
from schemas.settings import Storage
from workers.staging import STAGINGS
from workers.staging.checksums import etag, part_sizes
from workers.staging.forms import post_form, put_form
from workers.staging.names import bucket_name, key_name
from workers.staging.signing import Signer

NOBODY_LISTENS = "http://127.0.0.1:1"
KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG"}
TASK = "0123456789abcdef0123456789abcdef"
MB = 1024 * 1024


def storage(**more: object) -> Storage:
    return Storage.model_validate({"private_url": NOBODY_LISTENS, "public_url": NOBODY_LISTENS, **KEYS, **more})


@pytest.mark.parametrize("user", ["alice", "a-b", "user01", "x" * 63])
def test_a_user_whose_name_is_legal_has_a_bucket_of_that_name(user):
    assert bucket_name(user) == user


@pytest.mark.parametrize(
    "user", ["Alice", "a", "", "a_b", "a.b", "-a-", "192.168.1.1", "x" * 64, "ü", "xn--abc", "abc-s3alias", "a b", "a/b", "\udcff", "名前"]
)
def test_a_user_of_any_other_name_has_a_bucket_too(user):
    name = bucket_name(user)
    assert name != user
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name)
    assert not name.startswith("xn--")


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.text(alphabet=st.characters(), max_size=70), unique=True, min_size=2, max_size=6), st.sampled_from(["", "hpc-"]))
def test_no_two_users_have_one_bucket(users, prefix):
    names = [bucket_name(user, prefix) for user in users]
    assert len(set(names)) == len(users)
    assert all(name.startswith(prefix) and 3 <= len(name) <= 63 for name in names)


def test_nobody_can_be_called_like_the_bucket_made_for_somebody_else():
    made = bucket_name("Alice")
    assert bucket_name(made) != made


@pytest.mark.parametrize("name", ["a b.txt", 'it\'s "x"', "ü名.dat", "-rf", "a;b,c", "..x", "x" * 255])
def test_a_key_ends_in_the_name_of_the_file(name):
    assert key_name(name) == name


@pytest.mark.parametrize(
    ("name", "key"), [("a\nb", "a_b"), ("\udcff", "_"), ("x${filename}", "x$_filename}"), ("\x7f\ufffe", "__"), (" a b ", "_a b_")]
)
def test_what_no_key_can_carry_is_replaced(name, key):
    assert key_name(name) == key


def test_a_long_name_loses_its_start():
    assert key_name("ä" * 20 + ".tar", room=9) == "ää.tar"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/"])
def test_what_is_no_name_of_a_file_is_refused(name):
    with pytest.raises(InvalidParameter):
        key_name(name)


def test_keys_are_the_task_and_the_name_and_fit_the_object_store_whatever_the_user_is_called():
    own, shared = STAGINGS["s3v4"](storage()), STAGINGS["s3v4"](storage(layout="shared", bucket="all"))
    assert own.incoming("alice", TASK, "a.txt").key == f"{TASK}/a.txt"
    assert shared.incoming("alice", TASK, "a.txt").key == f"alice/{TASK}/a.txt"
    for staging in (own, shared):
        place = staging.outgoing("Ä" * 99, TASK, "ä" * 2000)
        assert place.task_id == TASK
        assert 1020 < len(place.key.encode()) <= 1024


def test_a_form_is_one_plain_line_of_curl():
    form = post_form("http://s3/alice", {"key": f"{TASK}/a.bin", "policy": "e30="}, "/tmp/a.bin")
    assert form.command == (f"curl -f --show-error -s -i -X POST http://s3/alice -F key={TASK}/a.bin -F policy=e30= -F file=@/tmp/a.bin")
    assert form.parameters == {
        "method": "POST", "url": "http://s3/alice", "data": {"key": f"{TASK}/a.bin", "policy": "e30="},
        "files": "/tmp/a.bin", "headers": {}, "json": {}, "params": {},
    }  # fmt: skip


def test_what_curl_would_read_in_a_form_is_kept_from_it():
    words = shlex.split(post_form("http://s3/alice", {"key": "@x;type=y"}, 'a;"b",\\c').command)
    assert words[-4:] == ["--form-string", "key=@x;type=y", "-F", r'file=@"a;\"b\",\\c"']


def test_a_presigned_put_is_one_plain_line_of_curl():
    form = put_form("http://s3/alice/x?X=1&Y=2", "{a}.bin")
    assert form.command == "curl -f --show-error -s -i -g -X PUT 'http://s3/alice/x?X=1&Y=2' -T '{a}.bin'"
    assert set(form.parameters) == {"method", "url", "data", "files", "headers", "json", "params"}


def test_the_etag_of_parts_is_the_sum_of_their_sums():
    sums = [hashlib.md5(part).digest() for part in (b"a", b"b")]
    assert etag(sums[:1], in_parts=False) == "0cc175b9c0f1b6a831c399e269772661"
    assert etag(sums, in_parts=True) == hashlib.md5(sums[0] + sums[1]).hexdigest() + "-2"


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 10**12), st.integers(10**6, 10**9))
def test_parts_make_up_the_file(size, part_size):
    sizes = part_sizes(size, part_size)
    assert sum(sizes) == size
    assert sizes
    assert all(size == part_size for size in sizes[:-1])


def test_a_signature_is_the_one_that_the_sdk_makes():
    sdk = Minio("s3.example.org", KEYS["access_key"], KEYS["secret_key"], region="eu-1")
    now = datetime.now(UTC)
    theirs = urlsplit(sdk.get_presigned_url("GET", "alice", "a b/ü+~", request_date=now, extra_query_params={"partNumber": "1"}))
    url = BaseURL("https://s3.example.org", "eu-1").build(
        method="GET", region="eu-1", bucket_name="alice", object_name="a b/ü+~", query_params={"partNumber": "1"}
    )
    ours = urlsplit(Signer(**KEYS, region="eu-1").url("GET", url, seconds=604800, at=now))
    assert (ours.path, sorted(parse_qsl(ours.query))) == (theirs.path, sorted(parse_qsl(theirs.query)))


def test_signing_asks_nobody():
    staging = STAGINGS["s3v4"](storage())
    place = staging.incoming("alice", TASK, "a.txt")
    form = staging.form(place, "/tmp/a.txt", seconds=60)
    parts = staging.parts_to_send(place, "upload", size=200 * MB, seconds=60, side="systems")
    assert KEYS["secret_key"] not in form.command + repr(parts) + repr(form.parameters)
    assert [slot.size for slot in parts.slots] == [64 * MB, 64 * MB, 64 * MB, 8 * MB]


def test_clients_and_systems_each_have_the_address_that_they_can_reach():
    staging = STAGINGS["s3v4"](storage(public_url="https://s3.example.org/", systems_url="http://10.0.0.1:9000"))
    place = staging.outgoing("alice", TASK, "a.txt")
    assert staging.download_url(place, seconds=60, side="clients").startswith(f"https://s3.example.org/alice/-out/{TASK}/a.txt?")
    assert staging.download_url(place, seconds=60, side="systems").startswith(f"http://10.0.0.1:9000/alice/-out/{TASK}/a.txt?")
    assert staging.form(place, "a.txt", seconds=60).parameters["url"] == "https://s3.example.org/alice"


def test_larger_files_have_larger_parts_but_no_more_of_them():
    staging = STAGINGS["s3v4"](storage(max_file_size=1024 * 1024, max_parts=300))
    place = staging.incoming("alice", TASK, "a.txt")
    parts = staging.parts_to_send(place, "upload", size=1024 * 1024 * MB, seconds=60, side="clients")
    assert len(parts.slots) <= 300
    assert parts.part_size <= 5120 * MB
    with pytest.raises(SizeLimit):
        staging.parts_to_send(place, "upload", size=1024 * 1024 * MB + 1, seconds=60, side="clients")


@pytest.mark.parametrize(
    "wrong",
    [{"public_url": "s3.example.org"}, {"private_url": "http://s3/path"}, {"systems_url": "http://user@s3"}, {"bucket": "A_b"},
     {"bucket_prefix": "-x"}, {"max_file_size": 2_000_000}, {"url_seconds": 604801}, {"part_size": 4}],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValidationError):
        storage(**wrong)
