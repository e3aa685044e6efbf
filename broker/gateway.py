"""How a request reaches the workers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.utils.nodenames import anon_nodename
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from broker.blobs import Blobs
from broker.celery import queue_of
from broker.grants import GrantSigner
from broker.replies import Output, Replies
from broker.tasks import Allowance, Tasks
from schemas.errors import ServiceUnavailable, SizeLimit, StorageRefused
from schemas.fields import Upload
from schemas.operation import Course, Operation, operation_named
from schemas.rights import Right
from schemas.settings import AFTER_LINK, Limits, Storage
from schemas.task import Task

_UNREACHABLE = (RedisError, OperationalError, ConnectionError)
_MB = 1024 * 1024
_ORIGIN = anon_nodename()


@dataclass(frozen=True)
class Caller:
    """Who makes a call: a user, the token that proves it, and what it allows; `request` is the id of the HTTP request."""

    user: str
    token: str
    rights: frozenset[Right]
    request: str = ""


def send(celery: Celery, name: str, parameters: Any, *, task_id: str, shown: str, kwargs: dict[str, Any]) -> None:
    """Send a message; `shown` is what Flower shows of it. Raises ConnectionError, RedisError or kombu's OperationalError."""
    message = celery.amqp.as_task_v2(task_id, name, (parameters,), kwargs, argsrepr=shown, kwargsrepr="{}")
    celery.amqp.put(queue_of(name), message)


def ask(celery: Celery, replies: Replies, name: str, parameters: Any, *, task_id: str, shown: str, seconds: float, **kwargs: Any) -> Output:
    """Send a message as `send` does, and wait so long for what it asks for, which is not begun later.

    Raises what `send` and `Replies.ask` do.
    """
    kwargs["reply"] = replies.channel
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    message = celery.amqp.as_task_v2(task_id, name, (parameters,), kwargs, expires=expires, argsrepr=shown, kwargsrepr="{}", origin=_ORIGIN)
    return replies.ask(task_id, partial(celery.amqp.post, queue_of(name), message), seconds=seconds)


class Gateway:
    """The API's way to the workers."""

    def __init__(
        self,
        celery: Celery,
        *,
        tasks: Tasks,
        blobs: Blobs,
        replies: Replies,
        signer: GrantSigner,
        limits: Limits,
        storage: Storage | None = None,
    ) -> None:
        self.tasks = tasks
        self.blobs = blobs
        self.subscription = replies.subscription
        self._celery = celery
        self._replies = replies
        self._signer = signer
        self._limits = limits
        self._storage = storage

    def open(self) -> None:
        """Open what calls go and come by, which is done at the latest when there is one. Raises what `call` takes for unreachable."""
        self._celery.amqp.open()
        self._replies.open()

    def call(self, op: Operation, caller: Caller, system: str, *, task_id: str = "") -> Output:
        """Perform `op`, as that task or as a new one, and wait for its output; what nobody waits for any more is never started.

        Raises the FirecrestError it ended with, TimedOut, or ServiceUnavailable.
        """
        task_id, patience = task_id or uuid4().hex, self._limits.patience
        parameters = op.parameters()
        grant = self._grant(op, parameters, task_id, caller, system, seconds=patience)
        shown = op.shown(parameters)
        try:
            return ask(self._celery, self._replies, op.task(), parameters, task_id=task_id, shown=shown, seconds=patience, grant=grant)
        except _UNREACHABLE as lost:
            raise ServiceUnavailable("The service cannot reach its message broker") from lost

    def defer(self, op: Operation, caller: Caller, system: str) -> Task:
        """Have `op` performed some time; its task tells how it goes.

        Raises ServiceUnavailable, TooManyRequests, or StorageRefused for a transfer where there is no object store, SizeLimit for what is
        too large, StagedLimit for what is too much.
        """
        task_id, lasts = uuid4().hex, self._link_seconds(op)
        parameters, seconds = op.parameters(), lasts + AFTER_LINK if lasts else self._limits.grant_seconds
        grant = self._grant(op, parameters, task_id, caller, system, seconds=seconds)
        message = {"operation": op.task(), "parameters": parameters, "shown": op.shown(parameters), "grant": grant}
        try:
            task = self.tasks.create(
                task_id,
                user=caller.user,
                service=op.route.queue,
                system=system,
                message=message,
                stoppable=op.route.stoppable,
                steps=op.route.steps,
                lifetime=max(lasts, self._limits.task_seconds) if lasts else None,
                allowance=self._allowance(op),
            )
            self._send_first(task, message)
        except _UNREACHABLE as lost:
            raise ServiceUnavailable("The service cannot reach its message broker") from lost
        return task

    def cancel(self, task_id: str, caller: Caller) -> Task:
        """The task of the caller, cancelled: it is final, and the file that came with it is forgotten.

        Raises UnknownResource, ForeignTask or NotCancellable.
        """
        self.tasks.find(task_id, caller.user)
        sent = self.tasks.message(task_id)
        self.tasks.cancel(task_id)
        if sent:
            message, _ = sent
            self.blobs.forget(operation_named(message["operation"]).model_validate(message["parameters"]))
        return self.tasks.find(task_id, caller.user)

    def keep(self, op: Operation, content: Iterable[bytes]) -> None:
        """Keep the pieces of the file that comes with `op` until a worker needs them. Raises ServiceUnavailable."""
        upload = next(value for _, value in op if isinstance(value, Upload))
        seconds = self._limits.grant_seconds if op.route.course is Course.DEFERRED else self._limits.patience + 1
        try:
            self.blobs.put(content, seconds=int(seconds), key=upload.key)
        except _UNREACHABLE as lost:
            raise ServiceUnavailable("The service cannot reach its message broker") from lost

    def _link_seconds(self, op: Operation) -> int | None:
        if not op.route.steps:
            return None
        if self._storage is None:
            raise StorageRefused("This service has no Staging Area")
        if op.staged_bytes() > self._storage.max_file_size * _MB:
            raise SizeLimit(f"The file is over {self._storage.max_file_size} MB")
        return self._storage.url_seconds

    def _allowance(self, op: Operation) -> Allowance:
        stages = op.staged_bytes() if op.route.steps else -1
        return Allowance(self._limits.open_tasks_per_user, stages, self._storage.staged_per_user * _MB if self._storage else 0)

    def _send_first(self, task: Task, message: dict[str, Any]) -> None:
        try:
            send_attempt(self._celery, task.task_id, message, attempt=1)
        except _UNREACHABLE:
            if self.tasks.discard(task.task_id, task.user):
                raise
        if not self.tasks.confirm(task.task_id):
            raise ConnectionError("the task took so long to send that it has been forgotten")

    def _grant(self, op: Operation, parameters: dict[str, Any], task_id: str, caller: Caller, system: str, *, seconds: float) -> str:
        who = {"user": caller.user, "token": caller.token, "request": caller.request}
        return self._signer.grant(op.task(), parameters, task_id=task_id, system=system, seconds=seconds, **who)


def send_attempt(celery: Celery, task_id: str, message: dict[str, Any], *, attempt: int) -> None:
    """Send the message of a deferred operation, as the given attempt."""
    kwargs = {"grant": message["grant"], "attempt": attempt}
    send(celery, message["operation"], message["parameters"], task_id=task_id, shown=message["shown"], kwargs=kwargs)
