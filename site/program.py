"""A program of the site: how it is run, and how it is known to be up."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


def _nothing() -> None:
    """Stand in where a program needs no preparation."""


@dataclass(frozen=True)
class Program:
    """One process in the foreground, kept by supervisord."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    after: tuple[str, ...] = ()
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    comes_back: bool = False
    stop_seconds: int = 20
    prepare: Callable[[], None] = _nothing
    settle: Callable[[], None] = _nothing

    def section(self, logs: Path, directory: Path) -> str:
        """Its part of supervisord.conf, in which "%" starts an expansion."""
        options = {
            "command": shlex.join(self.argv),
            "user": self.user,
            "directory": str(self.directory or directory),
            "environment": ",".join(f'{name}="{value}"' for name, value in sorted(self.environment.items())),
            "autostart": "false",
            "autorestart": str(self.comes_back).lower(),
            "startsecs": "1" if self.comes_back else "0",
            "startretries": "30" if self.comes_back else "0",
            "stopwaitsecs": str(self.stop_seconds),
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": str(logs / f"{self.name}.log"),
            "stdout_logfile_backups": "1",
        }
        lines = [f"{name} = {value}" for name, value in options.items() if value]
        return "\n".join([f"[program:{self.name}]", *(line.replace("%", "%%") for line in lines)]) + "\n"
