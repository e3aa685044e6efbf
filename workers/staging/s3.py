"""Any S3 server as the object store."""

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from itertools import islice
from typing import TypeVar

from minio.datatypes import Object
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from schemas.announcements import HEARTBEAT
from schemas.errors import NotStaged, SizeLimit, StorageRefused
from schemas.settings import Storage
from workers.staging.announcer import Announcer
from workers.staging.checksums import part_sizes
from workers.staging.client import ABSENT, Client, asking
from workers.staging.endpoint import Endpoint
from workers.staging.expiry import expire
from workers.staging.forms import post_form, put_form
from workers.staging.names import LONGEST_KEY, bucket_name, key_name
from workers.staging.staging import Form, Multipart, Part, Place, Side, Slot, Staged

T = TypeVar("T")

MB = 1024 * 1024
LARGEST_REQUEST = 5 * 1024 * MB  # what one request may carry, by S3's rules

# What systems put sorts before all that clients put: a listing of the latter begins behind it.
_OUTGOING, _BEHIND_OUTGOING = "-out/", "."
_OURS = re.compile(r"(-out/)?([a-z0-9-]+/)?[0-9a-f]{32}/[^/]+", re.DOTALL)
_PAGE = 50  # files removed by one request, which must not take long; S3 allows 1000


