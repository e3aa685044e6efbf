"""What one site decided once and keeps: its ports and secrets, and everything that follows from them."""

import json
import secrets
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ports
from layout import Layout
from people import PEOPLE

PORTS = (
    "redis", "sshd", "mariadb", "slurmdbd", "slurmctld", "slurmd1", "slurmd2", "slurmd3",
    "ceph_mon", "ceph_mon_v1", "radosgw", "issuer", "api", "flower", "ridge", "sge_qmaster", "sge_execd",
    "memcached", "swift_account", "swift_container", "swift_object", "swift_proxy", "api_swift",
    "redis_tls", "radosgw_tls", "api_tls",
)  # fmt: skip
SYSTEM = "cluster"
RIDGE = "ridge"
SWIFT_USER = "firecrest:gateway"  # account and user


@dataclass(frozen=True)
class Deployment:
    """A gateway of the site: the object store that it stands on, what ends the names of its programs, and what is its own."""

    store: str
    suffix: str
    api_url: str
    broker: dict[str, str]
    redis_url: str  # its administrator's
    settings: Path


@dataclass(frozen=True)
class Site:
    """One site: where it lives, and what it decided."""

    layout: Layout
    ports: dict[str, int]
    secrets: dict[str, str]

    @property
    def issuer(self) -> str:
        """The issuer's name, which is also the start of its URLs."""
        return f"http://127.0.0.1:{self.ports['issuer']}/realms/kcrealm"

    @property
    def token_url(self) -> str:
        """Where clients get tokens."""
        return f"{self.issuer}/protocol/openid-connect/token"

    @property
    def jwks_url(self) -> str:
        """Where the issuer's public keys are."""
        return f"{self.issuer}/protocol/openid-connect/certs"

    @property
    def s3_url(self) -> str:
        """The object store."""
        return f"http://127.0.0.1:{self.ports['radosgw']}"

    @property
    def s3_tls_url(self) -> str:
        """The object store, encrypted."""
        return f"https://127.0.0.1:{self.ports['radosgw_tls']}"

    @property
    def swift_url(self) -> str:
        """The second object store."""
        return f"http://127.0.0.1:{self.ports['swift_proxy']}"

    @property
    def stores(self) -> dict[str, dict[str, object]]:
        """The object stores, each as the gateway's settings describe it; the limit of Swift's is one that tests can exceed."""
        return {
            "radosgw": _store(self.s3_url, "default", self.secrets["s3_access_key"], self.secrets["s3_secret_key"]),
            "radosgw_tls": {
                **_store(self.s3_tls_url, "default", self.secrets["s3_access_key"], self.secrets["s3_secret_key"]),
                "ca": str(self.layout.tls / "ca.pem"),
                "systems_ca": str(self.layout.tls / "ca.pem"),
                "bucket_prefix": "tls",
            },
            "swift": {
                **_store(self.swift_url, "us-east-1", SWIFT_USER, self.secrets["swift_secret_key"]),
                "form": "put",
                "doubt_seconds": 5,
                "max_file_size": 512,
            },
        }

    @property
    def gateway(self) -> Deployment:
        """The gateway, on radosgw."""
        return self._deployment("radosgw", "", database=0)

    @property
    def gateway_on_swift(self) -> Deployment:
        """A second gateway on the same systems, for tests: on Swift, and in another database of the same Redis."""
        return self._deployment("swift", "-swift", database=1)

    @property
    def gateway_on_tls(self) -> Deployment:
        """A third one, for tests: all that it speaks but SSH and the issuer's HTTP is encrypted, and certificates are verified."""
        plain = self._deployment("radosgw_tls", "-tls", database=2)
        broker = {"url": f"rediss://127.0.0.1:{self.ports['redis_tls']}/2", "ca": str(self.layout.tls / "ca.pem")}
        return replace(plain, api_url=plain.api_url.replace("http:", "https:"), broker=plain.broker | broker)

    @property
    def gateways(self) -> tuple[Deployment, ...]:
        """All of them."""
        return self.gateway, self.gateway_on_swift, self.gateway_on_tls

    def _deployment(self, store: str, suffix: str, *, database: int) -> Deployment:
        api = self.ports["api" + suffix.replace("-", "_")]
        place = f"127.0.0.1:{self.ports['redis']}/{database}"
        admin = f"redis://admin:{self.secrets['redis']}@{place}"
        broker = {"url": f"redis://{place}", "passwords": str(self.layout.redis_passwords)}
        return Deployment(store, suffix, f"http://127.0.0.1:{api}", broker, admin, self.layout.state / f"settings{suffix}.yaml")

    def announcements(self, gateway: Deployment) -> dict[str, str]:
        """How the object store announces what arrives to a gateway, in the words of its settings; Swift does not."""
        if gateway.store != "radosgw":
            return {}
        return {"notifications_url": f"{gateway.api_url}/storage/announcements", "notifications_secret": self.secrets["notifications"]}

    @property
    def flower_url(self) -> str:
        """The monitor of the gateway's workers."""
        return f"http://127.0.0.1:{self.ports['flower']}"

    @property
    def flower_login(self) -> str:
        """User and password of the monitor."""
        return f"admin:{self.secrets['flower']}"

    @property
    def slurm(self) -> dict[str, str]:
        """Environment of a Slurm command that is to talk to this site."""
        return {"SLURM_CONF": str(self.layout.slurm_conf)}

    @property
    def gridengine(self) -> dict[str, str]:
        """Environment of a Grid Engine command that is to talk to this site, in the namespaces of its daemons."""
        return {
            "SGE_ROOT": str(self.layout.gridengine),
            "SGE_CELL": "default",
            "SGE_ARCH": "lx-amd64",
            "SGE_QMASTER_PORT": str(self.ports["sge_qmaster"]),
            "SGE_EXECD_PORT": str(self.ports["sge_execd"]),
        }


