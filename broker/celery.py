"""The one Celery configuration, the same on both sides of the broker."""

import ssl
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from broker.events import Events
from broker.health import Probe
from broker.post import Post
from broker.transport import take_over
from schemas.settings import Broker, Settings

HOUSEKEEPING = "beat"
SERVICES = ("utilities", "compute", "storage", "reservations")
QUEUES = (*SERVICES, "delegation", HOUSEKEEPING)


def create_celery(settings: Settings, **options: Any) -> Celery:
    """A Celery application for this deployment: queues, routes, the beat schedule and nothing that performs; `options` are Celery's own."""
    take_over()
    celery = Celery("firecrest", broker=settings.broker.url, set_as_current=False, amqp=Post, events=Events, **options)
    celery.conf.update(
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        task_create_missing_queues=False,
        task_default_queue=HOUSEKEEPING,
        task_routes=(_by_service,),
        task_ignore_result=True,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_consumer="broker.consumer:CarefulConsumer",
        worker_hijack_root_logger=False,
        worker_enable_remote_control=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "priority_steps": [0],
        },
        broker_use_ssl=redis_tls(settings.broker) or None,
        beat_schedule={
            "sweep": {"task": "beat.Sweep", "schedule": settings.engine.sweep_seconds, "options": {"expires": 10}},
            **({"orphans": _tick("beat.SweepStaging", settings.storage.orphan_seconds)} if settings.storage else {}),
            **probes(settings),
        },
        beat_max_loop_interval=2,
        redbeat_redis_url=settings.broker.url,
        redbeat_lock_timeout=10,
    )
    return celery


def redis_tls(broker: Broker) -> dict[str, Any]:
    """How redis-py, and through it kombu and redbeat, verify the certificate of a rediss:// URL."""
    if not broker.url.startswith("rediss:"):
        return {}
    known = {"ssl_ca_certs": str(broker.ca)} if broker.ca else {}
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2, **known}


def probes(settings: Settings) -> dict[str, dict[str, Any]]:
    """The probes in the beat's schedule: one of each kind for every system, so that those that hang do not wait for each other."""
    every, systems, storage = settings.probes, settings.systems, settings.storage
    entered = [system for system in systems if system.probe_user]
    return {
        "services": _tick("beat.ProbeServices", every.service_period),
        **{f"system {system.name}": _tick(Probe.SYSTEM, every.system_period, system.name) for system in systems},
        **{f"filesystems {system.name}": _tick(Probe.FILESYSTEMS, every.filesystem_period, system.name) for system in entered},
        **{f"scheduler {system.name}": _tick(Probe.SCHEDULER, every.scheduler_period, system.name) for system in entered},
        **({"storage": _tick(Probe.STORAGE, every.storage_period, storage.technology)} if storage else {}),
    }


def _tick(task: str, period: float, *arguments: str) -> dict[str, Any]:
    return {"task": str(task), "schedule": period, "args": arguments, "options": {"expires": period}}


def queue_of(name: str) -> str:
    """The queue that tasks of this name go into."""
    return name.partition(".")[0]


def _by_service(name: str, *_: Any, **__: Any) -> dict[str, str]:
    return {"queue": queue_of(name)}
