"""The worker application."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from celery import Celery
from celery.signals import worker_shutdown

from broker.blobs import Blobs
from broker.celery import create_celery
from broker.configuration import open_redis
from broker.grants import GrantVerifier
from broker.health import Health
from broker.key_rings import Watched
from broker.keys import signing_key
from broker.links import LinkSealer
from broker.once import Once
from broker.replies import Answers, Replies
from broker.tasks import Tasks
from broker.trail import Trail
from schemas.grant import Grant
from schemas.settings import Settings, System
from workers import (  # noqa: F401 (their performers)
    archives,
    compute,
    contents,
    external_transfers,
    listing,
    reservations,
    transfer_jobs,
    transfers,
    utilities,
)
from workers.forced import ForcedHost
from workers.host import Host
from workers.housekeeping import keep_house
from workers.kept_states import KeptStates
from workers.leases import Leases
from workers.moving import keep_moving
from workers.performing import OpenHost, Store, Workshop, serve
from workers.petitions import Petitioner
from workers.probes import OpenProbe, Prober
from workers.shares import Shares
from workers.ssh import Entered, SSHHost, SSHPool
from workers.staging import STAGINGS
from workers.stopping import Stop


def create_worker(settings: Settings, open_host: OpenHost | None = None, open_probe: OpenProbe | None = None) -> Celery:
    """The Celery application of a worker; it enters systems over SSH unless told how else."""
    app = create_celery(settings)
    entrances = Entrances(app, settings)
    redis = open_redis(settings, retries=30)
    trail = Trail("worker", paths=settings.audit.paths)
    tasks = Tasks(redis, lifetime=settings.limits.task_seconds)
    storage = settings.storage
    store = Store(storage, STAGINGS[storage.technology](storage), LinkSealer.of(settings.keys)) if storage else None
    workshop = Workshop(
        tasks=tasks,
        blobs=Blobs(redis),
        answers=Answers(redis),
        leases=Leases(tasks, settings.engine.lease_seconds),
        verifier=GrantVerifier.of(settings.keys),
        limits=settings.limits,
        find_system=settings.system,
        open_host=open_host or entrances.of_user,
        shares=Shares(settings.limits.tasks_at_once),
        states=KeptStates.of(settings.keys),
        once=Once(redis, "call"),
        trail=trail,
        store=store,
    )
    serve(app, workshop)
    keep_house(app, tasks, Prober(Health(redis), settings, open_probe or entrances.of_probe), settings)
    keep_moving(app, tasks, redis, settings, store.staging if store else None)
    return app


class Entrances:
    """The ways into systems over SSH, on connections that the worker's threads share."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        worker = f"{socket.gethostname()}.{os.getpid()}"
        replies = Replies(open_redis(settings, retries=5))
        key = Watched(settings.keys.private, lambda: signing_key(settings.keys.private, "worker"))
        self._petitioner = Petitioner(app, replies, key.now, worker=worker)
        self._pool = SSHPool(settings.limits)
        worker_shutdown.connect(lambda **_: self._pool.close(), weak=False)

    def of_user(self, system: System, grant: Grant, text: str, stop: Stop, entered: Entered) -> Host:
        """The system entered as the user of a grant, of which `text` is the wire form; `entered` takes its certificates."""
        until = time.monotonic() + grant.expires - time.time()
        host = self._host(system, grant.user, lambda key, command="": self._petitioner.certify(key, text, command), stop, entered)
        return replace(host, until=until)

    def of_probe(self, system: System) -> Host:
        """The system entered as its `probe_user`."""
        name = system.name
        return self._host(system, system.probe_user, lambda key, command="": self._petitioner.certify_probe(key, name, command))

    def _host(
        self, system: System, user: str, certify: Callable[..., str], stop: Stop | None = None, entered: Entered | None = None
    ) -> SSHHost | ForcedHost:
        """The system as its settings say to enter it; `certify` is given a public key and, if they say so, a command."""
        if system.forced_command:
            return ForcedHost(self._pool, system, user, certify, stop or Stop(), set() if entered is None else entered)
        return self._pool.host(system, user, certify, stop, entered)