def site(layout: Layout, *, settled: bool) -> Site:
    """The site of a state folder: as written down, with new ports for those taken meanwhile unless it is `settled` (running).

    What runs may be older than this program, and lack ports.
    """
    written = _written(layout)
    kept = written.get("ports", {})
    decided = _secrets() | written.get("secrets", {})
    lacking = tuple(name for name in PORTS if name not in kept)
    return Site(layout, kept | ports.assigned(lacking, {}) if settled and kept else ports.assigned(PORTS, kept), decided)


def write_down(site: Site) -> None:
    """Write site.json: everything that the site decided, for later starts and for tests."""
    private(site.layout.state / "site.json", json.dumps(_document(site), indent=2) + "\n")


def private(path: Path, text: str) -> None:
    """Write a file that only its owner, root, may read."""
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def _written(layout: Layout) -> dict[str, Any]:
    path = layout.state / "site.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _secrets() -> dict[str, str]:
    names = (
        "redis",
        "flower",
        "mariadb",
        "s3_access_key",
        "s3_secret_key",
        "swift_secret_key",
        "swift_hash",
        "notifications",
        *(person.client for person in PEOPLE),
    )
    return {name: secrets.token_hex(20) for name in names} | {"ceph_fsid": str(uuid.uuid4())}


def _store(url: str, region: str, access_key: str, secret_key: str) -> dict[str, object]:
    return {"private_url": url, "public_url": url, "region": region, "access_key": access_key, "secret_key": secret_key}


def _gateway(gateway: Deployment) -> dict[str, str]:
    return {"api": gateway.api_url, "redis": gateway.redis_url, "settings": str(gateway.settings)}


def _document(site: Site) -> dict[str, Any]:
    layout = site.layout
    return {
        "state": str(layout.state),
        "link": str(layout.link),
        "system": SYSTEM,
        "ridge": RIDGE,
        "ports": site.ports,
        "secrets": site.secrets,
        "urls": {
            "api": site.gateway.api_url,
            "flower": site.flower_url,
            "issuer": site.issuer,
            "token": site.token_url,
            "jwks": site.jwks_url,
            "s3": site.s3_url,
            "redis": site.gateway.redis_url,
        },
        "stores": site.stores,
        "gateways": {one.store: _gateway(one) for one in site.gateways},
        "ca": str(layout.tls / "ca.pem"),
        "clients": {
            person.name: {
                "id": person.client,
                "secret": site.secrets[person.client],
                "user": person.user,
                "accounts": list(person.accounts),
            }
            for person in PEOPLE
        },
        "users": [person.user for person in PEOPLE if person.ours],
        "partitions": ["normal", "debug", "xfer"],
        "settings": str(site.gateway.settings),
        "slurm_conf": str(layout.slurm_conf),
        "gridengine": site.gridengine,
        "munge_socket": str(layout.munge_socket),
        "ceph_conf": str(layout.etc / "ceph.conf"),
        "sshd": {
            "config": str(layout.etc / "sshd_config"),
            "pid": str(layout.run / "sshd.pid"),
            "log": str(layout.logs / "sshd.log"),
            "host_key": str(layout.keys / "host.pub"),
        },
        "supervisor": {"config": str(layout.etc / "supervisord.conf"), "socket": str(layout.run / "supervisor.sock")},
        "flower_login": site.flower_login,
        "keys": {"private": str(layout.keys / "private"), "public": str(layout.keys / "public"), "redis": str(layout.redis_passwords)},
        "certificate_log": str(layout.data / "certificates.log"),
        "logs": str(layout.logs),
    }
