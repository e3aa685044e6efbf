"""What a file of 1 GiB costs by way of the object store, beside plain curl to and from it, and what its size costs in memory."""

import random
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from requests import Response

from bench.links import limited
from bench.memory import high_water, set_back, write
from bench.processes import Programs
from bench.series import CallFailedError, Series
from bench.stage import CLIENT, Stage
from bench.tables import Part, digits, failures, ratio, table
from tests.real_site import Client
from workers.staging import STAGINGS
from workers.staging.staging import Place, Staging

SMALL, LARGE = 1, 1024  # MB
LINK = 1000  # Mbit/s, each way
PROGRAMS = ("api", "worker-1", "worker-2", "housekeeping")
_MB = 1024 * 1024
_SECONDS = 600
_POLL_SECONDS = 0.1
_AT_A_TIME = 4
_EXTERNAL = "/storage/xfer-external"
_ENDED = {"114", "115", "117", "118", "400"}
_CURL = ("curl", "-q", "-g", "-sSf", "--speed-limit", "1", "--speed-time", "30")
_FLOOR, _AGAIN = "plain `curl`: PUT to the store, then GET to a file", "the same again (A/A)"
_PUT, _GET = "… of which PUT", "… of which GET"
_FORM = "plain `curl`: a form to the store, then GET to a file"
_VERIFIED = "the same by form, then `md5sum` of the file"
_UP, _UP_PARTS = "up, by `command`: POST to 114", f"up, in parts, {_AT_A_TIME} at a time: POST to 114"
_CLIENTS, _FETCH = "… of which the client's upload", "… of which upload's end to 114"
_DOWN, _STAGE, _LINK = "down: POST to the link's last byte", "… of which POST to 117", "… of which `curl` of the link"


@dataclass(frozen=True)
class _Ground:
    """Where the bytes go: one user's folder on the system, a folder of the client, and a place in the object store."""

    client: Client
    staging: Staging
    place: Place
    system: Path
    local: Path

    def file(self, size: int) -> Path:
        """The file of so many MB that the client has."""
        return self.local / f"{size}.bin"


Times = dict[str, float]


def transfers(stage: Stage, *, rounds: int) -> list[Part]:
    """Times of all ways in turn, as fast as the machine goes and over a link, and the most memory held for a small and a large file."""
    with _ground(stage) as ground:
        for size in (SMALL, LARGE):
            write(ground.file(size), size)
        for way in (_plain, _by_command, _in_parts, _down):  # warms up, and puts the file there that goes down
            way(ground, SMALL)
        _by_command(ground, LARGE)
        times, failed = _contest(ground, rounds)
        with limited(stage.site.facts["ports"]["radosgw"], megabits=LINK):
            linked, failed_too = _contest(ground, rounds)
        peaks = _table_of_peaks(stage, ground)
    return [Part("transfers", times, failed), Part("transfers-link", linked, failed_too), Part("transfers-memory", peaks)]


def _contest(ground: _Ground, rounds: int) -> tuple[str, tuple[str, ...]]:
    ways: dict[str, Callable[[_Ground, int], Times]] = {
        _FLOOR: _plain,
        _AGAIN: lambda ground, size: {_AGAIN: _plain(ground, size)[_FLOOR]},
        _FORM: _plain_form,
        _UP: _by_command,
        _UP_PARTS: _in_parts,
        _DOWN: _down,
    }
    names = (_FLOOR, _PUT, _GET, _AGAIN, _FORM, _VERIFIED, _UP, _CLIENTS, _FETCH, _UP_PARTS, _DOWN, _STAGE, _LINK)
    found = {name: Series() for name in names}
    for _ in range(rounds):
        for name in random.sample(list(ways), len(ways)):
            try:
                taken = ways[name](ground, LARGE)
            except CallFailedError as failed:
                found[name].failures.append(str(failed))
            else:
                for part, seconds in taken.items():
                    found[part].seconds.append(seconds)
    rows = [_row(name, series, found[_FLOOR]) for name, series in found.items()]
    return table(("1 GiB", "p50 s", "least s", "most s", "p50 / floor", "runs", "errors"), rows), failures(*found.values())


