"""Folders: made, given to the servers' own users, held by one at a time."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

MARK = "made-by-firecrest-site"


def owned(path: Path, owner: str, mode: int = 0o755) -> Path:
    """Make a folder if it is missing, and have it belong to a user."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.chown(path, owner)
    path.chmod(mode)
    return path


def lasting(path: Path) -> None:
    """Make a folder that servers of the machine may have made already; `removed` knows whose it is by a mark."""
    if not path.exists():
        path.mkdir(mode=0o755, exist_ok=True)
        (path / MARK).touch()


def removed(path: Path) -> None:
    """Remove a folder that `lasting` made, if nobody else uses it."""
    if (path / MARK).exists():
        (path / MARK).unlink()
        if not any(path.iterdir()):
            path.rmdir()


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a folder, made if it is missing; whoever else wants to hold it waits."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
