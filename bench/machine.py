"""The machine and the versions that figures were taken with."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.centre import ROOT
from bench.processes import Programs
from bench.tables import Part

_LIBRARIES = ("celery", "kombu", "redis", "hiredis", "paramiko", "gunicorn", "gevent", "flask", "flask-restx", "pydantic", "cryptography")
_SIZES = ("--worker-class", "--workers", "--worker-connections", "--pool", "--concurrency")


def machine(programs: Programs, slurm_conf: str) -> Part:
    """The facts."""
    cores = os.cpu_count()
    rows = [
        ("processor", f"{_model()}, {cores} cores, quick ACK on loopback: {_quick_ack()}"),
        ("memory", f"{psutil.virtual_memory().total / 2**30:.1f} GiB"),
        ("system", f"{_system()}, Linux {platform.release()}"),
        ("servers", ", ".join((_said("ssh", "-V"), _said("sbatch", "--version", SLURM_CONF=slurm_conf), _redis()))),
        ("Python", f"{platform.python_version()}: {', '.join(f'{name} {version(name)}' for name in _LIBRARIES)}"),
        ("gateway", _sizes(programs)),
    ]
    return Part("machine", "\n".join(f"- {name}: {fact}" for name, fact in rows))


def origin(load: float) -> str:
    """What figures are of; `load` is the load average before the run: what else was going on."""
    return f"{datetime.now(UTC):%Y-%m-%d}, commit {_said('git', 'describe', '--always')}, load average before the run {load:.2f}."


def _model() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "?")


def _said(*words: str, **environment: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **environment})
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _redis() -> str:
    words = _said("redis-server", "--version").split()
    return f"Redis {next((word[2:] for word in words if word.startswith('v=')), '?')}"


def _quick_ack() -> str:
    return "yes" if "quickack" in _said("ip", "route", "show", "table", "local") else "no"


def _sizes(programs: Programs) -> str:
    return "; ".join(f"{name}: {' '.join(_chosen(programs.words(name)))}" for name in ("api", "worker-1", "worker-2"))


def _chosen(words: list[str]) -> list[str]:
    """The options that say how big a program is, written either way."""
    found = []
    for option, value in zip(words, [*words[1:], ""], strict=True):
        name = option.partition("=")[0]
        if name in _SIZES:
            found.append(option.lstrip("-") if "=" in option else f"{option.lstrip('-')}={value}")
    return found
