"""What the service's own probes last saw, with its age."""

import json
import time
from typing import cast

from pydantic import BaseModel
from redis import Redis

_KEY = "health:systems"


class Seen(BaseModel):
    """One probe's finding; `at` is in Unix seconds."""

    reachable: bool
    at: float


class Health:
    """Findings in Redis, by name of system."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def record(self, system: str, reachable: bool) -> None:  # noqa: FBT001 (a finding, not a mode)
        """Keep what a probe has just found."""
        self._redis.hset(_KEY, system, Seen(reachable=reachable, at=time.time()).model_dump_json())

    def of(self, system: str) -> Seen | None:
        """What the last probe found; None when there was none."""
        found = cast(bytes | None, self._redis.hget(_KEY, system))
        return None if found is None else Seen.model_validate(json.loads(found))
