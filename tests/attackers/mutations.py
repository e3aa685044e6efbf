"""What an attacker makes of a signed statement (a token, a grant, a petition): seeded, without end, never the statement itself."""

import hashlib
import hmac
import json
import random
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1e308, 2**63, "", "root", "fcbob", "fcbob\n", "fcalice,fcbob", "../fcbob", "-oProxyCommand=id"),
    *([], {}, ["fcbob"], {"user": "fcbob"}, "\x00", "\u202efcbob", "\uff41lice", "A" * 5000, 4102444800, "4102444800", [[[[[[]]]]]]),
)
_SPOILERS = ("=", "==", "!", " ", "%3D", "\n", "\t", "\x00", "é", "\uff0e", "+", "/", ".", ",", "Bearer ", "\ud800")


@dataclass(frozen=True)
class Attacker:
    """Somebody with a genuine statement, the keys that verify it, and keys of their own."""

    genuine: str
    public: bytes  # PEM
    chance: random.Random
    own: dict[str, Any]

    @classmethod
    def armed(cls, genuine: str, public: Any, seed: int) -> "Attacker":
        """One whose choices follow from the seed."""
        own = {"RS256": new_rsa_key(65537, 2048), "ES256": new_ec_key(SECP256R1()), "EdDSA": Ed25519PrivateKey.generate()}
        return cls(genuine, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), random.Random(seed), own)

    def statements(self, count: int) -> list[str]:
        """So many statements that nobody made, each kind of attack in turn."""
        return list(islice(self._endless(), count))

    def _endless(self) -> Iterator[str]:
        while True:
            for attack in ATTACKS:
                forged = attack(self)
                if forged != self.genuine:
                    yield forged

    def parts(self) -> list[str]:
        """Header, claims and signature, as they are written."""
        return self.genuine.split(".")

    def header(self) -> dict[str, Any]:
        """What the header says."""
        return dict(json.loads(_bytes(self.parts()[0])))

    def claims(self) -> dict[str, Any]:
        """What is stated."""
        return dict(json.loads(_bytes(self.parts()[1])))

    def changed_claims(self) -> dict[str, Any]:
        """What is stated, but for one thing."""
        claims, choice = self.claims(), self.chance.choice
        name = choice(list(claims))
        if self.chance.random() < 0.2:
            claims.pop(name)
        elif self.chance.random() < 0.2:
            claims[choice(["user", "exp", "expires", "sub", "preferred_username", "nbf", "probe", "x"])] = choice(_ODD)
        else:
            claims[name] = choice(_ODD)
        return claims if claims != self.claims() else claims | {"more": 1}


