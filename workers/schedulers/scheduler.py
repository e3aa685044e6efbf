"""What a workload manager is to us: commands with the reading of their output, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from schemas.cluster import Node, Partition, Reservation
from schemas.compute import AccountedJob, JobRequest, Submitted
from workers.host import Command
from workers.streams import Source

WRITTEN_ONCE_STARTED: Final = ("PENDING", "CONFIGURING")


@dataclass(frozen=True)
class Queued:
    """A job in the queue, file names with their patterns filled in; `output` and `errors` are their last bytes, if asked for."""

    jobid: str
    partition: str
    name: str
    user: str
    state: str
    start_time: str
    time: str
    time_left: str
    nodes: str
    nodelist: str
    script: str
    stdout: str
    stderr: str
    output: str = ""
    errors: str = ""

    @property
    def has_output(self) -> bool:
        """Whether the job may have written anything yet."""
        return self.state not in WRITTEN_ONCE_STARTED


@dataclass(frozen=True)
class Tails:
    """For which jobs of a queue, counted from 0, the last `count` bytes of their output are wanted; `stop` None: to the end."""

    count: int
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Submission:
    """What to submit: `script` lies in `folder` when its content is given, else it is a path on the system.

    `receipts` is the task's own folder, which holds lock and receipt; `options` are the site's own words, `parallel_environment` is
    Grid Engine's name for what gives a job several slots on one node. `after` are the ids of jobs that must have ended well before
    it starts: it is refused when one has not or nobody knows of it, and cancelled when one does not in the end.
    """

    receipts: str
    folder: str
    script: str
    content: Source | None
    request: JobRequest
    options: Sequence[str]
    parallel_environment: str = ""
    after: Sequence[str] = ()


class Scheduler(Protocol):
    """A workload manager; every function makes a command and runs nothing.

    `JOB_ID` stands for the job's id in names of its output.
    """

    JOB_ID: str

    def submit(self, job: Submission) -> Command[Submitted]:
        """Submit once, whatever happens: a repeated call finds the receipt of the first."""

    def queue(self, *, ids: str | None, user: str | None, tails: Tails | None) -> Command[list[Queued]]:
        """The jobs in the queue, of one user and with these ids if given, and the ends of their output, all in one command."""

    def cancel(self, ids: str) -> Command[str]:
        """Cancel jobs; what the scheduler says of it."""

    def accounting(self, *, ids: str, start: str, end: str) -> Command[list[AccountedJob]]:
        """The jobs in the accounting records."""

    def nodes(self, names: Sequence[str]) -> Command[list[Node]]:
        """The nodes of these names, all when there are none."""

    def partitions(self) -> Command[list[Partition]]:
        """All partitions."""

    def reservations(self) -> Command[list[Reservation]]:
        """All reservations."""

    def ping(self) -> Command[bool]:
        """Whether the workload manager is there; a failure of the command means no."""
