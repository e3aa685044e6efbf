"""Hostile calls of every declared operation: each field in turn holds each hostile value, the others are in order."""

import io
import itertools
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.documents import Field, fields
from api.resources import paths
from schemas.operation import Course, Operation
from tests.real_site import Client, Site
from tests.site.conftest import Folder, make_folder
from tests.site.hostile_shapes import SHAPES
from tests.site.hostile_values import HUGE, INJECTIONS, PLAIN, Canaries, Value
from tests.site.raw_http import MULTIPART, URLENCODED, File, Pairs, Request, escaped, multipart, urlencoded

SCRIPT = b"#!/bin/sh\n#SBATCH --output=/dev/null\n#SBATCH --time=1\ntrue\n"


# Fields that are optional only because another one may stand for them.
_NEEDED = {"utilities.Stat": "targetPath", "utilities.Chown": "owner"}


@dataclass(frozen=True)
class Case:
    """A call: what it aims at, and what is sent."""

    operation: type[Operation]
    field: str
    value: Value
    request: Request

    def __str__(self) -> str:
        shown = repr(self.value.text if len(self.value.text) < 120 else self.value.text[:100] + b"...")
        return f"{self.operation.task()} ({self.request.verb} {self.request.path[:60]!r}) {self.field} = {shown}"


class Scenery:
    """What calls that are in order name: files of a user on the system, and a task."""

    def __init__(self, folder: Folder, task_id: str) -> None:
        self._folder = folder
        self._task_id = task_id
        self._numbers = itertools.count()
        self._text = folder.file("text", b"one\ntwo\n")
        self._script = folder.file("job.sh", SCRIPT)
        self._packed = _packed()

    def value(self, operation: type[Operation], field: Field) -> bytes:
        """A value of a required field that lets the call reach the system."""
        makers: dict[str, Callable[[], str]] = {
            "targetPath": lambda: self._target(operation),
            "sourcePath": lambda: self._folder.file(f"{next(self._numbers)}.tar", self._packed),
            "linkPath": lambda: f"{self._folder.path}/{next(self._numbers)}",
            "taskid": lambda: self._task_id,
            "X-Task-Id": lambda: self._task_id,
            "name": lambda: {"/status/systems/{name}": "cluster"}.get(operation.route.path, "utilities"),
        }
        known = {
            "mode": "755", "owner": self._folder.user, "group": self._folder.user, "jobid": "1", "nodeName": "n1", "nodename": "n1",
            "account": "projectb", "reservation": "hostile", "numberOfNodes": "1", "nodeType": "normal", "system": "cluster",
            "starttime": "2036-11-22T10:00:00", "endtime": "2036-11-22T11:00:00",
        }  # fmt: skip
        return makers.get(field.name, lambda: known.get(field.name, "1"))().encode()

    def _target(self, operation: type[Operation]) -> str:
        if operation.route.path == "/compute/jobs/path":
            return self._script
        if operation.route.verb == "GET":
            return self._text
        return self._folder.folder(str(next(self._numbers)))


@contextmanager
def scenery(site: Site, client: Client) -> Iterator[Scenery]:
    """What is in order in a user's home, which is swept afterwards."""
    task = client.task(client.post("/compute/jobs", files={"file": ("job.sh", SCRIPT)}))
    yield Scenery(make_folder(client.user), task["task_id"])
    site.slurm("scancel", f"--user={client.user}")
    for entry in Path(f"/home/{client.user}").iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("inside"))
    return buffer.getvalue()


def hostile(operation: type[Operation], scenery: Scenery, canaries: Canaries, *, system: str, whole: bool) -> Iterator[Case]:
    """The hostile calls of an operation: with every value in every field if they are to be whole, else with a share of them."""
    headers = [_header(name) for name in ("Authorization", "X-Machine-Name") if name == "Authorization" or operation.route.on_system]
    for path in paths(operation):
        call = Call(operation, path, scenery, system)
        for field in [*fields(operation), *headers]:
            for number, value in enumerate(_values(field, canaries, (1, 1) if whole else _shares(operation, path, field), path)):
                yield Case(operation, field.name, value, call.with_value(field, value.text, variant=number % 2))
        for name, request in call.shapes():
            yield Case(operation, "the request", Value(name.encode()), request)


