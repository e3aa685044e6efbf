"""What uploads cost that are awaited, and how soon the system begins to fetch one that has come."""

import http.client
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import requests

from bench.changed import changed
from bench.processes import Programs, Usage
from bench.series import CallFailedError, Series
from bench.stage import CLIENT, Stage
from bench.tables import Part, digits, failures, ms, table
from broker.tasks import Attempt, Tasks
from schemas.settings import Storage
from schemas.task import Status
from tests.real_site import Client, eventually
from workers.staging import STAGINGS
from workers.staging.client import Client as Store

OPEN = 10_000
_USERS = 100
_PROGRAMS = ("housekeeping", "beat", "api", "redis", "radosgw", "ceph-osd", "ceph-mon")
_GATEWAY = ("api", "worker-1", "worker-2", "housekeeping")
_MESSAGE = {"operation": "storage.StageIn", "parameters": {}, "shown": "{}", "grant": "x" * 2000}
_FORM = {"msg": {"command": "x" * 1500, "parameters": "x" * 1500}}
_WAYS = {
    "announced, a bucket a user": {},
    "polled, one bucket": {"notifications_url": "", "layout": "shared"},
}
_POLL_SECONDS = 0.01


def open_uploads(stage: Stage, *, seconds: float) -> Part:
    """Shares of a core that are used in so many seconds without open uploads, with them, and without them again."""
    rows = []
    for name, values in _WAYS.items():
        with changed(stage.site, "storage", values, restarted=_GATEWAY):
            storage = Storage.model_validate({**stage.settings.model_dump()["storage"], **values})
            rows += _rows(name, *_shares(stage, storage, seconds=seconds))
    header = ("% of a core", "without", f"with {OPEN:,}", "difference", "after - before (A/A)")
    return Part("uploads", table(header, rows))


def _shares(stage: Stage, storage: Storage, *, seconds: float) -> tuple[dict[str, float], ...]:
    _heard(stage, storage)
    before = _share(stage, seconds)
    with _awaited(stage, storage):
        _heard(stage, storage)
        amid = _share(stage, seconds)
    return before, amid, _share(stage, seconds)


def _heard(stage: Stage, storage: Storage) -> None:
    """Wait until it is polled or announced as it is to be."""
    if storage.notifications_url:
        eventually(lambda: stage.redis.exists("health:announcements"), seconds=120)


def _share(stage: Stage, seconds: float) -> dict[str, float]:
    programs = Programs(stage.site, _PROGRAMS)
    before = programs.usage()
    begun = time.monotonic()
    time.sleep(seconds)
    after, passed = programs.usage(), time.monotonic() - begun
    return {name: _percent(before[name], after[name], passed) for name in before}


def _percent(before: Usage, after: Usage, seconds: float) -> float:
    return 100 * (after.cpu - before.cpu) / seconds


def _rows(way: str, before: dict[str, float], amid: dict[str, float], after: dict[str, float]) -> list[tuple[str, ...]]:
    everything = [(f"**{way}**", sum(before.values()), sum(amid.values()), sum(after.values()))]
    shares = everything + [(f"{way}: {name}", before[name], amid[name], after[name]) for name in before]
    return [
        (name, digits((first + last) / 2), digits(with_them), digits(with_them - (first + last) / 2), digits(last - first))
        for name, first, with_them, last in shares
    ]


@contextmanager
def _awaited(stage: Stage, storage: Storage) -> Iterator[None]:
    """So many tasks that wait for files of many users; they and their buckets are removed at the end."""
    tasks, staging = Tasks(stage.redis, lifetime=stage.settings.limits.task_seconds), STAGINGS[storage.technology](storage)
    ids = {uuid4().hex: f"bench{number % _USERS}" for number in range(OPEN)}
    buckets = {user: staging.incoming(user, uuid4().hex, "x").bucket for user in set(ids.values())}
    try:
        for user in buckets:
            staging.prepare(staging.incoming(user, uuid4().hex, "x"))
        for task_id, user in ids.items():
            _await(tasks, task_id, user, buckets[user])
        yield
    finally:
        _remove(stage, ids, buckets)
        store = Store(storage)
        for bucket in set(buckets.values()) - {storage.bucket}:
            store.remove_bucket(bucket)


