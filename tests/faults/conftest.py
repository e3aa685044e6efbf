"""Submissions that can be counted, and hands to break what carries them out."""

import random
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from tests.conftest import SECTIONS
from tests.faults.parts import PARTS, WORKERS, Kind, processes, run_again, send
from tests.faults.tally import Tally
from tests.real_site import Client, Site, eventually
from tests.systems import System

BOUND = 30
__all__ = ["WORKERS"]


@dataclass(frozen=True)
class Matrix:
    """How often each part breaks, in which ways, for how many seconds, with how many transfers under way."""

    seed: int
    each: int
    seconds: float
    transfers: int

    def rounds(self, part: str) -> Iterator[tuple[Kind, random.Random]]:
        """The kind of each round, all in turn, and its randomness, which is the same whatever other rounds there are."""
        kinds = list(Kind)
        random.Random(f"{self.seed} {part}").shuffle(kinds)
        for number in range(self.each):
            yield kinds[number % len(kinds)], random.Random(f"{self.seed} {part} {number}")


@dataclass
class Submissions:
    """Jobs submitted by one user, each under a name of its own."""

    client: Client
    system: System
    tasks: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def submit(self) -> None:
        """Submit a job; what was not taken is noted as refused."""
        name = f"fault-{uuid4().hex}"
        script = self.system.script("true", name=name, output="/dev/null")
        answer = self.client.post("/compute/jobs/upload", files={"file": ("job.sh", script)})
        if answer.status_code == 201:
            self.tasks[name] = answer.json()["task_id"]
        else:
            assert answer.status_code in (400, 503), answer.text
            self.refused.append(name)

    def submit_together(self, count: int) -> None:
        """Submit that many jobs at once."""
        with ThreadPoolExecutor(count) as pool:
            for done in [pool.submit(self.submit) for _ in range(count)]:
                done.result()

    def records(self) -> dict[str, dict]:
        """The tasks as the API shows them, asked for in lists that fit a request line."""
        found: dict[str, dict] = {}
        for ids in batched(self.tasks.values()):
            found |= self.client.get("/tasks", params={"tasks": ",".join(ids)}).json()["tasks"]
        return found

    def all_final(self) -> bool:
        """Whether every task has ended."""
        records = self.records()
        return len(records) == len(self.tasks) and all(record["status"] >= "200" for record in records.values())

    def check_one_job_each(self) -> None:
        """Every task succeeded with one job, which is the one that the accounting has; what was refused has none."""
        records = self.records()
        expected = {name: records[task_id]["data"]["jobid"] for name, task_id in self.tasks.items()}
        listed = eventually(lambda: self._submitted([*expected, *self.refused], at_least=len(expected)), seconds=30)
        assert sorted(listed) == sorted((name, job_id) for name, job_id in expected.items())

    def _submitted(self, names: list[str], *, at_least: int) -> list[tuple[str, str]]:
        found = self.system.submitted(names)
        return found if len(found) >= at_least else []


def batched(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in lists of a hundred."""
    waiting = list(ids)
    while waiting:
        yield waiting[:100]
        waiting = waiting[100:]


@pytest.fixture
def submissions(site: Site, system: System) -> Submissions:
    """No submissions yet."""
    return Submissions(Client(site, "alice", system=system.name), system)


@pytest.fixture
def seeded() -> random.Random:
    """Randomness that can be had again."""
    return random.Random(20261122)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How many rounds a test of random moments runs."""
    return 60 if request.config.getoption("--faults-long") else 3


@pytest.fixture(scope="session")
def matrix(pytestconfig: pytest.Config) -> Matrix:
    """Half a minute and every kind of fault in the long run, a sample of one each otherwise."""
    long, seed = pytestconfig.getoption("--faults-long"), pytestconfig.getoption("--faults-seed")
    each = pytestconfig.getoption("--faults-rounds") or (6 if long else 1)
    return Matrix(seed, each, seconds=30 if long else 2, transfers=8 if long else 4)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config, matrix: Matrix) -> Tally:
    """What has become of transfers so far; it is shown at the end."""
    found = Tally(matrix.seed)
    pytestconfig.stash[SECTIONS]["transfers under faults"] = found.lines
    return found


@pytest.fixture(autouse=True)
def _mended(site: Site) -> Iterator[None]:
    """Whatever a test breaks runs again after it."""
    yield
    programs = sorted({program for part in PARTS for program in part.programs})
    send(processes(site, programs), signal.SIGCONT)
    run_again(site, *programs)
    alice = Client(site, "alice")
    eventually(lambda: alice.get("/utilities/whoami").status_code == 200, seconds=60)
