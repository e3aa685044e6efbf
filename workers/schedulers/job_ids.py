"""Job ids as clients write them: `12`, `12_3`, `12_[1-4]` and `12+0`, or a list of them."""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

_ID = re.compile(r"(\d+)(?:_\[(\d+)-(\d+)\]|\+(\d+))?", re.ASCII)
_TASKS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)


def listed(ids: str) -> list[str]:
    """The ids of a list, whose commas inside brackets separate nothing."""
    return re.split(r",(?![^\[]*\])", ids)


def whole_arrays(ids: str) -> str:
    """The ids with `12` for `12_[1-4]`, which squeue prints for tasks that wait together, but neither it nor sacct takes."""
    return re.sub(r"_\[[\d-]+\]", "", ids)


def root(shown: str) -> str:
    """The job that a shown id belongs to: `12` of `12_3`, `12_[1-4]` and `12+0`."""
    return re.split(r"[_+]", shown, maxsplit=1)[0]


def meant(shown: str, ids: str) -> bool:
    """Whether a job that Slurm shows under this id is one of those asked for.

    Slurm shows the whole array and all components where only some were asked for: only they are left out.
    """
    words, by_root = _asked(ids)
    asked = by_root.get(root(shown), ())
    narrow = [match for match in asked if match[0] != match[1]]
    return len(narrow) < len(asked) or not narrow or shown in words or any(_holds(match, shown) for match in narrow)


@lru_cache(maxsize=8)
def _asked(ids: str) -> tuple[frozenset[str], dict[str, list[re.Match[str]]]]:
    """The ids of a list, and those of jobs, arrays and components by the job that they belong to."""
    words, by_root = frozenset(listed(ids)), defaultdict[str, list[re.Match[str]]](list)
    for match in filter(None, map(_ID.fullmatch, words)):
        by_root[match[1]].append(match)
    return words, by_root


def _holds(asked: re.Match[str], shown: str) -> bool:
    _, first, last, component = asked.groups()
    if component is not None:
        return shown == asked[0]
    if "..." in shown:  # squeue has cut the list of tasks
        return True
    return any(bisect_left(tasks, int(first)) < bisect_right(tasks, int(last)) for tasks in _tasks(shown))


def _tasks(shown: str) -> Iterator[range]:
    """The numbers of the tasks in `12_3` or `12_[1-4,7,10-20:2%5]`."""
    for first, last, step in _TASKS.findall(shown.partition("_")[2].partition("%")[0]):
        yield range(int(first), int(last or first) + 1, int(step or 1))
