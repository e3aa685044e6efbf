"""What a file's size costs the gateway's processes in memory, on a site whose limit is raised for it."""

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil

from bench.changed import changed
from bench.processes import Programs
from bench.series import CallFailedError
from bench.stage import CLIENT
from bench.tables import Part, digits, ratio, table
from tests.real_site import Client, Site

SMALL, LARGE = 1, 256
PROGRAMS = ("api", "worker-1", "worker-2", "redis")
_RESTARTED = PROGRAMS[:3]
_LIMITS = {"utilities_max_file_size": LARGE, "utilities_timeout": 120, "patience": 150}
_MEGABYTE = 1024 * 1024
_NAME = "bench-memory"


def memory(site: Site, *, rounds: int) -> Part:
    """The most memory that each program's largest process held while files went up and down, one after the other."""
    with changed(site, "limits", _LIMITS, restarted=_RESTARTED), tempfile.TemporaryDirectory() as folder:
        for size in (SMALL, LARGE):
            write(Path(folder, str(size)), size)
        _peaks(site, Path(folder), SMALL, rounds)  # connections, certificates, code: what comes with the first calls
        found = {size: _peaks(site, Path(folder), size, rounds) for size in (SMALL, LARGE)}
        Client(site, CLIENT).delete("/utilities/rm", data={"targetPath": _NAME})
    rows = [
        (f"{name}, {way}", *(digits(found[size][way, name] / _MEGABYTE) for size in (SMALL, LARGE)), ratio(*_both(found, way, name)))
        for way in ("upload", "download")
        for name in PROGRAMS
    ]
    return Part("memory", table(("peak RSS, MB", f"{SMALL} MB file", f"{LARGE} MB file", f"{LARGE} / {SMALL}"), rows))


def _both(found: dict[int, dict[tuple[str, str], int]], way: str, name: str) -> tuple[int, int]:
    return found[LARGE][way, name], found[SMALL][way, name]


def _peaks(site: Site, folder: Path, size: int, rounds: int) -> dict[tuple[str, str], int]:
    """By way and program, in bytes."""
    found: dict[tuple[str, str], int] = {}
    for way, transfer in (("upload", _up), ("download", _down)):
        # Redis' children are copies of it that write its file
        processes = {
            name: [root, *(root.children() if name == "api" else [])] for name, root in Programs(site).roots.items() if name in PROGRAMS
        }
        set_back(process for group in processes.values() for process in group)
        for _ in range(rounds):
            transfer(Client(site, CLIENT), folder / str(size))
        found |= {(way, name): max(map(high_water, group)) for name, group in processes.items()}
    return found


def set_back(processes: Iterable[psutil.Process]) -> None:
    """Have the most that each has held counted anew."""
    for process in processes:
        Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")


def high_water(process: psutil.Process) -> int:
    """The most resident memory that a process has held, in bytes, since it was set back."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def write(path: Path, size: int) -> None:
    """A file of so many MB of random bytes."""
    with path.open("wb") as file, Path("/dev/urandom").open("rb") as random:
        for _ in range(size):
            file.write(random.read(_MEGABYTE))


def _up(client: Client, path: Path) -> None:
    # curl, as requests would hold the whole form
    client.get("/utilities/whoami")
    words = ("-F", "targetPath=.", "-F", f"file=@{path};filename={_NAME}")
    headers = [word for name in ("Authorization", "X-Machine-Name") for word in ("-H", f"{name}: {client.headers[name]!s}")]
    url = f"{client.site.url}/utilities/upload"
    done = subprocess.run(("curl", "-sS", "-w", "%{http_code}", *headers, *words, url), capture_output=True, check=True)
    if not done.stdout.endswith(b"201"):
        raise CallFailedError(done.stdout.decode(errors="replace"))


def _down(client: Client, path: Path) -> None:
    with (
        client.get("/utilities/download", params={"sourcePath": _NAME}, stream=True, timeout=200) as answer,
        path.open("rb") as file,
    ):
        if answer.status_code != 200 or not all(file.read(len(piece)) == piece for piece in answer.iter_content(_MEGABYTE)) or file.read(1):
            raise CallFailedError(f"the download of {path.name} MB is not the file: {answer.status_code}")
