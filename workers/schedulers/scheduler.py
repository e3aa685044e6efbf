"""What a workload manager is to us: commands with the reading of their output, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.compute import AccountedJob, Submitted
from workers.host import Command
from workers.streams import Source

_WRITTEN_ONCE_STARTED = ("PENDING", "CONFIGURING")


@dataclass(frozen=True)
class Queued:
    """A job as squeue knows it, file names with their patterns filled in."""

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

    @property
    def has_output(self) -> bool:
        """Whether the job may have written anything yet."""
        return self.state not in _WRITTEN_ONCE_STARTED


@dataclass(frozen=True)
class Submission:
    """What to submit: `script` lies in `folder` when its content is given, else it is a path on the system.

    `receipts` is the task's own folder, which holds lock and receipt.
    """

    receipts: str
    folder: str
    script: str
    content: Source | None
    account: str | None
    environment: dict[str, str]
    options: Sequence[str]


class Scheduler(Protocol):
    """A workload manager; every function makes a command and runs nothing."""

    def submit(self, job: Submission) -> Command[Submitted]:
        """Submit once, whatever happens: a repeated call finds the receipt of the first."""

    def queue(self, *, ids: str | None, user: str | None) -> Command[list[Queued]]:
        """The jobs in the queue, of one user and with these ids if given."""

    def cancel(self, ids: str) -> Command[str]:
        """Cancel jobs; what the scheduler says of it."""

    def accounting(self, *, ids: str, start: str, end: str) -> Command[list[AccountedJob]]:
        """The jobs in the accounting records."""
