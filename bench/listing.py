"""What one `ls` costs."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.api import Address, Api
from bench.contest import Way, contest
from bench.masters import Master
from bench.series import CallFailedError
from bench.stage import Stage
from bench.tables import Part, failures, timings
from schemas.utilities import Ls
from workers.listing import ls

ENTRIES = 20
_FLOOR = "ssh over a ControlMaster"


def listing(stage: Stage, *, rounds: int, calls: int) -> Part:
    """The times of `ls` of a small folder, every way of it in turn."""
    with _folder(stage.master) as folder:
        api = Api(stage.address())
        ways: dict[str, Way] = {
            "API, keep-alive": lambda: api.ls(folder, entries=ENTRIES),
            "API, a `curl` process a call": _curl(stage.address(), folder),
            _FLOOR: lambda: _over_ssh(stage.master, folder),
            "the same again (A/A)": lambda: _over_ssh(stage.master, folder),
            "warm shell, in process (`workers.ssh`)": lambda: _in_process(stage, folder),
            "Redis PING": stage.redis.ping,
        }
        found = contest(ways, rounds=rounds, calls=calls, warm_up=30)
        api.close()
    return Part("ls", timings(found, floor=_FLOOR), failures(*found.values()))


@contextmanager
def _folder(master: Master) -> Iterator[str]:
    """A folder of so many entries, the user's."""
    folder = master.run("mktemp", "-d", "/tmp/firecrest-bench.XXXXXXXX").decode().strip()  # noqa: S108 (mktemp's)
    try:
        master.run("touch", *(f"{folder}/file-{number:02}" for number in range(ENTRIES)))
        yield folder
    finally:
        master.run("rm", "-r", "--", folder)


def _over_ssh(master: Master, folder: str) -> None:
    lines = master.run("ls", "-l", "--", folder).splitlines()
    if len(lines) != ENTRIES + 1:  # the first is the total
        raise CallFailedError(f"ssh ls printed {len(lines)} lines")


def _in_process(stage: Stage, folder: str) -> None:
    entries = ls(Ls(target_path=folder), stage.host, stage.scene())
    if len(entries) != ENTRIES:
        raise CallFailedError(f"ls in process listed {len(entries)} entries")


def _curl(where: Address, folder: str) -> Callable[[], None]:
    headers = ("-H", f"Authorization: Bearer {where.token}", "-H", f"X-Machine-Name: {where.system}")
    command = ("curl", "-sSf", *headers, f"{where.url}/utilities/ls?targetPath={folder}")

    def call() -> None:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode or done.stdout.count(b'"name"') != ENTRIES:
            raise CallFailedError(f"curl: {done.stderr.decode(errors='replace').strip()}")

    return call
