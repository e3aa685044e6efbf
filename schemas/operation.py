"""What the API offers and the workers perform: one model per operation."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from schemas.places import OnSystem, Place, mark
from schemas.rights import Right, rights_for


class Course(Enum):
    """How an operation is answered."""

    WAITED = "waited"
    DEFERRED = "deferred"
    LOCAL = "local"


@dataclass(frozen=True)
class Route:
    """How an operation looks over HTTP.

    `says` is the description of its success, `fails` that of its failures, `envelope` the key of the answer that holds the
    output (None: the output is the whole answer). `probe` is performed, and waited for, before a deferred operation gets its
    task, `also` is a second path that leads to it, and `once` says that it is tried again until its outcome is known, because
    it must be done exactly once. `shared`: identical calls of one user that are under way together may have one answer.
    `steps`: it is done in short steps between which it rests, and its task and grant last as long as links to the object
    store. `error` is what a failing probe says beside its header. `unnamed_is_error` is where the contract puts the lack of
    X-Machine-Name, and `fails_is_error` that it swaps the roles of `description` and `error` in what is said of a failure.
    `transfer_job`: compute submits it as a job, on the system that runs such jobs for the one named, and its task is told
    without a URL. `open_to` are the rights of which a caller needs one, where verb and service do not tell. `verb` is empty
    for operations that only the service itself calls.
    """

    verb: str
    path: str
    output: Any
    says: str
    fails: str
    status: int = 200
    course: Course = Course.WAITED
    envelope: str | None = "output"
    on_system: bool = True
    probe: "Callable[[Any], Operation] | None" = None
    also: str = ""
    once: bool = False
    shared: bool = False
    steps: bool = False
    error: str = ""
    unnamed_is_error: bool = False
    fails_is_error: bool = False
    transfer_job: bool = False
    open_to: frozenset[Right] | None = None

    @property
    def service(self) -> str:
        """The service that offers it: the first part of the path."""
        return self.path.split("/")[1]

    @property
    def queue(self) -> str:
        """The service that performs it, which has its tasks and is also the queue."""
        return "compute" if self.transfer_job else self.service

    @property
    def rights(self) -> frozenset[Right]:
        """The rights of which a caller needs one."""
        return rights_for(self.verb, self.queue) if self.open_to is None else self.open_to

    @property
    def reads(self) -> bool:
        """Whether it leaves all as it is."""
        return self.verb == "GET"

    @property
    def stoppable(self) -> bool:
        """Whether it may be cancelled after a worker has begun it."""
        return not self.once


class Operation(BaseModel):
    """The parameters of one call, named as clients name them.

    Those in `hidden` are not shown to operators; those in `in_header` are headers of the request.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    route: ClassVar[Route]
    hidden: ClassVar[frozenset[str]] = frozenset()
    in_header: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def task(cls) -> str:
        """The name that Celery and Flower know it by, such as `utilities.Ls`."""
        return f"{cls.route.queue}.{cls.__name__}"

    def parameters(self) -> dict[str, Any]:
        """The parameters as JSON, as they travel in the message."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def shown(cls, parameters: dict[str, Any]) -> str:
        """The parameters as Flower and logs show them."""
        return repr({name: "…" if name in cls.hidden else value for name, value in parameters.items()})

    def places(self) -> tuple[Place, ...]:
        """All that the call touches on the system, as far as its parameters tell."""
        marks = ((mark(field), getattr(self, name)) for name, field in type(self).model_fields.items())
        return tuple(Place(path, found.reach) for found, path in marks if isinstance(found, OnSystem) and path is not None)

    def staged_bytes(self) -> int:
        """How much is to pass through the object store, as far as the client tells."""
        return 0

    def says(self) -> str:
        """What is said of this call when it succeeds."""
        return self.route.says

    def fails(self) -> str:
        """What is said of this call when it fails."""
        return self.route.fails


def digest(parameters: dict[str, Any]) -> str:
    """SHA-256, in hex, of an operation's parameters as they travel."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


OPERATIONS: list[type[Operation]] = []
INTERNAL: list[type[Operation]] = []


@cache
def operation_named(task: str) -> type[Operation]:
    """The operation that Celery knows by that name; raises KeyError."""
    return {known.task(): known for known in (*OPERATIONS, *INTERNAL)}[task]


Model = TypeVar("Model", bound=type[Operation])


def operation(call: str, output: Any, *, says: str = "", fails: str = "", **details: Any) -> Callable[[Model], Model]:
    """Give a model its route, such as `GET /utilities/ls`, and list it in OPERATIONS."""
    verb, path = call.split()

    def declare(model: Model) -> Model:
        model.route = Route(verb, path, output, says, fails or f"Error on {model.__name__.lower()} operation", **details)
        OPERATIONS.append(model)
        return model

    return declare


def internal(service: str, output: Any, *, fails: str, open_to: frozenset[Right], error: str = "") -> Callable[[Model], Model]:
    """Give a model that only the service itself calls its queue, and list it in INTERNAL."""

    def declare(model: Model) -> Model:
        model.route = Route("", f"/{service}", output, "", fails, error=error, open_to=open_to)
        INTERNAL.append(model)
        return model

    return declare
