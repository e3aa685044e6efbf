"""The servers' configuration files, from templates and what the site decided."""

import shutil
from pathlib import Path
from string import Template
from uuid import uuid4

from facts import Site

TEMPLATES = Path(__file__).parent / "templates"
# name: (owner, mode); slurmdbd refuses a file that others could read
FILES = {
    "redis.conf": ("redis", 0o600),
    "sshd_shared": ("root", 0o644),
    "sshd_config": ("root", 0o644),
    "sshd_ridge": ("root", 0o644),
    "my.cnf": ("root", 0o644),
    "cgroup.conf": ("root", 0o644),
    "gres.conf": ("root", 0o644),
    "slurm.conf": ("root", 0o644),
    "slurmdbd.conf": ("slurm", 0o600),
    "ceph.conf": ("root", 0o644),
}


def render(site: Site) -> None:
    """Write the configuration files of the servers that every site has."""
    for name, (owner, mode) in FILES.items():
        write_config(site, name, owner=owner, mode=mode)


def write_config(site: Site, name: str, *, owner: str, mode: int, template: str = "", **more: str) -> None:
    """Write a configuration file from the template of that name, or another, and what the site decided, and `more`."""
    text = Template((TEMPLATES / (template or name)).read_text()).substitute(_values(site), **more)
    fresh = site.layout.etc / f"{name}.{uuid4().hex}"  # programs that are prepared at the same time may share a file
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    shutil.chown(fresh, owner)
    fresh.chmod(mode)
    fresh.replace(site.layout.etc / name)


def _values(site: Site) -> dict[str, str]:
    return {
        "state": str(site.layout.state),
        "munge_socket": str(site.layout.munge_socket),
        "gridengine": " ".join(f"{name}={value}" for name, value in site.gridengine.items()),
        "mariadb_password": site.secrets["mariadb"],
        "ceph_fsid": site.secrets["ceph_fsid"],
        "ceph_mon_address": mon_address(site),
        "swift_hash": site.secrets["swift_hash"],
        **{f"{name}_port": str(port) for name, port in site.ports.items()},
    }


def mon_address(site: Site) -> str:
    """The Ceph monitor's address, in Ceph's notation."""
    return f"[v2:127.0.0.1:{site.ports['ceph_mon']},v1:127.0.0.1:{site.ports['ceph_mon_v1']}]"
