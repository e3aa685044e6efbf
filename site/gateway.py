"""The gateway itself on the site: API, workers, delegation, beat, Flower."""

from collections.abc import Callable
from urllib.parse import urlsplit

from facts import Deployment, Site
from layout import REPOSITORY
from probes import beats, serves, worker_answers
from program import Program

BIN = REPOSITORY / ".venv" / "bin"
SERVERS = ("redis", "sshd", "issuer", "radosgw", "slurmd-n1", "slurmd-n2", "slurmd-n3", "sshd-ridge", "sge_execd")
QUEUES = "utilities,compute,storage,reservations"


def programs(site: Site) -> list[Program]:
    """All processes of the gateway; they come back when they die."""
    gateway = site.gateway
    return [
        _api(gateway, site, workers=2),
        _worker(gateway, "worker-1"),
        _worker(gateway, "worker-2"),
        _housekeeping(gateway),
        _delegation(gateway),
        _beat(gateway),
        _flower(site),
    ]


def programs_on(gateway: Deployment, site: Site) -> list[Program]:
    """Those of a gateway that is for tests: one of each kind."""
    return [
        _api(gateway, site, workers=1),
        _worker(gateway, "worker"),
        _housekeeping(gateway),
        _delegation(gateway),
        _beat(gateway),
    ]


def _api(gateway: Deployment, site: Site, *, workers: int) -> Program:
    url, tls = urlsplit(gateway.api_url), site.layout.tls
    address, ca = url.netloc, tls / "ca.pem"
    secured = ("--certfile", str(tls / "api.pem"), "--keyfile", str(tls / "api.key")) if url.scheme == "https" else ()
    serving = (
        "--no-control-socket",
        "--keep-alive",
        "75",
        "--limit-request-line",
        "8190",
        "--worker-class",
        "api.server.Worker",
        "--workers",
        str(workers),
        "--worker-connections",
        "4000",
    )
    return _process(
        gateway, "api", "gunicorn", "--bind", address, *serving, *secured, "api.main:app",
        ready=lambda: serves(f"{gateway.api_url}/swagger.json", ca=ca),
    )  # fmt: skip


def _worker(gateway: Deployment, name: str) -> Program:
    return _celery_worker(gateway, name, app="workers.main", queues=QUEUES, concurrency=32)


def _housekeeping(gateway: Deployment) -> Program:
    return _celery_worker(gateway, "housekeeping", app="workers.main", queues="beat", concurrency=8)


def _delegation(gateway: Deployment) -> Program:
    return _celery_worker(gateway, "delegation", app="workers.delegation_main", queues="delegation", concurrency=8)


def _celery_worker(gateway: Deployment, name: str, *, app: str, queues: str, concurrency: int) -> Program:
    size = ("--pool=threads", f"--concurrency={concurrency}", f"--queues={queues}", f"--hostname={name}@%h")
    noise = ("--task-events", "--without-gossip", "--without-mingle", "--loglevel=INFO")
    return _process(
        gateway, name, "celery", "-A", app, "worker", *size, *noise,
        ready=lambda: worker_answers(gateway.redis_url, f"{name}@localhost"),
    )  # fmt: skip


def _beat(gateway: Deployment) -> Program:
    return _process(
        gateway, "beat", "celery", "-A", "broker.main", "beat", "--scheduler=redbeat.RedBeatScheduler", "--loglevel=INFO", "--pidfile=",
        ready=lambda: beats(gateway.redis_url),
    )  # fmt: skip


def _flower(site: Site) -> Program:
    options = REPOSITORY / "deploy" / "flower_options.py"
    listen = ("--address=127.0.0.1", f"--port={site.ports['flower']}", f"--conf={options}")
    return _process(
        site.gateway, "flower", "celery", "-A", "broker.monitor", "flower", *listen,
        ready=lambda: serves(f"{site.flower_url}/healthcheck"), FIRECREST_FLOWER_LOGIN=str(site.layout.flower_login),
    )  # fmt: skip


def _process(gateway: Deployment, name: str, command: str, *arguments: str, ready: Callable[[], bool], **environment: str) -> Program:
    return Program(
        name + gateway.suffix,
        (str(BIN / command), *arguments),
        ready=ready,
        # beat probes what is there; the others take seconds to load and ask for nothing before they are asked
        after=SERVERS if name == "beat" else ("redis", "sshd", "issuer"),
        environment={
            "FIRECREST_SETTINGS": str(gateway.settings),
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            **environment,
        },
        directory=REPOSITORY,
        comes_back=True,
        stop_seconds=15,
    )
