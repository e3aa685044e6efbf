"""A flask-restx resource for every declared operation."""

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import chain
from typing import Any, cast
from uuid import uuid4

from flask import Response, g, request, send_file
from flask_restx import Namespace, Resource

from api.documents import describe
from api.identity import Identity
from api.limits import Turnstile
from api.local import ANSWERS, Office
from api.permission import Permission
from api.proofs import Proofs
from api.requests import Asked, asked, system_name
from broker.blobs import Blob
from broker.gateway import Caller, Gateway
from schemas.compute import Reachable
from schemas.errors import FirecrestError, Forbidden, ServiceUnavailable
from schemas.operation import Course, Operation
from schemas.settings import Settings
from schemas.utilities import Download

Reply = tuple[dict[str, Any] | None, int] | Response


@dataclass(frozen=True)
class Desk:
    """All that resources share."""

    gateway: Gateway
    identity: Identity
    turnstile: Turnstile
    permission: Permission
    office: Office
    settings: Settings
    proofs: Proofs = field(default_factory=Proofs)

    def serve(self, operation: type[Operation], path: dict[str, str]) -> Reply:
        """Answer the current request; raises FirecrestError."""
        g.operation, g.fails = operation, operation.route.fails
        caller = g.caller = replace(self.identity.caller(request.headers), request=g.request_id)
        self.turnstile.enter(caller.user)
        _check_rights(caller, operation)
        system = g.system = system_name(operation, self.settings)
        wanted = asked(operation, path, self.settings.limits)
        g.fails = wanted.op.fails()
        self.permission.check(caller, wanted.op, system)
        if operation.route.course is Course.LOCAL:
            g.task_id = getattr(wanted.op, "task_id", None)
            return _enveloped(wanted.op, ANSWERS[operation](wanted.op, caller, self.office))
        if operation.route.course is Course.DEFERRED:
            return self._deferred(wanted, caller, system)
        self._keep(wanted)
        g.task_id = uuid4().hex
        output = self._call(wanted.op, caller, system, task_id=g.task_id)
        if isinstance(output, Blob):
            return self._file(cast(Download, wanted.op), output)
        return _enveloped_as_it_is(wanted.op, output)

    def _deferred(self, wanted: Asked, caller: Caller, system: str) -> Reply:
        route = wanted.op.route
        if route.probe is not None:
            self._probe(route.probe(wanted.op), caller, system)
            g.fails = wanted.op.fails()
        self._keep(wanted)
        task = self.gateway.defer(wanted.op, caller, system)
        g.task_id = task.task_id
        told = {"success": route.says, "task_id": task.task_id}
        return (told if route.transfer_job else {**told, "task_url": task.url()}), route.status

    def _call(self, op: Operation, caller: Caller, system: str, task_id: str = "") -> bytes | Blob:
        try:
            output = self.gateway.call(op, caller, system, task_id=task_id)
        except FirecrestError:
            self.proofs.forget(caller.user, system)
            raise
        self.proofs.note(caller.user, system)
        return output

    def _proven(self, probe: Operation, caller: Caller, system: str) -> bool:
        """Whether the probe would only find what is known. Where every command has a certificate of its own, nothing is."""
        found = self.settings.system(system)
        return isinstance(probe, Reachable) and found is not None and not found.forced_command and self.proofs.hold(caller.user, system)

    def _probe(self, probe: Operation, caller: Caller, system: str) -> None:
        if self._proven(probe, caller, system):
            return
        g.fails = probe.fails()
        try:
            self._call(probe, caller, system)
        except ServiceUnavailable:
            raise
        except FirecrestError as failed:
            raise failed.told_by_header(probe.route.error) from None

    def _keep(self, wanted: Asked) -> None:
        if wanted.file is not None:
            self.gateway.keep(wanted.op, wanted.content())

    def _file(self, op: Download, blob: Blob) -> Response:
        pieces = self.gateway.blobs.take(blob)
        first = next(pieces, b"")  # if they are lost, it is told while there still is a status to tell it by
        # an empty file for the sake of its headers: a name beyond ASCII takes more than one spelling
        name = posixpath.basename(op.source_path)
        answer = send_file(BytesIO(), "application/octet-stream", as_attachment=True, download_name=name, conditional=False)
        answer.response = chain((first,), pieces)
        answer.direct_passthrough, answer.content_length = False, blob.size
        answer.call_on_close(pieces.close)
        return answer


def _check_rights(caller: Caller, operation: type[Operation]) -> None:
    if not caller.rights & operation.route.rights:
        needed = " or ".join(sorted(operation.route.rights))
        raise Forbidden(f"The token does not allow this: it needs the right to {needed}")


def namespaces(operations: Iterable[type[Operation]], desk: Desk) -> list[Namespace]:
    """One namespace per service, in which operations on the same path share a resource."""
    spaces: dict[str, Namespace] = {}
    for path, members in _by_path(operations).items():
        service = members[0].route.service
        space = spaces.setdefault(service, Namespace(service, path="/"))
        methods = {operation.route.verb.lower(): _method(space, operation, path, desk) for operation in members}
        name = "".join(part.strip("{}").title() for part in path.split("/"))
        space.add_resource(type(name, (Resource,), methods), path.replace("{", "<").replace("}", ">"), endpoint=path)
    return list(spaces.values())


def paths(operation: type[Operation]) -> Iterator[str]:
    """The paths that lead to an operation."""
    yield operation.route.path
    if operation.route.also:
        yield operation.route.also


def _by_path(operations: Iterable[type[Operation]]) -> dict[str, list[type[Operation]]]:
    grouped: dict[str, list[type[Operation]]] = {}
    for operation in operations:
        for path in paths(operation):
            grouped.setdefault(path, []).append(operation)
    return grouped


def _method(space: Namespace, operation: type[Operation], path: str, desk: Desk) -> Callable[..., Reply]:
    def method(self: Resource, **values: str) -> Reply:
        return desk.serve(operation, values)

    method.__doc__ = operation.__doc__
    describe(space, method, operation, alias=path != operation.route.path)
    return method


def _enveloped_as_it_is(op: Operation, output: bytes) -> Reply:
    """What `_enveloped` makes of an output that is JSON already, which is neither read nor written anew."""
    route = op.route
    if route.output is None or route.envelope is None:
        return _enveloped(op, json.loads(output))
    said = f'"description": {json.dumps(op.says())}, ' if route.says else ""
    return Response(f'{{{said}"{route.envelope}": '.encode() + output + b"}\n", route.status, mimetype="application/json")


def _enveloped(op: Operation, output: Any) -> Reply:
    route = op.route
    if route.output is None:
        return None, route.status
    body = output if route.envelope is None else {route.envelope: output}
    return ({"description": op.says(), **body} if route.says else body), route.status
