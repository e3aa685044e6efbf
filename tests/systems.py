"""The systems of the site as a user on them sees them: the same wishes and questions in the words of either scheduler."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tests.real_site import Site


class System(ABC):
    """One system, touched without the gateway; `options` are those of its submitting command, by what they wish."""

    sign: ClassVar[str]
    options: ClassVar[Mapping[str, Sequence[str]]]
    words: ClassVar[Mapping[str, str]]
    refusals: ClassVar[Mapping[str, tuple[str, str]]]
    names: ClassVar[Sequence[str]]
    first_project: ClassVar[str]
    longest_variable: ClassVar[int]

    def __init__(self, site: Site) -> None:
        self.site = site

    @property
    @abstractmethod
    def name(self) -> str:
        """Its public name."""

    def script(self, commands: str, **wishes: str) -> str:
        """A batch script with what it wishes in the scheduler's own words."""
        wishes = wishes or {"output": "/dev/null"}
        lines = [f"{self.sign} {' '.join(self.option(name, value))}" for name, value in wishes.items()]
        return "\n".join(["#!/bin/sh", *lines, commands, ""])

    def option(self, name: str, value: str) -> list[str]:
        """The words of an option."""
        return [word.format(value) for word in self.options[name]]

    def all_options(self, wishes: Mapping[str, str]) -> list[str]:
        """The words of several options."""
        return [word for name, value in wishes.items() for word in self.option(name, value)]

    @abstractmethod
    def directly(self, *, user: str = "fcalice", run: str = "sleep 600", **wishes: str) -> str:
        """The id of a job that a user submits on the system itself."""

    @abstractmethod
    def state(self, job: str) -> str:
        """The state of a job or task in the queue, in Slurm's words; "" when it is not there."""

    @abstractmethod
    def is_over(self, job: str) -> bool:
        """Whether a job has ended, as the scheduler says, its records apart."""

    @abstractmethod
    def cancel_all(self, user: str) -> None:
        """Cancel all jobs of a user."""

    @abstractmethod
    def ended(self, *jobs: str) -> list[tuple[str, str]]:
        """User and project of those of the jobs that have ended, as accounted for."""

    @abstractmethod
    def submitted(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Name and id of all jobs of these names that ever were."""


class Slurm(System):
    """The system with Slurm."""

    sign = "#SBATCH"
    options: ClassVar = {
        "name": ("--job-name={}",),
        "output": ("--output={}",),
        "error": ("--error={}",),
        "array": ("--array={}",),
        "partition": ("--partition={}",),
        "held": ("--hold",),
    }
    words: ClassVar = {
        "job": "%j",
        "task": "%a",
        "task variable": "SLURM_ARRAY_TASK_ID",
        "output": "slurm-{job}.out",
        "node": r"n[123]",
        "cancelled": "Terminating job {job}",
        "unaccounted": "Invalid account or account/partition combination specified",
    }
    refusals: ClassVar = {
        "partition": ("#!/bin/sh\n#SBATCH --partition=nowhere\ntrue\n", "sbatch: error: invalid partition specified: nowhere"),
        "request": ("#!/bin/sh\n#SBATCH --qos=nowhere\ntrue\n", "sbatch: error: Batch job submission failed: Invalid qos specification"),
        "option": ("#!/bin/sh\n#SBATCH --no-such-option\ntrue\n", "sbatch: unrecognized option '--no-such-option'"),
        "script": ("true\n", "sbatch: error: This does not look like a batch script."),
        "account": ("#!/bin/sh\ntrue\n", "sbatch: error: Batch job submission failed: Invalid account"),
    }
    names = (
        "a|b", "a.:.b.:.c", "two\nlines", "\nfirst", "last\n", 'it\'s "quoted"', "ünï 日本 🦀", "  blanks  in it ", "back\\slash",
        "x" * 150, "-n", "%j", "a;b&c",
    )  # fmt: skip
    first_project = "projecta"
    longest_variable = 20_000

    @property
    def name(self) -> str:
        """Its public name."""
        return str(self.site.facts["system"])

    def directly(self, *, user: str = "fcalice", run: str = "sleep 600", **wishes: str) -> str:
        """The id of a job that a user submits on the system itself."""
        words = ("sbatch", "--parsable", f"--chdir=/home/{user}", "--output=/dev/null", *self.all_options(wishes), f"--wrap={run}")
        return self.site.slurm(*words, user=user)

    def state(self, job: str) -> str:
        """The state of a job or task in the queue."""
        return self.site.slurm("squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING", "--format=%T", f"--jobs={job}")

    def is_over(self, job: str) -> bool:
        """Whether a job has ended."""
        return bool(
            re.search("JobState=(COMPLETED|FAILED|CANCELLED|TIMEOUT)", self.site.slurm("scontrol", "--oneliner", "show", "job", job))
        )

    def cancel_all(self, user: str) -> None:
        """Cancel all jobs of a user."""
        self.site.slurm("scancel", f"--user={user}")

    def ended(self, *jobs: str) -> list[tuple[str, str]]:
        """User and project of those of the jobs that have ended (slurmctld tells slurmdbd every five seconds)."""
        found = self.site.slurm("sacct", "-Xnp", "--format=state,user,account,jobname", f"--jobs={','.join(jobs)}").splitlines()
        rows = [row.split("|") for row in found if re.match("COMPLETED|FAILED|CANCELLED|TIMEOUT", row)]
        return [(row[1], row[2]) for row in rows if row[3] != "allocation"]

    def submitted(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Name and id of all jobs of these names that ever were."""
        rows = self.site.slurm("sacct", "-X", "-a", "-n", "-P", "--format=jobname,jobid", f"--name={','.join(names)}").splitlines()
        return [(name, job_id) for name, _, job_id in (row.partition("|") for row in rows)]


class GridEngine(System):
    """The system with Grid Engine."""

    sign = "#$"
    options: ClassVar = {
        "name": ("-N", "{}"),
        "output": ("-o", "{}"),
        "error": ("-e", "{}"),
        "array": ("-t", "{}"),
        "partition": ("-q", "{}"),
        "held": ("-h",),
    }
    words: ClassVar = {
        "job": "$JOB_ID",
        "task": "$TASK_ID",
        "task variable": "SGE_TASK_ID",
        "output": "{script}.o{job}",
        "node": "localhost",
        "cancelled": "fcalice has registered the job {job} for deletion",
        "unaccounted": "fccarol@localhost is not allowed to submit jobs",
    }
    refusals: ClassVar = {
        "partition": ("#!/bin/sh\n#$ -q nowhere\ntrue\n", 'Job was rejected because job requests unknown queue "nowhere"'),
        "request": ("#!/bin/sh\n#$ -l nothing=1\ntrue\n", 'unknown resource "nothing"'),
        "option": ("#!/bin/sh\n#$ -no-such-option\ntrue\n", 'invalid option argument "-no-such-option"'),
        "script": ("#!/bin/sh\n#$ -N 1x\ntrue\n", "is not a valid object name (cannot start with a digit)"),
        "account": ("#!/bin/sh\ntrue\n", 'the requested project "elsewhere" does not exist'),
    }
    names = ("a|b", "a.b.c", 'it\'s"quoted"', "x" * 150, "-n", "$JOB_ID", "a;b&c<d>e", "a&amp;b", "[a]=b,c")
    first_project = "NONE"
    longest_variable = 9_999
    _STATES: ClassVar = {"r": "RUNNING", "t": "RUNNING", "qw": "PENDING", "hqw": "PENDING", "dr": "COMPLETING", "dt": "COMPLETING"}

    @property
    def name(self) -> str:
        """Its public name."""
        return str(self.site.facts["ridge"])

    def directly(self, *, user: str = "fcalice", run: str = "sleep 600", **wishes: str) -> str:
        """The id of a job that a user submits on the system itself."""
        words = ("-o", "/dev/null", "-j", "y", *self.all_options(wishes), "-b", "y", *run.split())
        return self.site.gridengine("qsub", "-terse", *words, user=user).partition(".")[0]

    def state(self, job: str) -> str:
        """The state of a job or task in the queue, in Slurm's words."""
        number, _, task = job.partition("_")
        rows = [row.split() for row in self.site.gridengine("qstat", "-u", "*").splitlines()[2:]]
        found = {(row[0], row[-1] if task else ""): row[4] for row in rows}
        state = found.get((number, task), "")
        return self._STATES.get(state, state)

    def is_over(self, job: str) -> bool:
        """Whether a job has ended."""
        return bool(self.ended(job))

    def cancel_all(self, user: str) -> None:
        """Cancel all jobs of a user."""
        self.site.gridengine("qdel", "-u", user, check=False)

    def ended(self, *jobs: str) -> list[tuple[str, str]]:
        """User and project of those of the jobs that have ended."""
        return [(row[3], row[31]) for row in self._records() if row[5] in jobs]

    def submitted(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Name and id of all jobs of these names that ever were."""
        listed = self.site.gridengine("qstat", "-u", "*", "-xml")
        queued = re.findall(r"<JB_job_number>(\d+)</JB_job_number>.*?<JB_name>([^<]*)</JB_name>", listed, re.DOTALL)
        found = {(name, number) for number, name in queued} | {(row[4], row[5]) for row in self._records()}
        return [(name, number) for name, number in found if name in names]

    def _records(self) -> list[list[str]]:
        file = Path(self.site.facts["gridengine"]["SGE_ROOT"], "default", "common", "accounting")
        return [line.split(":") for line in file.read_text().splitlines() if not line.startswith("#")] if file.exists() else []


SYSTEMS: Mapping[str, type[System]] = {"slurm": Slurm, "gridengine": GridEngine}
