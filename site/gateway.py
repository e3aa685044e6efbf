"""The gateway itself on the site: API, workers, delegation, beat, Flower."""

from collections.abc import Callable

from facts import Site
from layout import REPOSITORY
from probes import beats, serves, worker_answers
from program import Program

BIN = REPOSITORY / ".venv" / "bin"
SERVERS = ("redis", "sshd", "issuer", "radosgw", "slurmd-n1", "slurmd-n2", "slurmd-n3", "sshd-ridge", "sge_execd")
QUEUES = "utilities,compute,storage,reservations"


def programs(site: Site) -> list[Program]:
    """All processes of the gateway; they come back when they die."""
    return [
        _api(site),
        _worker(site, "worker-1"),
        _worker(site, "worker-2"),
        _housekeeping(site),
        _delegation(site),
        _beat(site),
        _flower(site),
    ]


def _api(site: Site) -> Program:
    address = f"127.0.0.1:{site.ports['api']}"
    threads = (
        "--no-control-socket",
        "--keep-alive",
        "75",
        "--limit-request-line",
        "8190",
        "--worker-class",
        "api.server.Worker",
        "--workers",
        "2",
        "--threads",
        "64",
    )
    return _process(
        site, "api", "gunicorn", "--bind", address, *threads, "api.main:app", ready=lambda: serves(f"{site.api_url}/swagger.json")
    )


def _worker(site: Site, name: str) -> Program:
    return _celery_worker(site, name, app="workers.main", queues=QUEUES, concurrency=32)


def _housekeeping(site: Site) -> Program:
    return _celery_worker(site, "housekeeping", app="workers.main", queues="beat", concurrency=8)


def _delegation(site: Site) -> Program:
    return _celery_worker(site, "delegation", app="workers.delegation_main", queues="delegation", concurrency=8)


def _celery_worker(site: Site, name: str, *, app: str, queues: str, concurrency: int) -> Program:
    size = ("--pool=threads", f"--concurrency={concurrency}", f"--queues={queues}", f"--hostname={name}@%h")
    noise = ("--task-events", "--without-gossip", "--without-mingle", "--loglevel=INFO")
    return _process(
        site, name, "celery", "-A", app, "worker", *size, *noise,
        ready=lambda: worker_answers(site.redis_url, f"{name}@localhost"),
    )  # fmt: skip


def _beat(site: Site) -> Program:
    return _process(
        site, "beat", "celery", "-A", "broker.main", "beat", "--scheduler=redbeat.RedBeatScheduler", "--loglevel=INFO", "--pidfile=",
        ready=lambda: beats(site.redis_url),
    )  # fmt: skip


def _flower(site: Site) -> Program:
    listen = ("--address=127.0.0.1", f"--port={site.ports['flower']}", "--persistent=False", "--max-tasks=10000")
    return _process(
        site, "flower", "celery", "-A", "broker.main", "flower", *listen,
        ready=lambda: serves(site.flower_url), FLOWER_UNAUTHENTICATED_API="true",
    )  # fmt: skip


def _process(site: Site, name: str, command: str, *arguments: str, ready: Callable[[], bool], **environment: str) -> Program:
    return Program(
        name,
        (str(BIN / command), *arguments),
        ready=ready,
        # beat probes what is there; the others take seconds to load and ask for nothing before they are asked
        after=SERVERS if name == "beat" else ("redis", "sshd", "issuer"),
        environment={
            "FIRECREST_SETTINGS": str(site.layout.state / "settings.yaml"),
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            **environment,
        },
        directory=REPOSITORY,
        comes_back=True,
        stop_seconds=15,
    )
