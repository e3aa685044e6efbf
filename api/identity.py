"""Who calls."""

from typing import Protocol

from werkzeug.datastructures import Headers

from broker.gateway import Caller
from broker.tokens import TokenVerifier
from schemas.errors import Unauthorized

_PREFIX = "Bearer "


class Identity(Protocol):
    """A way to learn from a request's headers who sent it."""

    def caller(self, headers: Headers) -> Caller:
        """The caller; raises Unauthorized, or ServiceUnavailable when it cannot be known just now."""


class BearerTokens:
    """Callers show an OIDC access token (contract, 1.1)."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def caller(self, headers: Headers) -> Caller:
        """The user whom the token in `Authorization` names."""
        value = headers.get("Authorization")
        if value is None:
            raise Unauthorized(description="No Auth Header given")
        if not value.startswith(_PREFIX):
            raise Unauthorized(description="Bad header or JWT, general exception raised")
        token = value.removeprefix(_PREFIX).strip()
        bearer = self._verifier.bearer(token)
        return Caller(bearer.user, token, bearer.rights)
