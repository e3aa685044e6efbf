"""Plots in docs/plots: SVG with logarithmic axes, the same bytes for the same figures."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from xml.etree import ElementTree as ET

_SIZE = {"width": 760, "height": 420}
_MANY_DECADES = 4
_ROUNDING = 1.000001
_STYLE = {
    "background": "#ffffff",
    "plot_background": "#ffffff",
    "font_family": "sans-serif",
    "guide_stroke_color": "#cccccc",
    "major_guide_stroke_color": "#cccccc",
    "label_font_size": 12,
    "major_label_font_size": 12,
    "stroke_width": "2",
    "colors": ("#1b6ca8", "#d1495b", "#2a9d57", "#e09f3e", "#6a4c93", "#5c677d", "#00798c", "#8d5b4c", "#b23a8a"),
}


@dataclass(frozen=True)
class Plot:
    """Lines of points (x, y) by their names; both axes are logarithmic, unless `straight`."""

    name: str
    title: str
    across: str
    up: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    straight: bool = False

    def svg(self) -> str:
        """The picture."""
        pygal = _library()
        chart = pygal.XY(
            title=self.title, x_title=self.across, y_title=self.up, style=pygal.style.CleanStyle(**_STYLE), js=(), no_prefix=True,
            legend_at_bottom=True, legend_at_bottom_columns=2 if len(self.lines) <= 4 else 3, show_x_guides=True, dots_size=3, **_SIZE,
        )  # fmt: skip
        placed = {name: [(self._place(x), self._place(y)) for x, y in points] for name, points in self.lines.items()}
        for name, points in placed.items():
            chart.add(name, points)
        if not self.straight:
            chart.x_labels = _labels([x for points in self.lines.values() for x, _ in points])
            chart.y_labels = _labels([y for points in self.lines.values() for _, y in points])
        return _drawn(chart.render_tree())

    def _place(self, value: float) -> float:
        return value if self.straight else math.log10(value)


def _library() -> ModuleType:
    """pygal, which only --write needs, without the import hook that it leaves: one of a kind that Python knows no more."""
    import pygal  # noqa: PLC0415
    import pygal.style  # noqa: PLC0415

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]
    return pygal


def _labels(values: Sequence[float]) -> list[dict[str, float | str]]:
    """The marks at 1, 2 and 5 of each decade, or at its beginning where there are many, that enclose the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low < _MANY_DECADES else (1,)
    marks = [step * 10.0**decade for decade in range(low, high + 1) for step in steps]
    first = max(mark for mark in marks if mark <= min(values) * _ROUNDING)
    last = min((mark for mark in marks if mark * _ROUNDING >= max(values)), default=marks[-1])
    return [{"value": math.log10(mark), "label": f"{mark:,.0f}" if mark >= 1 else f"{mark:g}"} for mark in marks if first <= mark <= last]


def _drawn(tree: ET.Element) -> str:
    """The tree without what moves, is hidden, or would differ from day to day: scripts, tooltips, the date of its making."""
    for parent in list(tree.iter()):
        for child in list(parent):
            hidden = not isinstance(child.tag, str) or child.tag in {"script", "desc"} or "tooltip-overlay" in child.get("class", "")
            if hidden or (child.tag == "title" and parent is not tree):
                parent.remove(child)
    del tree.attrib["id"]
    ET.indent(tree, "")
    return ET.tostring(tree, encoding="unicode") + "\n"
