"""What became of transfers under faults: counted by part, kind and step."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Run:
    """One transfer that a fault met: where it was then, and what was wrong in the end."""

    part: str
    kind: str
    direction: str
    step: str
    lost: str = ""
    twice: str = ""
    left: str = ""

    def __str__(self) -> str:
        wrong = "; ".join(text for text in (self.lost, self.twice, self.left) if text)
        return f"{self.part} {self.kind}, {self.direction} at {self.step!r}: {wrong}"


@dataclass
class Tally:
    """All runs so far."""

    seed: int
    runs: list[Run] = field(default_factory=list)
    seconds: float = 0

    @property
    def wrong(self) -> list[Run]:
        """The runs that did not end right, once, leaving nothing."""
        return [run for run in self.runs if run.lost or run.twice or run.left]

    def lines(self) -> Iterator[str]:
        """The tally as tables."""
        if not self.runs:
            return
        yield from self._table("part, kind", lambda run: f"{run.part}, {run.kind}")
        yield from self._table("direction, step", lambda run: f"{run.direction}, {run.step}")
        yield f"seed {self.seed}, {self.seconds:.0f} s: {_counted(self.runs)}"
        yield from map(str, self.wrong)

    def _table(self, title: str, key: Callable[[Run], str]) -> Iterator[str]:
        yield f"{title:34} runs  lost  twice  left"
        for name in sorted(Counter(map(key, self.runs))):
            those = [run for run in self.runs if key(run) == name]
            yield f"{name:34} {len(those):4}  {_count(those, 'lost'):4}  {_count(those, 'twice'):5}  {_count(those, 'left'):4}"
        yield ""


def _counted(runs: list[Run]) -> str:
    return f"{len(runs)} runs, {_count(runs, 'lost')} lost, {_count(runs, 'twice')} made twice, {_count(runs, 'left')} with leftovers"


def _count(runs: list[Run], what: str) -> int:
    return sum(bool(getattr(run, what)) for run in runs)
