"""`python -m deploy.setup VOLUMES`: keys, passwords and settings of the compose stack, made at its first start and kept.

Each folder of VOLUMES is a volume that only those containers have that need it (docker-compose.yml).
"""

import json
import os
import secrets
import shlex
import sys
import tempfile
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from broker.keys import make_missing
from broker.redis_users import ADMIN, RULES, acl_text, password_file
from deploy import certificates
from deploy.parts import PARTS

HOLDERS = {"api": "keys-api", "links": "keys-api", "worker": "keys-worker", "delegation": "keys-delegation", "ca": "keys-delegation"}
SERVERS = {"api": "keys-api", "redis": "redis", "storage": "storage"}  # those that speak TLS, and the volumes of their keys
TLS_CA = "/volumes/public/tls.pem"
CLIENTS = {"client.env": "firecrest-alice", "client-bob.env": "firecrest-bob"}
ISSUER = f"http://127.0.0.1:{PARTS['issuer'].inner}/realms/kcrealm"  # a name; it is reached at another address
OIDC = f"http://issuer:{PARTS['issuer'].shown}/realms/kcrealm/protocol/openid-connect"
S3 = f"https://storage:{PARTS['storage'].shown}"
# whose volume has the password of which user of Redis: health checks, too, are made in the containers of what they check
USERS = {
    "keys-api": ("api",),
    "keys-worker": ("worker", "probe"),
    "keys-delegation": ("delegation", "probe"),
    "keys-beat": ("beat", "probe"),
    "flower": ("flower",),
    "redis": ("probe", ADMIN),
}
REDIS_CONF = """\
bind 0.0.0.0
port 0
tls-port 6379
tls-cert-file /volumes/redis/tls.pem
tls-key-file /volumes/redis/tls.key
tls-auth-clients no
aclfile /volumes/redis/users.acl
dir /volumes/data
daemonize no
logfile ""
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


def main(volumes: Path) -> None:
    """Make what is missing."""
    _make_keys(volumes)
    _make_certificates(volumes)
    _make_users(volumes)
    _place(volumes / "redis" / "redis.conf", REDIS_CONF)
    _once(volumes / "flower" / "flower.login", f"admin:{secrets.token_hex(16)}")
    clients = {client: secrets.token_hex(20) for client in CLIENTS.values()}
    clients = _seed(volumes, "issuer", clients)
    storage = _seed(volumes, "storage", {name: secrets.token_hex(20) for name in ("s3_access_key", "s3_secret_key")})
    _seed(volumes, "cluster", {})
    host_key = _host_key(volumes / "cluster")
    settings = _settings(host_key=host_key, storage=storage)
    _once(volumes / "settings" / "settings.yaml", yaml.safe_dump(settings, sort_keys=False))
    for name, client in CLIENTS.items():
        _once(volumes / "client" / name, _variables(client, clients[client]))


def _make_keys(volumes: Path) -> None:
    """A key pair for every part: the public half first, so that a private half is never without it."""
    with tempfile.TemporaryDirectory() as folder:
        private, public = Path(folder, "private"), Path(folder, "public")
        make_missing(private, public)
        for part, holder in HOLDERS.items():
            if not (volumes / holder / f"{part}.key").exists():
                _place(volumes / "public" / f"{part}.pub", (public / f"{part}.pub").read_text(), mode=0o644)
                _place(volumes / holder / f"{part}.key", (private / f"{part}.key").read_text())


def _make_certificates(volumes: Path) -> None:
    """A certificate for every server that speaks TLS, in its own volume, and their CA's where everybody finds it."""
    if (volumes / "public" / "tls.pem").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        certificates.make_missing(Path(folder), list(SERVERS))
        for name, holder in SERVERS.items():
            for kind in ("key", "pem"):
                _place(volumes / holder / f"tls.{kind}", Path(folder, f"{name}.{kind}").read_text(encoding="utf-8"))
        _place(volumes / "public" / "tls.pem", Path(folder, "ca.pem").read_text(encoding="utf-8"), mode=0o644)


def _make_users(volumes: Path) -> None:
    """A password for every user of Redis, where it is needed, and the ACL file, which is that of this release."""
    passwords = {}
    for user in (*RULES, ADMIN):
        files = [password_file(volumes / holder, user) for holder, users in USERS.items() if user in users]
        known = next((file.read_text(encoding="utf-8") for file in files if file.exists()), secrets.token_hex(32))
        passwords[user] = [_once(file, known) for file in files].pop()
    _place(volumes / "redis" / "users.acl", acl_text(passwords))


def _seed(volumes: Path, part: str, values: dict[str, str]) -> dict[str, str]:
    """What a part of the demo centre is to decide: the port it listens on, and its secrets, which are returned."""
    wanted = {"ports": {PARTS[part].port: PARTS[part].inner}, "secrets": values}
    found: dict[str, str] = json.loads(_once(volumes / part / "seed.json", json.dumps(wanted)))["secrets"]
    return found


def _host_key(folder: Path) -> str:
    """The public SSH host key of the demo cluster, whose private half is made too."""
    if not (folder / "host").exists():
        key = Ed25519PrivateKey.generate()
        _place(folder / "host.pub", key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + "\n")
        _place(folder / "host", key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())
    return (folder / "host.pub").read_text().strip()


def _settings(*, host_key: str, storage: dict[str, str]) -> dict[str, object]:
    system = {
        "name": "cluster",
        "host": "cluster",
        "port": PARTS["cluster"].shown,
        "host_keys": [host_key],
        "job_root": "/home",
        "filesystems": [{"name": "home", "path": "/home", "description": "Home directories"}],
        "probe_user": "fcprobe",
        "transfer_partition": "xfer",
    }
    return {
        "systems": [system],
        "issuers": [{"issuer": ISSUER, "jwks_url": f"{OIDC}/certs", "insecure_jwks": True, "algorithms": ["RS256"], "audience": "account"}],
        "broker": {"url": "rediss://redis:6379/0", "passwords": "/volumes/keys", "ca": TLS_CA},
        "keys": {"private": "/volumes/keys", "public": "/volumes/public"},
        # the delegation's container knows no users of the cluster, hence no minimum_uid
        "delegation": {"certificate_log": "/volumes/certificates/certificates.log"},
        "storage": {
            "private_url": S3,
            "public_url": S3,
            "ca": TLS_CA,
            "systems_ca": TLS_CA,
            "region": "default",
            "access_key": storage["s3_access_key"],
            "secret_key": storage["s3_secret_key"],
            "notifications_url": "https://api:8000/storage/announcements",
            "notifications_secret": secrets.token_hex(20),
        },
    }


def _variables(client: str, secret: str) -> str:
    variables = {
        "FIRECREST_URL": "https://api:8000",
        "REQUESTS_CA_BUNDLE": TLS_CA,
        "SSL_CERT_FILE": TLS_CA,
        "CURL_CA_BUNDLE": TLS_CA,
        "AUTH_TOKEN_URL": f"{OIDC}/token",
        "FIRECREST_CLIENT_ID": client,
        "FIRECREST_CLIENT_SECRET": secret,
        "FIRECREST_SYSTEM": "cluster",
        "FIRECREST_API_VERSION": "1.16.1",
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _once(path: Path, text: str) -> str:
    """The file's text: what it holds already, or else this."""
    if not path.exists():
        _place(path, text)
    return path.read_text(encoding="utf-8")


def _place(path: Path, text: str, *, mode: int = 0o600) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(mode)
    fresh.replace(path)


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]))
