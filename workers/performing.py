"""From functions that perform operations to Celery tasks, and to task records that follow them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar
from uuid import uuid4

import celery
from celery.exceptions import Ignore
from pydantic import TypeAdapter

from broker.blobs import Blob, Blobs
from broker.grants import GrantVerifier
from broker.replies import Answers
from broker.tasks import Attempt, Tasks
from schemas.errors import CommandFailed, FirecrestError, Stopped
from schemas.fields import Upload
from schemas.grant import Grant, GrantError, GrantExpired
from schemas.operation import Course, Operation, digest
from schemas.settings import Limits, System
from schemas.task import Status
from workers.flights import Flights
from workers.host import Host
from workers.leases import Leases
from workers.stopping import Stop
from workers.streams import Source

_LOG = logging.getLogger(__name__)
_PAUSE = 1

Op = TypeVar("Op", bound=Operation)


@dataclass(frozen=True)
class Scene:
    """What a performer may need beside the host: who it works for, where, under which task, with which limits."""

    task_id: str
    user: str
    system: System
    limits: Limits
    blobs: Blobs

    def source(self, upload: Upload) -> Source:
        """The file that came with the call; its pieces raise BlobLost, before the last, when they are not what the grant states."""
        return Source(upload.size, partial(self.blobs.read, upload))


Performer = Callable[[Any, Host, Scene], Any]
OpenHost = Callable[[System, Grant, str, Stop], Host]
FindSystem = Callable[[str], System | None]

PERFORMERS: dict[type[Operation], Performer] = {}


def performs(operation: type[Op]) -> Callable[[Callable[[Op, Host, Scene], Any]], Callable[[Op, Host, Scene], Any]]:
    """Mark the function that performs `operation`."""

    def declare(performer: Callable[[Op, Host, Scene], Any]) -> Callable[[Op, Host, Scene], Any]:
        PERFORMERS[operation] = performer
        return performer

    return declare


@dataclass(frozen=True)
class Workshop:
    """All that the tasks of a worker share."""

    tasks: Tasks
    blobs: Blobs
    answers: Answers
    leases: Leases
    verifier: GrantVerifier
    limits: Limits
    find_system: FindSystem
    open_host: OpenHost
    flights: Flights = field(default_factory=Flights)

    def admit(self, operation: type[Operation], parameters: dict[str, Any], *, grant: str, task_id: str) -> "Permit":
        """Leave to perform; raises GrantError when the API did not ask for just this, GrantExpired when it is too late."""
        granted = self.verifier.verify(grant)
        system = self.find_system(granted.system)
        if (granted.task_id, granted.operation, granted.parameters) != (task_id, operation.task(), digest(parameters)) or not system:
            raise GrantError(f"the grant of task {task_id} is for another call")
        granted.check_time()
        return Permit(granted, grant, system)

    def perform(self, operation: type[Operation], parameters: dict[str, Any], permit: "Permit", stop: Stop) -> Any:
        """The output of an operation as JSON, or as a Blob; raises FirecrestError and nothing else."""
        work = partial(self._perform, operation, parameters, permit, stop)
        if not operation.route.shared:
            return work()
        return self.flights.share((permit.grant.user, permit.system.name, operation, permit.grant.parameters), work, stop)

    def _perform(self, operation: type[Operation], parameters: dict[str, Any], permit: "Permit", stop: Stop) -> Any:
        scene = Scene(permit.grant.task_id, permit.grant.user, permit.system, self.limits, self.blobs)
        try:
            host = self.open_host(permit.system, permit.grant, permit.text, stop)
            found = PERFORMERS[operation](operation.model_validate(parameters), host, scene)
            return found if isinstance(found, Blob) else _adapter(operation).dump_python(found, mode="json", by_alias=True)
        except FirecrestError:
            raise
        except Exception:  # noqa: BLE001 (the outermost frame of a performance)
            _LOG.exception("%s failed", operation.task())
            raise CommandFailed("Internal error") from None

    def forget_uploads(self, operation: type[Operation], parameters: dict[str, Any]) -> None:
        """Drop the files that came with a call that is over."""
        self.blobs.forget(operation.model_validate(parameters))


@cache
def _adapter(operation: type[Operation]) -> TypeAdapter[Any]:
    return TypeAdapter(operation.route.output)


@dataclass(frozen=True)
class Permit:
    """A verified grant, its text, and the system it is for."""

    grant: Grant
    text: str
    system: System


def serve(app: celery.Celery, workshop: Workshop) -> None:
    """Give `app` a task for every performer."""
    for operation in PERFORMERS:
        deferred = operation.route.course is Course.DEFERRED
        base: type[_Performance] = Tracked if deferred else Waited
        task = type(operation.__name__, (base,), {"operation": operation, "workshop": workshop, "name": operation.task()})
        app.register_task(task())


class _Performance(celery.Task):  # type: ignore[misc]
    """A Celery task that performs one operation."""

    operation: type[Operation]
    workshop: Workshop
    throws = (FirecrestError, GrantError)
    ignore_result = True


class Waited(_Performance):
    """Answers whoever waits."""

    def run(self, parameters: dict[str, Any], *, grant: str, reply: str) -> None:
        """Perform, and publish output or failure."""
        workshop, task_id = self.workshop, self.request.id
        permit = workshop.admit(self.operation, parameters, grant=grant, task_id=task_id)
        try:
            output = workshop.perform(self.operation, parameters, permit, Stop())
        except FirecrestError as failed:
            workshop.answers.fail(reply, task_id, failed)
            raise
        finally:
            workshop.forget_uploads(self.operation, parameters)
        workshop.answers.succeed(reply, task_id, output)


class Tracked(_Performance):
    """Has a record that follows its course, and runs only while the record is its own."""

    acks_late = True

    def run(self, parameters: dict[str, Any], *, grant: str, attempt: int) -> None:
        """Perform as the given attempt, if the record still awaits it."""
        workshop, mine = self.workshop, Attempt(self.request.id, attempt, uuid4().hex)
        try:
            permit = workshop.admit(self.operation, parameters, grant=grant, task_id=mine.task_id)
        except GrantExpired:
            if workshop.tasks.accept(mine, lease=workshop.leases.seconds):
                workshop.tasks.advance(mine, Status.ERROR, "The task could not be started in time")
            raise
        if not workshop.tasks.accept(mine, lease=workshop.leases.seconds):
            _LOG.warning("attempt %s of task %s is not due", attempt, mine.task_id)
            raise Ignore
        with workshop.leases.held(mine) as lost:
            self._finish(mine, parameters, permit, lost if self.operation.route.stoppable else Stop())

    def _finish(self, mine: Attempt, parameters: dict[str, Any], permit: Permit, stop: Stop) -> None:
        try:
            output = self.workshop.perform(self.operation, parameters, permit, stop)
        except Stopped:
            _LOG.info("attempt %s of task %s was stopped", mine.number, mine.task_id)
            raise
        except FirecrestError as failed:
            if failed.transient and self.operation.route.once:
                self.workshop.tasks.failing(mine.task_id, failed.text or failed.says or failed.value or "")
                self.workshop.tasks.renew(mine, lease=_PAUSE)
            else:
                self._end(mine, Status.ERROR, failed.text or failed.says or failed.value, parameters)
            raise
        self._end(mine, Status.SUCCESS, output, parameters)

    def _end(self, mine: Attempt, status: Status, data: Any, parameters: dict[str, Any]) -> None:
        if self.workshop.tasks.advance(mine, status, data):
            self.workshop.forget_uploads(self.operation, parameters)
        else:
            _LOG.warning("attempt %s of task %s ended too late to be written", mine.number, mine.task_id)
