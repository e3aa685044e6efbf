"""The operations that the API answers itself: task records, and what the deployment is and how it fares."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.celery import SERVICES
from broker.gateway import Caller
from broker.health import Health
from broker.tasks import Tasks as Records
from schemas.operation import Operation
from schemas.settings import Settings
from schemas.status import Parameter, ParameterGroups, Parameters, Services, ServiceStatus, Systems, SystemStatus
from schemas.tasks import OneTask, Tasks

VERSION = "1.16.6+celery.0.1"
_MISSED_PERIODS = 3
_SCHEDULERS = {"slurm": "Slurm", "gridengine": "Grid Engine"}


@dataclass(frozen=True)
class Office:
    """What local answers are made from."""

    records: Records
    health: Health
    settings: Settings


Answer = Callable[[Any, Caller, Office], Any]
ANSWERS: dict[type[Operation], Answer] = {}


def answers(operation: type[Operation]) -> Callable[[Answer], Answer]:
    """Mark the function that answers `operation`."""

    def declare(answer: Answer) -> Answer:
        ANSWERS[operation] = answer
        return answer

    return declare


@answers(Tasks)
def tasks(op: Tasks, caller: Caller, office: Office) -> dict[str, Any]:
    """The caller's tasks by id, newest first."""
    ids = None if op.tasks is None else op.tasks.split(",")
    return {task.task_id: task.shown() for task in office.records.of(caller.user, ids)}


@answers(OneTask)
def one_task(op: OneTask, caller: Caller, office: Office) -> dict[str, Any]:
    """The task, if it is the caller's."""
    task = office.records.find(op.task_id, caller.user)
    return {**task.shown(), "task_url": task.url()}


@answers(Services)
def services(op: Services, caller: Caller, office: Office) -> list[dict[str, Any]]:
    """Each service: available when a message has come through its queue lately."""
    passages = office.records.passages()
    oldest = time.time() - _MISSED_PERIODS * office.settings.engine.probe_seconds
    return [_service(name, alive=passages.get(name, 0) > oldest).model_dump() for name in SERVICES]


def _service(name: str, *, alive: bool) -> ServiceStatus:
    if alive:
        return ServiceStatus(service=name, status="available", status_code=200, description="server up & flask running")
    return ServiceStatus(service=name, status="not available", status_code=400, description="server down")


@answers(Systems)
def systems(op: Systems, caller: Caller, office: Office) -> list[dict[str, Any]]:
    """Each system: available when the service's last probe could reach it."""
    return [_system(system.name, office).model_dump() for system in office.settings.systems]


def _system(name: str, office: Office) -> SystemStatus:
    seen = office.health.of(name)
    if seen is not None and time.time() - seen.at > _MISSED_PERIODS * office.settings.engine.probe_seconds:
        seen = None
    if seen is None:
        return SystemStatus(system=name, status="not available", description="System has not been probed lately")
    if not seen.reachable:
        return SystemStatus(system=name, status="not available", description="System does not accept connections")
    return SystemStatus(system=name, status="available", description="System ready")


@answers(Parameters)
def parameters(op: Parameters, caller: Caller, office: Office) -> dict[str, Any]:
    """The settings that clients may want to know."""
    limits, storage = office.settings.limits, office.settings.storage
    groups = ParameterGroups(
        general=[
            _parameter("FIRECREST_VERSION", VERSION, "", "FirecREST version"),
            _parameter("FIRECREST_BUILD", VERSION.partition("+")[2], "", "FirecREST build"),
        ],
        compute=[_parameter("WORKLOAD_MANAGER", _schedulers(office.settings), "", "Type of resource and workload manager used in compute")],
        utilities=[
            _parameter(
                "UTILITIES_MAX_FILE_SIZE", str(limits.utilities_max_file_size), "MB", "Maximum file size for upload, download and view"
            ),
            _parameter("UTILITIES_TIMEOUT", str(limits.utilities_timeout), "seconds", "Maximum time for utilities commands"),
        ],
        storage=[
            _parameter("OBJECT_STORAGE", storage.technology if storage else "", "", "Type of object storage"),
            _parameter("STORAGE_TEMPURL_EXP_TIME", str(storage.url_seconds if storage else 0), "seconds", "Lifetime of temporary URLs"),
            _parameter("STORAGE_MAX_FILE_SIZE", str(storage.max_file_size if storage else 0), "MB", "Maximum file size for transfers"),
            _parameter("FILESYSTEMS", _filesystems(office.settings), "", "File systems of every system"),
        ],
    )
    return groups.model_dump()


def _parameter(name: str, value: Any, unit: str, description: str) -> Parameter:
    return Parameter(name=name, value=value, unit=unit, description=description)


def _schedulers(settings: Settings) -> str:
    return ", ".join(dict.fromkeys(_SCHEDULERS[system.scheduler] for system in settings.systems))


def _filesystems(settings: Settings) -> list[dict[str, Any]]:
    return [{"system": system.name, "mounted": [file.path for file in system.filesystems]} for system in settings.systems]
