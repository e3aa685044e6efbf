"""Each claim of docs/security.md names a test, and each of these tests is there."""

import ast
import re

import pytest

from tests.documents.sections import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
GAINS = PAGE.partition("## What an attacker gains")[2].partition("\n## ")[0]


def functions(path: str) -> set[str]:
    """The test functions of a module."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda word: word)
def test_a_test_that_the_page_names_is_there(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions(path)


def test_the_page_names_tests_in_no_other_way() -> None:
    assert len(NAMED) > 60
    assert len(re.findall(r"tests/[\w/]+\.py::\w+", PAGE)) == len(re.findall(r"`tests/[\w/]+\.py::\w+`", PAGE))
    assert not re.findall(r"(?<!::)\btest_\w+\b(?!\.py)", PAGE)


def test_every_part_is_weighed_and_every_gain_and_limit_has_its_test() -> None:
    parts = dict(re.findall(r"\n### (.+)\n((?:(?!\n### )[\s\S])+)", GAINS))
    assert list(parts) == [
        *("Reading Redis", "Writing to Redis", "Owning the API", "Owning a worker", "Owning the delegation", "Owning the object store"),
        *("Owning a login node", "Being a user"),
    ]
    for part, text in parts.items():
        assert "**Gains" in text, part
        assert "::test_" in text, part
        for claim in re.findall(r"\n- (.+)", text):
            assert "::test_" in claim, claim


def test_every_suite_of_attackers_is_told_of() -> None:
    named = {path for path, _ in NAMED}
    assert {f"tests/attackers/{path.name}" for path in (ROOT / "tests" / "attackers").glob("test_*.py")} <= named


def test_every_known_hole_is_told_of() -> None:
    table = PAGE.partition("## Known holes of others")[2]
    for number in range(1, 19):
        assert re.search(rf"\| [^|]*\bS{number}\b", table), f"S{number}"
    for path in ("tests/site/test_known_holes.py", "tests/site/test_known_holes_within.py"):
        holes = {name.split("_")[1] for name in functions(path) if name.startswith(("test_s", "test_v2"))}
        assert holes <= {name.split("_")[1] for _, name in NAMED}, holes
