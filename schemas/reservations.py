"""Reservations of nodes, managed by the users whom the site allows."""

import re
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.fields import because, saying
from schemas.operation import Operation, operation

_NAME = re.compile(r"[a-z_$][a-z0-9_$-]*")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise because(f"parameter format is not valid (value entered:'{text}')")
    return text


def _nodes(value: Any) -> int:
    if not _NUMBER.fullmatch(str(value)) or not int(value):
        raise because(f"parameter is not valid. It should be an integer > 0 (value entered:'{value}')")
    return int(value)


def _time(text: str) -> str:
    if not _TIME.fullmatch(text) or not _exists(text):
        raise because(f"parameter format is not valid. It should be YYYY-MM-DDTHH:MM:SS (value entered:'{text}')")
    return text


def _exists(time: str) -> bool:
    try:
        datetime.fromisoformat(time)
    except ValueError:
        return False
    return True


Name = Annotated[str, AfterValidator(_name)]
Nodes = Annotated[int, BeforeValidator(_nodes), Field(json_schema_extra={"minimum": 1})]
Time = Annotated[str, AfterValidator(_time)]


# Parameters are checked from the last base class to the first, which is the order of the contract.


class Named(Operation):
    """What concerns one reservation."""

    reservation: Name = Field(description="Name of the reservation")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: dict[str, Any]) -> dict[str, Any]:
        for field in cls.model_fields.values():
            if field.alias not in values:
                raise saying(f"'{field.alias}' form data input missing")
        return values


class Charged(Named):
    """What concerns the reservation of an account."""

    account: Name = Field(description="Account that may use it")


class Extent(Operation):
    """Which nodes, and when: `YYYY-MM-DDTHH:MM:SS` by the clock of the system."""

    node_type: Name = Field(description="Type of its nodes; with Slurm a feature that they have")
    number_of_nodes: Nodes = Field(description="Number of its nodes")
    start_time: Time = Field(alias="starttime", description="When it begins, by the clock of the system: YYYY-MM-DDTHH:MM:SS")
    end_time: Time = Field(alias="endtime", description="When it ends, by the clock of the system: YYYY-MM-DDTHH:MM:SS")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end_time <= self.start_time:
            values = f"endtime='{self.end_time}' <= starttime='{self.start_time}'"
            raise saying(f"'endtime' occurs before 'starttime' (values entered: {values})")
        return self


@operation("GET /reservations", list[dict[str, str]], fails="Error listing reservation", envelope="success", fails_is_error=True)
class Reservations(Operation):
    """List the reservations."""

    def fails(self) -> str:
        """What is said of this call when it fails."""
        return "Error listing reservations"


@operation("POST /reservations", str, fails="Error creating reservation", status=201, envelope="success", fails_is_error=True)
class CreateReservation(Extent, Charged):
    """Create a reservation."""


@operation("PUT /reservations/{reservation}", str, fails="Error updating reservation", envelope="success", fails_is_error=True)
class UpdateReservation(Extent, Named):
    """Change nodes and times of a reservation."""


@operation("DELETE /reservations/{reservation}", None, fails="Error deleting reservation", status=204, fails_is_error=True)
class DeleteReservation(Named):
    """Delete a reservation."""
