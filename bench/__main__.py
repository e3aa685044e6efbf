"""`./run bench`: what the gateway costs, beside the floors, on this machine, in one run."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import curves, many
from bench.centre import ROOT, running
from bench.client import client
from bench.crowd import KEPT, crowd
from bench.crush import crush
from bench.fairness import fairness
from bench.jobs import jobs
from bench.listing import listing
from bench.machine import machine, origin
from bench.memory import memory
from bench.report import write
from bench.soak import soak
from bench.spread import spread
from bench.stage import Stage, stage
from bench.submission import submission
from bench.tables import Part
from bench.throughput import throughput
from bench.transfers import transfers
from bench.uploads import open_uploads, reaction
from bench.way import way


@dataclass(frozen=True)
class Size:
    """How long a run is.

    Rounds of each contest, calls of each way in a round, of those that submit; rounds and seconds of each load; points of each curve
    (of so many, the first); transfers of each file, rounds of transfers of 1 GiB, uploads that are reacted to, seconds in which nothing
    is done; rounds beside another user, calls in each; seconds of the steady load.
    """

    rounds: int
    calls: int
    submissions: int
    loads: int
    seconds: float
    points: int
    transfers: int
    large: int
    uploads: int
    idle: float
    contests: int
    beside: int
    soak: float


_WHOLE = Size(30, 10, 2, loads=3, seconds=4, points=9, transfers=8, large=5, uploads=50, idle=120, contests=4, beside=100, soak=3600)
_QUICK = Size(3, 5, 2, loads=1, seconds=2, points=2, transfers=4, large=1, uploads=5, idle=5, contests=1, beside=30, soak=30)

Measurement = Callable[[Stage, Size], list[Part]]
_MUST: dict[str, Measurement] = {
    "ls": lambda scene, size: [listing(scene, rounds=size.rounds, calls=size.calls)],
    "way": lambda scene, size: [way(scene, rounds=size.rounds, calls=size.calls)],
    "saturated": lambda scene, size: throughput(scene, rounds=size.loads, seconds=size.seconds),
    "crush": lambda scene, size: crush(scene, rounds=min(2, size.loads), seconds=4 * size.seconds),
    "pyfirecrest": lambda scene, size: [client(scene, rounds=size.rounds, calls=size.submissions)],
    "tasks": lambda scene, size: [crowd(scene, kept=KEPT[: size.points], rounds=size.rounds, calls=size.calls)],
    "spread": lambda scene, size: spread(scene, rounds=min(2, size.loads), seconds=size.seconds),
}
_CURVES: dict[str, Measurement] = {
    "concurrency": lambda scene, size: many.concurrency(scene, counts=many.CLIENTS[: size.points], rounds=size.loads, seconds=size.seconds),
    "users": lambda scene, size: many.users(scene, counts=many.USERS[: size.points], rounds=size.loads, seconds=size.seconds),
    "systems": lambda scene, size: many.systems(scene, counts=many.SYSTEMS[: size.points], rounds=size.loads, seconds=size.seconds),
    "directories": lambda scene, size: curves.directories(
        scene, sizes=curves.ENTRIES[: size.points], rounds=size.rounds, calls=size.submissions
    ),
    "outputs": lambda scene, size: curves.outputs(scene, sizes=curves.SIZES[: size.points], rounds=size.rounds, calls=size.submissions),
}
_OTHERS: dict[str, Measurement] = {
    "jobs": lambda scene, size: [jobs(scene, rounds=size.rounds, calls=size.submissions)],
    "submission": lambda scene, size: [submission(scene, rounds=size.rounds, calls=size.submissions)],
    "reaction": lambda scene, size: [reaction(scene, uploads=size.uploads)],
    "uploads": lambda scene, size: [open_uploads(scene, seconds=size.idle)],
    "transfers": lambda scene, size: transfers(scene, rounds=size.large),
    "fairness": lambda scene, size: [fairness(scene, rounds=size.contests, calls=size.beside)],
    "memory": lambda scene, size: [memory(scene.site, rounds=size.transfers)],  # the last: it restarts what the others measure
}
_SOAK: dict[str, Measurement] = {"soak": lambda scene, size: soak(scene, seconds=size.soak)}
ALL = _MUST | _CURVES | _OTHERS | _SOAK
_GROUPS = {"must": list(_MUST), "curves": list(_CURVES), "all": [*_MUST, *_CURVES, *_OTHERS]}


def main() -> int:
    """Do what the command line says; returns the exit status: 1 if a call failed."""
    options = _options()
    if os.geteuid():
        print("bench: the site needs root", file=sys.stderr)
        return 1
    names = list(dict.fromkeys(name for word in options.only or ["all"] for name in _GROUPS.get(word, [word])))
    size = _QUICK if options.quick else _WHOLE
    if options.seconds is not None:
        size = Size(**{**vars(size), "soak": options.seconds})
    load = os.getloadavg()[0]
    with running(options.state) as site, stage(site) as scene:
        parts = [machine(scene.programs, site.facts["slurm_conf"])]
        for name in names:
            parts += _measured(name, scene, size)
            if options.write and not any(part.failures for part in parts):
                write(parts, origin(load))
    failed = Counter(text for part in parts for text in part.failures)
    for text, count in failed.most_common(20):
        print(f"bench: {count} x {text}", file=sys.stderr)
    return 1 if failed else 0


def _measured(name: str, scene: Stage, size: Size) -> list[Part]:
    begun = time.monotonic()
    parts = ALL[name](scene, size)
    for part in parts:
        print(f"\n## {part.name}\n\n{part.text}", flush=True)
    print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return parts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "only", nargs="*", choices=[*_GROUPS, *ALL, []], metavar="PART", help=f"of {', '.join([*_GROUPS, *ALL])}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="a short run, to see that all works")
    parser.add_argument("--seconds", type=float, help="how long `soak` goes on")
    parser.add_argument("--write", action="store_true", help="write tables and plots into docs")
    parser.add_argument("--state", type=Path, default=ROOT / ".site-bench", help="the site's folder (default: .site-bench)")
    return parser.parse_args()


if __name__ == "__main__":  # the load's processes import this module too
    sys.exit(main())
