"""The minio SDK's client, with bounded patience, the calls for uploads in parts that it keeps to itself, and failures in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.datatypes import ListMultipartUploadsResult
from minio.datatypes import Part as SentPart
from minio.error import MinioException, S3Error
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from schemas.errors import StorageNotAvailable, StorageRefused
from schemas.settings import Storage
from workers.staging.staging import Part, Place

ABSENT = frozenset({"NoSuchBucket", "NoSuchKey", "NoSuchUpload"})
_BUSY = frozenset({"NoSuchBucket", "OperationAborted", "RequestTimeout", "SlowDown", "TooManyRequests"})
_KEYS = frozenset({"AccessDenied", "InvalidAccessKeyId", "RequestTimeTooSkewed", "SignatureDoesNotMatch"})
_NOT_AVAILABLE = "Staging Area is not available, try again later"
_NOT_LET_IN = "Staging Area auth error, try again later"

# Never the defaults of urllib3 and the SDK, which are minutes. Once more, for a connection that the server has closed meanwhile.
_CONNECT = 3
_RETRIES = Retry(total=1, redirect=False, status=False, backoff_factor=0.1)


@contextmanager
def asking() -> Iterator[None]:
    """An exchange with the object store; raises StorageNotAvailable or StorageRefused for what goes wrong in it."""
    try:
        yield
    except S3Error as error:
        if error.response.status >= 500 or error.code in _BUSY:
            raise StorageNotAvailable(_NOT_AVAILABLE) from error
        raise StorageRefused(_NOT_LET_IN if error.code in _KEYS else f"Staging Area refuses this ({error.code})") from error
    except (MinioException, HTTPError, ParseError) as error:
        raise StorageNotAvailable(_NOT_AVAILABLE) from error


class Client(Minio):
    """The S3 API at the service's own endpoint. Raises what the SDK raises: to be used within `asking`."""

    def __init__(self, settings: Storage) -> None:
        url = urlsplit(settings.private_url)
        super().__init__(
            url.netloc,
            settings.access_key,
            settings.secret_key,
            secure=url.scheme == "https",
            region=settings.region,  # given, so that the SDK does not ask for it
            http_client=PoolManager(maxsize=32, timeout=Timeout(connect=_CONNECT, read=settings.patience), retries=_RETRIES),
        )

    def begin_upload(self, place: Place) -> str:
        """The id of a new upload in parts."""
        return self._create_multipart_upload(place.bucket, place.key, {})

    def sent_parts(self, place: Place, upload: str) -> tuple[Part, ...]:
        """The parts of an upload that have arrived, by number; there are no more than one answer lists."""
        page = self._list_parts(place.bucket, place.key, upload, max_parts=1000)
        return tuple(Part(part.part_number, part.size or 0, part.etag) for part in page.parts)

    def complete_upload(self, place: Place, upload: str, parts: tuple[Part, ...]) -> None:
        """Make an object of the parts."""
        self._complete_multipart_upload(place.bucket, place.key, upload, [SentPart(part.number, part.etag) for part in parts])

    def abort_upload(self, place: Place, upload: str) -> None:
        """Remove an upload with its parts."""
        self._abort_multipart_upload(place.bucket, place.key, upload)

    def unfinished_uploads(self, bucket: str, *, prefix: str = "", page_size: int = 1000) -> Iterator[tuple[Place, str, datetime]]:
        """All uploads in parts that are neither completed nor aborted, to keys with that prefix: place, id, and their begin (UTC)."""
        # not the SDK's own call: Swift answers with nothing to the empty delimiter that it sends, and radosgw does not
        # say that it has encoded keys, when asked to
        query: dict[str, Any] = {"uploads": "", "max-uploads": str(page_size), **({"prefix": prefix} if prefix else {})}
        while True:
            page = ListMultipartUploadsResult(self._execute("GET", bucket, query_params=dict(query)))
            for upload in page.uploads:
                yield Place(bucket, upload.object_name), str(upload.upload_id), upload.initiated_time or datetime.now(UTC)
            if not page.is_truncated:
                return
            query |= {"key-marker": page.uploads[-1].object_name, "upload-id-marker": page.uploads[-1].upload_id}

    def owned_buckets(self) -> list[str]:
        """The names of the account's buckets."""
        return [bucket.name for bucket in self.list_buckets()]
