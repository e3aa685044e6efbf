"""The kinds of object stores, by the technology that settings name."""

from collections.abc import Callable
from types import MappingProxyType

from schemas.settings import Storage
from workers.staging.s3 import S3Staging
from workers.staging.staging import Staging

STAGINGS: MappingProxyType[str, Callable[[Storage], Staging]] = MappingProxyType({"s3v4": S3Staging})
