"""Grid Engine: each function is a command together with the reading of its output."""

from workers.schedulers.gridengine.accounting import accounting
from workers.schedulers.gridengine.cluster import nodes, partitions, ping, reservations
from workers.schedulers.gridengine.jobs import cancel, queue, submit

JOB_ID = "$JOB_ID"

__all__ = ["JOB_ID", "accounting", "cancel", "nodes", "partitions", "ping", "queue", "reservations", "submit"]
