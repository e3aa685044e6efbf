"""docs/performance.md, whose tables are written by the harness, each between two markers."""

from bench.centre import ROOT
from bench.tables import Part

PAGE = ROOT / "docs" / "performance.md"


def write(parts: list[Part]) -> None:
    """Replace the tables on the page. Raises ValueError when one's markers are not there."""
    text = PAGE.read_text(encoding="utf-8")
    for part in parts:
        begin, end = f"<!-- bench: {part.name} -->\n", f"<!-- /bench: {part.name} -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not begun or not ended:
            raise ValueError(f"{PAGE.name} has no markers for {part.name}")
        text = f"{before}{begin}\n{part.text}\n\n{end}{after}"
    PAGE.write_text(text, encoding="utf-8")
