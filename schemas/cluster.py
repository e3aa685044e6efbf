"""What a system is made of: nodes, partitions and reservations, their keys written as Slurm writes them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from schemas.compute import Reachable
from schemas.fields import Refusal, Text
from schemas.operation import Course, Operation, operation

FAILED = "Failed to retrieve account information"
_QUERY: dict[str, Any] = {"says": "Task created", "fails": FAILED, "course": Course.DEFERRED, "shared": True}


class _Record(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, populate_by_name=True)


class Node(_Record):
    """A compute node; null for what the scheduler does not tell."""

    node_name: str
    active_features: list[str] | None
    partitions: list[str] | None
    state: list[str] | None


class Partition(_Record):
    """A partition, which other schedulers call a queue."""

    partition_name: str
    state: str
    total_cpus: str = Field(alias="TotalCPUs")
    total_nodes: str
    default: str


class Reservation(_Record):
    """Nodes set aside for some users and some time."""

    reservation_name: str
    state: str
    nodes: str
    start_time: str
    end_time: str
    features: list[str]


@operation("GET /compute/nodes", list[Node], **_QUERY, probe=lambda _: Reachable())
class Nodes(Operation):
    """List compute nodes."""

    nodes: Annotated[Text | None, Refusal("Failed to retrieve nodes information", "node '{value}' {reason}")] = Field(
        None, description="Comma-separated names of nodes; all when absent"
    )


@operation("GET /compute/nodes/{nodeName}", list[Node], **_QUERY, probe=lambda _: Reachable())
class OneNode(Operation):
    """Show a compute node."""

    node_name: Annotated[Text, Refusal("Failed to retrieve node", "nodeName '{value}' {reason}")] = Field(description="Name of the node")


@operation("GET /compute/partitions", list[Partition], **_QUERY, probe=lambda _: Reachable(purpose=FAILED))
class Partitions(Operation):
    """List partitions."""

    partitions: Annotated[Text | None, Refusal("Failed to retrieve partitions information", "partition '{value}' {reason}")] = Field(
        None, description="Comma-separated names of partitions, of which unknown ones are left out; all when absent"
    )


@operation("GET /compute/reservations", list[Reservation], **_QUERY, probe=lambda _: Reachable(purpose=FAILED))
class Reservations(Operation):
    """List reservations, as any user sees them."""

    reservations: Annotated[Text | None, Refusal("Failed to retrieve reservations information", "reservations '{value}' {reason}")] = Field(
        None, description="Comma-separated names of reservations, of which unknown ones are left out; all when absent"
    )
