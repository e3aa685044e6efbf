"""`./run bench`: what the gateway costs, beside the floors, on this machine, in one run."""

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.centre import ROOT, running
from bench.crowd import crowd
from bench.fairness import fairness
from bench.jobs import jobs
from bench.listing import listing
from bench.machine import machine
from bench.memory import memory
from bench.report import write
from bench.stage import Stage, stage
from bench.submission import submission
from bench.tables import Part
from bench.throughput import throughput
from bench.transfers import transfers
from bench.uploads import open_uploads, reaction


@dataclass(frozen=True)
class Size:
    """How long a run is: rounds of each contest, calls of each way in a round, seconds of each load.

    Then: transfers of each file, rounds of transfers of 1 GiB, uploads that are reacted to, seconds in which nothing is done,
    rounds beside another user, calls in each.
    """

    rounds: int
    calls: int
    submissions: int
    loads: int
    seconds: float
    transfers: int
    large: int
    uploads: int
    idle: float
    contests: int
    beside: int


_WHOLE = Size(rounds=30, calls=10, submissions=3, loads=3, seconds=5, transfers=8, large=5, uploads=50, idle=120, contests=5, beside=200)
_QUICK = Size(rounds=6, calls=5, submissions=2, loads=1, seconds=2, transfers=4, large=1, uploads=5, idle=5, contests=2, beside=60)


_NAMES = ("ls", "whoami", "tasks", "jobs", "submission", "reaction", "uploads", "transfers", "fairness", "memory")


def main() -> int:
    """Do what the command line says; returns the exit status: 1 if a call failed."""
    options = _options()
    if os.geteuid():
        print("bench: the site needs root", file=sys.stderr)
        return 1
    load = os.getloadavg()[0]
    with running(options.state) as site, stage(site) as scene:
        parts = [
            machine(scene.programs, site.facts["slurm_conf"], load=load),
            *_parts(scene, _QUICK if options.quick else _WHOLE, set(options.only)),
        ]
    for part in parts:
        print(f"\n## {part.name}\n\n{part.text}", flush=True)
    failed = Counter(text for part in parts for text in part.failures)
    for text, count in failed.most_common(20):
        print(f"bench: {count} x {text}", file=sys.stderr)
    if options.write and not failed:
        write(parts)
    return 1 if failed else 0


def _parts(scene: Stage, size: Size, only: set[str]) -> list[Part]:
    measurements = {
        "ls": lambda: [listing(scene, rounds=size.rounds, calls=size.calls)],
        "whoami": lambda: throughput(scene, rounds=size.loads, seconds=size.seconds),
        "tasks": lambda: [crowd(scene, rounds=size.rounds, calls=size.calls)],
        "jobs": lambda: [jobs(scene, rounds=size.rounds, calls=size.submissions)],
        "submission": lambda: [submission(scene, rounds=size.rounds, calls=size.submissions)],
        "reaction": lambda: [reaction(scene, uploads=size.uploads)],
        "uploads": lambda: [open_uploads(scene, seconds=size.idle)],
        "transfers": lambda: transfers(scene, rounds=size.large),
        "fairness": lambda: [fairness(scene, rounds=size.contests, calls=size.beside)],
        "memory": lambda: [memory(scene.site, rounds=size.transfers)],  # the last: it restarts what the others measure
    }
    parts: list[Part] = []
    for name in only or measurements:
        begun = time.monotonic()
        parts += measurements[name]()
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return parts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*_NAMES, []], help="measure only this")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that all works")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    parser.add_argument("--state", type=Path, default=ROOT / ".site-bench", help="the site's folder (default: .site-bench)")
    return parser.parse_args()


if __name__ == "__main__":  # the load's processes import this module too
    sys.exit(main())
