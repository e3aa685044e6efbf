"""Grants as they travel: only what is signed as this service signs is one."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.grants import GrantSigner, GrantVerifier, sign_claims, unseal, verified_claims
from broker.key_rings import KeyRing
from broker.keys import key_id
from schemas.grant import Grant, GrantError
from schemas.utilities import Whoami

KEY = Ed25519PrivateKey.generate()
KNOWN: dict[str, Any] = {"alg": "EdDSA", "typ": "JWT", "kid": key_id(KEY.public_key())}


def base64(part: bytes) -> str:
    return urlsafe_b64encode(part).decode().rstrip("=")


def signed(header: Any, claims: Any, key: Ed25519PrivateKey = KEY) -> str:
    said = f"{base64(json.dumps(header).encode())}.{base64(json.dumps(claims).encode())}"
    return f"{said}.{base64(key.sign(said.encode()))}"


def granted() -> str:
    op = Whoami()
    return GrantSigner(KEY, X25519PrivateKey.generate().public_key()).grant(
        op.task(), op.parameters(), task_id="t", user="ann", system="here", token="a token", seconds=5
    )


def test_what_is_signed_is_read_and_is_a_jwt() -> None:
    text = sign_claims({"a": 1}, KEY)

    assert verified_claims(text, KeyRing(KEY.public_key(), name="me"))[0] == {"a": 1}
    assert verified_claims(signed(KNOWN, {"a": 2}), KeyRing(KEY.public_key()))[0] == {"a": 2}
    assert jwt.decode(text, KEY.public_key(), algorithms=["EdDSA"]) == {"a": 1}


def test_each_token_is_sealed_by_itself_and_anew_for_another_key() -> None:
    first, second = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    seals = [first.public_key()]
    signer = GrantSigner(KEY, first.public_key())
    signer._seal = lambda: seals[-1]

    def grant(token: str) -> Grant:
        return GrantVerifier(KEY.public_key()).verify(
            signer.grant(Whoami.task(), Whoami().parameters(), task_id="t", user="ann", system="here", token=token, seconds=5)
        )

    of_one, of_other, again = grant("one"), grant("other"), grant("one")
    seals.append(second.public_key())
    rotated = grant("one")

    assert of_one.seal == again.seal
    assert [unseal(sealed, first) for sealed in (of_one, of_other)] == ["one", "other"]
    assert unseal(rotated, second) == "one"
    with pytest.raises(GrantError):
        unseal(rotated, first)


def test_a_grant_is_read_with_the_key_that_signed_it() -> None:
    assert GrantVerifier(Ed25519PrivateKey.generate().public_key(), KEY.public_key()).verify(granted()).user == "ann"


@pytest.mark.parametrize(
    "header",
    [
        {**KNOWN, "alg": "none"},
        {**KNOWN, "alg": "HS256"},
        {**KNOWN, "alg": None},
        {**KNOWN, "crit": ["b64"], "b64": False},
        {**KNOWN, "kid": "unknown"},
        {**KNOWN, "kid": []},
        {"alg": "EdDSA"},
        {"kid": KNOWN["kid"]},
        {},
        [],
        "EdDSA",
        None,
    ],
)
def test_no_other_header_is_taken_though_its_signature_is_good(header: Any) -> None:
    claims = json.loads(jwt.api_jws.base64url_decode(granted().split(".")[1]))
    verifier = GrantVerifier(KEY.public_key())
    assert verifier.verify(signed(KNOWN, claims)).user == "ann"

    with pytest.raises(GrantError):
        verifier.verify(signed(header, claims))


@pytest.mark.parametrize("claims", [[], "x", None, 7, {}, {"user": "ann"}])
def test_what_states_nothing_of_a_call_is_no_grant(claims: Any) -> None:
    with pytest.raises(GrantError):
        GrantVerifier(KEY.public_key()).verify(signed(KNOWN, claims))


def test_neither_statement_nor_signature_can_be_exchanged() -> None:
    head, stated, signature = granted().split(".")
    other = signed(KNOWN, {"user": "bob"}).split(".")
    stranger = signed(KNOWN, {"user": "ann"}, Ed25519PrivateKey.generate())

    for text in (f"{head}.{other[1]}.{signature}", f"{head}.{stated}.{other[2]}", f"{head}.{stated}.", stranger):
        with pytest.raises(GrantError):
            GrantVerifier(KEY.public_key()).verify(text)
