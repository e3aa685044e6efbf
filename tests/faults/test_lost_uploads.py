"""Uploads whose worker is killed in the middle."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.conftest import WORKERS
from tests.faults.test_lost_workers import worker_pid
from tests.real_site import Client, Site, eventually
from tests.site.conftest import make_folder

pytestmark = pytest.mark.timeout(600)
CONTENT = os.urandom(5 * 1024 * 1024)


def test_a_worker_killed_amid_an_upload_leaves_what_was_there(site: Site) -> None:
    folder, alice = make_folder("fcalice"), Client(site, "alice")
    path, kept = Path(folder.file("file", b"before")), set(site.redis().scan_iter("blob:*"))
    alice.get("/utilities/whoami")
    pids = [worker_pid(site, worker) for worker in WORKERS]
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(alice.post, "/utilities/upload", data={"targetPath": folder.path}, files={"file": ("file", CONTENT)})
        eventually(lambda: len(list(path.parent.iterdir())) == 2, pause=0.0005)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert "X-Timeout" in upload.result().headers

    eventually(lambda: [entry.name for entry in path.parent.iterdir()] == ["file"])
    assert path.read_bytes() == b"before"
    eventually(lambda: set(site.redis().scan_iter("blob:*")) <= kept)
    shutil.rmtree(folder.path)
