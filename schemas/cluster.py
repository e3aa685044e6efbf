"""What a system is made of: the records of nodes, partitions and reservations, their keys written as Slurm writes them."""

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal


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
