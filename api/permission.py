"""Whether a call may be made, asked of whom the settings name."""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from broker.fetching import Fetcher
from broker.gateway import Caller
from schemas.errors import AccessHidden, FirecrestError, Forbidden, PermissionDenied, ServiceUnavailable
from schemas.fields import Upload
from schemas.operation import Operation, digest
from schemas.settings import Permission as Source

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 65536
_MOST_ANSWERS = 10_000


class Permission(Protocol):
    """A source of decisions on calls, beside the rights that tokens give and what the systems themselves let users do."""

    def check(self, caller: Caller, op: Operation, system: str) -> None:
        """Nothing, when the caller may do this on the system, which is "" for what needs none.

        Raises PermissionDenied, AccessHidden or Forbidden when not, and ServiceUnavailable when that cannot be known.
        """


class Everyone:
    """Whoever is somebody may call."""

    def check(self, caller: Caller, op: Operation, system: str) -> None:
        """Nothing."""


class OPA:
    """An Open Policy Agent decides, by what the policy's document says of `allow` (contract, 3.7)."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._url = f"{source.url.rstrip('/')}/{source.path.strip('/')}"
        self._fetcher = Fetcher(seconds=source.seconds, most=_MOST_BYTES)
        self._answers: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, caller: Caller, op: Operation, system: str) -> None:
        """Nothing, when the policy allows the call. What it does not define it does not allow."""
        if op.route.on_system or self._source.local:
            asked = question(caller.user, op, system)
            if not self._kept(digest(asked), lambda: self._ask(asked)):
                raise denied(caller.user, op, system)

    def _kept(self, key: str, ask: Callable[[], bool]) -> bool:
        now = time.monotonic()
        with self._lock:
            until, allowed = self._answers.get(key, (0.0, False))
        if now < until:
            return allowed
        allowed = ask()
        with self._lock:
            self._answers[key] = now + self._source.cache_seconds, allowed
            self._answers.move_to_end(key)
            while len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        return allowed

    def _ask(self, asked: dict[str, Any]) -> bool:
        try:
            return _allowed(self._fetcher.fetch(self._url, body=json.dumps({"input": asked}).encode()))
        except (OSError, ValueError, TypeError, RecursionError) as wrong:
            _LOG.error("cannot ask %s: %s", self._url, wrong)
            raise ServiceUnavailable("The permission service cannot be asked") from None


def question(user: str, op: Operation, system: str) -> dict[str, Any]:
    """The `input` of the policy: never the token, nor what is not shown to operators either, nor where a file waits."""
    shown = {name: value for name, value in op.parameters().items() if name not in op.hidden}
    for name, field in type(op).model_fields.items():
        if isinstance(getattr(op, name), Upload):
            del shown[field.alias or name]["key"]
    asked = {"user": user, "operation": op.task(), "rights": sorted(op.route.rights), "parameters": shown}
    return {**asked, "system": system} if system else asked


def _allowed(document: bytes) -> bool:
    """What OPA's answer says; raises ValueError or TypeError for what is no answer."""
    answer = json.loads(document)
    if not isinstance(answer, dict):
        raise TypeError("its answer is not an object")
    found = answer.get("result", {})
    allowed = found if isinstance(found, bool) else found.get("allow", False) if isinstance(found, dict) else None
    if not isinstance(allowed, bool):
        raise TypeError("its answer does not say whether it allows the call")
    return allowed


def denied(user: str, op: Operation, system: str) -> FirecrestError:
    """The refusal as the services of FirecREST v1 tell what OPA denies (contract, 1.2.3, 1.4 and 1.10)."""
    if not system:
        return Forbidden(f"Permission denied for user {user}")
    text = f"Permission denied for user {user} in {system}"
    return PermissionDenied(text) if op.route.service == "utilities" else AccessHidden(text)


PERMISSIONS: dict[str, Callable[[Source], Permission]] = {"everyone": lambda _: Everyone(), "opa": OPA}
