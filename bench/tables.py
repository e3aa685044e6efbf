"""Tables in Markdown, and the parts of the report that hold them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.plots import Plot
from bench.series import Series


@dataclass(frozen=True)
class Part:
    """One part of the report, by the name that its markers in docs/performance.md carry; `failures` are of calls."""

    name: str
    text: str
    failures: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, its first column to the left and the others to the right, aligned in plain text too."""
    widths = [max(2, *map(len, column)) for column in zip(header, *rows, strict=True)]
    ruler = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join(_row(cells, widths) for cells in (header, ruler, *rows))


def timings(contestants: dict[str, Series], *, floor: str) -> str:
    """A table of times beside those of the floor."""
    least = contestants[floor]
    rows = [
        (name, ms(series.p50), ms(series.p95), ratio(series.p50, least.p50), ratio(series.p95, least.p95), *_counts(series))
        for name, series in contestants.items()
    ]
    return table(("", "p50 ms", "p95 ms", "p50 / floor", "p95 / floor", "n", "errors"), rows)


def ms(seconds: float) -> str:
    """Milliseconds, in three digits or so."""
    return digits(seconds * 1000)


def ratio(value: float, floor: float) -> str:
    """How many times the floor it is."""
    return digits(value / floor) if floor else "-"


def digits(value: float) -> str:
    """A number in about three digits."""
    if math.isnan(value):
        return "-"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def failures(*groups: Series) -> tuple[str, ...]:
    """What the failed calls of them all said."""
    return tuple(text for series in groups for text in series.failures)


def _counts(series: Series) -> tuple[str, str]:
    return str(len(series.seconds)), str(len(series.failures))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join([first, *others])} |"
