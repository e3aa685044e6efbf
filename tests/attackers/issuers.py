"""Issuers of the tests' own: keys served over HTTP, and tokens signed with them."""

import hashlib
import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa_key

from broker.tokens import TokenVerifier
from schemas.settings import Issuer

_NEW = {"RS256": lambda: new_rsa_key(65537, 2048), "ES256": lambda: new_ec_key(SECP256R1()), "EdDSA": Ed25519PrivateKey.generate}


class KeyServer(HTTPServer):
    """Serves public keys as a JWKS, and keeps the private ones, by key id."""

    def __init__(self, keys: dict[str, tuple[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys = keys
        self.strangers = {name: make() for name, make in _NEW.items()}
        self.url = f"http://127.0.0.1:{self.server_port}/keys"

    @classmethod
    def of(cls, *algorithms: str) -> Self:
        """One with a new key for each of the algorithms; the ids are those of its port and their places."""
        return cls({f"key-{place}": (name, _NEW[name]()) for place, name in enumerate(algorithms)})

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def verifier(self, *issuers: Issuer) -> TokenVerifier:
        """What the API and the delegation verify tokens with."""
        return TokenVerifier(issuers)

    def token(self, user: str, algorithm: str, *, number: int = 0, **claims: Any) -> str:
        """A token of a user, signed with the key in that place, or where there is none with a stranger's."""
        stated = {"preferred_username": user, "exp": int(time.time()) + 300, **claims}
        _, key = self.keys.get(f"key-{number}", (algorithm, self.strangers[algorithm]))
        return jwt.encode(stated, key, algorithm=algorithm, headers={"kid": f"key-{number}"})

    @staticmethod
    def with_secret(claims: dict[str, Any], secret: bytes, *, kid: str) -> str:
        """A token signed with a shared secret."""
        head = {"alg": "HS256", "typ": "JWT", "kid": kid}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        return f"{text}.{_base64(hmac.digest(secret, text.encode(), hashlib.sha256))}"

    def document(self) -> bytes:
        """The JWKS."""
        shown = []
        for key_id, (name, key) in self.keys.items():
            facts = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
            shown.append({**facts, "kid": key_id, "use": "sig", "alg": name})
        return json.dumps({"keys": shown}).encode()


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


class _Handler(BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        content = self.server.document()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
        pass
