"""Where everything of one site lives: a single folder, reached through a symbolic link."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SITES = Path("/var/lib/firecrest")


@dataclass(frozen=True)
class Layout:
    """The places of one site.

    A clone may be under /root, which servers that are not root cannot traverse: the real folder is under /var/lib,
    `link` is what people see. Unix sockets allow 108 characters, hence the short name.
    """

    link: Path

    @property
    def state(self) -> Path:
        """The real folder."""
        digest = hashlib.sha256(str(self.link).encode()).hexdigest()[:8]
        return SITES / f"{self.link.name.lstrip('.')[:16]}-{digest}"

    @property
    def etc(self) -> Path:
        """Configuration files of the servers, written anew at every start."""
        return self.state / "etc"

    @property
    def run(self) -> Path:
        """Sockets and pid files."""
        return self.state / "run"

    @property
    def data(self) -> Path:
        """What the servers keep."""
        return self.state / "data"

    @property
    def logs(self) -> Path:
        """A log file for every program."""
        return self.state / "logs"

    @property
    def scratch(self) -> Path:
        """A second file system, as the gateway's settings have it."""
        return self.state / "scratch"

    @property
    def keys(self) -> Path:
        """SSH host key, and the keys of the gateway's parts under private and public."""
        return self.state / "keys"

    @property
    def redis_passwords(self) -> Path:
        """A password file for every user of Redis."""
        return self.keys / "redis"

    @property
    def flower_login(self) -> Path:
        """User and password of Flower."""
        return self.keys / "flower.login"

    @property
    def tls(self) -> Path:
        """Certificates of the servers that speak TLS, and of their CA."""
        return self.keys / "tls"

    @property
    def munge_socket(self) -> Path:
        """Where munged listens, in a folder of munge's own as it demands, under the name that libmunge knows."""
        return self.state / "munge" / "munge.socket.2"

    @property
    def gridengine(self) -> Path:
        """Grid Engine's root folder, which holds its one cell."""
        return self.data / "gridengine"

    @property
    def slurm_conf(self) -> Path:
        """The slurm.conf that makes a Slurm command talk to this site."""
        return self.etc / "slurm.conf"


def layout(link: Path) -> Layout:
    """The layout of the site whose visible folder is `link`."""
    return Layout(link.parent.resolve() / link.name)
