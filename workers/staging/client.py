"""The minio SDK's client, with bounded patience, the calls for uploads in parts that it keeps to itself, and failures in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ssl import TLSVersion
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from xml.etree.ElementTree import ParseError, fromstring

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
            http_client=PoolManager(
                maxsize=32,
                timeout=Timeout(connect=_CONNECT, read=settings.patience),
                retries=_RETRIES,
                cert_reqs="CERT_REQUIRED",
                ca_certs=str(settings.ca) if settings.ca else None,
                ssl_minimum_version=TLSVersion.TLSv1_2,
            ),
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
        """Uploads in parts, to keys that begin so, that are neither completed nor aborted: place, id, and when begun (UTC)."""
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

    # radosgw has topics, which are SNS's, at the S3 endpoint

    def create_topic(self, name: str, attributes: dict[str, str]) -> str:
        """Make a topic for notifications, or change the one of that name; its ARN."""
        form = {"Action": "CreateTopic", "Name": name}
        for number, (key, value) in enumerate(attributes.items(), start=1):
            form |= {f"Attributes.entry.{number}.key": key, f"Attributes.entry.{number}.value": value}
        return self._topics(form)[0]

    def topics(self) -> list[str]:
        """The ARNs of the account's topics."""
        return self._topics({"Action": "ListTopics"})

    def delete_topic(self, arn: str) -> None:
        """Remove a topic. As long as a bucket notifies it, nothing can be put there."""
        self._topics({"Action": "DeleteTopic", "TopicArn": arn})

    def remove_notification(self, bucket: str, name: str) -> None:
        """Remove one of a bucket's notifications: radosgw has this instead of a configuration without it."""
        self._execute("DELETE", bucket, query_params={"notification": name})

    def _topics(self, form: dict[str, str]) -> list[str]:
        kind: dict[str, Any] = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = fromstring(self._execute("POST", body=urlencode(form, quote_via=quote).encode(), headers=kind).data)  # noqa: S314 (as the SDK does)
        return [element.text or "" for element in answer.iter() if element.tag.endswith("TopicArn")]
