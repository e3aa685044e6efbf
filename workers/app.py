"""The worker application."""

import os
import socket

from celery import Celery
from celery.signals import worker_shutdown

from broker.blobs import Blobs
from broker.celery import create_celery
from broker.configuration import open_redis
from broker.grants import GrantVerifier
from broker.health import Health
from broker.keys import signing_key, verifying_key
from broker.replies import Answers, Replies
from broker.tasks import Tasks
from schemas.grant import Grant
from schemas.settings import Settings, System
from workers import archives, compute, listing, reservations, utilities  # noqa: F401 (their performers)
from workers.host import Host
from workers.housekeeping import keep_house
from workers.leases import Leases
from workers.performing import OpenHost, Workshop, serve
from workers.petitions import Petitioner
from workers.ssh import SSHPool


def create_worker(settings: Settings, open_host: OpenHost | None = None) -> Celery:
    """The Celery application of a worker; it enters systems over SSH unless told how else."""
    app = create_celery(settings)
    redis = open_redis(settings, retries=30)
    tasks = Tasks(redis, lifetime=settings.limits.task_seconds)
    workshop = Workshop(
        tasks=tasks,
        blobs=Blobs(redis),
        answers=Answers(redis),
        leases=Leases(tasks, settings.engine.lease_seconds),
        verifier=GrantVerifier(verifying_key(settings.keys.public, "api")),
        limits=settings.limits,
        find_system=settings.system,
        open_host=open_host or _over_ssh(app, settings),
    )
    serve(app, workshop)
    keep_house(app, tasks, Health(redis), settings)
    return app


def _over_ssh(app: Celery, settings: Settings) -> OpenHost:
    worker = f"{socket.gethostname()}.{os.getpid()}"
    replies = Replies(open_redis(settings, retries=5))
    petitioner = Petitioner(app, replies, signing_key(settings.keys.private, "worker"), worker=worker)
    pool = SSHPool(settings.limits)
    worker_shutdown.connect(lambda **_: pool.close(), weak=False)

    def enter(system: System, grant: Grant, text: str) -> Host:
        return pool.host(system, grant.user, lambda public_key: petitioner.certify(public_key, text))

    return enter
