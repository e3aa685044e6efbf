"""What a cluster of Grid Engine is made of: hosts, queues, and advance reservations, in Slurm's words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.cluster import Node, Partition, Reservation
from schemas.errors import CommandFailed
from workers.host import Command
from workers.schedulers.gridengine import programs
from workers.schedulers.gridengine.jobs import failed

_UNREACHABLE = "u"
_STARTS_NOTHING = frozenset("auACDdEosS")  # of the states of a queue in qstat(1)


# No parser of XML: what a user's session prints may be anything, expanding entities included.
_HOST = re.compile(r"<host name='([^']*)'>(.*?)</host>", re.DOTALL)
_QUEUE = re.compile(r"<queue name='([^']*)'>(.*?)</queue>", re.DOTALL)
_VALUE = re.compile(r"<queuevalue qname='[^']*' name='(\w+)'>([^<]*)<")
_RESERVATION = re.compile(r"<ar_summary>(.*?)</ar_summary>", re.DOTALL)
_FACT = re.compile(r"<(id|state|start_time|end_time)>([^<]*)<")
_GRANTED = re.compile(r'<granted_slots +queue_instance="[^"@]*@([^"]*)"')


@dataclass(frozen=True)
class _Queue:
    """The instance of a queue on a host."""

    name: str
    slots: int
    used: int
    state: str

    @property
    def starts_jobs(self) -> bool:
        return not _STARTS_NOTHING.intersection(self.state)


def _hosts(stdout: bytes) -> dict[str, list[_Queue]]:
    found = _HOST.findall(stdout.decode(errors="replace"))
    return {
        host: [_queue(name, dict(_VALUE.findall(values))) for name, values in _QUEUE.findall(text)]
        for host, text in found
        if host != "global"
    }


def _queue(name: str, values: dict[str, str]) -> _Queue:
    return _Queue(name, int(values["slots"] or 0), int(values["slots_used"] or 0), values["state_string"])


def nodes(names: Sequence[str]) -> Command[list[Node]]:
    """The nodes of these names, all when there are none; raises CommandFailed for one that is not there."""

    def parse(stdout: bytes) -> list[Node]:
        hosts = _hosts(stdout)
        for name in names:
            if name not in hosts:
                raise CommandFailed(f"Node {name} not found")
        return [_node(name, queues) for name, queues in hosts.items() if not names or name in names]

    return Command(programs.HOSTS, parse, repeatable=True, fails=failed)


def _node(name: str, queues: Sequence[_Queue]) -> Node:
    return Node(node_name=name, active_features=None, partitions=[queue.name for queue in queues], state=_state(queues))


def _state(queues: Sequence[_Queue]) -> list[str]:
    if any(_UNREACHABLE in queue.state for queue in queues):
        return ["DOWN"]
    used, slots = sum(queue.used for queue in queues), sum(queue.slots for queue in queues)
    state = "IDLE" if not used else "ALLOCATED" if used >= slots else "MIXED"
    return [state] if any(queue.starts_jobs for queue in queues) else [state, "DRAIN"]


def partitions() -> Command[list[Partition]]:
    """All queues."""
    return Command(programs.HOSTS, _partitions, repeatable=True, fails=failed)


def _partitions(stdout: bytes) -> list[Partition]:
    instances: dict[str, list[_Queue]] = {}
    for queues in _hosts(stdout).values():
        for queue in queues:
            instances.setdefault(queue.name, []).append(queue)
    return [
        Partition(
            partition_name=name,
            # Slurm's word for taking jobs without starting them, as a disabled queue does
            state="UP" if any(queue.starts_jobs for queue in queues) else "DOWN",
            total_cpus=str(sum(queue.slots for queue in queues)),
            total_nodes=str(len(queues)),
            default="YES" if len(instances) == 1 else "NO",
        )
        for name, queues in instances.items()
    ]


def reservations() -> Command[list[Reservation]]:
    """All advance reservations, called by their numbers."""
    return Command(("sh", "-c", programs.RESERVATIONS), _reservations, repeatable=True, fails=failed)


def _reservations(stdout: bytes) -> list[Reservation]:
    return [_reservation(text) for text in _RESERVATION.findall(stdout.decode(errors="replace"))]


def _reservation(text: str) -> Reservation:
    facts = dict(_FACT.findall(text))
    return Reservation(
        reservation_name=facts["id"],
        state="ACTIVE" if facts["state"] == "r" else "INACTIVE",
        nodes=",".join(dict.fromkeys(_GRANTED.findall(text))),
        start_time=facts["start_time"],
        end_time=facts["end_time"],
        features=[],
    )


def ping() -> Command[bool]:
    """Whether the qmaster answers."""
    return Command(("qconf", "-sss"), lambda _: True, repeatable=True)
