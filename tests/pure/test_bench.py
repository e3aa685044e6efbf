"""What the bench makes of its figures."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import many, report
from bench.__main__ import ALL
from bench.api import Address
from bench.load import Lister
from bench.plots import Plot
from bench.series import Series, quantile
from bench.soak import Samples
from bench.tables import Part, table

_MORE = ("machine", "cost", "transfers-link", "transfers-memory")  # beside those called like their measurement


def _plot(**options: bool) -> Plot:
    return Plot("p", "Times", "entries", "ms", {"API": [(1, 1.5), (100_000, 330)], "ssh": [(1, 12), (100, 14)]}, **options)


def test_the_page_has_a_place_for_every_part_and_none_for_others() -> None:
    found = re.findall(r"^<!-- bench: (\S+) -->$", report.PAGE.read_text(), re.MULTILINE)
    assert sorted(found) == sorted([*ALL, *_MORE])


def test_a_part_replaces_what_was_at_its_place_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- bench: a -->\n\nold\n\n<!-- /bench: a -->\n\n<!-- bench: b -->\n\nkept\n\n<!-- /bench: b -->\n")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "PLOTS", tmp_path / "plots")
    for _ in range(2):
        report.write([Part("a", "| new |", plots=(_plot(),))], "of today")
        said = page.read_text()
        assert "old" not in said
        assert said.count("| new |\n\n![Times](plots/p.svg)\n\n*of today*") == 1
        assert said.endswith("<!-- bench: b -->\n\nkept\n\n<!-- /bench: b -->\n")
    assert (tmp_path / "plots" / "p.svg").read_text() == _plot().svg()
    with pytest.raises(ValueError, match="no markers for c"):
        report.write([Part("c", "")], "of today")


def test_a_plot_shows_its_lines_between_labels_that_enclose_them_and_no_script() -> None:
    picture = _plot().svg()
    tree = ET.fromstring(picture)
    texts = [str(node.text) for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Times", "entries", "ms", "API", "ssh", "1", "100,000", "500"} <= set(texts)
    assert "1,000,000" not in texts
    assert "<script" not in picture
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}circle"))) == 4
    assert ET.fromstring(_plot(straight=True).svg()) is not None


def test_a_table_is_one_in_markdown_however_narrow_its_columns() -> None:
    assert table(("", "n"), [("a", "1")]).splitlines()[1] == "| -- | -: |"


def test_growth_is_that_of_the_last_two_thirds() -> None:
    samples = Samples()
    for minute in range(61):
        grown = min(minute, 20) * 10
        samples.add(60 * minute, {"settles": (100 + grown) * 2**20, "grows": (100 + 2 * minute) * 2**20})
    assert samples.slope("settles") == pytest.approx(0, abs=1)
    assert samples.steady("settles")
    assert samples.slope("grows") == pytest.approx(120 * 2**20)
    assert not samples.steady("grows")


@pytest.mark.parametrize("count", [1, 10, 64, 1000])
def test_clients_are_as_many_as_ever_and_between_them_all_users(count: int) -> None:
    listers = [Lister(Address("http://x", "cluster", "token", f"user{number}"), "/", 20) for number in range(count)]
    clients = many._shared(listers)
    assert len(clients) == 64
    assert {lister for client in clients for lister in client} == set(listers)


def test_quantiles_are_times_that_were_measured() -> None:
    series = Series([float(number) for number in range(1, 101)])
    assert (series.p50, series.p95, series.p99) == (50, 95, 99)
    assert math.isnan(quantile([], 0.5))
