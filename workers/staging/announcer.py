"""Having the object store announce what arrives, where it can: a topic that pushes to the API, and a notification for each bucket."""

import hashlib
import logging
import threading

from minio.error import S3Error
from minio.notificationconfig import NotificationConfig, TopicConfig

from schemas.settings import Storage
from workers.staging.client import Client

_OURS = "firecrest-"
_UNKNOWN = frozenset({"MethodNotAllowed", "NotImplemented"})

log = logging.getLogger(__name__)


class Announcer:
    """The topic of this deployment. A change of URL or secret makes another one, as a bucket keeps a copy of what its topic was."""

    def __init__(self, client: Client, settings: Storage) -> None:
        self._client = client
        self._url = settings.notifications_url
        self._secret = settings.notifications_secret
        self._name = _OURS + hashlib.sha256(f"{self._url}\n{self._secret}".encode()).hexdigest()[:16]
        self._topic = ""
        self._told = False
        self._one_at_a_time = threading.Lock()

    def announce(self, bucket: str) -> None:
        """Have the arrivals of a bucket announced. An object store that does not do that is polled.

        To be called within `asking`.
        """
        if not self._url:
            return
        try:
            self._notify(bucket, TopicConfig(topic=self._found_topic(), events=["s3:ObjectCreated:*"], config_id=self._name))
        except S3Error as error:
            if error.response.status >= 500 and error.code not in _UNKNOWN:
                raise
            if not self._told:
                log.warning("the object store does not announce what arrives (%s): it is polled", error.code)
            self._told = True

    def _found_topic(self) -> str:
        with self._one_at_a_time:
            self._topic = self._topic or self._made_topic()
        return self._topic

    def _made_topic(self) -> str:
        # not persistent: once the API was away the queue of radosgw 16.2 stands still for good, and when it is full, uploads fail
        attributes = {"push-endpoint": self._url, "OpaqueData": self._secret, "persistent": "false"}
        try:
            return self._client.create_topic(self._name, attributes)
        except S3Error:
            # radosgw fails those who say the same at the same time, all but one
            for topic in self._client.topics():
                if topic.endswith(f":{self._name}"):
                    return topic
            raise

    def _notify(self, bucket: str, ours: TopicConfig) -> None:
        found = self._client.get_bucket_notification(bucket).topic_config_list or []
        if ours not in found:
            try:
                self._client.set_bucket_notification(bucket, NotificationConfig(topic_config_list=[ours]))  # radosgw adds it
            except S3Error:
                if ours not in (self._client.get_bucket_notification(bucket).topic_config_list or []):
                    raise
        for other in found:
            if other != ours and (other.config_id or "").startswith(_OURS):
                self._client.remove_notification(bucket, str(other.config_id))
