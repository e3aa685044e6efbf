"""OpenStack Swift with its s3api, a second object store that speaks S3: for tests, started only when asked for."""

import json
from pathlib import Path

import ports
from commands import run
from facts import SWIFT_USER, Site
from folders import owned
from probes import answers, serves
from program import Program
from rendering import write_config

SERVERS = ("account", "container", "object")

# for Debian's python, which has Swift; swift-ring-builder would be started nine times to say the same
RINGS = """\
import json, sys
from swift.common.ring import RingBuilder
for path, port in json.loads(sys.argv[1]).items():
    ring = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1})
    ring.rebalance()
    ring.get_ring().save(path)
"""


def installed() -> bool:
    """Whether Debian's packages are there, which only the tests need."""
    return all(Path("/usr/bin", name).exists() for name in ("memcached", *(f"swift-{kind}-server" for kind in (*SERVERS, "proxy"))))


def programs(site: Site) -> list[Program]:
    """Memcached, the account, container and object servers, and the proxy before them."""
    return [_memcached(site), *(_server(site, kind) for kind in SERVERS), _proxy(site)]


def _memcached(site: Site) -> Program:
    port = site.ports["memcached"]
    return Program(
        "memcached",
        ("/usr/bin/memcached", "-l", "127.0.0.1", "-p", str(port), "-m", "32"),
        ready=lambda: answers(port, said=b"version\r\n", expected=b"VERSION"),
        user="memcache",
    )


def _server(site: Site, kind: str) -> Program:
    return Program(
        f"swift-{kind}",
        (f"/usr/bin/swift-{kind}-server", str(_etc(site) / f"{kind}-server.conf"), "--verbose"),
        ready=lambda: ports.is_open(site.ports[f"swift_{kind}"]),
        user="swift",
        prepare=lambda: _prepare_server(site, kind),
    )


def _prepare_server(site: Site, kind: str) -> None:
    owned(site.layout.data / "swift" / "d1", "swift", 0o700)
    owned(_etc(site), "swift", 0o750)
    write_config(site, "swift/swift.conf", owner="swift", mode=0o600)
    values = {"kind": kind, "port": str(site.ports[f"swift_{kind}"])}
    write_config(site, f"swift/{kind}-server.conf", template="swift/server.conf", owner="swift", mode=0o600, **values)


def _proxy(site: Site) -> Program:
    return Program(
        "swift-proxy",
        ("/usr/bin/swift-proxy-server", str(_etc(site) / "proxy-server.conf"), "--verbose"),
        ready=lambda: serves(f"{site.swift_url}/healthcheck"),
        after=("memcached", *(f"swift-{kind}" for kind in SERVERS)),
        user="swift",
        prepare=lambda: _prepare_proxy(site),
    )


def _prepare_proxy(site: Site) -> None:
    values = {"user": SWIFT_USER.replace(":", "_"), "secret": site.secrets["swift_secret_key"]}
    write_config(site, "swift/proxy-server.conf", owner="swift", mode=0o600, **values)
    rings = {str(_etc(site) / f"{kind}.ring.gz"): site.ports[f"swift_{kind}"] for kind in SERVERS}
    run("setpriv", "--reuid=swift", "--regid=swift", "--init-groups", "/usr/bin/python3", "-", json.dumps(rings), said=RINGS)


def _etc(site: Site) -> Path:
    return site.layout.etc / "swift"
