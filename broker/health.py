"""What the service's own probes found, with its age."""

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import cast

from pydantic import BaseModel
from redis import Redis

_HEARD = "health:announcements"
_DOUBTS = "health:announcements:doubts"
_SETTLED = "health:announcements:settled"


class Probe(StrEnum):
    """What is looked at: the kind of probe, and the name of the Celery task that makes it."""

    SYSTEM = "beat.ProbeSystem"
    FILESYSTEMS = "beat.ProbeFilesystems"
    SCHEDULER = "beat.ProbeScheduler"
    STORAGE = "beat.ProbeStorage"


class Finding(BaseModel):
    """What a probe of a system, or of the object store, found: for all that it looked at, whether it is well. `at` is in Unix seconds."""

    at: float
    well: dict[str, bool]


class Health:
    """The last findings in Redis, by kind of probe and name of system, or kind of object store."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def record(self, probe: Probe, system: str, well: Mapping[str, bool]) -> None:
        """Keep what a probe has just found."""
        self._redis.hset(_key(probe), system, Finding(at=time.time(), well=dict(well)).model_dump_json())

    def lately(self, probe: Probe, *, seconds: float) -> dict[str, dict[str, bool]]:
        """By name of system, what was found no longer than `seconds` ago."""
        kept = cast(dict[bytes, bytes], self._redis.hgetall(_key(probe)))
        findings = {system.decode(): Finding.model_validate_json(found) for system, found in kept.items()}
        oldest = time.time() - seconds
        return {system: found.well for system, found in findings.items() if found.at > oldest}

    def hear(self, *, seconds: float) -> None:
        """Note that announcements of the object store come through; it holds for so long."""
        self._redis.set(_HEARD, 1, px=int(1000 * seconds))

    def deafen(self) -> None:
        """Note that they may not come through."""
        self._redis.delete(_HEARD)

    def hears(self) -> bool:
        """Whether announcements of the object store come through."""
        return bool(self._redis.exists(_HEARD))

    def doubt(self) -> None:
        """Note that an announcement may have been lost."""
        self._redis.incr(_DOUBTS)

    def doubts(self) -> int:
        """How often that was noted and is not settled: 0, or the number that settles it."""
        noted, settled = cast(list[bytes | None], self._redis.mget(_DOUBTS, _SETTLED))
        return int(noted) if noted and noted != settled else 0

    def settle(self, doubts: int) -> None:
        """Note that all has been looked for that may have been lost when there were so many doubts."""
        self._redis.set(_SETTLED, doubts)


def _key(probe: Probe) -> str:
    return f"health:{probe}"
