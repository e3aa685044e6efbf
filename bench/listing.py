"""What one `ls` costs."""

import subprocess
from collections.abc import Callable

from bench.api import Address, Api
from bench.contest import Way, contest
from bench.folders import folders
from bench.series import CallFailedError
from bench.stage import Stage
from bench.tables import Part, failures, timings
from schemas.utilities import Ls
from workers.listing import ls

ENTRIES = 20
_FLOOR = "ssh over a ControlMaster"


def listing(stage: Stage, *, rounds: int, calls: int) -> Part:
    """The times of `ls` of a small folder, every way of it in turn."""
    with folders([stage.user], entries=ENTRIES) as (folder,):
        api = Api(stage.address())
        ways: dict[str, Way] = {
            "API, keep-alive": lambda: api.ls(folder, entries=ENTRIES),
            "API, a `curl` process a call": _curl(stage.address(), folder),
            _FLOOR: lambda: stage.master.ls(folder, entries=ENTRIES),
            "the same again (A/A)": lambda: stage.master.ls(folder, entries=ENTRIES),
            "warm shell, in process (`workers.ssh`)": lambda: ls_in_process(stage, folder),
            "Redis PING": stage.redis.ping,
        }
        found = contest(ways, rounds=rounds, calls=calls, warm_up=30)
        api.close()
    return Part("ls", timings(found, floor=_FLOOR), failures(*found.values()))


def ls_in_process(stage: Stage, folder: str) -> None:
    """One `ls` by the gateway's own performer, over a warm shell of this process. Raises CallFailedError."""
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
