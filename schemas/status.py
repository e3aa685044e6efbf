"""What the deployment is and how it fares."""

from typing import Any

from pydantic import BaseModel, Field

from schemas.operation import Course, Operation, operation
from schemas.rights import EVERY_RIGHT


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


class FilesystemStatus(BaseModel):
    """A file system of a system and whether it can be used."""

    name: str
    path: str
    description: str
    status: str
    status_code: int


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


_LOCAL: dict[str, Any] = {"course": Course.LOCAL, "on_system": False, "envelope": "out", "open_to": EVERY_RIGHT}


@operation("GET /status/services", list[ServiceStatus], says="List of services with status and description.", **_LOCAL)
class Services(Operation):
    """List the services."""


@operation("GET /status/services/{name}", ServiceStatus, **{**_LOCAL, "envelope": None})
class OneService(Operation):
    """Show a service."""

    name: str = Field(description="Name of the service")


@operation("GET /status/systems", list[SystemStatus], says="List of systems with status and description.", **_LOCAL)
class Systems(Operation):
    """List the systems."""


@operation("GET /status/systems/{name}", SystemStatus, says="System information", **_LOCAL)
class OneSystem(Operation):
    """Show a system."""

    name: str = Field(description="Name of the system")


@operation("GET /status/filesystems", dict[str, list[FilesystemStatus]], says="Filesystem information", **_LOCAL)
class Filesystems(Operation):
    """List the file systems of every system."""


@operation("GET /status/filesystems/{system}", list[FilesystemStatus], says="Filesystem information for system", **_LOCAL)
class FilesystemsOf(Operation):
    """List the file systems of a system."""

    system: str = Field(description="Name of the system")

    def says(self) -> str:
        """With the name of the system, be it one or not (contract, 1.8)."""
        return f"{self.route.says} {self.system}"

    def fails(self) -> str:
        """The same."""
        return self.says()


@operation("GET /status/parameters", ParameterGroups, says="Firecrest's parameters", **_LOCAL)
class Parameters(Operation):
    """List the settings that clients may want to know."""


class Alive(Operation):
    """Tell that the service is there."""


def liveness(service: str) -> type[Alive]:
    """`Alive`, declared for a service."""
    model = type(Alive.__name__, (Alive,), {"__doc__": Alive.__doc__, "__module__": __name__})
    return operation(f"GET /{service}/status", str, **{**_LOCAL, "envelope": "success"})(model)
