"""An OpenSSH server of the tests' own: its port, its keys, its folder, its user CA."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from schemas.settings import System
from workers.authorities import KeyAuthority
from workers.certificates import CertificateRequest, Statement, new_serial, sign

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
PidFile none
HostKey {folder}/host_ed25519
HostKey {folder}/host_ecdsa
TrustedUserCAKeys {folder}/ca.pub
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
LogLevel VERBOSE
{more}
"""


class OwnSshd:
    """sshd on a free port of 127.0.0.1, trusting a CA made for it."""

    def __init__(self, user: str, more: str = "") -> None:
        self.user = user
        self.ca = Ed25519PrivateKey.generate()
        self.folder = Path(tempfile.mkdtemp(prefix="fc-sshd-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.host_key = self._write_keys()
        (self.folder / "sshd_config").write_text(CONFIG.format(port=self.port, folder=self.folder, more=self.configuration(more)))
        self._process: subprocess.Popen[bytes] | None = None

    def configuration(self, more: str) -> str:
        """The lines that follow those which every server has."""
        return more

    def start(self) -> None:
        """Start it and wait until it answers."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = ("/usr/sbin/sshd", "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "log"))
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        eventually(self._answers)

    def processes(self) -> list[psutil.Process]:
        """The server, its sessions and all they run."""
        if self._process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            return [server, *server.children(recursive=True)]
        return []

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the server, its sessions and all they run."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def cut(self) -> None:
        """Kill every session; who comes again is let in."""
        for process in self.processes()[1:]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def shells(self) -> list[psutil.Process]:
        """The warm shells on it."""
        found = []
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if process.cmdline() == ["/bin/sh"]:
                    found.append(process)
        return found

    def logins(self) -> int:
        """How many times a user has been let in."""
        return self.log().count("Accepted publickey")

    def log(self) -> str:
        """What it logged."""
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        """Kill it and whatever it runs, and wait for its end."""
        self.kill()
        if self._process:
            self._process.wait()
        self._process = None

    def remove(self) -> None:
        """Stop it and forget its folder."""
        self.stop()
        shutil.rmtree(self.folder)

    def certify(self, public_key: str) -> str:
        """A certificate for the user, as the delegation gives one."""
        request = CertificateRequest(public_key, self.user, "own", "0123abcd", "tests")
        return sign(KeyAuthority(self.ca), Statement(public_key, self.user, request.key_id(), new_serial(), 300))

    def system(self, *, sessions: int = 7, connections: int = 2, host_keys: tuple[str, ...] = ()) -> System:
        """The settings with which to enter it."""
        return System(
            name="own",
            host="127.0.0.1",
            port=self.port,
            host_keys=host_keys or (self.host_key,),
            sessions_per_connection=sessions,
            connections_per_user=connections,
        )

    def _write_keys(self) -> str:
        host = Ed25519PrivateKey.generate()
        for name, key in (("host_ed25519", host), ("host_ecdsa", ec.generate_private_key(ec.SECP256R1()))):
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        (self.folder / "ca.pub").write_bytes(self.ca.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")
        return host.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            return sock.recv(4) == b"SSH-"
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def eventually(happens: Callable[[], object], seconds: float = 15) -> None:
    """Wait until something is true; fail when it does not become so in time."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def missing() -> str:
    """Why no server can be started here; empty when it can."""
    if os.geteuid():
        return "only root can start an sshd that lets other users in"
    return "" if Path("/usr/sbin/sshd").exists() and shutil.which("useradd") else "openssh-server is not installed"
