"""The wrapper of forced-command sites, part by part (tests/hosts/test_forced.py has it whole, behind sshd)."""

import ast
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy import firecrest_command as wrapper
from deploy.firecrest_command import Refusal, allowed, read_certificate
from workers.authorities import KeyAuthority
from workers.certificates import Statement, UserKey, sign
from workers.shells import CARRIER

CA = Ed25519PrivateKey.generate()


def blob(command: str = "/w abc") -> bytes:
    from base64 import b64decode

    stated = Statement(UserKey().public_line(), "alice", "firecrest user=alice", 2**64 - 1, 300, ("192.0.2.0/24",), command)
    return b64decode(sign(KeyAuthority(CA), stated).split()[1])


def test_it_reads_what_the_delegation_writes() -> None:
    found = read_certificate(blob())
    assert (found.serial, found.kind, found.key_id, found.principals) == (2**64 - 1, 1, "firecrest user=alice", ("alice",))
    assert found.options == {b"force-command": b"/w abc", b"source-address": b"192.0.2.0/24"}
    assert (found.before - found.after, found.extensions) == (300, b"")
    assert wrapper.token(found, []) == wrapper.token(found, ["abc"]) == "abc"
    wrapper.check(found, user="alice", now=found.after, authorities=[found.authority])
    for changes in ({"user": "bob"}, {"now": found.before}, {"now": found.after - 1}, {"authorities": []}):
        with pytest.raises(Refusal):
            wrapper.check(found, **{"user": "alice", "now": found.after, "authorities": [found.authority], **changes})


def test_a_certificate_cut_short_anywhere_is_refused() -> None:
    whole = blob()
    end = len(whole) - 4 - 83  # the signature is sshd's business
    for size in range(end):
        with pytest.raises(Refusal):
            wrapper.check(read_certificate(whole[:size]), user="alice", now=0, authorities=[])


def test_a_mutated_certificate_never_names_another_command_in_a_way_that_is_understood() -> None:
    """As if sshd had let it in: lengths and texts go wrong, and nothing but a refusal comes of it."""
    random.seed(5)
    whole = blob()
    for _ in range(5000):
        mutated = bytearray(whole)
        mutated[random.randrange(40, len(mutated))] ^= 1 << random.randrange(8)
        try:
            wrapper.token(read_certificate(bytes(mutated)), ["abc"])
        except (Refusal, UnicodeDecodeError):
            continue


RULES = {
    "plain": ["ls", {"words": "-[al]"}, "--", {"word": ".*"}],
    "program": ["sh", "-c", {"program": "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0"}],
    "outer": ["do", {"word": r"\d+"}, {"command": ["_inner", "plain"]}],
    "between": ["x", {"words": ".*"}, "end", {"word": ".*"}],
    "_inner": ["inner", "a"],
}


@pytest.mark.parametrize(
    ("argv", "fits"),
    [
        (["ls", "--", "x"], True),
        (["ls", "-a", "-l", "-a", "--", "two\nlines"], True),
        (["ls", "-R", "--", "x"], False),
        (["ls", "-a", "--"], False),
        (["ls", "--", "x", "y"], False),
        (["ls"], False),
        ([], False),
        (["sh", "-c", "aaa"], True),
        (["sh", "-c", "aab"], False),
        (["do", "12", "inner", "a"], True),
        (["do", "12", "ls", "--", "x"], True),
        (["do", "\u0661", "inner", "a"], False),
        (["do", "12", "inner", "b"], False),
        (["do", "12", "do", "12", "inner", "a"], False),
        (["inner", "a"], False),
        (["x", "end", "y"], True),
        (["x", "end", "end", "end"], True),
        (["x", "1", "2"], False),
        (["LS", "--", "x"], False),
    ],
    ids=str,
)
def test_a_rule_fits_what_it_says_and_no_more(argv: list[str], fits: bool) -> None:
    assert allowed(argv, RULES) is fits


def test_both_sides_mean_the_same() -> None:
    assert wrapper.CARRIER == CARRIER


def test_it_is_python_that_systems_have() -> None:
    text = Path(wrapper.__file__).read_text()
    ast.parse(text, feature_version=(3, 9))
    imported = {name.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for name in node.names}
    import sys

    assert imported <= set(sys.stdlib_module_names)
