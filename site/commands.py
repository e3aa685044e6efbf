"""Commands of this machine, run to their end."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from trouble import SiteError

PATIENCE = 120  # seconds


def run(*argv: str, said: str = "", environment: Mapping[str, str] | None = None, directory: Path = Path("/")) -> str:
    """Standard output of a command that must end well; raises SiteError with its words."""
    done = _done(argv, said, environment or {}, directory)
    if done.returncode:
        raise SiteError(f"{' '.join(argv[:3])} … failed ({done.returncode}): {done.stdout}{done.stderr}")
    return done.stdout


def output(*argv: str, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a command, nothing if it failed."""
    done = _done(argv, "", environment or {}, Path("/"))
    return "" if done.returncode else done.stdout


def succeeds(*argv: str, environment: Mapping[str, str] | None = None) -> bool:
    """Whether a command ends well."""
    return _done(argv, "", environment or {}, Path("/")).returncode == 0


def _done(argv: tuple[str, ...], said: str, environment: Mapping[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    everything = {**os.environ, "LC_ALL": "C.UTF-8", **environment}
    return subprocess.run(argv, check=False, input=said, env=everything, cwd=directory, capture_output=True, text=True, timeout=PATIENCE)
