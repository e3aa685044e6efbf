"""Folders: made, given to the servers' own users, held by one at a time."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def owned(path: Path, owner: str, mode: int = 0o755) -> Path:
    """Make a folder if it is missing, and have it belong to a user."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.chown(path, owner)
    path.chmod(mode)
    return path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a folder, made if it is missing; whoever else wants to hold it waits."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
