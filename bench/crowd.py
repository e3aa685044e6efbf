"""What the tasks that are kept cost a caller who asks for their own."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from redis import Redis

from bench.api import Api
from bench.contest import Way, contest
from bench.plots import Plot
from bench.series import CallFailedError, Series
from bench.stage import Stage
from bench.tables import Part, digits, failures, ms, ratio, table
from broker.tasks import Tasks

KEPT = (10, 100, 10_000, 1_000_000)
_USERS = 100
_NEWEST = 50
_BATCH = 2_000
_SECONDS = 7200
_MESSAGE = {"operation": "compute.Jobs", "parameters": {}, "shown": "{}", "grant": "x" * 1000}
_FIND, _LIST = "one task by its id", f"a user's newest {_NEWEST}"
# Copies of an ended task: as many as there are ids, the first created at ARGV[2] (Unix seconds), each a microsecond after the one before.
_COPY = """
for at = 3, #ARGV do
  local created = string.format('%.6f', tonumber(ARGV[2]) + (at - 3) / 1000000)
  redis.call('COPY', KEYS[1], 'task:' .. ARGV[at], 'REPLACE')
  redis.call('HSET', 'task:' .. ARGV[at], 'created', created, 'updated', created)
  redis.call('ZADD', KEYS[2], created, ARGV[at])
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
"""
# asks Redis, too, but for no task
_OTHER = "GET /status/systems"
_HEADER = ("tasks kept", "", "p50 ms", "p95 ms", f"p50 / `{_OTHER}`", "p50 / least kept", "p95 / least kept", "n", "errors")
Found = dict[str, Series]


def crowd(stage: Stage, *, kept: tuple[int, ...], rounds: int, calls: int) -> Part:
    """The times of asking for tasks while so many are kept: half of them the caller's own, half of a hundred others."""
    found: dict[str, Found] = {}
    memory = []
    for name, count in {**{f"{count:,}": count for count in kept}, **{f"{count:,} again (A/A)": count for count in kept[:2]}}.items():
        with _kept(stage, count) as own:
            memory.append((name, *_memory(stage.redis, own[0])))
            found[name] = _asked(stage, own, rounds=rounds, calls=calls)
    rows = [_row(name, way, found) for way in (_FIND, _LIST) for name in found if way in found[name]]
    sizes = table(("tasks kept", "Redis, MB", "bytes of one record"), memory)
    counts = {way: [count for count in kept if way in found[f"{count:,}"]] for way in (_FIND, _LIST)}
    lines = {way: [(count, 1000 * found[f"{count:,}"][way].p50) for count in some] for way, some in counts.items()}
    plot = Plot("tasks", "GET /tasks while so many tasks are kept", "tasks kept", "p50, ms", lines)
    return Part(
        "tasks", f"{table(_HEADER, rows)}\n\n{sizes}", failures(*(one for ways in found.values() for one in ways.values())), (plot,)
    )


def _row(kept: str, way: str, found: dict[str, Found]) -> tuple[str, ...]:
    """A row of _HEADER. What is beside the least kept is how much longer than _OTHER it takes, as the machine's pace drifts meanwhile."""
    series, other = found[kept][way], found[kept][_OTHER]
    least, least_other = _least(found, way)
    p50, p95 = series.p50 / other.p50, series.p95 / other.p95
    beside = (digits(p50), ratio(p50, least.p50 / least_other.p50), ratio(p95, least.p95 / least_other.p95))
    return kept, way, ms(series.p50), ms(series.p95), *beside, str(len(series.seconds)), str(len(series.failures))


def _least(found: dict[str, Found], way: str) -> tuple[Series, Series]:
    """The times with the least kept, before and after all others, and those of _OTHER in turn with them."""
    first = next(name for name, ways in found.items() if way in ways)
    both, others = Series(), Series()
    for name in (first, f"{first} again (A/A)"):
        both.join(found[name][way])
        others.join(found[name][_OTHER])
    return both, others


def _asked(stage: Stage, own: list[str], *, rounds: int, calls: int) -> Found:
    """The times of finding one, of listing the newest where there are that many, and of _OTHER."""
    api = Api(stage.address())
    newest = own[::-1][:_NEWEST]
    ways: dict[str, Way] = {_FIND: lambda: _expect(api, own[:1], tasks=own[0]), _OTHER: lambda: api.get("/status/systems")}
    if len(newest) == _NEWEST:
        ways[_LIST] = lambda: _expect(api, newest, pageSize=str(_NEWEST))
    found = contest(ways, rounds=rounds, calls=calls, warm_up=30)
    api.close()
    return found


def _expect(api: Api, newest_first: list[str], **query: str) -> None:
    shown = list(api.get("/tasks", **query)["tasks"])
    if shown != newest_first:
        raise CallFailedError(f"GET /tasks {query} showed {len(shown)} tasks that are not those asked for")


@contextmanager
def _kept(stage: Stage, count: int) -> Iterator[list[str]]:
    """The ids, oldest first, of the caller's tasks, half of so many; all of them are removed at the end.

    One is made and ended by the gateway's own code, the others are Redis' copies of it.
    """
    redis = stage.redis
    others = [f"bench-{number}" for number in range(min(_USERS, count // 2))]
    shares = {stage.user: [uuid4().hex for _ in range(count // 2)]}
    shares |= {user: [uuid4().hex for _ in range(count // 2 // len(others))] for user in others}
    before = redis.config_get("auto-aof-rewrite-percentage")
    try:
        redis.config_set("auto-aof-rewrite-percentage", 0)  # its file would be written anew meanwhile, by a process on one of the cores
        for user, ids in shares.items():
            _fill(redis, user, ids)
        _settle(redis)
        yield shares[stage.user]
    finally:
        for user, ids in shares.items():
            _remove(redis, user, ids)
        redis.config_set("auto-aof-rewrite-percentage", before["auto-aof-rewrite-percentage"])
        _settle(redis)


def _fill(redis: Redis, user: str, ids: list[str]) -> None:
    model = uuid4().hex
    tasks = Tasks(redis, lifetime=_SECONDS, patience=_SECONDS)
    tasks.create(model, user=user, service="compute", system="cluster", message=_MESSAGE)
    tasks.cancel(model)
    copy = redis.register_script(_COPY)
    for at in range(0, len(ids), _BATCH):
        copy([f"task:{model}", f"tasks:of:{user}"], [_SECONDS, f"{time.time():.6f}", *ids[at : at + _BATCH]])
    _remove(redis, user, [model])


def _remove(redis: Redis, user: str, ids: list[str]) -> None:
    for at in range(0, len(ids), _BATCH):
        batch = ids[at : at + _BATCH]
        redis.unlink(*(f"task:{task_id}" for task_id in batch))
        redis.zrem(f"tasks:of:{user}", *batch)
        redis.hdel(f"limits:tasks:{user}", *batch)


def _memory(redis: Redis, task_id: str) -> tuple[str, str]:
    return digits(redis.info("memory")["used_memory"] / 2**20), str(redis.memory_usage(f"task:{task_id}", samples=0))


def _settle(redis: Redis) -> None:
    """Wait until what was done is over: Redis has written its file, anew if it does, has freed what was removed, and all is on the disk."""
    time.sleep(2)
    while any(redis.info()[state] for state in ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "lazyfree_pending_objects")):
        time.sleep(0.5)
    os.sync()
    time.sleep(2)
