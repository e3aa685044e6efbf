"""API and worker in this one process: `python -m tests.served.large_files FOLDER MEGABYTES…`, with settings on stdin.

For each size a file goes up and down; printed is the most memory that the process held meanwhile, in bytes.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery.contrib.testing.worker import start_worker
from flask.testing import FlaskClient

from api.app import create_app
from broker.blobs import Blobs
from broker.celery import QUEUES, create_celery
from broker.configuration import open_redis
from broker.gateway import Gateway
from broker.grants import GrantSigner
from broker.health import Health
from broker.keys import sealing_key, signing_key
from broker.limits import Limiter
from broker.replies import Replies
from broker.tasks import Tasks
from schemas.settings import Settings
from tests.served.conftest import NamedCallers
from workers.app import create_worker
from workers.host import LocalHost

MEGABYTE = 1024 * 1024
CONTENT = random.Random(20261122).randbytes(MEGABYTE)
BOUNDARY = "a-boundary"


@contextmanager
def served(settings: Settings) -> Iterator[FlaskClient]:
    """The API, with a worker."""
    redis = open_redis(settings)
    replies = Replies(redis)
    signer = GrantSigner(signing_key(settings.keys.private, "api"), sealing_key(settings.keys.public))
    celery, tasks = create_celery(settings), Tasks(redis, lifetime=600)
    gateway = Gateway(celery, tasks=tasks, blobs=Blobs(redis), replies=replies, signer=signer, limits=settings.limits)
    client = create_app(settings, gateway, NamedCallers(), Health(redis), Limiter(redis, settings.limits)).test_client()
    client.environ_base |= {"HTTP_AUTHORIZATION": "Bearer somebody", "HTTP_X_MACHINE_NAME": "here"}
    app = create_worker(settings, lambda *_: LocalHost(patience=60))
    with start_worker(app, perform_ping_check=False, pool="threads", concurrency=2, queues=list(QUEUES), loglevel="ERROR"):
        yield client
    replies.close()


def transfer(client: FlaskClient, folder: Path, megabytes: int) -> None:
    """A file of that size up and down again, read from and compared with the disk in pieces."""
    body = folder / "body"
    with body.open("wb") as file:
        file.write(_part(f'"targetPath"\r\n\r\n{folder}\r\n') + _part('"file"; filename="file"\r\n\r\n'))
        for _ in range(megabytes):
            file.write(CONTENT)
        file.write(f"\r\n--{BOUNDARY}--\r\n".encode())
    with body.open("rb") as stream:
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        up = client.post("/utilities/upload", input_stream=stream, content_type=kind, content_length=body.stat().st_size)
    assert up.status_code == 201, up.json
    with (folder / "file").open("rb") as file:
        assert all(file.read(MEGABYTE) == CONTENT for _ in range(megabytes))
        assert not file.read(1)
        file.seek(0)
        down = client.get("/utilities/download", query_string={"sourcePath": str(folder / "file")}, buffered=False)
        assert (down.status_code, down.content_length) == (200, megabytes * MEGABYTE)
        assert all(file.read(len(piece)) == piece for piece in down.response)
        assert not file.read(1)
    down.close()


def _part(text: str) -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; name={text}".encode()


def high_water() -> int:
    """The most memory that this process has held since it was reset."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def main() -> None:
    """Transfer files of the sizes on the command line."""
    folder, sizes = Path(sys.argv[1]), [int(size) for size in sys.argv[2:]]
    with served(Settings.model_validate_json(sys.stdin.read())) as client:
        transfer(client, folder, sizes[0])
        for size in sizes:
            Path("/proc/self/clear_refs").write_text("5")
            transfer(client, folder, size)
            sys.stdout.write(f"{high_water()}\n")


if __name__ == "__main__":
    main()
