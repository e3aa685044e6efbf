"""What a job may ask for, in the words of qsub."""

import math
import posixpath
import re
from collections.abc import Callable, Iterator
from datetime import datetime

from pydantic.alias_generators import to_camel

from schemas.compute import JobRequest
from schemas.errors import CommandFailed
from workers.schedulers.scheduler import Submission

_UNSUPPORTED = ("qos", "gpus", "constraint")
_NAME = re.compile(r"[A-Za-z_.][A-Za-z0-9_.-]{0,254}", re.ASCII)
_TIME = re.compile(r"(?:(\d+)-(\d+)(?::(\d+)(?::(\d+))?)?|(?:(\d+):)?(\d+):(\d+)|(\d+))", re.ASCII)
_MEMORY = re.compile(r"(\d+)([KMGT]?)", re.ASCII | re.IGNORECASE)
_MEBIBYTES = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}
_ARRAY = re.compile(r"(\d+(?:-\d+(?::\d+)?)?)(?:%(\d+))?", re.ASCII)
_DEPENDENCY = re.compile(r"afterany((?::\d+)+)", re.ASCII)
_LONGEST_VARIABLE = 9999  # the shepherd of 8.1.9 cuts the rest off
_NO_SUCCESS = "which waits for the end of jobs however they end"
_BEGIN = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")


def unsupported(field: str, why: str = "") -> CommandFailed:
    """The refusal of what Grid Engine cannot do."""
    return CommandFailed(f"'{to_camel(field)}' {why or 'is not supported by Grid Engine'}")


def options(job: Submission) -> list[str]:
    """The options of qsub for what the request asks for; raises CommandFailed for what Grid Engine cannot do."""
    request = job.request
    for field in _UNSUPPORTED:
        if getattr(request, field) is not None:
            raise unsupported(field)
    if job.after:
        raise unsupported("stage_out_job_id", f"is not supported by Grid Engine, {_NO_SUCCESS}")
    words = [*_named(request, job.script), *_sized(request, job.parallel_environment)]
    for option, field, said in _PLAIN:
        value = getattr(request, field)
        words += [option, said(value)] if value is not None else []
    return [*words, *_array(request), *_variables(request)]


def _named(request: JobRequest, script: str) -> list[str]:
    """A job is called like its script, but not every name of a file is one of a job."""
    if request.job_name is None:
        name = posixpath.basename(script)
        return [] if _NAME.fullmatch(name) else ["-N", re.sub(r"[^A-Za-z0-9_.-]", "_", f"_{name}")[:255]]
    if not _NAME.fullmatch(request.job_name):
        raise unsupported("job_name", "of Grid Engine has letters, digits, '.', '_' and '-' and does not begin with a digit or '-'")
    return ["-N", request.job_name]


def _sized(request: JobRequest, parallel_environment: str) -> list[str]:
    if request.nodes not in (None, "1", "1-1"):
        raise unsupported("nodes", "other than 1 is not supported by Grid Engine")
    slots = (request.ntasks or 1) * (request.cpus_per_task or 1)
    words = ["-pe", parallel_environment, str(slots)] if slots > 1 else []
    return [*words, "-l", f"h_vmem={_mebibytes(request.memory, slots)}M"] if request.memory is not None else words


def _mebibytes(memory: str, slots: int) -> int:
    """What each slot may have, of what the node is to have: Grid Engine counts by slots."""
    number, unit = _MEMORY.findall(memory)[0]
    return math.ceil(int(number) * _MEBIBYTES[unit.upper()] / slots)


def seconds(time: str) -> int:
    """Seconds of a time such as M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    days, day_hours, day_minutes, day_seconds, hours, minutes, rest, alone = (int(part or 0) for part in _TIME.findall(time)[0])
    return ((days * 24 + day_hours + hours) * 60 + day_minutes + minutes + alone) * 60 + day_seconds + rest


def _begin(begin: str) -> str:
    for form in _BEGIN:
        try:
            return f"{datetime.strptime(begin, form):%Y%m%d%H%M.%S}"  # noqa: DTZ007 (the system knows its zone)
        except ValueError:
            continue
    raise unsupported("begin", "of Grid Engine is YYYY-MM-DD, YYYY-MM-DDTHH:MM or YYYY-MM-DDTHH:MM:SS")


def _dependency(dependency: str) -> str:
    ids: list[str] = []
    for one in dependency.split(","):
        match = _DEPENDENCY.fullmatch(one)
        if not match:
            raise unsupported("dependency", f"of Grid Engine is afterany:ID[:ID...], {_NO_SUCCESS}")
        ids += match[1][1:].split(":")
    return ",".join(ids)


def _reservation(reservation: str) -> str:
    if not reservation.isdecimal():
        raise unsupported("reservation", "of Grid Engine is the number of an advance reservation")
    return reservation


def _path(field: str) -> Callable[[str], str]:
    def said(path: str) -> str:
        if "," in path:
            raise unsupported(field, "of Grid Engine cannot hold a comma")
        return f":{path}"  # what is before the first colon would be a host

    return said


_PLAIN: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("-P", "account", str),
    ("-q", "partition", str),
    ("-l", "time", lambda time: f"h_rt={seconds(time)}"),
    ("-hold_jid", "dependency", _dependency),
    ("-a", "begin", _begin),
    ("-ar", "reservation", _reservation),
    ("-o", "output", _path("output")),
    ("-e", "error", _path("error")),
)


def _array(request: JobRequest) -> Iterator[str]:
    if request.array is not None:
        match = _ARRAY.fullmatch(request.array)
        if not match or re.match(r"0+(?!\d)", match[1]):
            raise unsupported("array", "of Grid Engine is FIRST-LAST[:STEP][%LIMIT] or one index, and begins at 1")
        yield from ("-t", match[1])
        yield from ("-tc", match[2]) if match[2] else ()


def _variables(request: JobRequest) -> Iterator[str]:
    for name, value in request.env.items():
        if name.startswith("SGE_"):
            raise unsupported("env", f"cannot set {name}, which is Grid Engine's own")
        if len(re.sub(r"[\n\\]", "xx", f"{name}={value}").encode()) > _LONGEST_VARIABLE:
            raise unsupported("env", f"of Grid Engine has at most {_LONGEST_VARIABLE} bytes for NAME=value; {name} is longer")
    if request.env:
        yield from ("-v", ",".join(request.env))
