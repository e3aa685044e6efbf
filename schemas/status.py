"""What the deployment is and how it fares."""

from typing import Any

from pydantic import BaseModel

from schemas.operation import Course, Operation, operation


class ServiceStatus(BaseModel):
    """A service and whether it answers."""

    service: str
    status: str
    status_code: int
    description: str


class SystemStatus(BaseModel):
    """A system and whether it can be reached."""

    system: str
    status: str
    description: str


class Parameter(BaseModel):
    """A setting that clients may want to know."""

    name: str
    value: Any
    unit: str
    description: str


class ParameterGroups(BaseModel):
    """The settings, by service."""

    general: list[Parameter]
    compute: list[Parameter]
    utilities: list[Parameter]
    storage: list[Parameter]


_LOCAL: dict[str, Any] = {"course": Course.LOCAL, "on_system": False, "envelope": "out"}


@operation("GET /status/services", list[ServiceStatus], says="List of services with status and description.", **_LOCAL)
class Services(Operation):
    """List the services."""


@operation("GET /status/systems", list[SystemStatus], says="List of systems with status and description.", **_LOCAL)
class Systems(Operation):
    """List the systems."""


@operation("GET /status/parameters", ParameterGroups, says="Firecrest's parameters", **_LOCAL)
class Parameters(Operation):
    """List the settings that clients may want to know."""
