"""What all measurements share: the site, one user's ways into it, and a host of our own making."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import yaml
from redis import Redis

from bench.api import Address, address
from bench.masters import Master, certificate, masters
from bench.processes import Programs
from broker.blobs import Blobs
from schemas.settings import Settings, System
from tests.real_site import Site
from workers.host import Host
from workers.performing import Scene
from workers.ssh import SSHPool

CLIENT = "alice"


@dataclass(frozen=True)
class Stage:
    """A running site, seen by one user."""

    site: Site
    settings: Settings
    system: System
    user: str
    programs: Programs
    redis: Redis
    master: Master
    host: Host

    def address(self) -> Address:
        """How the user calls the API, with a fresh token."""
        return address(self.site, CLIENT)

    def masters(self, count: int) -> AbstractContextManager[list[Master]]:
        """So many ControlMasters of the user."""
        return masters(self.site, self.system, self.user, count=count)

    def scene(self) -> Scene:
        """What a performer is told beside its host, for a task of its own."""
        return Scene(uuid4().hex, self.user, self.system, self.settings.limits, Blobs(self.redis))


@contextmanager
def stage(site: Site) -> Iterator[Stage]:
    """The stage on a running site."""
    settings = Settings.model_validate(yaml.safe_load(Path(site.facts["settings"]).read_text(encoding="utf-8")))
    system, user = settings.systems[0], str(site.facts["clients"][CLIENT]["user"])
    pool = SSHPool(settings.limits)
    host = pool.host(system, user, lambda public_line: certificate(site, public_line, user))
    with masters(site, system, user, count=1) as (master,), site.redis() as redis:
        try:
            yield Stage(site, settings, system, user, Programs(site), redis, master, host)
        finally:
            pool.close()