class S3Staging:
    """An S3 server, with a bucket for each user, or one for all with a folder for each (the setting `layout`)."""

    title = "Amazon S3 - Signature v4"

    def __init__(self, settings: Storage) -> None:
        self.form_limit = min(settings.max_file_size * MB, LARGEST_REQUEST)
        self._settings = settings
        self._client = Client(settings)
        self._endpoints: dict[Side, Endpoint] = {
            "clients": Endpoint(settings.public_url, settings),
            "systems": Endpoint(settings.systems_url or settings.public_url, settings),
        }
        self._announcer = Announcer(self._client, settings)
        self._prepared: set[str] = set()

    # Places

    def incoming(self, user: str, task_id: str, file_name: str) -> Place:
        """Where a client puts a file for a system; raises InvalidParameter when that is no name of a file."""
        return self._place("", user, task_id, file_name)

    def outgoing(self, user: str, task_id: str, file_name: str) -> Place:
        """Where a system puts a file for a client; raises InvalidParameter when that is no name of a file."""
        return self._place(_OUTGOING, user, task_id, file_name)

    def _place(self, area: str, user: str, task_id: str, file_name: str) -> Place:
        shared = self._settings.layout == "shared"
        folder = f"{area}{bucket_name(user)}/{task_id}/" if shared else f"{area}{task_id}/"
        bucket = self._settings.bucket if shared else bucket_name(user, self._settings.bucket_prefix)
        return Place(bucket, folder + key_name(file_name, room=LONGEST_KEY - len(folder)))

    def prepare(self, place: Place) -> None:
        """See to it that the place's bucket is there, that what is forgotten in it expires, and what arrives is announced."""
        with asking():
            if place.bucket in self._prepared and self._client.bucket_exists(place.bucket):
                return
            self._make(place.bucket)
            expire(self._client, place.bucket, days=math.ceil(self._settings.url_seconds / 86400))
            self._announcer.announce(place.bucket)
            self._prepared.add(place.bucket)

    def _make(self, bucket: str) -> None:
        """Make the bucket; that it is there already is only known by trying, for a stranger's may look like ours."""
        try:
            self._client.make_bucket(bucket)
        except S3Error as error:
            if error.code != "BucketAlreadyOwnedByYou" and bucket not in self._client.owned_buckets():
                raise StorageRefused(f"Could not create container {bucket} in Staging Area ({self.title})") from error

    def heartbeat(self) -> None:
        """Put a file that belongs to no task."""
        place = Place(self._settings.bucket, HEARTBEAT)
        self.prepare(place)
        with asking():
            self._client.put_object(place.bucket, place.key, BytesIO(), 0)

    # Requests for others to make

    def form(self, place: Place, source: str, *, seconds: int, size: int | None = None, most: int | None = None) -> Form:
        """How a client sends the file `source` of its own machine; of `most` bytes, when its size is not given."""
        endpoint = self._endpoints["clients"]
        if self._settings.form == "put":
            return put_form(endpoint.url("PUT", place, seconds=seconds, size=size), source)
        largest = self.form_limit if most is None else min(most, self.form_limit)
        sizes = (0, largest) if size is None else (size, size)
        url, fields = endpoint.form(place, sizes=sizes, seconds=seconds)
        return post_form(url, fields, source)

    def upload_url(self, place: Place, *, size: int, seconds: int, side: Side) -> str:
        """Where exactly `size` bytes can be PUT."""
        return self._endpoints[side].url("PUT", place, seconds=seconds, size=size)

    def download_url(self, place: Place, *, seconds: int, side: Side) -> str:
        """Where the file can be had by GET, until it is deleted."""
        return self._endpoints[side].url("GET", place, seconds=seconds)

    # Uploads in parts

    def begin(self, place: Place) -> str:
        """Begin an upload in parts; its id."""
        with asking():
            return self._client.begin_upload(place)

    def parts_to_send(self, place: Place, upload: str, *, size: int, seconds: int, side: Side) -> Multipart:
        """How a file of `size` bytes is sent in an upload that was begun; raises SizeLimit for what not even parts can hold."""
        endpoint, part_size = self._endpoints[side], self._part_size(size)

        def slot(number: int, length: int) -> Slot:
            url = endpoint.url("PUT", place, seconds=seconds, size=length, partNumber=str(number), uploadId=upload)
            return Slot(number, length, url)

        slots = tuple(slot(number, length) for number, length in enumerate(part_sizes(size, part_size), start=1))
        return Multipart(upload, part_size, slots, endpoint.url("POST", place, seconds=seconds, uploadId=upload))

    def _part_size(self, size: int) -> int:
        least = math.ceil(size / self._settings.max_parts / MB) * MB
        if least > LARGEST_REQUEST or size > self._settings.max_file_size * MB:
            raise SizeLimit
        return max(least, self._settings.part_size * MB)

    def parts(self, place: Place, upload: str) -> tuple[Part, ...]:
        """The parts that have arrived; raises NotStaged when there is no such upload (any more)."""
        parts = self._parts(place, upload)
        if parts is None:
            raise NotStaged("The upload is not in the Staging Area")
        return parts

    def _parts(self, place: Place, upload: str) -> tuple[Part, ...] | None:
        return _if_present(lambda: self._client.sent_parts(place, upload))

    def complete(self, place: Place, upload: str, *, size: int) -> Staged:
        """Make a file of the parts, or find that it has been made; raises NotStaged unless that gives a file of `size` bytes."""
        parts = self._parts(place, upload)
        if parts is not None:
            if sum(part.size for part in parts) != size:
                raise NotStaged("Parts of the file are not in the Staging Area")
            _if_present(lambda: self._client.complete_upload(place, upload, parts))
        staged = self.found(place)
        if staged is None or staged.size != size:
            raise NotStaged("The file is not in the Staging Area")
        return staged

    def abort(self, place: Place, upload: str) -> None:
        """Forget an upload with its parts, if it is still there."""
        _if_present(lambda: self._client.abort_upload(place, upload))

    def abort_all(self, place: Place) -> None:
        """Forget all uploads in parts to the place."""
        folder = place.key.rpartition("/")[0]
        for found, upload, _ in _if_present(lambda: list(self._client.unfinished_uploads(place.bucket, prefix=f"{folder}/"))) or []:
            self.abort(found, upload)

    # What is there

    def found(self, place: Place) -> Staged | None:
        """The file, if it has arrived."""
        entry = _if_present(lambda: self._client.stat_object(place.bucket, place.key))
        return None if entry is None else _staged(entry)

    def arrived(self, bucket: str) -> Iterator[Staged]:
        """Every file that clients have put into a bucket."""
        return self._listed(bucket, start_after=_BEHIND_OUTGOING)

    def _listed(self, bucket: str, *, start_after: str | None = None) -> Iterator[Staged]:
        with asking():
            try:
                for entry in self._client.list_objects(bucket, recursive=True, start_after=start_after):
                    if _OURS.fullmatch(str(entry.object_name)):
                        yield _staged(entry)
            except S3Error as error:
                if error.code not in ABSENT:
                    raise

    def delete(self, place: Place) -> None:
        """Remove the file, if it is there."""
        _if_present(lambda: self._client.remove_object(place.bucket, place.key))

    def buckets(self) -> list[str]:
        """The buckets that there are."""
        with asking():
            owned = self._client.owned_buckets()
        if self._settings.layout == "shared":
            return [bucket for bucket in owned if bucket == self._settings.bucket]
        return [bucket for bucket in owned if bucket.startswith(self._settings.bucket_prefix)]

    def sweep(self, bucket: str, *, before: datetime, gone: Callable[[set[str]], set[str]]) -> int:
        """Remove files and unfinished uploads older than `before` whose tasks are gone; how many."""
        old = (staged.place for staged in self._listed(bucket) if staged.stored < before)
        swept = 0
        for places in _pages(old):
            lost = gone({place.task_id for place in places})
            swept += self._remove(bucket, [place for place in places if place.task_id in lost])
        return swept + self._abort_old(bucket, before, gone)

    def _remove(self, bucket: str, places: list[Place]) -> int:
        with asking():
            failed = list(self._client.remove_objects(bucket, [DeleteObject(place.key) for place in places]))
        return len(places) - len(failed)

    def _abort_old(self, bucket: str, before: datetime, gone: Callable[[set[str]], set[str]]) -> int:
        uploads = _if_present(lambda: list(self._client.unfinished_uploads(bucket))) or []
        old = [(place, upload) for place, upload, begun in uploads if begun < before and _OURS.fullmatch(place.key)]
        lost = gone({place.task_id for place, _ in old}) if old else set()
        doomed = [(place, upload) for place, upload in old if place.task_id in lost]
        for place, upload in doomed:
            self.abort(place, upload)
        return len(doomed)

    def check(self) -> None:
        """Ask something cheap, to see whether the object store answers and knows us."""
        with asking():
            if self._settings.layout == "shared":
                self._client.bucket_exists(self._settings.bucket)
            else:  # a bucket of that name may be a stranger's, which says no to us
                self._client.owned_buckets()


def _if_present(asked: Callable[[], T]) -> T | None:
    """The answer; None where what was asked for is not there."""
    with asking():
        try:
            return asked()
        except S3Error as error:
            if error.code not in ABSENT:
                raise
            return None


def _staged(entry: Object) -> Staged:
    place = Place(entry.bucket_name, str(entry.object_name))
    return Staged(place, entry.size or 0, entry.etag or "", entry.last_modified or datetime.now(UTC))


def _pages(places: Iterator[Place]) -> Iterator[list[Place]]:
    while page := list(islice(places, _PAGE)):
        yield page