def _row(name: str, series: Series, floor: Series) -> tuple[str, ...]:
    seconds = series.seconds or [float("nan")]
    figures = (digits(series.p50), digits(min(seconds)), digits(max(seconds)), ratio(series.p50, floor.p50))
    return name, *figures, str(len(series.seconds)), str(len(series.failures))


def _plain(ground: _Ground, size: int) -> Times:
    """What no way can do without: the bytes into the object store, and out of it into a file."""
    source, target = ground.file(size), ground.system / f"plain-{uuid4().hex}"
    begun = time.perf_counter()
    _run(*_CURL, "-T", str(source), ground.staging.upload_url(ground.place, size=size * _MB, seconds=3600, side="clients"))
    there = time.perf_counter()
    _run(*_CURL, "-o", str(target), ground.staging.download_url(ground.place, seconds=3600, side="systems"))
    ended = time.perf_counter()
    target.unlink()
    ground.staging.delete(ground.place)
    return {_FLOOR: ended - begun, _PUT: there - begun, _GET: ended - there}


def _plain_form(ground: _Ground, size: int) -> Times:
    """The same with the kind of request that `command` makes, which costs object stores more."""
    source, target = ground.file(size), ground.system / f"plain-{uuid4().hex}"
    begun = time.perf_counter()
    _run(*shlex.split(ground.staging.form(ground.place, str(source), seconds=3600).command))
    _run(*_CURL, "-o", str(target), ground.staging.download_url(ground.place, seconds=3600, side="systems"))
    ended = time.perf_counter()
    _run("md5sum", str(target))
    verified = time.perf_counter()
    target.unlink()
    ground.staging.delete(ground.place)
    return {_FORM: ended - begun, _VERIFIED: verified - begun}


def _by_command(ground: _Ground, size: int) -> Times:
    begun = time.perf_counter()
    ticket = ground.client.post(f"{_EXTERNAL}/upload", data=_where(ground, size))
    command = _at(ground, ticket, "111")["msg"]["command"]
    ready = time.perf_counter()
    _run(*shlex.split(command))
    sent = time.perf_counter()
    _at(ground, ticket, "114")
    ended = time.perf_counter()
    return {_UP: ended - begun, _CLIENTS: sent - ready, _FETCH: ended - sent}


def _in_parts(ground: _Ground, size: int) -> Times:
    begun = time.perf_counter()
    ticket = ground.client.post(f"{_EXTERNAL}/upload", data={**_where(ground, size), "size": str(size * _MB), "multipart": "true"})
    _send_parts(ground.file(size), _at(ground, ticket, "111")["msg"]["parameters"]["multipart"])
    _at(ground, ticket, "114")
    return {_UP_PARTS: time.perf_counter() - begun}


def _where(ground: _Ground, size: int) -> dict[str, str]:
    return {"targetPath": str(ground.system), "sourcePath": str(ground.file(size))}


def _send_parts(source: Path, multipart: dict[str, Any]) -> None:
    """What a client does with the parts: PUT each, several at a time, then complete the upload."""

    def send(part: dict[str, Any]) -> str:
        skip = (part["number"] - 1) * multipart["part_size"]
        read = ("dd", f"if={source}", "bs=1M", "iflag=skip_bytes,count_bytes", f"skip={skip}", f"count={part['size']}", "status=none")
        with subprocess.Popen(read, stdout=subprocess.PIPE) as content:
            length = ("-H", "Transfer-Encoding:", "-H", f"Content-Length: {part['size']}")
            headers = _run(*_CURL, "-T", "-", *length, "-D", "-", part["url"], stdin=content.stdout)
        tag = next(line.split(":", 1)[1].strip() for line in headers.splitlines() if line.lower().startswith("etag:"))
        return f"<Part><PartNumber>{part['number']}</PartNumber><ETag>{tag}</ETag></Part>"

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        sent = "".join(pool.map(send, multipart["parts"]))
    document = f"<CompleteMultipartUpload>{sent}</CompleteMultipartUpload>"
    _run(*_CURL, "-H", "Content-Type: application/xml", "--data-binary", document, multipart["complete"]["url"])


