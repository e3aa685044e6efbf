"""The workload managers, by the name that settings give them."""

from types import MappingProxyType
from typing import cast

from workers.schedulers import gridengine, slurm
from workers.schedulers.scheduler import Scheduler

SCHEDULERS = MappingProxyType({"slurm": cast(Scheduler, slurm), "gridengine": cast(Scheduler, gridengine)})
