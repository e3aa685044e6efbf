"""What a worker writes into the audit trail: one line for each performance, or step, of an operation."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from celery.exceptions import Ignore

from broker.trail import Trail
from schemas.errors import FirecrestError, Stopped
from schemas.grant import Grant, GrantError, GrantExpired
from schemas.operation import Operation
from workers.certificates import Certificate

WORKER: Final = f"{socket.gethostname()}.{os.getpid()}"
# The connections of one performance are one or two: one more when the first broke.
_MOST_CERTIFICATES: Final = 4


@dataclass(eq=False)
class Deed:
    """What becomes of a message: who asked for it, once that is proven, and how it ended.

    `status` is the code that the task's record was given. `result` is told where it is not plain from what was raised.
    """

    grant: Grant | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    entered: set[Certificate] = field(default_factory=set)
    status: str = ""
    result: str = "done"


@contextmanager
def recorded(trail: Trail, operation: type[Operation], task_id: str, attempt: int | None = None) -> Iterator[Deed]:
    """A deed, of which a line tells when the block ends, however it ends."""
    deed, began = Deed(), time.monotonic()
    try:
        yield deed
    except BaseException as ended:
        deed.result = _result(ended)
        _record(trail, deed, began, operation=operation.task(), task=task_id, attempt=attempt, error=type(ended).__name__)
        raise
    _record(trail, deed, began, operation=operation.task(), task=task_id, attempt=attempt)


def _result(ended: BaseException) -> str:
    results: dict[type[BaseException], str] = {
        Stopped: "stopped",
        FirecrestError: "failed",
        GrantExpired: "expired",
        GrantError: "refused",
        Ignore: "not due",
    }
    return next((result for kind, result in results.items() if isinstance(ended, kind)), "broken")


def _record(trail: Trail, deed: Deed, began: float, **facts: Any) -> None:
    grant = deed.grant
    trail.record(
        worker=WORKER,
        request=grant and grant.request,
        user=grant and grant.user,
        system=grant and grant.system,
        result=deed.result,
        status=deed.status,
        ms=round(1000 * (time.monotonic() - began), 1),
        # numbers of 64 bits are too large for many readers of JSON
        certificates=[{"serial": str(serial), "key_id": key_id} for serial, key_id in sorted(deed.entered)][:_MOST_CERTIFICATES],
        paths={name: value for name, value in deed.parameters.items() if name.endswith("Path") and value},
        **facts,
    )