def _down(ground: _Ground, size: int) -> Times:
    """Of the file that has gone up before."""
    target = ground.local / "received"
    begun = time.perf_counter()
    ticket = ground.client.post(f"{_EXTERNAL}/download", data={"sourcePath": str(ground.system / ground.file(size).name)})
    url = _at(ground, ticket, "117")["url"]
    staged = time.perf_counter()
    _run(*_CURL, "-o", str(target), url)
    ended = time.perf_counter()
    if target.stat().st_size != size * _MB:
        raise CallFailedError("the link did not give the whole file")
    target.unlink()
    ground.client.post(f"{_EXTERNAL}/invalidate", headers={"X-Task-Id": ticket.json()["task_id"]})
    return {_DOWN: ended - begun, _STAGE: staged - begun, _LINK: ended - staged}


def _at(ground: _Ground, ticket: Response, status: str) -> Any:
    """What the task says at that status, asked for every _POLL_SECONDS. Raises CallFailedError when it ends otherwise."""
    if ticket.status_code != 201:
        raise CallFailedError(f"{ticket.status_code} {ticket.text}")
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        task = ground.client.get(f"/tasks/{ticket.json()['task_id']}").json()["task"]
        if task["status"] == status:
            return task["data"]
        if task["status"] in _ENDED:
            raise CallFailedError(f"{task['status']} {task['data']}")
        time.sleep(_POLL_SECONDS)
    raise CallFailedError(f"{status} did not come within {_SECONDS} s")


def _run(*words: str, stdin: Any = subprocess.DEVNULL) -> str:
    done = subprocess.run(words, stdin=stdin, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode:
        raise CallFailedError(f"{words[0]}: exit status {done.returncode}, {done.stderr.strip()}")
    return done.stdout


def _table_of_peaks(stage: Stage, ground: _Ground) -> str:
    found = {size: _peaks(stage, ground, size) for size in (SMALL, LARGE)}
    rows = [
        (name, *(digits(found[size][name] / _MB) for size in (SMALL, LARGE)), ratio(found[LARGE][name], found[SMALL][name]))
        for name in PROGRAMS
    ]
    return table(("peak RSS, MB", f"{SMALL} MB file", "1 GiB file", "1 GiB / 1 MB"), rows)


def _peaks(stage: Stage, ground: _Ground, size: int) -> dict[str, int]:
    """By program, in bytes: the highest of its processes while a file of that size goes up and down, twice."""
    roots = Programs(stage.site).roots
    processes = {name: [roots[name], *roots[name].children(recursive=True)] for name in PROGRAMS}
    set_back(process for group in processes.values() for process in group)
    for _ in range(2):
        _by_command(ground, size)
        _down(ground, size)
    return {name: max(map(high_water, group)) for name, group in processes.items()}


@contextmanager
def _ground(stage: Stage) -> Iterator[_Ground]:
    settings = stage.settings.storage
    if settings is None:
        raise CallFailedError("the site has no object store")
    staging = STAGINGS[settings.technology](settings)
    place = staging.incoming("bench", uuid4().hex, "plain")
    staging.prepare(place)
    system = Path(stage.system.job_root, stage.user, f"bench-{uuid4().hex}")
    with TemporaryDirectory(prefix="fcbench") as local:
        system.mkdir()
        shutil.chown(system, stage.user)
        try:
            yield _Ground(Client(stage.site, CLIENT), staging, place, system, Path(local))
        finally:
            staging.delete(place)
            shutil.rmtree(system)
