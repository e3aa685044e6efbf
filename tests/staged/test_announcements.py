import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest
import requests
from minio.notificationconfig import NotificationConfig, TopicConfig

from schemas.announcements import HEARTBEAT, Announcement
from schemas.errors import StorageNotAvailable
from tests.real_site import eventually
from workers.staging import STAGINGS

SECRET = "a secret + of sixteen/or more é"


class Listener(ThreadingHTTPServer):
    """What is announced."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Taking)
        self.heard = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/storage/announcements"

    def keys(self):
        return [arrival.key for arrival in self.heard]


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard += Announcement.model_validate(json.loads(body)).arrivals
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def listener():
    with Listener() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def announcing(store, new_storage, client, prefix, listener):
    """Makes object stores that announce to the listener; their topics are removed at the end."""
    before = set(client.topics()) if store == "radosgw" else set()

    def make(**changes):
        settings = {"notifications_url": listener.url, "notifications_secret": SECRET, "bucket": f"{prefix}all", **changes}
        return STAGINGS["s3v4"](new_storage(**settings))

    yield make
    if store == "radosgw":
        for topic in set(client.topics()) - before:
            client.delete_topic(topic)


def notifications(client, bucket):
    return client.get_bucket_notification(bucket).topic_config_list


def put(staging, place, content=b"content"):
    answer = requests.put(staging.upload_url(place, size=len(content), seconds=60, side="clients"), data=content, timeout=60)
    answer.raise_for_status()


radosgw = pytest.mark.parametrize("store", ["radosgw"])
NAMES = ["plain.bin", "with blank.bin", "ünï +%41&#?.bin", "new\nline.bin", "%2F"]


@radosgw
@pytest.mark.parametrize("layout", ["per_user", "shared"])
def test_a_file_is_announced_when_it_is_there_and_by_the_name_of_its_task(announcing, listener, user, layout):
    staging = announcing(layout=layout)
    for name in NAMES:
        place = staging.incoming(user, uuid4().hex, name)
        staging.prepare(place)
        put(staging, place)
        (said,) = eventually(lambda: listener.heard)
        assert (said.bucket, said.key, said.secret, said.task_id) == (place.bucket, place.key, SECRET, place.task_id)
        listener.heard.clear()


@radosgw
def test_forms_and_uploads_in_parts_are_announced_once_each_when_they_are_whole(announcing, listener, user):
    staging = announcing()
    formed, parted = (staging.incoming(user, uuid4().hex, name) for name in ("formed", "parted"))
    staging.prepare(formed)
    fields = staging.form(formed, "x", seconds=60).parameters
    requests.post(fields["url"], data=fields["data"], files={"file": ("x", b"abc")}, timeout=60).raise_for_status()
    upload = staging.begin(parted)
    (slot,) = staging.parts_to_send(parted, upload, size=3, seconds=60, side="clients").slots
    requests.put(slot.url, data=b"abc", timeout=60).raise_for_status()
    assert listener.keys() == [formed.key]
    staging.complete(parted, upload, size=3)

    eventually(lambda: listener.keys() == [formed.key, parted.key])


@radosgw
def test_many_may_ask_for_the_announcements_of_one_bucket_at_once(announcing, listener, client, user):
    stagings = [announcing() for _ in range(8)]
    place = stagings[0].incoming(user, uuid4().hex, "x")

    def prepared(staging):
        """As transfers do: what may go well later is tried again."""
        try:
            staging.prepare(place)
        except StorageNotAvailable:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda staging: eventually(lambda: prepared(staging)), stagings))
    assert len(notifications(client, place.bucket)) == 1
    put(stagings[0], place)

    eventually(lambda: listener.keys() == [place.key])


@radosgw
def test_a_new_secret_takes_the_place_of_the_old_one_and_nothing_of_others(announcing, listener, client, user):
    staging = announcing()
    place = staging.incoming(user, uuid4().hex, "x")
    staging.prepare(place)
    theirs = client.create_topic("theirs", {"push-endpoint": listener.url + "/theirs", "persistent": "false"})
    (ours,) = notifications(client, place.bucket)
    _notify(client, place.bucket, theirs)
    announcing(notifications_secret=SECRET + " anew").prepare(place)

    names = {one.config_id for one in notifications(client, place.bucket)}
    assert "theirs" in names
    assert len(names) == 2
    assert ours.config_id not in names
    client.remove_notification(place.bucket, "theirs")
    put(staging, place)
    assert [said.secret for said in eventually(lambda: listener.heard)] == [SECRET + " anew"]


def _notify(client, bucket, topic):

    config = NotificationConfig(topic_config_list=[TopicConfig(topic=topic, events=["s3:ObjectRemoved:*"], config_id="theirs")])
    client.set_bucket_notification(bucket, config)


@radosgw
def test_a_heartbeat_is_announced_as_such_and_is_no_arrival(announcing, listener, prefix):
    staging = announcing()
    staging.heartbeat()
    (said,) = eventually(lambda: listener.heard)

    assert (said.bucket, said.key, said.task_id) == (f"{prefix}all", HEARTBEAT, "")
    assert list(staging.arrived(f"{prefix}all")) == []


@radosgw
def test_uploads_succeed_while_nobody_listens(announcing, listener, user):
    staging = announcing()
    place = staging.incoming(user, uuid4().hex, "x")
    staging.prepare(place)
    listener.shutdown()
    listener.server_close()
    put(staging, place)

    assert staging.found(place).size == 7


def test_an_object_store_that_is_to_announce_serves_whether_it_can_or_not(store, announcing, listener, user, caplog):
    caplog.set_level("WARNING")
    staging = announcing()
    for name in ("one", "two"):
        place = staging.incoming(f"{user}{name}", uuid4().hex, "x")
        staging.prepare(place)
        put(staging, place)
        assert [staged.place for staged in staging.arrived(place.bucket)] == [place]
    staging.heartbeat()

    told = [record.message for record in caplog.records if "polled" in record.message]
    assert len(told) == (store == "swift")
    assert (listener.heard == []) == (store == "swift")


def test_nothing_is_announced_where_the_settings_do_not_want_it(store, announcing, client, user):
    staging = announcing(notifications_url="")
    place = staging.incoming(user, uuid4().hex, "x")
    staging.prepare(place)

    if store == "radosgw":
        assert notifications(client, place.bucket) == []
    assert [staged.place for staged in staging.arrived(place.bucket)] == []