def _bytes(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _json(content: Any) -> str:
    return _text(json.dumps(content).encode())


def another_character(attacker: Attacker) -> str:
    """One character is another: a few bits flip."""
    text, at = attacker.genuine, attacker.chance.randrange(len(attacker.genuine))
    return text[:at] + attacker.chance.choice(ALPHABET + ".") + text[at + 1 :]


def flipped_bit(attacker: Attacker) -> str:
    """One bit of what is written flips, in any of the three parts."""
    parts, which = attacker.parts(), attacker.chance.randrange(3)
    content = bytearray(_bytes(parts[which]))
    content[attacker.chance.randrange(len(content))] ^= 1 << attacker.chance.randrange(8)
    parts[which] = _text(bytes(content))
    return ".".join(parts)


def cut(attacker: Attacker) -> str:
    """A piece is missing, from anywhere."""
    text, chance = attacker.genuine, attacker.chance
    start = chance.randrange(len(text))
    return text[:start] + text[start + 1 + chance.randrange(min(40, len(text) - start)) :]


def doubled(attacker: Attacker) -> str:
    """A piece is there twice."""
    text, chance = attacker.genuine, attacker.chance
    start = chance.randrange(len(text))
    end = start + 1 + chance.randrange(min(40, len(text) - start))
    return text[:end] + text[start:]


def spoiled(attacker: Attacker) -> str:
    """Something stands in it, before it or behind it that lenient readers pass over."""
    text, chance = attacker.genuine, attacker.chance
    at = chance.choice([0, len(text), chance.randrange(len(text)), len(text) - chance.randrange(1, 60)])
    return text[:at] + chance.choice(_SPOILERS) * chance.randrange(1, 4) + text[at:]


def loose_bits(attacker: Attacker) -> str:
    """The last character has other bits, which the signature's bytes do not need."""
    last = ALPHABET.index(attacker.genuine[-1])
    return attacker.genuine[:-1] + ALPHABET[last ^ attacker.chance.randrange(1, 16)]


def padded(attacker: Attacker) -> str:
    """Some parts are written with padding, or in base64 proper."""
    parts, chance = attacker.parts(), attacker.chance
    which = chance.randrange(3)
    plain = b64encode(_bytes(parts[which])).decode()
    parts[which] = chance.choice([plain, plain.rstrip("="), parts[which] + "=" * chance.randrange(1, 4)])
    return ".".join(parts)


def rearranged(attacker: Attacker) -> str:
    """The parts are in another order, or too many, or too few."""
    parts, chance = attacker.parts(), attacker.chance
    return ".".join(chance.choices([*parts, "", "e30", "bnVsbA", parts[0][::-1]], k=chance.randrange(1, 7)))


def restated(attacker: Attacker) -> str:
    """Something else is stated, under the old signature or none."""
    parts = attacker.parts()
    return ".".join([parts[0], _json(attacker.changed_claims()), attacker.chance.choice([parts[2], ""])])


def respelled(attacker: Attacker) -> str:
    """The same is stated, in another spelling of JSON."""
    parts, claims = attacker.parts(), attacker.claims()
    spelled = attacker.chance.choice(
        [
            json.dumps(claims, indent=attacker.chance.randrange(1, 9)),
            json.dumps(dict(reversed(claims.items()))),
            json.dumps(claims)[:-1] + f', "{attacker.chance.choice(list(claims))}": "fcbob"}}',
            "[" * attacker.chance.choice([1, 2000, 100_000]),
            '{"exp": NaN}',
            '{"exp": 1e999, "expires": Infinity}',
            json.dumps([claims]),
            "\ufeff" + json.dumps(claims),
        ]
    )
    return f"{parts[0]}.{_text(spelled.encode())}.{parts[2]}"


def reheaded(attacker: Attacker) -> str:
    """The header says something else, under the old signature."""
    header, choice = attacker.header(), attacker.chance.choice
    header |= choice(
        [
            {"alg": choice(["none", "None", "NONE", "nOnE", "", None, "HS256", "RS256", "ES256", "PS512", "EdDSA", "rs256", [], {}, 7])},
            {"kid": choice(["", None, "../../dev/null", "/etc/passwd", "' OR 1=1--", "x" * 4000, 7, [], {"kid": 1}, "\x00"])},
            {"jku": "http://127.0.0.1:9/keys", "x5u": "http://127.0.0.1:9/cert"},
            {"crit": choice([["exp"], ["b64"], [], "b64", None, ["x"]]), "b64": choice([True, False, None, 0])},
            {"typ": choice(["JWE", "", None, 1, "at+jwt" * 500]), "zip": "DEF", "cty": "JWT"},
            {"x": attacker.chance.getrandbits(64)},
        ]
    )
    return ".".join([_json(header), *attacker.parts()[1:]])


def unsigned(attacker: Attacker) -> str:
    """No signature, and the header says so, in any spelling."""
    header = attacker.header() | {"alg": attacker.chance.choice(["none", "None", "NONE", "nonE", "", None])}
    claims = attacker.chance.choice([attacker.claims(), attacker.changed_claims()])
    return f"{_json(header)}.{_json(claims)}.{attacker.chance.choice(['', '', 'AA', attacker.parts()[2]])}"


def confused(attacker: Attacker) -> str:
    """Signed with the public key as if it were a shared secret, in any of its spellings, or with a poor secret."""
    choice, pem = attacker.chance.choice, attacker.public
    name = choice(list(_HASHES))
    body = b"".join(pem.split(b"-----")[2].split())
    secret = choice([pem, pem.strip(), body, urlsafe_b64decode(body + b"=="), b"", b"secret", b"\x00", attacker.genuine.encode()])
    text = f"{_json(attacker.header() | {'alg': name})}.{_json(choice([attacker.claims(), attacker.changed_claims()]))}"
    return f"{text}.{_text(hmac.digest(secret, text.encode(), _HASHES[name]))}"


def signed_by_another(attacker: Attacker) -> str:
    """Signed with a key of the attacker's own, which the header offers to those who would take it from there."""
    name = attacker.chance.choice(list(attacker.own))
    key = attacker.own[name]
    offered = {"jwk": jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)}
    header = {"kid": attacker.header().get("kid")} | attacker.chance.choice([{}, offered, {"kid": "own", **offered}])
    kept = {field: value for field, value in header.items() if value is not None}
    stated = attacker.chance.choice([attacker.claims(), attacker.claims() | {"user": "fcbob", "preferred_username": "fcbob"}])
    return jwt.encode(stated, key, algorithm=name, headers=kept)


def blank_signature(attacker: Attacker) -> str:
    """A signature of zeros, of ones or of chance, of any length, for any algorithm."""
    chance = attacker.chance
    signature = chance.choice([bytes, lambda size: b"\xff" * size, chance.randbytes, lambda size: b"\x01" + bytes(size)])(
        chance.choice([0, 1, 32, 63, 64, 65, 128, 255, 256, 257, 512])
    )
    header = attacker.header() | chance.choice([{}, {"alg": chance.choice(["ES256", "EdDSA", "RS256", "PS256"])}])
    return f"{_json(header)}.{_json(attacker.changed_claims())}.{_text(signature)}"


def noise(attacker: Attacker) -> str:
    """What is no statement at all."""
    chance = attacker.chance
    return "".join(chance.choices(ALPHABET + "..=", k=chance.choice([0, 1, 10, 100, 1000])))


ATTACKS: tuple[Callable[[Attacker], str], ...] = (
    *(another_character, flipped_bit, cut, doubled, spoiled, loose_bits, padded, rearranged, restated, respelled, reheaded),
    *(unsigned, confused, signed_by_another, blank_signature, noise),
)
