"""An OpenSSH server of a forced-command site, as the documentation says to set it up."""

import json
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_key,
)

from schemas.settings import System
from tests.hosts.own_sshd import OwnSshd
from workers.certificates import new_serial
from workers.command_lists import command_list

DEPLOY = Path(__file__).parents[2] / "deploy"
EVERYTHING = {"anything": [{"words": ".*"}]}


@dataclass(frozen=True)
class Stated:
    """What a certificate states, be it as the delegation would have it or not."""

    principals: tuple[str, ...]
    forced: str = ""
    start: float = -60
    seconds: float = 300
    kind: SSHCertificateType = SSHCertificateType.USER
    extensions: tuple[str, ...] = ()

    def signed(self, ca: Ed25519PrivateKey, public_key: str) -> str:
        """The line of the certificate."""
        start = int(time.time() + self.start)
        builder = SSHCertificateBuilder().public_key(load_ssh_public_key(public_key.encode())).type(self.kind).serial(new_serial())
        builder = builder.key_id(b"tests").valid_after(start).valid_before(start + int(self.seconds))
        builder = builder.valid_principals([name.encode() for name in self.principals])
        for name in self.extensions:
            builder = builder.add_extension(name.encode(), b"")
        if self.forced:
            builder = builder.add_critical_option(b"force-command", self.forced.encode())
        return builder.sign(ca).public_bytes().decode()


class ForcedSshd(OwnSshd):
    """sshd whose users may run what is on a list: all that there is, or `rules`."""

    def __init__(self, user: str, more: str = "", rules: Mapping[str, Any] | None = EVERYTHING) -> None:
        self.rules = rules
        super().__init__(user, more)

    def configuration(self, more: str) -> str:
        """The documented lines, with the places of the tests, and more in front."""
        self.install()
        lines = (DEPLOY / "sshd_firecrest_command.conf").read_text()
        for shipped, here in (
            ("/usr/local/libexec/firecrest-command", self.wrapper),
            ("/etc/ssh/firecrest_ca.pub", self.folder / "ca.pub"),
        ):
            assert shipped in lines
            lines = lines.replace(shipped, str(here))
        return f"{more}\n{lines}"

    @property
    def wrapper(self) -> Path:
        """Where the wrapper is."""
        return self.folder / "firecrest-command"

    def install(self) -> None:
        """Put the wrapper and its list in place."""
        shutil.copy(DEPLOY / "firecrest_command.py", self.wrapper)
        self.wrapper.chmod(0o755)
        public = self.ca.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        known = command_list(self.system(), [public])
        self.write_list({**known, "commands": known["commands"] if self.rules is None else self.rules})

    def write_list(self, known: Mapping[str, Any], mode: int = 0o644) -> None:
        """Replace the list."""
        path = self.folder / "firecrest-commands.json"
        path.write_text(json.dumps(known))
        path.chmod(stat.S_IFREG | mode)

    def certify_command(self, public_key: str, command: str) -> str:
        """A certificate for the user and a command, as the delegation gives one."""
        return Stated((self.user,), f"{self.wrapper} {command}").signed(self.ca, public_key)

    def system(self, **options: Any) -> System:
        """The settings with which to enter it."""
        return super().system(**options).model_copy(update={"forced_command": str(self.wrapper)})
