"""Code in documents: the fenced block behind a comment such as `<!-- wc, test: run by tests/documents -->`."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"


def code(title: str, document: Path = README) -> str:
    """The code of the one block with that title."""
    pattern = rf"<!-- {re.escape(title)}: run by tests/documents -->\n```\w+\n(.*?)```"
    (found,) = re.findall(pattern, document.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)
