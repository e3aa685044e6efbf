"""What the tasks of other users cost a caller who asks for their own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from redis import Redis

from bench.api import Api
from bench.contest import Way, contest
from bench.series import CallFailedError, Series
from bench.stage import Stage
from bench.tables import Part, failures, ms, ratio, table
from broker.tasks import Tasks

OTHERS = 100_000
_USERS = 100
_OWN = 50
_MESSAGE = {"operation": "compute.Jobs", "parameters": {}, "shown": "{}", "grant": "x" * 1000}


def crowd(stage: Stage, *, rounds: int, calls: int) -> Part:
    """The times of asking for tasks before, while and after there are many of other users."""
    with _records(stage.redis, [stage.user] * _OWN) as own:
        before = _asked(stage, own, rounds=rounds, calls=calls)
        with _records(stage.redis, [f"bench-{number % _USERS}" for number in range(OTHERS)]):
            amid = _asked(stage, own, rounds=rounds, calls=calls)
        after = _asked(stage, own, rounds=rounds, calls=calls)
    rows = [_row(name, series, amid[name], after[name]) for name, series in before.items()]
    header = ("", "p50 ms without", f"p50 ms with {OTHERS:,}", "with / without", "p95 with / without", "without again (A/A)", "n", "errors")
    everything = [*before.values(), *amid.values(), *after.values()]
    return Part("tasks", table(header, rows), failures(*everything))


def _asked(stage: Stage, own: list[str], *, rounds: int, calls: int) -> dict[str, Series]:
    api = Api(stage.address())
    ways: dict[str, Way] = {
        "GET /tasks?tasks={id}": lambda: _expect(api, own[:1], tasks=own[0]),
        "GET /tasks?pageSize=25": lambda: _expect(api, own[:-26:-1], pageSize="25"),
        f"GET /tasks, {_OWN} of one's own": lambda: _expect(api, own[::-1]),
    }
    found = contest(ways, rounds=rounds, calls=calls, warm_up=30)
    api.close()
    return found


def _expect(api: Api, newest_first: list[str], **query: str) -> None:
    shown = list(api.get("/tasks", **query)["tasks"])
    if shown[: len(newest_first)] != newest_first:
        raise CallFailedError(f"GET /tasks {query} showed {len(shown)} tasks that are not those asked for")


def _row(name: str, before: Series, amid: Series, after: Series) -> tuple[str, ...]:
    failed = sum(len(series.failures) for series in (before, amid, after))
    ratios = (ratio(amid.p50, before.p50), ratio(amid.p95, before.p95), ratio(after.p50, before.p50))
    return name, ms(before.p50), ms(amid.p50), *ratios, str(len(amid.seconds)), str(failed)


@contextmanager
def _records(redis: Redis, users: list[str]) -> Iterator[list[str]]:
    """The ids of ended tasks, one of each of the users, which are removed at the end."""
    tasks, ids = Tasks(redis, lifetime=3600, patience=3600), [uuid4().hex for _ in users]
    try:
        for task_id, user in zip(ids, users, strict=True):
            tasks.create(task_id, user=user, service="compute", system="cluster", message=_MESSAGE)
            tasks.cancel(task_id)
        _settle(redis)
        yield ids
    finally:
        with redis.pipeline(transaction=False) as pipeline:
            for task_id, user in zip(ids, users, strict=True):
                pipeline.delete(f"task:{task_id}")
                pipeline.zrem(f"tasks:of:{user}", task_id)
                pipeline.zrem("tasks:open", task_id)
            pipeline.execute()
        _settle(redis)


def _settle(redis: Redis) -> None:
    """Wait until Redis has written what so many commands made it write: it does so in a process that takes one of the cores."""
    while any(redis.info("persistence")[f"aof_rewrite_{state}"] for state in ("in_progress", "scheduled")):
        time.sleep(0.5)
    time.sleep(2)
