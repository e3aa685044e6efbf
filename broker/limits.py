"""What each user may call: a rate and a number of calls at once, kept in Redis, so that they hold over all API processes.

`limits:rate:<user>` is a token bucket, `limits:calls:<user>` holds the calls under way by the time until which they count.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from redis import Redis

from schemas.settings import Limits

# One round trip, by Redis' own clock. What is refused costs nothing of either limit.
_ENTER = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local rate, burst, most, call, seconds = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local left, verdict, wait = burst, 'in', 0.02
if rate > 0 then
  local known = redis.call('HMGET', KEYS[1], 'left', 'at')
  if known[1] then left = math.min(burst, known[1] + math.max(0, now - known[2]) * rate) end
  if left < 1 then verdict, wait = 'rate', (1 - left) / rate end
end
if verdict == 'in' and most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= most then verdict = 'calls' end
end
if verdict == 'in' then
  left = left - 1
  if rate > 0 then
    redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left), 'at', string.format('%.6f', now))
    redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * burst / rate) + 1000)
  end
  if most > 0 then
    redis.call('ZADD', KEYS[2], string.format('%.6f', now + seconds), call)
    redis.call('PEXPIRE', KEYS[2], math.ceil(1000 * seconds) + 1000)
  end
end
local full = rate > 0 and (burst - left) / rate or 0
return {verdict, math.floor(left), math.ceil(full), math.ceil(1000 * wait)}
"""

# Only what still counts: a call that has just ended stays ended.
_RENEW = """
local t = redis.call('TIME')
local till = string.format('%.6f', tonumber(t[1]) + tonumber(t[2]) / 1000000 + ARGV[1])
for at = 1, #KEYS do
  redis.call('ZADD', KEYS[at], 'XX', till, ARGV[at + 1])
  redis.call('PEXPIRE', KEYS[at], math.ceil(1000 * ARGV[1]) + 1000)
end
return 1
"""


class Standing(NamedTuple):
    """How a call was met: `verdict` is `in`, `rate` (too many lately) or `calls` (too many at once).

    `remaining` calls could follow at once, `reset` seconds from now the whole burst could; `wait` seconds from now one may be let in.
    """

    verdict: str
    remaining: int
    reset: int
    wait: float


class Limiter:
    """Counts the calls of each user. A call counts for `seconds`, unless it is renewed or ends before."""

    def __init__(self, redis: Redis, limits: Limits, *, seconds: float = 15) -> None:
        self.seconds = seconds
        self._redis = redis
        self._limits = limits
        self._enter = redis.register_script(_ENTER)
        self._renew = redis.register_script(_RENEW)

    def enter(self, user: str, call: str) -> Standing:
        """How the call is met; it counts from now on if it is let in. Raises RedisError."""
        limits = self._limits
        words: list[Any] = [limits.calls_per_second, limits.calls_burst, limits.calls_at_once, call, self.seconds]
        verdict, remaining, reset, wait = cast(list[Any], self._enter([f"limits:rate:{user}", _calls(user)], words))
        return Standing(verdict.decode(), remaining, reset, wait / 1000)

    def leave(self, user: str, call: str) -> None:
        """State that a call is over. Raises RedisError."""
        self._redis.zrem(_calls(user), call)

    def renew(self, calls: Mapping[str, str]) -> None:
        """Have these calls, of the users given, count for another `seconds`. Raises RedisError."""
        if calls:
            self._renew([_calls(user) for user in calls.values()], [self.seconds, *calls])


def _calls(user: str) -> str:
    return f"limits:calls:{user}"
