"""Task records in Redis: the truth about every deferred operation."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, cast

from redis import Redis

from broker import scripts
from schemas.errors import ForeignTask, NotCancellable, StagedLimit, TooManyRequests, UnknownResource
from schemas.task import Status, Task

_OPEN = "tasks:open"
_PASSED = "passed"
_AWAITED = "awaited"
# One that a dying worker took must not keep the next from being sent; behind a backlog they pile up no faster than this.
_PASSAGE_SECONDS = 5
_UNCANCELLED = {"ended": "Task {} has ended already", "started": "Task {} has started and cannot be stopped"}
_MB = 1024 * 1024
# Tasks take their time, and whoever waits for one to end asks for it besides.
_TASKS_SECONDS = "5"
_SHOWN = ("user", "service", "system", "status", "data", "created", "updated")


class Fate(StrEnum):
    """What a sweep finds of a task that is due."""

    GONE = "gone"
    HELD = "held"
    RESTED = "rested"
    UNCONFIRMED = "unconfirmed"
    WAITING = "waiting"
    LOST = "lost"
    ABANDONED = "abandoned"


class Attempt(NamedTuple):
    """One try at a task by one worker."""

    task_id: str
    number: int
    holder: str


class Standing(NamedTuple):
    """How far a task that is done in steps has come: its status, what the last step left, and whether only cleaning is left."""

    status: Status
    state: dict[str, Any]
    cleaning: bool


class Allowance(NamedTuple):
    """How many tasks of the user may be open, how many bytes the new one stages (-1: it never does), how many all of them may."""

    tasks: int
    stages: int
    staged: int

    def check(self, outcome: str) -> None:
        """Raise TooManyRequests or StagedLimit if that is what has become of a creation."""
        if outcome == "tasks":
            raise TooManyRequests(f"Too many open tasks: at most {self.tasks} per user", says=_TASKS_SECONDS)
        if outcome == "staged":
            raise staged_limit(self.staged)


UNLIMITED = Allowance(sys.maxsize, -1, 0)


def staged_limit(most: int) -> StagedLimit:
    """The failure of what would stage more than so many bytes for one user."""
    return StagedLimit(f"Files in the Staging Area would be over {most // _MB} MB, the limit of a user")


class Tasks:
    """Creates, finds and advances task records.

    `lifetime` is how long, in seconds, a record is kept after its last change; `patience` how long one that nobody
    has taken is left alone.
    """

    def __init__(self, redis: Redis, *, lifetime: int, patience: float = 4) -> None:
        self._redis = redis
        self._lifetime = lifetime
        self._patience = patience
        script = redis.register_script
        self._create, self._confirm, self._discard = script(scripts.CREATE), script(scripts.CONFIRM), script(scripts.DISCARD)
        self._accept, self._renew, self._advance = script(scripts.ACCEPT), script(scripts.RENEW), script(scripts.ADVANCE)
        self._failing, self._reclaim, self._pass = script(scripts.FAILING), script(scripts.RECLAIM), script(scripts.PASSED)
        self._cancel, self._rest, self._wake = script(scripts.CANCEL), script(scripts.REST), script(scripts.WAKE)
        self._leave, self._put_off = script(scripts.LEAVE), script(scripts.PUT_OFF)
        self._stage, self._stageable = script(scripts.STAGE), script(scripts.STAGEABLE)

    def create(
        self,
        task_id: str,
        *,
        user: str,
        service: str,
        system: str | None,
        message: dict[str, Any],
        stoppable: bool = True,
        steps: bool = False,
        lifetime: int | None = None,
        allowance: Allowance = UNLIMITED,
    ) -> Task:
        """A new record, to be confirmed once its message is sent; `message` is kept to send it again.

        A `stoppable` task may be cancelled after a worker has begun it. One that is done in `steps` may rest between them,
        and is cleaned after when it is cancelled or given up. Raises TooManyRequests or StagedLimit when it is beyond the allowance.
        """
        lifetime = lifetime or self._lifetime
        first: dict[str, str | int] = {
            "user": user,
            "service": service,
            "system": system or "",
            "status": Status.QUEUED.value,
            "data": json.dumps(Status.QUEUED.description),
            "message": json.dumps(message),
            "stoppable": int(stoppable),
            "steps": int(steps),
            "lifetime": lifetime,
        }
        fields: list[str | int] = [word for pair in first.items() for word in pair]
        keys = [_record(task_id), _index(user), _OPEN, _held(user)]
        created = self._create(keys, [task_id, lifetime, self._patience, *allowance, *fields])
        allowance.check(_word(created))
        return _task(task_id, [*list(first.values())[:5], created, created])

    def confirm(self, task_id: str) -> bool:
        """State that the message of the task has been sent; False when the record is gone by now."""
        return bool(self._confirm([_record(task_id)]))

    def discard(self, task_id: str, user: str) -> bool:
        """Forget a task whose message could not be sent; False when it was, and somebody has taken it."""
        return bool(self._discard([_record(task_id), _index(user), _OPEN], [task_id, Status.QUEUED.value]))

    def failing(self, task_id: str, text: str) -> None:
        """Note why a task could not be done so far, for when it is given up."""
        self._failing([_record(task_id)], [json.dumps(text)])

    def cancel(self, task_id: str) -> None:
        """End the task on request. Raises NotCancellable when it is over or cannot be stopped, UnknownResource when it is not there."""
        lifetime = _word(self._redis.hget(_record(task_id), "lifetime")) or self._lifetime
        arguments: list[Any] = [task_id, Status.ERROR.value, json.dumps("Deleted on request"), lifetime]
        outcome = _word(self._cancel([_record(task_id), _OPEN], arguments))
        if outcome == "gone":
            raise _unknown(task_id)
        if outcome in _UNCANCELLED:
            raise NotCancellable(_UNCANCELLED[outcome].format(task_id))

    def find(self, task_id: str, user: str) -> Task:
        """The task; raises UnknownResource, or ForeignTask when it is another user's."""
        values = cast(list[Any], self._redis.hmget(_record(task_id), _SHOWN))
        if values[0] is None:
            raise _unknown(task_id)
        task = _task(task_id, values)
        if task.user != user:
            raise ForeignTask(description="Operation not permitted. Invalid task owner.")
        return task

    def of(
        self,
        user: str,
        ids: Iterable[str] | None = None,
        *,
        since: float = 0,
        keep: Callable[[Task], bool] | None = None,
        page: slice = slice(None),
    ) -> list[Task]:
        """The user's tasks, newest first: a page of those created at `since` (Unix seconds) or later that `keep` lets through.

        With `ids`, only those of them that are there and are the user's. Without `ids` and `keep` nothing is read but the page.
        """
        if ids is None and keep is None:
            return self._newest(user, since, page)
        found = self._newest(user, since, slice(None)) if ids is None else self._named(user, since, ids)
        return [task for task in found if keep is None or keep(task)][page]

    def accept(self, attempt: Attempt, *, lease: float) -> bool:
        """Take the task for `lease` seconds; False when it is final, somebody else's, or due to another attempt."""
        data = json.dumps(Status.PROGRESS.description)
        words: list[Any] = [*_words(attempt), lease, Status.PROGRESS.value, data]
        return bool(self._accept([_record(attempt.task_id), _OPEN], words))

    def renew(self, attempt: Attempt, *, lease: float) -> bool:
        """Keep the task for another `lease` seconds; False when it is no longer this attempt's."""
        return bool(self._renew([_record(attempt.task_id), _OPEN], [*_words(attempt), lease]))

    def advance(self, attempt: Attempt, status: Status, data: Any = None, *, state: dict[str, Any] | None = None) -> bool:
        """Take the task a step on; False, and nothing is written, when the step is not this attempt's to make."""
        text = json.dumps(status.description if data is None else data)
        kept = "" if state is None else json.dumps(state)
        return bool(self._advance([_record(attempt.task_id), _OPEN], [*_words(attempt), status.value, text, kept]))

    def rest(self, attempt: Attempt, status: Status, data: Any, *, state: dict[str, Any], seconds: float, topic: str = "") -> bool:
        """End a step; the next is due in so many seconds, or when the task is woken from waiting for the topic. False as for `advance`."""
        words: list[Any] = [*_words(attempt), status.value, json.dumps(data), json.dumps(state), seconds, topic]
        return bool(self._rest([_record(attempt.task_id), _OPEN], words))

    def leave(self, attempt: Attempt) -> bool:
        """State that nothing of a step goes on, if its task was cancelled meanwhile: it is cleaned after now. False if it was not."""
        return bool(self._leave([_record(attempt.task_id), _OPEN], [attempt.task_id, attempt.holder]))

    def put_off(self, attempt: Attempt) -> bool:
        """Have the task tried again a little later, this attempt not having begun; False when it is not this attempt's turn anyway."""
        return bool(self._put_off([_record(attempt.task_id), _OPEN], [attempt.task_id, attempt.number]))

    def stage(self, task_id: str, user: str, size: int, *, most: int) -> None:
        """State how many bytes a transfer stages. Raises StagedLimit when all of the user's would then be over `most`."""
        if not self._stage([_held(user)], [task_id, size, most]):
            raise staged_limit(most)

    def stageable(self, task_id: str, user: str, *, most: int) -> int:
        """How many bytes a transfer may stage, where all of the user's may be `most`."""
        return int(self._stageable([_held(user)], [task_id, most]))

    def unstaged(self, task_id: str, user: str) -> None:
        """State that what a task has staged is there no more."""
        self._redis.hdel(_held(user), task_id)

    def standing(self, task_id: str) -> Standing:
        """How far a task has come. Raises UnknownResource."""
        status, state, cleaning = cast(list[Any], self._redis.hmget(_record(task_id), ["status", "state", "cleaning"]))
        if status is None:
            raise _unknown(task_id)
        return Standing(Status(_word(status)), json.loads(state or "{}"), _word(cleaning) == "1")

    def awaited(self) -> list[str]:
        """The topics that tasks wait for."""
        return sorted(_word(topic) for topic in cast(set[bytes], self._redis.smembers(_AWAITED)))

    def waiting(self, topic: str, ids: list[str]) -> list[str]:
        """Those of the tasks that wait for the topic."""
        if not ids:
            return []
        found = cast(list[int], self._redis.smismember(f"{_AWAITED}:{topic}", ids))
        return [task_id for task_id, waits in zip(ids, found, strict=True) if waits]

    def wake(self, task_id: str) -> bool:
        """Make a task due that waits for a topic; False when it does not wait any more."""
        return bool(self._wake([_record(task_id), _OPEN], [task_id]))

    def gone(self, ids: set[str]) -> set[str]:
        """Those of the tasks that have no record any more, or need nothing that is staged for them."""
        asked = sorted(ids)
        with self._redis.pipeline(transaction=False) as pipeline:
            for task_id in asked:
                pipeline.hget(_record(task_id), "status")
            statuses = [_word(status) for status in pipeline.execute()]
        return {
            task_id
            for task_id, status in zip(asked, statuses, strict=True)
            if not status or (Status(status).final and status != Status.STAGED_OUT)
        }

    def due(self, most: int = 1000) -> list[str]:
        """Ids of open tasks that must be looked at now."""
        seconds, micros = self._redis.time()
        ids = cast(list[bytes], self._redis.zrangebyscore(_OPEN, "-inf", seconds + micros / 1e6, start=0, num=most))
        return [i.decode() for i in ids]

    def reclaim(self, task_id: str, *, attempts: int) -> Fate:
        """Decide what has become of a due task; a lost one now awaits its next attempt, up to `attempts`."""
        failed = json.dumps(f"The task was tried {attempts} times and has been given up")
        arguments: list[Any] = [task_id, attempts, self._patience, Status.ERROR.value, failed, _index("")]
        return Fate(_word(self._reclaim([_record(task_id), _OPEN, _PASSED], arguments)))

    def message(self, task_id: str) -> tuple[dict[str, Any], int] | None:
        """The message of an open task and the number of its current attempt."""
        message, attempt = cast(list[Any], self._redis.hmget(_record(task_id), ["message", "attempt"]))
        return (json.loads(message), int(attempt)) if message else None

    def service(self, task_id: str) -> str:
        """The service, which is the queue, of a task."""
        return _word(self._redis.hget(_record(task_id), "service"))

    def ask(self, queue: str) -> str | None:
        """Redis' clock, to be sent through the queue and given to `passed`; None while one is under way, for five seconds at most."""
        if not self._redis.set(_asked(queue), 1, nx=True, ex=_PASSAGE_SECONDS):
            return None
        seconds, micros = self._redis.time()
        return f"{seconds}.{micros:06d}"

    def passed(self, queue: str, sent: str) -> None:
        """State that a message sent then has come out of the queue: what was sent before is not in it any more."""
        self._pass([_PASSED], [queue, sent])
        self._redis.delete(_asked(queue))

    def passages(self) -> dict[str, float]:
        """For each queue, when the newest message that has come out of it was sent (Unix seconds)."""
        return {_word(queue): float(sent) for queue, sent in cast(dict[bytes, bytes], self._redis.hgetall(_PASSED)).items()}

    def _named(self, user: str, since: float, ids: Iterable[str]) -> list[Task]:
        found = [task for task in self._read(list(dict.fromkeys(ids))) if task.user == user and task.created_at.timestamp() >= since]
        return sorted(found, key=lambda task: task.created_at, reverse=True)

    def _newest(self, user: str, since: float, page: slice) -> list[Task]:
        while True:
            ids = self._indexed(user, since, page)
            found = list(self._read(ids))
            expired = set(ids) - {task.task_id for task in found}
            if not expired:
                return found
            self._redis.zrem(_index(user), *expired)

    def _indexed(self, user: str, since: float, page: slice) -> list[str]:
        start = page.start or 0
        count = -1 if page.stop is None else page.stop - start
        return [_word(one) for one in cast(list[bytes], self._redis.zrevrangebyscore(_index(user), "+inf", since, start, count))]

    def _read(self, ids: list[str]) -> Iterator[Task]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for task_id in ids:
                pipeline.hmget(_record(task_id), _SHOWN)
            for task_id, values in zip(ids, pipeline.execute(), strict=True):
                if values[0] is not None:
                    yield _task(task_id, values)


def _unknown(task_id: str) -> UnknownResource:
    return UnknownResource(f"Task {task_id} does not exist")


def _record(task_id: str) -> str:
    return f"task:{task_id}"


def _index(user: str) -> str:
    return f"tasks:of:{user}"


def _held(user: str) -> str:
    return f"limits:tasks:{user}"


def _asked(queue: str) -> str:
    return f"asked:{queue}"


def _words(attempt: Attempt) -> tuple[str, int, str]:
    return attempt.task_id, attempt.number, attempt.holder


def _word(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _task(task_id: str, values: list[Any]) -> Task:
    user, service, system, status, data, created, updated = (_word(value) for value in values)
    return Task(
        task_id=task_id,
        user=user,
        service=service,
        system=system or None,
        status=Status(status),
        data=json.loads(data),
        created_at=datetime.fromtimestamp(float(created), UTC),
        updated_at=datetime.fromtimestamp(float(updated), UTC),
    )
