"""What an object store announces of files that have come: S3's event records, as radosgw pushes them."""

import re
from typing import Final

from pydantic import AliasPath, BaseModel, Field

# The key of a file of no task: its announcement only shows that announcements come through.
HEARTBEAT: Final = "-heartbeat"
_INCOMING = re.compile(r"(?:[a-z0-9-]+/)?([0-9a-f]{32})/[^/]+", re.DOTALL)


class Arrival(BaseModel):
    """One file that has come, and the secret that shows who says so."""

    bucket: str = Field(validation_alias=AliasPath("s3", "bucket", "name"))
    key: str = Field(validation_alias=AliasPath("s3", "object", "key"))
    secret: str = Field(validation_alias="opaqueData", repr=False)

    @property
    def task_id(self) -> str:
        """The task that the file may belong to; empty where that cannot be."""
        found = _INCOMING.fullmatch(self.key)
        return found[1] if found else ""


class Announcement(BaseModel):
    """One message of the object store."""

    arrivals: tuple[Arrival, ...] = Field(validation_alias="Records", min_length=1)
