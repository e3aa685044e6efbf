"""Uploads and downloads while what carries them out is killed, or gone for a while: none is lost, none is made twice, nothing is left."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.settings import Storage
from tests.faults.conftest import Matrix
from tests.faults.moves import Moves
from tests.faults.parts import PARTS, Kind, Part
from tests.faults.tally import Run, Tally
from tests.faults.transfers import MB, Content, Download, Transfer, Upload, settled
from tests.real_site import Site, eventually
from tests.site.conftest import Folder, make_folder
from workers.staging.client import Client as Store

pytestmark = pytest.mark.timeout(36000)
SIZES = (0, MB, 30 * MB, 70 * MB)  # the last one goes down in two parts
# What to wait for before something breaks, beside random moments: the step of any of the transfers.
AIMS = (
    *("110 offering", "111 waiting", "111 client sends", "113 fetching", "113 placing"),
    *("116 measuring", "116 storing", "116 completing", "cleaning", "taking", "invalidating"),
)


@dataclass(frozen=True)
class Scenery:
    """Where transfers take place."""

    site: Site
    store: Store
    folder: Folder
    local: Path
    contents: list[Content]
    moves: Moves


@pytest.fixture(scope="module")
def scenery(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenery]:
    """A folder of alice, and files to go there and come from there."""
    folder, local = make_folder("fcalice"), tmp_path_factory.mktemp("local")
    contents = [Content(size, local, folder) for size in SIZES]
    moves = Moves(folder.path)
    yield Scenery(site, Store(Storage.model_validate(site.facts["stores"]["radosgw"])), folder, local, contents, moves)
    moves.close()
    shutil.rmtree(folder.path)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_transfer_ends_right_and_once_when_something_breaks(scenery: Scenery, matrix: Matrix, tally: Tally, part: Part) -> None:
    before = len(tally.wrong)
    for kind, seeded in matrix.rounds(part.name):
        began = time.monotonic()
        tally.runs += under(scenery, part, kind, seeded=seeded, seconds=matrix.seconds, count=matrix.transfers)
        tally.seconds += time.monotonic() - began

    assert [str(run) for run in tally.wrong[before:]] == []


def under(scenery: Scenery, part: Part, kind: Kind, *, seeded: random.Random, seconds: float, count: int) -> list[Run]:
    """Begin transfers one after the other, break something at some moment, and see what becomes of them."""
    transfers = [_transfer(scenery, (Upload, Download)[number % 2], seeded, seconds) for number in range(count)]
    delays = [seeded.uniform(0, 0.6) for _ in transfers]
    aim, moment = seeded.choice(("", *AIMS)), seeded.uniform(0, 3)
    with ThreadPoolExecutor(count) as pool:
        ends = [pool.submit(_ending, transfer, delay) for transfer, delay in zip(transfers, delays, strict=True)]
        steps = _steps_when(transfers, aim, moment)
        part.breaks(scenery.site, kind, seconds)
        lost = [end.result() for end in ends]
    return [
        Run(part.name, kind, transfer.direction, step, how or _changed(transfer), _twice(transfer, scenery), _left(transfer, scenery))
        for transfer, step, how in zip(transfers, steps, lost, strict=True)
    ]


def _transfer(scenery: Scenery, kind: type[Transfer], seeded: random.Random, seconds: float) -> Transfer:
    content = seeded.choice(scenery.contents)
    places = {"local": scenery.local, "folder": scenery.folder, "moves": scenery.moves}
    return kind(scenery.site, content, **places, seconds=seconds + 240)


def _ending(transfer: Transfer, delay: float) -> str:
    time.sleep(delay)
    return _failure(transfer.transfer)


def _failure(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as wrong:  # noqa: BLE001 (whatever it is, it is counted)
        return f"{type(wrong).__name__}: {wrong}"[:600]
    return ""


def _steps_when(transfers: list[Transfer], aim: str, moment: float) -> list[str]:
    """How far the transfers are at the moment, or as soon as one of them is where it is aimed."""
    if not aim:
        time.sleep(moment)
        return [transfer.step() for transfer in transfers]
    steps: list[str] = []

    def there() -> bool:
        steps[:] = [transfer.step() for transfer in transfers]
        return aim in steps or set(steps) == {"over"}

    with suppress(AssertionError):
        eventually(there, seconds=10, pause=0.001)
    return steps


def _changed(transfer: Transfer) -> str:
    return _failure(transfer.check_still)


def _twice(transfer: Transfer, scenery: Scenery) -> str:
    tasks, appearances = transfer.tasks(), transfer.appearances()
    return "" if (tasks, appearances) == (1, 1) else f"{tasks} tasks, {appearances} files"


def _left(transfer: Transfer, scenery: Scenery) -> str:
    return ", ".join(settled(lambda: transfer.leftovers(scenery.store), seconds=60))
