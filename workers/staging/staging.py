"""What an object store is to us: places for the files of transfers, and signed requests that fill and empty them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

# Who makes a signed request; each may reach the object store under a URL of its own.
Side = Literal["clients", "systems"]


@dataclass(frozen=True)
class Place:
    """Where the file of one transfer is kept: a key in a bucket. The key ends in <task id>/<file name>."""

    bucket: str
    key: str

    @property
    def task_id(self) -> str:
        """The task whose file this is."""
        return self.key.split("/")[-2]


@dataclass(frozen=True)
class Staged:
    """A whole file in the object store: its size in bytes, its ETag without quotes (see `checksums`), when it was stored (UTC)."""

    place: Place
    size: int
    etag: str
    stored: datetime


@dataclass(frozen=True)
class Form:
    """How a client's machine sends a file in one request, once as a command and once for programs.

    `command` is one line of curl, quoted for a POSIX shell and for `shlex.split`; it exits non-zero when the object
    store refuses. `parameters` has the keys method, url, data, files, headers, json and params (contract, 5.1).
    """

    command: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Slot:
    """A part of a file that is still to be sent: PUT exactly `size` bytes to `url`; the part's number counts from 1."""

    number: int
    size: int
    url: str


@dataclass(frozen=True)
class Multipart:
    """How a file is sent in parts: every slot is filled, in any order, again if need be; then the upload is completed.

    A client completes it by a POST to `complete_url` of S3's XML document CompleteMultipartUpload, with number and ETag
    of every part; for a system `Staging.complete` does. The file appears in the place only then.
    """

    upload: str
    part_size: int
    slots: tuple[Slot, ...]
    complete_url: str

    def parameters(self) -> dict[str, Any]:
        """The same for programs, to stand beside the keys of `Form.parameters`."""
        parts = [{"number": slot.number, "method": "PUT", "url": slot.url, "size": slot.size} for slot in self.slots]
        complete = {"method": "POST", "url": self.complete_url, "headers": {"Content-Type": "application/xml"}}
        return {"multipart": {"upload_id": self.upload, "part_size": self.part_size, "parts": parts, "complete": complete}}


@dataclass(frozen=True)
class Part:
    """A part that has arrived: its number, size in bytes, and ETag, which is the MD5 of its bytes in hex."""

    number: int
    size: int
    etag: str


class Staging(Protocol):
    """An object store. Objects are safe to share between threads.

    Whatever asks the object store raises StorageNotAvailable (it may go well later) or StorageRefused (it will not);
    what only signs asks nobody. Times that requests are valid are in seconds, sizes in bytes.
    """

    title: str
    form_limit: int  # the largest file that one request may carry; larger ones go in parts

    def incoming(self, user: str, task_id: str, file_name: str) -> Place:
        """Where a client puts a file for a system; raises InvalidParameter when that is no name of a file."""

    def outgoing(self, user: str, task_id: str, file_name: str) -> Place:
        """Where a system puts a file for a client; raises InvalidParameter when that is no name of a file."""

    def prepare(self, place: Place) -> None:
        """See to it that the place's bucket is there, that what is forgotten in it expires, and what arrives is announced.

        The latter two only if the object store can do that, and the settings want the last.
        """

    def heartbeat(self) -> None:
        """Put a file that belongs to no task: whether it is announced shows whether arrivals are."""

    def form(self, place: Place, source: str, *, seconds: int, size: int | None = None, most: int | None = None) -> Form:
        """How a client sends the file `source` of its own machine; larger than `form_limit` or `most`, or not of `size`, is refused.

        A form of kind "put" can hold a client to a size only if it is given.
        """

    def upload_url(self, place: Place, *, size: int, seconds: int, side: Side) -> str:
        """Where exactly `size` bytes can be PUT."""

    def download_url(self, place: Place, *, seconds: int, side: Side) -> str:
        """Where the file can be had by GET, until it is deleted."""

    def begin(self, place: Place) -> str:
        """Begin an upload in parts; its id."""

    def parts_to_send(self, place: Place, upload: str, *, size: int, seconds: int, side: Side) -> Multipart:
        """How a file of `size` bytes is sent in an upload that was begun; raises SizeLimit for what not even parts can hold."""

    def parts(self, place: Place, upload: str) -> tuple[Part, ...]:
        """The parts that have arrived, by number; raises NotStaged when there is no such upload (any more)."""

    def complete(self, place: Place, upload: str, *, size: int) -> Staged:
        """Make a file of the parts, or find that it has been made; raises NotStaged unless that gives a file of `size` bytes."""

    def abort(self, place: Place, upload: str) -> None:
        """Forget an upload with its parts, if it is still there."""

    def abort_all(self, place: Place) -> None:
        """Forget all uploads in parts to the place."""

    def found(self, place: Place) -> Staged | None:
        """The file, if it has arrived."""

    def arrived(self, bucket: str) -> Iterator[Staged]:
        """Every file that clients have put into a bucket, by listing what is there: costs nothing for uploads that are awaited."""

    def delete(self, place: Place) -> None:
        """Remove the file, if it is there; links to it answer 404 from then on."""

    def buckets(self) -> list[str]:
        """The buckets that there are."""

    def sweep(self, bucket: str, *, before: datetime, gone: Callable[[set[str]], set[str]]) -> int:
        """Remove files and unfinished uploads older than `before` (UTC) whose tasks are gone; how many.

        `gone` is told ids of tasks and answers which of them are gone.
        """

    def check(self) -> None:
        """Ask something cheap, to see whether the object store answers."""
