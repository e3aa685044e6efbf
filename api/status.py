"""What the deployment is and how it fares, from what the service's own probes have found."""

import time
from typing import Any

from api.findings import MISSED_PERIODS, Findings, findings, storage_lacks
from api.local import VERSION, Office, answers
from broker.celery import SERVICES
from broker.gateway import Caller
from schemas.errors import UnknownFilesystems, UnknownResource, UnknownService
from schemas.settings import Settings, System
from schemas.status import (
    Alive,
    Filesystems,
    FilesystemsOf,
    OneService,
    OneSystem,
    Parameter,
    ParameterGroups,
    Parameters,
    Services,
    ServiceStatus,
    Systems,
    liveness,
)

_SCHEDULERS = {"slurm": "Slurm", "gridengine": "Grid Engine"}
_API = "tasks"  # the one service that no worker performs
_QUEUED = (*SERVICES, "delegation")


def alive(op: Alive, caller: Caller, office: Office) -> str:
    """That the service is there."""
    return "ack"


for _service in (*SERVICES, _API):
    answers(liveness(_service))(alive)


@answers(Services)
def services(op: Services, caller: Caller, office: Office) -> list[dict[str, Any]]:
    """Each service."""
    return [service.model_dump() for service in _services(office)]


@answers(OneService)
def one_service(op: OneService, caller: Caller, office: Office) -> dict[str, Any]:
    """The service. Raises UnknownService."""
    for service in _services(office):
        if service.service == op.name:
            return service.model_dump()
    raise UnknownService(description="Service does not exists")


def _services(office: Office) -> list[ServiceStatus]:
    """A service is available when a message has come through its queue lately; the API's own is, since it answers.

    Storage needs the object store besides, if there is one.
    """
    passages = office.gateway.tasks.passages()
    oldest = time.time() - MISSED_PERIODS * office.settings.probes.service_period
    lacks = {"storage": storage_lacks(office.health, office.settings)}
    queued = (_service_status(name, alive=passages.get(name, 0) > oldest, lacks=lacks.get(name, "")) for name in _QUEUED)
    return [*queued, _service_status(_API, alive=True)]


def _service_status(name: str, *, alive: bool, lacks: str = "") -> ServiceStatus:
    if alive and not lacks:
        return ServiceStatus(service=name, status="available", status_code=200, description="server up & flask running")
    description = ", ".join(words for words in ("server up" if alive else "server down", lacks) if words)
    return ServiceStatus(service=name, status="not available", status_code=400, description=description)


@answers(Systems)
def systems(op: Systems, caller: Caller, office: Office) -> list[dict[str, Any]]:
    """Each system."""
    found = findings(office.health, office.settings)
    return [found.system(system).model_dump() for system in office.settings.systems]


@answers(OneSystem)
def one_system(op: OneSystem, caller: Caller, office: Office) -> dict[str, Any]:
    """The system. Raises UnknownResource."""
    system = office.settings.system(op.name)
    if system is None:
        raise UnknownResource(description="System does not exists.")
    return findings(office.health, office.settings).system(system).model_dump()


@answers(Filesystems)
def filesystems(op: Filesystems, caller: Caller, office: Office) -> dict[str, Any]:
    """The file systems of each system."""
    found = findings(office.health, office.settings)
    return {system.name: _shown(found, system) for system in office.settings.systems}


@answers(FilesystemsOf)
def filesystems_of(op: FilesystemsOf, caller: Caller, office: Office) -> list[dict[str, Any]]:
    """The file systems of the system. Raises UnknownFilesystems."""
    system = office.settings.system(op.system)
    if system is None:
        raise UnknownFilesystems(f"System '{op.system}' doesn't exist")
    return _shown(findings(office.health, office.settings), system)


def _shown(found: Findings, system: System) -> list[dict[str, Any]]:
    return [found.filesystem(system, filesystem).model_dump() for filesystem in system.filesystems]


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
