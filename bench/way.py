"""The way of one waited call: how long it is in each process, by the client's clock and that of Redis, which are the same."""

import time
from collections.abc import Iterator
from itertools import takewhile

from bench.api import Api
from bench.folders import folders
from bench.listing import ENTRIES, ls_in_process
from bench.series import Series
from bench.stage import Stage
from bench.tables import Part, failures, ms, ratio, table

_IN = "client and API, until the letter is in the queue"
_AT_WORK = "worker, until the answer is published"
_LISTED = "of it `ls` and its parsing, over a warm shell (in process)"
_OUT = "API and client, until the answer is read"
_ALL = "**the call**"


def way(stage: Stage, *, rounds: int, calls: int) -> Part:
    """The times of the parts of `ls`, one client; what the system takes of the worker's time is measured beside it."""
    steps: dict[str, Series] = {name: Series() for name in (_IN, _AT_WORK, _LISTED, _OUT, _ALL)}
    with folders([stage.user], entries=ENTRIES) as (folder,):
        api = Api(stage.address())
        for _ in range(calls):  # not counted: connections, shells
            api.ls(folder, entries=ENTRIES)
            ls_in_process(stage, folder)
        for _ in range(rounds):
            for begun, posted, answered, ended in _watched(stage, api, folder, calls):
                steps[_IN].seconds.append(posted - begun)
                steps[_AT_WORK].seconds.append(answered - posted)
                steps[_OUT].seconds.append(ended - answered)
                steps[_ALL].seconds.append(ended - begun)
            for _ in range(calls):
                steps[_LISTED].time(lambda: ls_in_process(stage, folder))
        api.close()
    rows = [(name, ms(step.p50), ms(step.p95), ratio(step.p50, steps[_ALL].p50)) for name, step in steps.items()]
    return Part("way", table(("", "p50 ms", "p95 ms", "of the call"), rows), failures(*steps.values()))


def _watched(stage: Stage, api: Api, folder: str, calls: int) -> Iterator[tuple[float, float, float, float]]:
    """When each call began, was posted, answered and ended, in Unix seconds."""
    times = []
    with stage.redis.monitor() as monitor:
        for _ in range(calls):
            begun = time.time()
            api.ls(folder, entries=ENTRIES)
            times.append((begun, time.time()))
        stage.redis.echo("watched")
        seen = list(takewhile(lambda said: not said["command"].startswith("ECHO watched"), monitor.listen()))
    for begun, ended in times:
        said = [(one["time"], one["command"]) for one in seen if begun <= one["time"] <= ended]
        posted, letter = next((at, words) for at, words in said if words.startswith("LPUSH utilities "))
        answered = next(at for at, words in said if words.startswith("PUBLISH replies:") and words.split(" ", 3)[2] in letter)
        yield begun, posted, answered, ended
