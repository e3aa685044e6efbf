"""Folders with entries, on the file system that the site's systems share with this machine."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def folders(owners: Sequence[str], *, entries: int) -> Iterator[list[str]]:
    """A folder of so many empty files for each of the owners, who are unix users; they are removed at the end."""
    with TemporaryDirectory(prefix="firecrest-bench.") as root:
        Path(root).chmod(0o755)
        yield [_folder(Path(root, str(number)), owner, entries) for number, owner in enumerate(owners)]


def _folder(path: Path, owner: str, entries: int) -> str:
    path.mkdir()
    for number in range(entries):
        (path / f"file-{number:02}").touch()
    shutil.chown(path, owner)
    return str(path)
