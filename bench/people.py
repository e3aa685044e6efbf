"""Many users: unix users of the bench's own, and an issuer of its own that signs their tokens."""

import http.server
import json
import pwd
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.api import Address
from bench.changed import replaced
from tests.real_site import Site

RESTARTED = ("api", "worker-1", "worker-2", "delegation")
_MARK = "FirecREST bench"
_NAME = "fcbench"
_KEY_ID = "bench"
_TOKEN_SECONDS = 7200


class Issuer:
    """Signs tokens for whomever the bench names; its public keys are served at `jwks_url`."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """Serve at an address of this machine until closed."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        self._server = _serving(host, json.dumps({"keys": [{**public, "kid": _KEY_ID, "alg": "RS256", "use": "sig"}]}).encode())
        self.jwks_url = self.issuer = f"http://{host}:{self._server.server_port}/keys"

    def token(self, user: str) -> str:
        """A token of that user."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": "account", "preferred_username": user, "iat": now, "exp": now + _TOKEN_SECONDS}
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": _KEY_ID})

    def settings(self) -> dict[str, Any]:
        """The issuer, as the gateway's settings describe it."""
        return {"issuer": self.issuer, "jwks_url": self.jwks_url, "algorithms": ["RS256"], "audience": "account"}

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def people(site: Site, count: int) -> Iterator[list[Address]]:
    """How each of so many users calls the API; users and issuer are there until the end of the block."""
    names = [f"{_NAME}{number:04}" for number in range(count)]
    issuer = Issuer()
    try:
        _make(names)
        theirs = {**issuer.settings(), "users": f"{_NAME}[0-9]+"}
        ours = [{**one, "users": f"(?!{_NAME}).*"} for one in _settings(site)["issuers"]]
        with replaced(site, {"issuers": [*ours, theirs]}, restarted=RESTARTED):
            yield [Address(site.url, str(site.facts["system"]), issuer.token(name), name) for name in names]
    finally:
        issuer.close()
        _remove(names)


def _settings(site: Site) -> Any:
    return yaml.safe_load(Path(site.facts["settings"]).read_text(encoding="utf-8"))


def _make(names: Sequence[str]) -> None:
    """Make the unix users; raises RuntimeError where a name is somebody else's."""
    for name in names:
        entry = _entry(name)
        if entry is None:
            options = ("--create-home", "--skel", "/nonexistent", "--comment", _MARK, "--shell", "/bin/bash", "--password", "*")
            subprocess.run(("useradd", *options, name), check=True)
        elif entry.pw_gecos != _MARK:
            raise RuntimeError(f"the unix user {name} is not one of the bench's: left alone")


def _remove(names: Sequence[str]) -> None:
    for name in names:
        entry = _entry(name)
        if entry is not None and entry.pw_gecos == _MARK:
            subprocess.run(("userdel", "--force", "--remove", name), check=True, stderr=subprocess.DEVNULL)


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _serving(host: str, document: bytes) -> http.server.ThreadingHTTPServer:
    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host, 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
