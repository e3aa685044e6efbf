"""From functions that perform operations to Celery tasks, and to task records that follow them."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, TypeVar
from uuid import uuid4

import celery
from celery.exceptions import Ignore
from pydantic import TypeAdapter

from broker.blobs import Blob, Blobs
from broker.grants import GrantVerifier
from broker.links import LinkSealer
from broker.once import Once
from broker.replies import Answers
from broker.tasks import Attempt, Tasks
from broker.trail import Trail
from schemas.errors import CommandFailed, FirecrestError, Stopped, StorageRefused
from schemas.fields import Upload
from schemas.grant import Grant, GrantError, GrantExpired
from schemas.operation import Course, Operation, digest
from schemas.settings import Limits, Storage, System
from schemas.task import Status
from workers.certificates import Certificate
from workers.confinement import Confinement, confinement, within
from workers.deeds import Deed, recorded
from workers.flights import Flights
from workers.host import Host
from workers.kept_states import KeptStates
from workers.leases import Leases
from workers.shares import Shares
from workers.staging.staging import Staging
from workers.stopping import Stop
from workers.streams import Source

_LOG = logging.getLogger(__name__)
_PAUSE = 1

Op = TypeVar("Op", bound=Operation)


@dataclass(frozen=True)
class Store:
    """The object store, what the deployment says of it, and how links to it are kept."""

    settings: Storage
    staging: Staging
    sealer: LinkSealer


@dataclass(frozen=True)
class Scene:
    """What a performer may need beside the host: who it works for, where, under which task, with which limits.

    `bounds` is what the host is confined to: whatever is to run later must be so too.
    """

    task_id: str
    user: str
    system: System
    limits: Limits
    blobs: Blobs
    staged: Store | None = None
    bounds: Confinement = field(default_factory=Confinement)

    @property
    def store(self) -> Store:
        """The object store; raises StorageRefused when the deployment has none."""
        if self.staged is None:
            raise StorageRefused("This service has no Staging Area")
        return self.staged

    def source(self, upload: Upload) -> Source:
        """The file that came with the call; its pieces raise BlobLost, before the last, when they are not what the grant states."""
        return Source(upload.size, partial(self.blobs.read, upload))


@dataclass(frozen=True)
class Quota:
    """How much a task may put into the object store, where all tasks of its user together may hold `most` bytes."""

    tasks: Tasks
    task_id: str
    user: str

    def left(self, most: int) -> int:
        """How many bytes."""
        return self.tasks.stageable(self.task_id, self.user, most=most)

    def take(self, size: int, most: int) -> None:
        """State that it is so many. Raises StagedLimit when they are too many."""
        self.tasks.stage(self.task_id, self.user, size, most=most)


@dataclass(frozen=True, kw_only=True)
class Step(Scene):
    """The scene of one step of a task: how far the task has come, what the last step left, whether only cleaning is left to do.

    `expires` is when the grant does, in Unix seconds: no step comes after that.
    `quota` knows how much the user may stage.
    `tell` writes status, data and state before the step is over; it raises Stopped when the task is no longer ours.
    """

    expires: float
    quota: Quota
    status: Status
    state: dict[str, Any]
    cleaning: bool
    tell: Callable[[Status, Any, dict[str, Any]], None]


@dataclass(frozen=True)
class Rest:
    """A step is over, and the next is due in so many seconds, or as soon as the topic comes up that it waits for."""

    status: Status
    data: Any
    state: dict[str, Any]
    seconds: float
    topic: str = ""


@dataclass(frozen=True)
class Ended:
    """The last step is over: the task is final."""

    status: Status
    data: Any


Performer = Callable[[Any, Host, Any], Any]
OpenHost = Callable[[System, Grant, str, Stop, set[Certificate]], Host]
FindSystem = Callable[[str], System | None]

PERFORMERS: dict[type[Operation], Performer] = {}


def performs(operation: type[Op]) -> Callable[[Callable[[Op, Host, Scene], Any]], Callable[[Op, Host, Scene], Any]]:
    """Mark the function that performs `operation`."""

    def declare(performer: Callable[[Op, Host, Scene], Any]) -> Callable[[Op, Host, Scene], Any]:
        PERFORMERS[operation] = performer
        return performer

    return declare


TakesStep = Callable[[Op, Host, Step], Rest | Ended]


def steps(operation: type[Op]) -> Callable[[TakesStep[Op]], TakesStep[Op]]:
    """Mark the function that makes one step of `operation`: it is short, and does no harm when it is made twice."""

    def declare(performer: TakesStep[Op]) -> TakesStep[Op]:
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
    shares: Shares
    states: KeptStates
    once: Once
    trail: Trail = field(default_factory=partial(Trail, "worker"))
    store: Store | None = None
    flights: Flights = field(default_factory=Flights)

    def admit(self, operation: type[Operation], parameters: dict[str, Any], *, grant: str, task_id: str, deed: Deed) -> "Permit":
        """Leave to perform; raises GrantError when the API did not ask for just this, GrantExpired when it is too late."""
        granted = self.verifier.verify(grant)
        system = self.find_system(granted.system)
        if (granted.task_id, granted.operation, granted.parameters) != (task_id, operation.task(), digest(parameters)) or not system:
            raise GrantError(f"the grant of task {task_id} is for another call")
        deed.grant, deed.parameters = granted, parameters
        granted.check_time()
        return Permit(granted, grant, system, deed.entered)

    def perform(self, operation: type[Operation], parameters: dict[str, Any], permit: "Permit", stop: Stop) -> Any:
        """The output of an operation as a Blob or as JSON, which is text already where somebody waits for it.

        Raises FirecrestError and nothing else.
        """

        def work() -> Any:
            found = self._perform(operation, parameters, permit, stop, Scene(**self._scene(permit)))
            return found if isinstance(found, Blob) else _json(operation, found)

        def shared_work() -> tuple[Any, FirecrestError | None, set[Certificate]]:
            try:
                return work(), None, permit.entered
            except Stopped:
                raise
            except FirecrestError as failed:
                return None, failed, permit.entered

        if not operation.route.shared:
            return work()
        key = (permit.grant.user, permit.system.name, operation, permit.grant.parameters)
        output, failed, entered = self.flights.share(key, shared_work, stop)
        permit.entered.update(entered)
        if failed:
            raise failed
        return output

    def step(self, operation: type[Operation], parameters: dict[str, Any], permit: "Permit", mine: Attempt, stop: Stop) -> Rest | Ended:
        """One step of an operation; raises FirecrestError and nothing else."""
        standing = self.tasks.standing(mine.task_id)

        def tell(status: Status, data: Any, state: dict[str, Any]) -> None:
            if not self.tasks.advance(mine, status, data, state=self.states.signed(mine.task_id, state)):
                raise Stopped

        state = self.states.verified(mine.task_id, standing.state)
        step = Step(
            **self._scene(permit),
            expires=permit.grant.expires,
            quota=Quota(self.tasks, mine.task_id, permit.grant.user),
            status=standing.status,
            state=state,
            cleaning=standing.cleaning,
            tell=tell,
        )
        found: Rest | Ended = self._perform(operation, parameters, permit, stop, step)
        return found

    def _scene(self, permit: "Permit") -> dict[str, Any]:
        granted = permit.grant
        return {
            "task_id": granted.task_id,
            "user": granted.user,
            "system": permit.system,
            "limits": self.limits,
            "blobs": self.blobs,
            "staged": self.store,
        }

    def _perform(self, operation: type[Operation], parameters: dict[str, Any], permit: "Permit", stop: Stop, scene: Scene) -> Any:
        try:
            host = self.open_host(permit.system, permit.grant, permit.text, stop, permit.entered)
            op = operation.model_validate(parameters)
            bounds = confinement(op, permit.system, permit.grant.user)
            return PERFORMERS[operation](op, within(host, bounds), replace(scene, bounds=bounds))
        except FirecrestError:
            raise
        except Exception:  # noqa: BLE001 (the outermost frame of a performance)
            _LOG.exception("%s failed", operation.task())
            raise CommandFailed("Internal error") from None

    def forget_uploads(self, operation: type[Operation], parameters: dict[str, Any]) -> None:
        """Drop the files that came with a call that is over."""
        self.blobs.forget(operation.model_validate(parameters))


def _json(operation: type[Operation], output: Any) -> Any:
    adapter = _adapter(operation)
    if operation.route.course is Course.WAITED:
        return adapter.dump_json(output, by_alias=True)
    return adapter.dump_python(output, mode="json", by_alias=True)


@cache
def _adapter(operation: type[Operation]) -> TypeAdapter[Any]:
    return TypeAdapter(operation.route.output)


@dataclass(frozen=True)
class Permit:
    """A verified grant, its text, the system it is for, and the certificates that it was entered with."""

    grant: Grant
    text: str
    system: System
    entered: set[Certificate] = field(default_factory=set)


def serve(app: celery.Celery, workshop: Workshop) -> None:
    """Give `app` a task for every performer."""
    for operation in PERFORMERS:
        deferred = operation.route.course is Course.DEFERRED
        base: type[_Performance] = (Stepped if operation.route.steps else Tracked) if deferred else Waited
        task = type(operation.__name__, (base,), {"operation": operation, "workshop": workshop, "name": operation.task()})
        app.register_task(task())


class _Performance(celery.Task):  # type: ignore[misc]
    """A Celery task that performs one operation."""

    operation: type[Operation]
    workshop: Workshop
    throws = (FirecrestError, GrantError)
    ignore_result = True
    Strategy = "workers.calls:strategy"


class Waited(_Performance):
    """Answers whoever waits."""

    def perform(self, task_id: str, parameters: dict[str, Any], *, grant: str, reply: str) -> None:
        """Perform, and publish output or failure."""
        with recorded(self.workshop.trail, self.operation, task_id) as deed:
            self._answer(task_id, parameters, deed, grant=grant, reply=reply)

    def _answer(self, task_id: str, parameters: dict[str, Any], deed: Deed, *, grant: str, reply: str) -> None:
        workshop = self.workshop
        permit = workshop.admit(self.operation, parameters, grant=grant, task_id=task_id, deed=deed)
        claim = workshop.once.claim(task_id, seconds=permit.grant.expires - time.time() + 1)
        # what only reads may be done twice, if it is told once
        if claim is None or not (self.operation.route.reads or workshop.once.holds(claim)):
            raise _repeated(task_id)
        try:
            output = workshop.perform(self.operation, parameters, permit, Stop())
        except FirecrestError as failed:
            if not workshop.answers.fail(reply, task_id, failed, claim):
                raise _repeated(task_id) from failed
            raise
        finally:
            if not self.operation.route.reads:
                workshop.forget_uploads(self.operation, parameters)
        if not workshop.answers.succeed(reply, task_id, output, claim):
            raise _repeated(task_id)


def _repeated(task_id: str) -> GrantError:
    return GrantError(f"what the grant of task {task_id} is for has been done")


class Tracked(_Performance):
    """Has a record that follows its course, and runs only while the record is its own."""

    def perform(self, task_id: str, parameters: dict[str, Any], *, grant: str, attempt: int) -> None:
        """Perform as the given attempt, if the record still awaits it; raises Ignore if not."""
        with recorded(self.workshop.trail, self.operation, task_id, attempt) as deed:
            self._try(Attempt(task_id, attempt, uuid4().hex), parameters, deed, grant)

    def _try(self, mine: Attempt, parameters: dict[str, Any], deed: Deed, grant: str) -> None:
        workshop, began = self.workshop, time.monotonic()
        try:
            permit = workshop.admit(self.operation, parameters, grant=grant, task_id=mine.task_id, deed=deed)
        except GrantExpired:
            text = "The task could not be started in time"
            if workshop.tasks.accept(mine, lease=workshop.leases.seconds) and workshop.tasks.advance(mine, Status.ERROR, text):
                deed.status = Status.ERROR.value
            raise
        except GrantError:
            self._refuse(mine, grant)
            raise
        with workshop.shares.one(permit.grant.user) as may:
            if not may:
                workshop.tasks.put_off(mine)
                raise Ignore
            self._begin(mine, deed, permit, began)

    def _begin(self, mine: Attempt, deed: Deed, permit: Permit, began: float) -> None:
        workshop = self.workshop
        if not workshop.tasks.accept(mine, lease=workshop.leases.seconds):
            _LOG.warning("attempt %s of task %s is not due", mine.number, mine.task_id)
            raise Ignore
        with workshop.leases.held(mine, began, graceful=self.operation.route.steps) as lost:
            self._finish(mine, deed, permit, lost if self.operation.route.stoppable else Stop())

    def _refuse(self, mine: Attempt, grant: str) -> None:
        """The grant of the record itself is refused, as the key that signed it has gone, or is not here yet: give up in the end."""
        tasks = self.workshop.tasks
        sent = tasks.message(mine.task_id)
        if sent and sent[0]["grant"] == grant and tasks.accept(mine, lease=_PAUSE):
            tasks.failing(mine.task_id, "The grant of the task is not valid any more")

    def _finish(self, mine: Attempt, deed: Deed, permit: Permit, stop: Stop) -> None:
        try:
            output = self.workshop.perform(self.operation, deed.parameters, permit, stop)
        except Stopped:
            _LOG.info("attempt %s of task %s was stopped", mine.number, mine.task_id)
            raise
        except FirecrestError as failed:
            if failed.transient and self.operation.route.once:
                self.workshop.tasks.failing(mine.task_id, failed.text or failed.says or failed.value or "")
                self.workshop.tasks.renew(mine, lease=_PAUSE)
            else:
                self._end(mine, deed, Status.ERROR, failed.text or failed.says or failed.value)
            raise
        self._end(mine, deed, Status.SUCCESS, output)

    def _end(self, mine: Attempt, deed: Deed, status: Status, data: Any) -> None:
        if self.workshop.tasks.advance(mine, status, data):
            deed.status = status.value
            self.workshop.forget_uploads(self.operation, deed.parameters)
        else:
            self._too_late(mine, deed)

    def _too_late(self, mine: Attempt, deed: Deed) -> None:
        deed.result = "too late"
        _LOG.warning("attempt %s of task %s ended too late to be written", mine.number, mine.task_id)


class Stepped(Tracked):
    """Makes one step at a time, and rests in between. A step comes to its end though its task is cancelled, which is cleaned after then."""

    def _finish(self, mine: Attempt, deed: Deed, permit: Permit, stop: Stop) -> None:
        try:
            self._make(mine, deed, permit, stop)
        finally:
            self.workshop.tasks.leave(mine)

    def _make(self, mine: Attempt, deed: Deed, permit: Permit, stop: Stop) -> None:
        tasks = self.workshop.tasks
        try:
            made = self.workshop.step(self.operation, deed.parameters, permit, mine, stop)
        except Stopped:
            _LOG.info("attempt %s of task %s was stopped", mine.number, mine.task_id)
            raise
        except FirecrestError as failed:
            tasks.failing(mine.task_id, failed.text or failed.says or failed.value or "")
            tasks.renew(mine, lease=_PAUSE)
            raise
        if isinstance(made, Ended):
            self._end(mine, deed, made.status, made.data)
            return
        state = self.workshop.states.signed(mine.task_id, made.state)
        if tasks.rest(mine, made.status, made.data, state=state, seconds=made.seconds, topic=made.topic):
            deed.result, deed.status = "step done", made.status.value
        else:
            self._too_late(mine, deed)