def _header(name: str) -> Field:
    return Field(name, {}, "header", required=True)


def _values(field: Field, canaries: Canaries, shares: tuple[int, int], path: str) -> Iterator[Value]:
    plain, injecting = shares
    first = zlib.crc32(f"{path} {field.name}".encode())
    for text in (*PLAIN[first % plain :: plain], *([HUGE[first % len(HUGE)]] if field.place == "formData" else [])):
        yield Value(text)
    for template in INJECTIONS[first % injecting :: injecting]:
        yield canaries.value(template)
        if field.place == "path":
            yield canaries.value(template, home=True)


def _shares(operation: type[Operation], path: str, field: Field) -> tuple[int, int]:
    """Of how many plain values, and of how many injecting ones, a field gets one: each field others, so that all are used.

    Headers and flags are read in one place for all operations, deferred calls cost the scheduler much, and transfer jobs have
    most of their fields in common.
    """
    if operation.route.transfer_job or field.place == "header" or field.schema.get("type") == "boolean" or path == operation.route.also:
        return 16, 8
    return (8, 4) if operation.route.course is Course.DEFERRED else (3, 1)


class Call:
    """A call of an operation that is in order but for what is asked to be wrong."""

    def __init__(self, operation: type[Operation], path: str, scenery: Scenery, system: str) -> None:
        self._operation = operation
        self._path = path
        self._scenery = scenery
        self._fields = list(fields(operation))
        self._headers = [("X-Machine-Name", system.encode())] if operation.route.on_system else []

    def in_order(self) -> Request:
        """Nothing is wrong."""
        return self._request(self._filled(_NEEDED.get(self._operation.task(), "")))

    def with_value(self, field: Field, text: bytes, *, variant: int = 0) -> Request:
        """One field holds this; the variant says in which encoding."""
        alone = not field.required and field.schema.get("type") != "boolean"
        values = self._filled("" if alone else _NEEDED.get(self._operation.task(), ""))
        if field.place == "header":
            text = b"Bearer " + text if field.name == "Authorization" and variant else text
            request = self._request(values)
            request.headers = [(name, value) for name, value in request.headers if name != field.name] + [(field.name, text)]
            return request
        values[field.name] = File(text, SCRIPT, extended=bool(variant)) if _is_file(field) else text
        return self._request(values, as_multipart=bool(variant))

    def _filled(self, needed: str) -> dict[str, bytes | File]:
        return {
            field.name: File(b"job.sh", SCRIPT) if _is_file(field) else self._scenery.value(self._operation, field)
            for field in self._fields
            if field.required or field.name == needed
        }

    def _request(self, values: dict[str, bytes | File], *, as_multipart: bool = False) -> Request:
        path, headers = self._path.encode(), list(self._headers)
        pairs: Pairs = []
        files: dict[str, File] = {}
        for field in self._fields:
            value = values.get(field.name)
            if isinstance(value, File):
                files[field.name] = value
            elif value is None:
                continue
            elif field.place == "path":
                path = path.replace(f"{{{field.name}}}".encode(), escaped(value))
            elif field.place == "header":
                headers.append((field.name, value))
            else:
                pairs.append((field.name, value))
        if self._operation.route.verb == "GET":
            return Request("GET", path + (b"?" + urlencoded(pairs) if pairs else b""), headers)
        if files or as_multipart:
            return Request(self._operation.route.verb, path, [*headers, ("Content-Type", MULTIPART)], multipart(pairs, files))
        return Request(self._operation.route.verb, path, [*headers, ("Content-Type", URLENCODED)], urlencoded(pairs))

    def shapes(self) -> Iterator[tuple[str, Request]]:
        """Requests that are wrong as a whole."""
        for name, shape in SHAPES.items():
            request = self.in_order()
            shape(request)
            yield name, request


def _is_file(field: Field) -> bool:
    return "$ref" in field.schema
