"""Transfer jobs as pyfirecrest submits them: synchronous, asynchronous and on the command line."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import firecrest
import pytest

from tests.contract.conftest import Blocking
from tests.real_site import Site, eventually
from tests.site.conftest import Folder, make_folder

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder() -> Iterator[Folder]:
    """An empty folder of alice on the system."""
    made = make_folder("fcalice")
    yield made
    shutil.rmtree(made.path)


def completed(client: Any, system: str, job: dict[str, Any]) -> None:
    """Wait until the job has ended well."""
    assert job["system"] == system
    assert set(job) > {"jobid", "job_file", "job_file_out", "job_file_err", "result"}

    def over() -> bool:
        (shown,) = client.poll(system, [job["jobid"]])
        assert re.match("PENDING|RUNNING|COMPLET", shown["state"])
        return bool(shown["state"] == "COMPLETED")

    eventually(over, seconds=60, pause=0.5)


def test_every_job_is_submitted(client: Any, system: str, folder: Folder) -> None:
    source, place = folder.file("a file", b"content"), folder.path
    folder.folder("unpacked")
    copy = client.submit_copy_job(system, source, f"{place}/copy", job_name="named", time="10", account="projectb")
    assert [(job["name"], job["partition"]) for job in client.poll(system, [copy["jobid"]])] == [("named", "xfer")]
    completed(client, system, copy)
    completed(client, system, client.submit_rsync_job(system, f"{place}/copy", f"{place}/synced"))
    completed(client, system, client.submit_move_job(system, f"{place}/synced", f"{place}/moved"))
    Path(place, "link").symlink_to("moved")
    completed(client, system, client.submit_compress_job(system, f"{place}/link", f"{place}/archive", dereference=True))
    completed(client, system, client.submit_extract_job(system, f"{place}/archive", f"{place}/unpacked", extension=".tgz"))
    completed(client, system, client.submit_delete_job(system, source))
    assert Path(place, "unpacked", "link").read_bytes() == b"content"
    assert not Path(place, "unpacked", "link").is_symlink()
    assert not Path(source).exists()


def test_a_job_is_staged_out_after_another(client: Any, system: str, folder: Folder) -> None:
    script = f"#!/bin/sh\n#SBATCH --output=/dev/null\nsleep 2\necho result >{folder.path}/result\n"
    first = client.submit(system, script_str=script)["jobid"]
    second = client.submit_copy_job(system, f"{folder.path}/result", f"{folder.path}/kept", stage_out_job_id=first)

    completed(client, system, second)

    assert Path(folder.path, "kept").read_text() == "result\n"


def test_what_is_refused_is_an_exception(client: Any, system: str) -> None:
    for words in ({"time": "soon"}, {"account": "nowhere"}, {"stage_out_job_id": "x"}, {"job_name": "a;b"}):
        with pytest.raises(firecrest.FirecrestException):
            client.submit_copy_job(system, "/a", "/b", **words)


def pipe(folder: Folder, name: str) -> str:
    """Path of a new named pipe, on which whoever opens one end waits for the other."""
    path = f"{folder.path}/{name}"
    os.mkfifo(path)
    Path(path).chmod(0o666)
    return path


def once_a_job_runs(site: Site, name: str, work: Callable[[], object]) -> threading.Thread:
    """Have work done when a job of that name runs: it waits, like the call before it that took too long."""

    def wait() -> None:
        eventually(lambda: site.slurm("squeue", "--noheader", "--states=RUNNING", f"--name={name}", "--user=fcalice"), seconds=60)
        work()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_what_takes_too_long_to_pack_goes_on_as_a_job(site: Site, client: Any, system: str, folder: Folder, tmp_path: Path) -> None:
    source, target = folder.file("a file", b"content"), pipe(folder, "archive.tgz")
    reading = once_a_job_runs(site, "compress-job", lambda: (tmp_path / "archive").write_bytes(Path(target).read_bytes()))

    assert client.compress(system, source, target, fail_on_timeout=False) == target

    reading.join()
    with tarfile.open(tmp_path / "archive") as archive:
        assert archive.getnames() == ["a file"]


def test_what_takes_too_long_to_unpack_goes_on_as_a_job(site: Site, client: Any, system: str, folder: Folder) -> None:
    with tarfile.open(folder.file("archive"), "w:gz") as archive:
        archive.add(folder.file("file", b"x"), "file")
    source, place = pipe(folder, "slow.tgz"), folder.folder("place")
    writing = once_a_job_runs(site, "extract-job", lambda: Path(source).write_bytes(Path(folder.path, "archive").read_bytes()))

    if isinstance(client, Blocking):  # its client raises the first answer when all is done and has gone well
        with pytest.raises(firecrest.FirecrestException, match="Command has finished with timeout signal"):
            client.extract(system, source, place, fail_on_timeout=False)
    else:
        assert client.extract(system, source, place, fail_on_timeout=False) == place

    writing.join()
    assert Path(place, "file").read_bytes() == b"x"


def test_a_fallback_that_fails_is_an_exception(site: Site, client: Any, system: str, folder: Folder) -> None:
    source, place = pipe(folder, "slow.tgz"), folder.folder("place")
    writing = once_a_job_runs(site, "extract-job", lambda: Path(source).write_bytes(b"no archive"))

    with pytest.raises(Exception, match=r"extract job .*FAILED|not in gzip format"):
        client.extract(system, source, place, fail_on_timeout=False)

    writing.join()


def test_the_command_line_submits_them(cli: Cli, site: Site, folder: Folder) -> None:
    source, place = folder.file("a file", b"content"), folder.path
    folder.folder("unpacked")

    def ended(*words: str) -> str:
        job = str(json.loads(cli("submit-template", *words).stdout)["jobid"])
        eventually(lambda: "JobState=COMPLETED" in site.slurm("scontrol", "show", "job", job), seconds=60)
        return job

    ended("cp", source, f"{place}/copy", "--job-name", "named", "--time", "5:00", "--account", "projectb")
    synced = ended("rsync", f"{place}/copy", f"{place}/synced")
    ended("mv", f"{place}/synced", f"{place}/moved", "--jobid", synced)
    ended("compress", f"{place}/moved", f"{place}/archive.tgz")
    ended("extract", f"{place}/archive.tgz", f"{place}/unpacked")
    ended("rm", source)
    assert Path(place, "unpacked", "moved").read_bytes() == b"content"
    assert not Path(source).exists()
    assert "Job dependency problem" in cli("submit-template", "cp", source, place, "--jobid", "99999999", code=1).stdout
    assert "Operation failed" in cli("submit-template", "cp", source, place, "--time", "soon", code=1).stdout
