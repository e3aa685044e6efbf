"""The site that is measured: started when it does not run, and then stopped at the end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real_site import Site

ROOT = Path(__file__).parent.parent


@contextmanager
def running(state: Path) -> Iterator[Site]:
    """The site in that state folder, running. Raises subprocess.CalledProcessError when it does not start."""
    ran = _site("status", state, check=False) == 0
    try:
        _site("start", state, "--for-tests")
        yield Site(json.loads((state / "site.json").read_text(encoding="utf-8")))
    finally:
        if not ran:
            _site("stop", state, check=False)


def _site(action: str, state: Path, *options: str, check: bool = True) -> int:
    command = (sys.executable, "site", action, *options, "--state", str(state))
    return subprocess.run(command, cwd=ROOT, check=check, stdout=subprocess.DEVNULL, timeout=300).returncode
