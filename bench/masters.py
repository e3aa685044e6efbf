"""OpenSSH as the floor: commands over ControlMasters, each an `ssh` process as a user would start it."""

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bench.series import CallFailedError
from broker.keys import authority_key
from schemas.settings import System
from tests.real_site import Site
from workers.authorities import KeyAuthority
from workers.certificates import Statement, new_serial, sign

# Below MaxSessions 10, since sshd frees a session a moment after its client has gone.
SESSIONS = 7
_SECONDS = 60
_HOST = "bench"


@dataclass(frozen=True)
class Master:
    """A way to run commands over one ControlMaster that stands; it can be sent to another process."""

    socket: str
    user: str

    def run(self, *words: str, stdin: bytes = b"") -> bytes:
        """What a command prints; raises CallFailedError when it fails, or would need a connection of its own."""
        # "ProxyCommand=false": an ssh that the master refuses must not quietly connect anew
        command = ("ssh", "-F", "none", "-S", self.socket, "-o", "ProxyCommand=false", "-o", "BatchMode=yes", "-l", self.user, _HOST)
        done = subprocess.run((*command, shlex.join(words)), input=stdin, capture_output=True, check=False, timeout=_SECONDS)
        if done.returncode:
            raise CallFailedError(f"ssh {words[0]}: exit status {done.returncode}, {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def whoami(self) -> None:
        """One `whoami`. Raises CallFailedError."""
        if self.run("whoami").decode().strip() != self.user:
            raise CallFailedError(f"ssh whoami did not say {self.user}")

    def ls(self, folder: str, *, entries: int) -> None:
        """One `ls -l` of a folder that holds so many entries. Raises CallFailedError."""
        lines = self.run("ls", "-l", "--", folder).count(b"\n")
        if lines != entries + 1:  # the first is the total
            raise CallFailedError(f"ssh ls printed {lines} lines")


@contextmanager
def masters(site: Site, system: System, user: str, *, count: int) -> Iterator[list[Master]]:
    """So many ControlMasters into the system, entered with one certificate of the site's CA."""
    with TemporaryDirectory(prefix="fcbench") as name:
        folder = Path(name)
        _credentials(folder, site, system, user)
        made = [Master(str(folder / f"master-{number}"), user) for number in range(count)]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for master in made:  # one after the other, below MaxStartups
                processes.append(_start(master, folder, system))
                _await(master, processes[-1])
            yield made
        finally:
            for process in processes:
                process.terminate()
                process.wait()


def certificate(site: Site, public_line: str, user: str) -> str:
    """A certificate of the site's CA, good for five minutes, for a public key."""
    ca = KeyAuthority(authority_key(Path(site.facts["keys"]["private"])))
    return sign(ca, Statement(public_line, user, f"bench {user}", new_serial(), 300))


def _credentials(folder: Path, site: Site, system: System, user: str) -> None:
    key = Ed25519PrivateKey.generate()
    secret = folder / "key"
    secret.touch(mode=0o600)
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (folder / "key-cert.pub").write_text(certificate(site, public, user) + "\n", encoding="ascii")
    known = "".join(f"{_HOST} {line}\n" for line in system.host_keys)
    (folder / "known_hosts").write_text(known, encoding="ascii")


def _start(master: Master, folder: Path, system: System) -> subprocess.Popen[bytes]:
    options = {
        "ControlMaster": "yes",
        "HostName": system.host,
        "Port": str(system.port),
        "HostKeyAlias": _HOST,
        "UserKnownHostsFile": str(folder / "known_hosts"),
        "StrictHostKeyChecking": "yes",
        "IdentityFile": str(folder / "key"),
        "CertificateFile": str(folder / "key-cert.pub"),
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    command = ("ssh", "-F", "none", "-N", "-S", master.socket, *words, "-l", master.user, _HOST)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _await(master: Master, process: subprocess.Popen[bytes]) -> None:
    """Wait until the master takes commands; raises CallFailedError when it ends instead."""
    while True:
        try:
            master.whoami()
        except CallFailedError as failed:
            if process.poll() is not None:
                raise CallFailedError(f"a ControlMaster ended: {failed}") from failed
        else:
            return
