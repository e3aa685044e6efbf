"""From a request to an operation, or to the refusal of it in the words of the contract."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from flask import request
from gunicorn.http.errors import ParseException
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from werkzeug.datastructures import FileStorage, MultiDict

from broker.blobs import PIECE
from schemas.errors import FirecrestError, InvalidEnvironment, InvalidParameter, MachineDoesNotExist, NoMachine, TooLarge
from schemas.fields import Refusal, Upload
from schemas.operation import Operation
from schemas.settings import Limits, Settings

MEGABYTE = 1024 * 1024
_DOUBLE_S = ("compute", "storage")


@dataclass(frozen=True)
class Asked:
    """An operation, and the file that came with it: on disk, unless it is small."""

    op: Operation
    file: FileStorage | None

    def content(self) -> Iterator[bytes]:
        """The pieces of the file."""
        return _pieces(self.file) if self.file else iter(())


def system_name(operation: type[Operation], settings: Settings) -> str:
    """Where to perform what is asked of the system in X-Machine-Name; "" for operations that need none.

    Raises NoMachine or MachineDoesNotExist.
    """
    route = operation.route
    if not route.on_system:
        return ""
    name = request.headers.get("X-Machine-Name", "")
    if not name and (route.unnamed_is_error or route.fails_is_error):
        raise NoMachine("No machine name given")
    if not name:
        raise NoMachine(description="No machine name given")
    system = settings.system(name)
    if system is None:
        text = "Machine does not exists" if route.service in _DOUBLE_S else "Machine does not exist"
        raise MachineDoesNotExist(text, description="Failed operation" if route.service == "storage" else None)
    return system.transfer_system or name if route.transfer_job else name


def asked(operation: type[Operation], path: dict[str, str], limits: Limits) -> Asked:
    """What the request asks for; raises InvalidParameter, InvalidEnvironment or TooLarge."""
    if not uploads(operation):
        request.max_content_length = limits.form_bytes
    sent = request.args if operation.route.verb == "GET" else _form()
    headers = {name: request.headers[name] for name in operation.in_header if name in request.headers}
    values: dict[str, Any] = {**{name: value for name, value in sent.items() if name not in operation.in_header}, **headers, **path}
    part = None
    for name in uploads(operation):
        values.pop(name, None)
        if name in request.files:
            part = request.files[name]
            values[name] = _upload(part)
            _check_size(operation, values[name].size, limits)
    try:
        return Asked(operation.model_validate(values), part)
    except ValidationError as wrong:
        raise refusal(operation, wrong) from None


def _form() -> MultiDict[str, str]:
    try:
        return request.form
    except (OSError, ParseException) as wrong:
        raise InvalidParameter("The body of the request cannot be read") from wrong


def uploads(operation: type[Operation]) -> list[str]:
    """The names of the parameters that are files."""
    return [field.alias or name for name, field in operation.model_fields.items() if field.annotation is Upload]


def too_large(operation: type[Operation], limits: Limits) -> TooLarge:
    """The request carries more than it may."""
    most = limits.utilities_max_file_size
    if not uploads(operation):
        return TooLarge(f"The request is over {limits.form_bytes} bytes")
    if operation.route.service == "utilities":
        return TooLarge(description=f"Failed to upload file. The file is over {most * MEGABYTE} bytes")
    return TooLarge(description=f"Failed to upload batch script. The file is over {most} MB")


def refusal(operation: type[Operation], wrong: ValidationError) -> FirecrestError:
    """The first thing that is wrong, as the contract words it."""
    first = wrong.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    manner = next((item for item in _field(operation, name).metadata if isinstance(item, Refusal)), Refusal())
    kind = InvalidEnvironment if manner.status == InvalidEnvironment.status else InvalidParameter
    description = manner.description and manner.description.format(field=name)
    if first["type"] == "saying":
        return kind(first["msg"], description=description)
    if first["type"] == "missing" and manner.missing:
        return kind(manner.missing, description=description)
    reason = first["msg"] if first["type"] == "reason" else "not specified" if first["type"] == "missing" else "is not valid"
    return kind(manner.error.format(field=name, reason=reason, value=first["input"]), description=description)


def _field(operation: type[Operation], alias: str) -> FieldInfo:
    return next((field for field in operation.model_fields.values() if field.alias == alias), FieldInfo())


def _check_size(operation: type[Operation], size: int, limits: Limits) -> None:
    if size > limits.utilities_max_file_size * MEGABYTE:
        raise too_large(operation, limits)


def _upload(part: FileStorage) -> Upload:
    size, digest = 0, hashlib.sha256()
    for piece in _pieces(part):
        size += len(piece)
        digest.update(piece)
    return Upload(name=(part.filename or "").rpartition("/")[2], key=uuid4().hex, size=size, sha256=digest.hexdigest())


def _pieces(part: FileStorage) -> Iterator[bytes]:
    part.stream.seek(0)
    while piece := part.stream.read(PIECE):
        yield piece
