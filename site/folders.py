"""Folders of the site that belong to the servers' own users."""

import shutil
from pathlib import Path


def owned(path: Path, owner: str, mode: int = 0o755) -> Path:
    """Make a folder if it is missing, and have it belong to a user."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.chown(path, owner)
    path.chmod(mode)
    return path
