"""Contests: the same work done in several ways, in turn, in one run."""

import random
from collections.abc import Callable, Mapping

from bench.series import Series

Way = Callable[[], object]


def contest(ways: Mapping[str, Way], *, rounds: int, calls: int, warm_up: int) -> dict[str, Series]:
    """The times of each way: in every round each makes `calls` calls, in an order drawn anew.

    `warm_up` calls of each are made first and not counted; they must succeed.
    """
    for way in ways.values():
        for _ in range(warm_up):
            way()
    found = {name: Series() for name in ways}
    names = list(ways)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            for _ in range(calls):
                found[name].time(ways[name])
    return found