def _await(tasks: Tasks, task_id: str, user: str, bucket: str) -> None:
    mine = Attempt(task_id, 1, "bench")
    tasks.create(task_id, user=user, service="storage", system="cluster", message=_MESSAGE, steps=True)
    tasks.accept(mine, lease=60)
    tasks.rest(mine, Status.FORM_READY, _FORM, state=_FORM, seconds=600_000, topic=bucket)


def _remove(stage: Stage, ids: dict[str, str], buckets: dict[str, str]) -> None:
    with stage.redis.pipeline(transaction=False) as pipeline:
        for task_id, user in ids.items():
            pipeline.delete(f"task:{task_id}", f"tasks:of:{user}", f"awaited:{buckets[user]}")
            pipeline.zrem("tasks:open", task_id)
        pipeline.srem("awaited", *buckets.values())
        pipeline.execute()


def reaction(stage: Stage, *, uploads: int) -> Part:
    """The times from the last byte of a client's file until the task says that the system fetches it."""
    found: dict[str, Series] = {}
    for name, values in {"announced": {}, "polled": {"notifications_url": ""}}.items():
        with changed(stage.site, "storage", values, restarted=_GATEWAY), _folder(stage) as folder:
            if not values:
                eventually(lambda: stage.redis.exists("health:announcements"), seconds=120)
            found[name] = _reactions(Client(stage.site, CLIENT), folder, uploads)
    rows = [(name, ms(series.p50), ms(series.p95), str(len(series.seconds)), str(len(series.failures))) for name, series in found.items()]
    return Part("reaction", table(("", "p50 ms", "p95 ms", "n", "errors"), rows), failures(*found.values()))


@contextmanager
def _folder(stage: Stage) -> Iterator[str]:
    path = f"/home/{stage.user}/bench-uploads"
    stage.master.run("mkdir", "-p", path)
    try:
        yield path
    finally:
        stage.master.run("rm", "-rf", path)


def _reactions(client: Client, folder: str, count: int) -> Series:
    series = Series()
    with tempfile.NamedTemporaryFile() as source:
        source.write(b"x" * 1024)
        source.flush()
        for number in range(count + 2):
            try:
                seconds = _reaction(client, source.name, f"{folder}/{number}")
            except CallFailedError as failed:
                series.failures.append(str(failed))
            else:
                series.seconds += [seconds] if number >= 2 else []  # the first ones warm up
    return series


def _reaction(client: Client, source: str, target: str) -> float:
    task_id = client.post("/storage/xfer-external/upload", data={"sourcePath": source, "targetPath": target}).json()["task_id"]
    form = _task(client, task_id, "111")["data"]["msg"]["parameters"]
    last_byte = _send(form, source)
    _task(client, task_id, "113", "114")
    seconds = time.perf_counter() - last_byte
    _task(client, task_id, "114")
    return seconds


def _send(form: dict, source: str) -> float:
    """When the last byte of the file was sent. Raises CallFailedError."""
    with open(source, "rb") as file:  # noqa: PTH123
        sent = requests.Request(form["method"], form["url"], data=form["data"], files={"file": file}).prepare()
    url = urlsplit(str(sent.url))
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    connection.request(str(sent.method), f"{url.path}?{url.query}", body=sent.body, headers=dict(sent.headers))
    last_byte = time.perf_counter()
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status >= 300:
        raise CallFailedError(f"{form['method']}: {answer.status} {said[:200]!r}")
    return last_byte


def _task(client: Client, task_id: str, *statuses: str) -> dict:
    """The task, asked for every 10 ms until it has one of the statuses. Raises CallFailedError when it fails."""
    while True:
        task: dict = client.get(f"/tasks/{task_id}").json()["task"]
        if task["status"] in statuses:
            return task
        if task["status"] in {"115", "400"}:
            raise CallFailedError(f"task {task_id}: {task['status']} {task['data']}")
        time.sleep(_POLL_SECONDS)
