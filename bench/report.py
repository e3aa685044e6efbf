"""docs/performance.md, whose tables and plots are written by the harness, each between two markers."""

from bench.centre import ROOT
from bench.tables import Part

PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "plots"


def write(parts: list[Part], origin: str) -> None:
    """Replace the tables on the page, and the pictures, by what `origin` says they are of. Raises ValueError without markers."""
    text = PAGE.read_text(encoding="utf-8")
    for part in parts:
        begin, end = f"<!-- bench: {part.name} -->\n", f"<!-- /bench: {part.name} -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not begun or not ended:
            raise ValueError(f"{PAGE.name} has no markers for {part.name}")
        text = f"{before}{begin}\n{_shown(part)}\n\n*{origin}*\n\n{end}{after}"
    PLOTS.mkdir(exist_ok=True)
    for plot in (plot for part in parts for plot in part.plots):
        (PLOTS / f"{plot.name}.svg").write_text(plot.svg(), encoding="utf-8")
    PAGE.write_text(text, encoding="utf-8")


def _shown(part: Part) -> str:
    return "\n\n".join((part.text, *(f"![{plot.title}](plots/{plot.name}.svg)" for plot in part.plots)))
