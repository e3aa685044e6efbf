"""What the object store itself removes after a time, where it can."""

import logging
from dataclasses import replace

from minio.commonconfig import ENABLED, Filter
from minio.error import S3Error
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, Expiration, LifecycleConfig, Rule

from workers.staging.client import Client

_RULE = "firecrest"
_ALL = Filter(prefix="")
# Swift reads the rules, finds ours too new, and would not follow the older kind either
_UNKNOWN = frozenset({"MalformedXML", "MethodNotAllowed", "NotImplemented"})

log = logging.getLogger(__name__)


def expire(client: Client, bucket: str, *, days: int) -> None:
    """Have files and unfinished uploads of a bucket removed after so many days; the bucket's other rules stay.

    An object store that knows no such rules is left to the sweep. To be called within `asking`.
    """
    ours = Rule(
        ENABLED,
        rule_id=_RULE,
        rule_filter=_ALL,
        expiration=Expiration(days=days),
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=days),
    )
    rules = _rules(client, bucket)
    if ours in rules:
        return
    try:
        client.set_bucket_lifecycle(bucket, LifecycleConfig([*(rule for rule in rules if rule.rule_id != _RULE), ours]))
    except S3Error as error:
        if error.code in _UNKNOWN:
            log.info("the object store knows no expiry: what is forgotten in %s is swept", bucket)
        # radosgw fails those who say the same at the same time, all but one
        elif ours not in _rules(client, bucket):
            raise


def _rules(client: Client, bucket: str) -> list[Rule]:
    """The bucket's rules; radosgw leaves out the filter that fits everything."""
    found = client.get_bucket_lifecycle(bucket)
    return [replace(rule, rule_filter=rule.rule_filter or _ALL) for rule in found.rules] if found else []
