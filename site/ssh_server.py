"""OpenSSH's server, which lets in whoever holds a certificate of the gateway's authority."""

from pathlib import Path

from commands import run
from facts import Site
from probes import answers
from program import Program

SEPARATION = Path("/run/sshd")  # sshd's own, compiled in; missing until a machine's sshd was started once
MARK = SEPARATION / "made-by-firecrest-site"


def programs(site: Site) -> list[Program]:
    """The SSH server, by its absolute path as it demands."""
    return [
        Program(
            "sshd",
            ("/usr/sbin/sshd", "-D", "-e", "-f", str(site.layout.etc / "sshd_config")),
            ready=lambda: answers(site.ports["sshd"], expected=b"SSH-2.0"),
            prepare=lambda: _prepare(site),
        )
    ]


def host_key(site: Site) -> str:
    """The server's public key, as in known_hosts but without a name."""
    return " ".join((site.layout.keys / "host.pub").read_text().split()[:2])


def make_host_key(site: Site) -> None:
    """Make the server's key pair if it is missing."""
    key = site.layout.keys / "host"
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "site", "-f", str(key))


def remove_separation() -> None:
    """Remove /run/sshd if a site made it and nobody else uses it."""
    if MARK.exists():
        MARK.unlink()
        if not any(SEPARATION.iterdir()):
            SEPARATION.rmdir()


def _prepare(site: Site) -> None:
    make_host_key(site)
    if not SEPARATION.exists():
        SEPARATION.mkdir(mode=0o755, exist_ok=True)
        MARK.touch()
