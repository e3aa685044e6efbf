"""OpenSSH's server, which lets in whoever holds a certificate of the gateway's authority."""

from pathlib import Path

from commands import run
from facts import Site
from folders import lasting
from probes import answers
from program import Program

SEPARATION = Path("/run/sshd")  # sshd's own, compiled in; missing until a machine's sshd was started once


def programs(site: Site) -> list[Program]:
    """The SSH server, by its absolute path as it demands."""
    return [
        Program(
            "sshd",
            ("/usr/sbin/sshd", "-D", "-e", "-f", str(site.layout.etc / "sshd_config")),
            ready=lambda: answers(site.ports["sshd"], expected=b"SSH-2.0"),
            prepare=lambda: prepare(site, "host"),
        )
    ]


def host_key(site: Site, name: str = "host") -> str:
    """A server's public key, as in known_hosts but without a name."""
    return " ".join((site.layout.keys / f"{name}.pub").read_text().split()[:2])


def make_host_key(site: Site, name: str = "host") -> None:
    """Make a server's key pair if it is missing."""
    key = site.layout.keys / name
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "site", "-f", str(key))


def prepare(site: Site, key: str) -> None:
    """Make what a server needs that is to have this key."""
    make_host_key(site, key)
    lasting(SEPARATION)
