"""Times of many like calls, and what is told of them."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


class CallFailedError(Exception):
    """A call did not answer as it must."""


@dataclass
class Series:
    """Times of calls in seconds, and what was said by those that failed."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def time(self, call: Callable[[], object]) -> None:
        """Make the call, and note its time, or its failure."""
        begun = time.perf_counter()
        try:
            call()
        except Exception as failed:  # noqa: BLE001 (whatever a call raises is its failure, and told at the end)
            self.failures.append(str(failed) if isinstance(failed, CallFailedError) else repr(failed))
        else:
            self.seconds.append(time.perf_counter() - begun)

    def join(self, other: "Series") -> None:
        """Take in the times and failures of another one."""
        self.seconds += other.seconds
        self.failures += other.failures

    @property
    def p50(self) -> float:
        """Seconds that half of the calls took at most."""
        return quantile(self.seconds, 0.5)

    @property
    def p95(self) -> float:
        """Seconds that all but one in twenty calls took at most."""
        return quantile(self.seconds, 0.95)

    @property
    def p99(self) -> float:
        """Seconds that all but one in a hundred calls took at most."""
        return quantile(self.seconds, 0.99)


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest of the values that at least this part of them does not exceed; nan of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else math.nan
