"""Tokens by the rules of their issuers, whose keys come from real HTTP servers."""

import hashlib
import hmac
import json
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import ValidationError

from broker.tokens import TokenVerifier
from schemas.errors import ServiceUnavailable, Unauthorized
from schemas.rights import EVERY_RIGHT, Right
from schemas.settings import Settings

GENERAL = "Bad header or JWT, general exception raised"
SIGNATURE = "JWT token has invalid signature"
ALGORITHM = "JWT token has invalid signature algorithm"
RSA, STRANGER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
HERE, THERE = "https://here.example/realm", "https://there.example/realm"


@contextmanager
def serving(status: int, content: bytes, *, pause: float = 0, headers: dict[str, str] | None = None) -> Iterator[str]:
    """The URL of a server that gives every request the same answer, a piece after each pause."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in (headers or {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            for start in range(0, len(content), 50 if pause else len(content) or 1):
                try:
                    self.wfile.write(content[start : start + (50 if pause else len(content))])
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(pause)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/keys"
    server.shutdown()
    server.server_close()
    thread.join()


def key_set() -> bytes:
    """The public keys of an issuer, one that is for one algorithm only, and what is no key for signatures."""
    rsa_key, stranger = (RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) for key in (RSA, STRANGER))
    return json.dumps(
        {
            "keys": [
                {**rsa_key, "kid": "rsa"},
                {**rsa_key, "kid": "bound", "alg": "RS512"},
                {**stranger, "kid": "enc", "use": "enc"},
                {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "oct"},
                {"kty": "odd", "kid": "odd"},
                {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "ec"},
                {**OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True), "kid": "ed"},
            ]
        }
    ).encode()


def issuers(*described: dict[str, Any]) -> tuple:
    """Issuers out of whole settings."""
    rest = {
        "systems": [{"name": "x", "host": "x", "host_keys": ["x"]}],
        "broker": {"url": "redis://u"},
        "keys": {"private": "p", "public": "p"},
    }
    return Settings.model_validate({"issuers": described, **rest}).issuers


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(200, key_set()) as found:
        yield found


@pytest.fixture(scope="module")
def verifier(url: str) -> TokenVerifier:
    """Of two issuers with the same keys, whose rules differ."""
    here = {
        "issuer": HERE,
        "jwks_url": url,
        "algorithms": ["RS256", "ES256"],
        "audience": "firecrest",
        "scopes": ["firecrest", "hpc"],
        "users": "[^x].*",
        "scope_rights": {"look": ["read"], "all": ["read", "write", "submit", "admin"]},
        "role_rights": {"worker": ["write", "submit"]},
    }
    there = {
        "issuer": THERE,
        "jwks_url": url,
        "algorithms": ["RS512", "EdDSA"],
        "users": "x_.*",
        "username_claim": "uid",
        "service_account_role": "robot",
        "client_claim": "azp",
        "clients": {"known": "x_known"},
    }
    return TokenVerifier(issuers(here, there))


def claims(**others: Any) -> dict[str, Any]:
    good = {"iss": HERE, "aud": "firecrest", "exp": int(time.time()) + 60, "scope": "hpc firecrest", "preferred_username": "alice"}
    return {name: value for name, value in (good | others).items() if value is not None}


def there(**others: Any) -> dict[str, Any]:
    return claims(iss=THERE, preferred_username=None, **others)


def token(said: dict[str, Any], key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    return jwt.encode(said, key, algorithm=algorithm, headers={"kid": "rsa"} | header)


def base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(header: bytes, payload: bytes) -> str:
    """What PyJWT would not write, well signed all the same."""
    text = f"{base64(header)}.{base64(payload)}"
    return f"{text}.{base64(jwt.get_algorithm_by_name('RS256').sign(text.encode(), RSA))}"


HEADER = b'{"alg":"RS256","kid":"rsa"}'


def payload(**others: Any) -> bytes:
    return json.dumps(claims(**others)).encode()


@pytest.mark.parametrize(
    ("made", "user"),
    [
        (lambda: token(claims()), "alice"),
        (lambda: token(claims(), EC, "ES256", kid="ec"), "alice"),
        (lambda: token(there(uid="x_bob"), RSA, "RS512"), "x_bob"),
        (lambda: token(there(uid="x_bob"), RSA, "RS512", kid="bound"), "x_bob"),
        (lambda: token(there(uid="x_bob"), ED, "EdDSA", kid="ed"), "x_bob"),
        (lambda: signed(HEADER, payload()), "alice"),
    ],
)
def test_each_issuer_signs_with_its_own_algorithms(verifier: TokenVerifier, made, user: str) -> None:
    assert verifier.bearer(made()).user == user


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: token(claims(), RSA, "RS512"), ALGORITHM),
        (lambda: token(there(uid="x_bob")), ALGORITHM),
        (lambda: token(claims(), kid="bound"), SIGNATURE),
        (lambda: token(claims(), STRANGER), SIGNATURE),
        (lambda: token(claims(), STRANGER, kid="enc"), SIGNATURE),
        (lambda: token(claims(), kid="ec"), GENERAL),
        (lambda: token(claims(), kid="oct"), SIGNATURE),
        (lambda: token(claims(), kid="../rsa"), SIGNATURE),
        (lambda: signed(b'{"alg":"RS256"}', payload()), SIGNATURE),
        (lambda: signed(b'{"alg":"RS256","kid":["rsa"]}', payload()), GENERAL),
        (lambda: signed(b'{"alg":"RS256","kid":{"a":1}}', payload()), GENERAL),
        (lambda: signed(b'{"alg":"RS256","kid":1}', payload()), GENERAL),
        (lambda: signed(b'{"alg":["RS256"],"kid":"rsa"}', payload()), ALGORITHM),
        (lambda: signed(b'{"alg":"none","kid":"rsa"}', payload()), ALGORITHM),
        (lambda: signed(b'{"alg":"rs256","kid":"rsa"}', payload()), ALGORITHM),
        (lambda: signed(b'{"alg":"RS256","kid":"rsa","crit":["b64"],"b64":false}', payload()), GENERAL),
        (lambda: signed(b'{"alg":"RS512","alg":"RS256","kid":"rsa"}', payload()), GENERAL),
        (lambda: signed(HEADER, payload()[:-1] + b',"preferred_username":"bob"}'), GENERAL),
        (lambda: signed(HEADER, payload(exp=None)[:-1] + b',"exp":1e999}'), GENERAL),
        (lambda: signed(HEADER, payload(exp=None)[:-1] + b',"exp":Infinity}'), GENERAL),
        (lambda: signed(HEADER, payload(exp=None)[:-1] + b',"exp":' + b"9" * 5000 + b"}"), GENERAL),
        (lambda: signed(HEADER, payload(exp="tomorrow")), GENERAL),
        (lambda: signed(HEADER, payload(iss=["a"])), SIGNATURE),
        (lambda: signed(HEADER, b"[" * 3000 + b"]" * 3000), GENERAL),
        (lambda: signed(HEADER, b"[1]"), GENERAL),
        (lambda: signed(HEADER, b"\xff"), GENERAL),
        (lambda: token(claims(fill="x" * 16384)), GENERAL),
        (lambda: token(claims()) + ".", GENERAL),
        (lambda: token(claims()) + "=", GENERAL),
        (lambda: token(claims(aud=["other"])), "Invalid audience in JWT token"),
        (lambda: token(claims(scope="firecrest")), "Scope 'hpc' wasn't found in JWT"),
        (lambda: token(claims(scope=None)), "Scope 'firecrest' wasn't found in JWT"),
        (lambda: token(claims(scope={"hpc": 1})), "Scope 'firecrest' wasn't found in JWT"),
    ],
)  # fmt: skip
def test_a_wrong_token_is_refused(verifier: TokenVerifier, made, words: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        verifier.bearer(made())
    assert refused.value.description == words


def test_the_bits_that_base64_leaves_over_are_not_free(verifier: TokenVerifier) -> None:
    good = token(claims())
    last = good[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = good[:-1] + alphabet[alphabet.index(last) ^ 1]
    signatures = {urlsafe_b64decode(one.rpartition(".")[2] + "==") for one in (good, twin)}
    assert len(signatures) == 1
    assert twin != good
    with pytest.raises(Unauthorized):
        verifier.bearer(twin)


def test_a_public_key_is_no_secret_to_sign_with(verifier: TokenVerifier) -> None:
    for encoding in ((Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.PKCS1)):
        for algorithm in ("HS256", "RS256"):
            head = json.dumps({"alg": algorithm, "kid": "rsa"}).encode()
            text = f"{base64(head)}.{base64(payload())}"
            sign = hmac.digest(RSA.public_key().public_bytes(*encoding), text.encode(), hashlib.sha256)
            with pytest.raises(Unauthorized):
                verifier.bearer(f"{text}.{base64(sign)}")


def test_keys_can_be_fetched_before_the_first_token_comes() -> None:
    with serving(200, key_set()) as url:
        verifier = TokenVerifier(issuers({"issuer": HERE, "jwks_url": url, "audience": "firecrest"}))
        for fetch in verifier.fetchers():
            fetch()
    assert verifier.bearer(token(claims())).user == "alice"


def test_an_issuer_cannot_name_the_users_of_another(verifier: TokenVerifier) -> None:
    assert verifier.bearer(token(there(uid="x_bob"), RSA, "RS512")).user == "x_bob"
    for said, algorithm in ((there(uid="alice"), "RS512"), (claims(preferred_username="x_bob"), "RS256"), (there(uid="x_bob\n"), "RS512")):
        with pytest.raises(Unauthorized) as refused:
            verifier.bearer(token(said, RSA, algorithm))
        assert refused.value.description == GENERAL


def test_a_service_account_is_who_the_settings_or_its_first_role_say(verifier: TokenVerifier) -> None:
    def user(said: dict[str, Any], algorithm: str) -> str:
        return verifier.bearer(token(said, RSA, algorithm)).user

    here = {"realm_access": {"roles": ["firecrest-sa"]}, "resource_access": {"c": {"roles": ["robot", "alice"]}}}
    assert user(claims(clientId="c", **here), "RS256") == "robot"
    assert user(claims(clientId="d", **here), "RS256") == "alice"
    assert user(claims(azp="c", **here), "RS256") == "alice"
    assert user(claims(**here), "RS256") == "alice"
    roles = {"realm_access": {"roles": ["robot"]}, "resource_access": {"c": {"roles": ["x_c"]}, "known": {"roles": ["x_c"]}}}
    assert user(there(uid="x_a", azp="c", **roles), "RS512") == "x_c"
    assert user(there(uid="x_a", azp="known", **roles), "RS512") == "x_known"
    assert user(there(uid="x_a", azp="known", realm_access={"roles": ["firecrest-sa"]}), "RS512") == "x_a"


@pytest.mark.parametrize("odd", [None, [], "firecrest-sa", {"roles": None}, {"roles": "firecrest-sa"}, {"roles": [["firecrest-sa"], 1]}])
def test_odd_claims_of_roles_mean_nothing(verifier: TokenVerifier, odd: Any) -> None:
    said = claims(clientId="c", resource_access={"c": {"roles": ["root"]}}) | {"realm_access": odd}
    assert verifier.bearer(token(said)).user == "alice"


def test_scopes_and_roles_allow_what_the_settings_say(verifier: TokenVerifier) -> None:
    def rights(**said: Any) -> frozenset[Right]:
        return verifier.bearer(token(claims(**said))).rights

    assert rights() == frozenset()
    assert rights(scope="hpc firecrest look") == {Right.READ}
    assert rights(scope="hpc firecrest looks") == frozenset()
    assert rights(realm_access={"roles": ["worker", "all"]}) == {Right.WRITE, Right.SUBMIT}
    assert rights(scope="hpc firecrest look", realm_access={"roles": ["worker"]}) == {Right.READ, Right.WRITE, Right.SUBMIT}
    assert rights(scope="hpc firecrest all") == EVERY_RIGHT
    assert verifier.bearer(token(there(uid="x_bob"), RSA, "RS512")).rights == EVERY_RIGHT


@pytest.mark.parametrize(
    ("described", "why"),
    [
        ([{"jwks_url": "https://a", "users": "a"}, {"issuer": THERE, "jwks_url": "https://b", "users": "b"}], "each needs `issuer`"),
        ([{"issuer": HERE, "jwks_url": "https://a"}, {"issuer": THERE, "jwks_url": "https://b", "users": "b"}], "each needs `issuer`"),
        ([{"issuer": HERE, "jwks_url": "https://a", "users": "a"}] * 2, "the same `issuer`"),
        ([{"jwks_url": "http://keys.example/"}], "insecure_jwks"),
        ([{"jwks_url": "http://127.0.0.1.example/"}], "insecure_jwks"),
        ([{"jwks_url": "http://localhost@keys.example/"}], "insecure_jwks"),
        ([{"jwks_url": "file:///etc/keys"}], "insecure_jwks"),
        ([{"jwks_url": "https://a", "users": "("}], "not a regular expression"),
        ([{"jwks_url": "https://a", "algorithms": []}], "at least 1"),
        ([{"jwks_url": "https://a", "algorithms": ["HS256"]}], "Input should be"),
        ([{"jwks_url": "https://a", "scope_rights": {"a": ["root"]}}], "Input should be"),
    ],
)
def test_settings_that_confuse_issuers_or_trust_the_network_are_refused(described: list, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        issuers(*described)


@pytest.mark.parametrize("url", ["https://keys.example/", "http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/"])
def test_keys_come_by_https_or_from_this_machine(url: str) -> None:
    assert issuers({"jwks_url": url})[0].jwks_url == url
    assert issuers({"jwks_url": "http://issuer:8080/", "insecure_jwks": True})


@pytest.mark.parametrize(
    ("status", "content", "headers"),
    [
        (200, b"{}", None),
        (200, b'{"keys":[]}', None),
        (200, b'{"keys":[1]}', None),
        (200, b'{"keys":{"a":1}}', None),
        (200, b"<html>", None),
        (200, b'{"keys":[{"kty":"oct","k":"AAAA","kid":"rsa"}]}', None),
        (404, key_set(), None),
        (500, b"", None),
        (302, b"", {"Location": "https://elsewhere.example/", "Content-Length": "0"}),
        (200, key_set() + b" " * 2**21, None),
        (200, key_set(), {"Content-Length": "99999"}),
    ],
)
def test_without_its_keys_an_issuer_proves_nothing(status: int, content: bytes, headers: dict | None) -> None:
    with serving(status, content, headers=headers) as url, pytest.raises(ServiceUnavailable):
        TokenVerifier(issuers({"jwks_url": url})).bearer(token(claims()))


def test_slow_keys_are_not_waited_for() -> None:
    began = time.monotonic()
    with serving(200, key_set(), pause=1.2) as url, pytest.raises(ServiceUnavailable):
        TokenVerifier(issuers({"jwks_url": url})).bearer(token(claims()))
    assert time.monotonic() - began < 30  # of the 70 seconds that they take to come


def told(keys: dict[str, rsa.RSAPrivateKey]) -> bytes:
    """A key set of these keys by their ids."""
    return json.dumps(
        {"keys": [{**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": name} for name, key in keys.items()]}
    ).encode()


@contextmanager
def one_issuer(keys: dict[str, rsa.RSAPrivateKey]) -> Iterator[tuple[TokenVerifier, list[bytes]]]:
    """A verifier by an issuer of these keys, and what the issuer tells from now on."""
    document = [told(keys)]

    class Fetched:
        def fetch(self, _: str) -> bytes:
            return document[0]

    verifier = TokenVerifier(issuers({"jwks_url": "http://127.0.0.1:9/keys"}))
    ((_, known),) = verifier._issuers
    known._fetcher = Fetched()
    yield verifier, document


def anns(key: rsa.RSAPrivateKey, **claims: Any) -> str:
    return jwt.encode({"exp": 2e9, "preferred_username": "ann", **claims}, key, algorithm="RS256", headers={"kid": "one"})


def again(verifier: TokenVerifier) -> None:
    """The issuer is asked anew at the next token, as it is every ten minutes."""
    verifier._issuers[0][1]._tried = float("-inf")


def test_a_token_that_was_good_is_not_when_its_key_is_withdrawn_or_another_has_its_name() -> None:
    token = anns(RSA)
    for later in ({"two": STRANGER}, {"one": STRANGER}):
        with one_issuer({"one": RSA}) as (verifier, document):
            assert [verifier.bearer(token).user for _ in range(2)] == ["ann", "ann"]
            document[0] = told(later)
            again(verifier)
            with pytest.raises(Unauthorized) as refused:
                verifier.bearer(token)
            assert refused.value.description == SIGNATURE


def test_a_token_that_was_good_ends_at_its_time() -> None:
    with one_issuer({"one": RSA}) as (verifier, _):
        token = anns(RSA, exp=1000)
        assert verifier.bearer(token, moment=999).user == "ann"
        with pytest.raises(Unauthorized) as refused:
            verifier.bearer(token, moment=1000)
        assert refused.value.description == "JWT token has expired"


def test_a_token_that_is_like_one_that_was_good_is_verified_itself() -> None:
    with one_issuer({"one": RSA}) as (verifier, _):
        token = anns(RSA)
        assert verifier.bearer(token).user == "ann"
        for other in (token[:-8] + "AAAAAAAA", anns(STRANGER), token + "A"):
            with pytest.raises(Unauthorized):
                verifier.bearer(other)


def test_a_signature_is_verified_once_a_minute_and_nothing_that_is_wrong_is_remembered() -> None:
    with one_issuer({"one": RSA}) as (verifier, _):
        good, bad = anns(RSA), anns(STRANGER)
        found = []
        for _ in range(2):
            verifier.bearer(good)
            found += verifier._proofs.values()
            with pytest.raises(Unauthorized):
                verifier.bearer(bad)
        (digest, first), *others = verifier._proofs.items()
        assert found == [first, first]
        assert not others
        assert time.monotonic() + 50 < first.until < time.monotonic() + 61
        verifier._proofs[digest] = replace(first, until=time.monotonic())
        verifier.bearer(good)
        assert verifier._proofs[digest].until > first.until


def test_of_more_tokens_than_can_be_remembered_the_oldest_is_forgotten() -> None:
    with one_issuer({"one": RSA}) as (verifier, _):
        verifier.bearer(anns(RSA))
        ((oldest, proof),) = verifier._proofs.items()
        for number in range(10_000):
            verifier._remember(number.to_bytes(4), proof)
    assert len(verifier._proofs) == 10_000
    assert oldest not in verifier._proofs
