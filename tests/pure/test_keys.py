"""Key files: two of a kind at a time, seen without a restart."""

import os
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.grants import GrantSigner, GrantVerifier, unseal
from broker.key_rings import KeyRing
from broker.key_rotation import main
from broker.keys import KeyFileError, authority_key, key_id, make_missing, opening_keys, signing_key, verifying_key
from schemas.grant import GrantError
from schemas.settings import Keys
from schemas.utilities import Whoami
from workers.kept_states import KeptStates


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    found = Keys(private=tmp_path / "private", public=tmp_path / "public")
    make_missing(found.private, found.public)
    return found


def step(keys: Keys, name: str, part: str) -> int:
    return main([name, part, str(keys.private), str(keys.public)])


def grant(signer: GrantSigner) -> str:
    return signer.grant(Whoami.task(), Whoami().parameters(), task_id="a", user="ann", system="here", token="a token", seconds=9)


def soon(happens: object) -> None:
    """A change is seen within a second."""
    end = time.monotonic() + 10
    while not happens():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_api_key_is_rotated_while_grants_of_both_are_good(keys: Keys) -> None:
    signer, verifier = GrantSigner.of(keys), GrantVerifier.of(keys)
    old = grant(signer)
    assert step(keys, "next", "api") == 0
    assert verifier.verify(old)
    assert step(keys, "take", "api") == 0
    soon(lambda: grant(signer).partition(".")[0] != old.partition(".")[0])
    assert verifier.verify(old)
    assert verifier.verify(grant(signer)).user == "ann"
    assert step(keys, "retire", "api") == 0
    soon(lambda: refused(verifier, old))
    assert verifier.verify(grant(signer)).user == "ann"


def refused(verifier: GrantVerifier, text: str) -> bool:
    try:
        verifier.verify(text)
    except GrantError:
        return True
    return False


def test_the_seal_is_rotated_while_both_are_opened(keys: Keys) -> None:
    signer, verifier = GrantSigner.of(keys), GrantVerifier.of(keys)
    old = verifier.verify(grant(signer))
    step(keys, "next", "delegation")
    assert unseal(old, *opening_keys(keys.private)) == "a token"
    step(keys, "take", "delegation")
    soon(lambda: opens(verifier.verify(grant(signer)), keys))
    assert unseal(old, *opening_keys(keys.private)) == "a token"
    step(keys, "retire", "delegation")
    with pytest.raises(GrantError, match="sealed"):
        unseal(old, *opening_keys(keys.private))
    assert unseal(verifier.verify(grant(signer)), *opening_keys(keys.private)) == "a token"


def opens(sealed: object, keys: Keys) -> bool:
    """Whether the first key, the one in use, opens it."""
    try:
        return bool(unseal(sealed, opening_keys(keys.private)[0]))  # type: ignore[arg-type]
    except GrantError:
        return False


def test_states_of_all_enrolled_workers_are_taken_and_of_nobody_else(keys: Keys, tmp_path: Path) -> None:
    elsewhere = Keys(private=tmp_path / "elsewhere", public=keys.public)
    assert step(elsewhere, "enrol", "worker-login1") == 0
    here, there = KeptStates.of(keys), KeptStates.of(elsewhere)
    kept = there.signed("one", {"path": "/a"})
    assert here.verified("one", kept) == {"path": "/a"}
    for name in ("next", "take"):
        step(elsewhere, name, "worker-login1")
        assert here.verified("one", kept) == {"path": "/a"}
    assert verifying_key(keys.public, "worker-login1") == signing_key(elsewhere.private, "worker").public_key()
    assert {"worker", "login1"} == {enrolled.name for enrolled in KeyRing.of(keys.public, "worker")._keys().values()}


def test_no_more_than_two_are_good_at_a_time(keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    assert step(keys, "take", "api") == 1
    assert step(keys, "next", "api") == 0
    assert step(keys, "next", "api") == 1
    assert step(keys, "take", "api") == 0
    assert step(keys, "next", "api") == 1
    assert "retire it first" in capsys.readouterr().err
    assert step(keys, "retire", "api") == 0
    assert step(keys, "next", "api") == 0
    assert step(keys, "enrol", "worker-x") == 1, "that would lose worker.key"
    for part in ("nobody", "api-x", "worker-", "worker-X", "../api", "worker-a/b"):
        assert step(keys, "next", part) == 1


def test_what_sshd_trusts_follows_the_rotation_of_the_ca(keys: Keys) -> None:
    trusted = keys.public / "ca.trusted"
    first = trusted.read_text()
    step(keys, "next", "ca")
    assert len(trusted.read_text().splitlines()) == 2
    assert first in trusted.read_text()
    step(keys, "take", "ca")
    assert len(trusted.read_text().splitlines()) == 2
    step(keys, "retire", "ca")
    assert trusted.read_text() == (keys.public / "ca.pub").read_text() != first


def test_a_ca_whose_private_half_is_elsewhere_is_rotated_too(keys: Keys) -> None:
    step(keys, "next", "ca")
    for name in ("ca.key", "ca.next.key"):
        (keys.private / name).unlink()
    comes = (keys.public / "ca.next.pub").read_text()
    assert step(keys, "take", "ca") == 0
    assert (keys.public / "ca.pub").read_text() == comes


def test_private_files_are_their_owners_only_at_every_step(keys: Keys) -> None:
    for part in ("api", "worker", "delegation", "ca"):
        for name in ("next", "take"):
            step(keys, name, part)
            assert {path.stat().st_mode & 0o777 for path in keys.private.iterdir()} == {0o600}


def test_the_authority_has_a_key_that_sshd_checks_fast_or_one_of_before(keys: Keys) -> None:
    made = authority_key(keys.private)
    assert isinstance(made, EllipticCurvePrivateKey)
    assert made.curve.name == "secp256r1"
    for other, good in ((Ed25519PrivateKey.generate(), True), (X25519PrivateKey.generate(), False)):
        (keys.private / "ca.key").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with nullcontext() if good else pytest.raises(KeyFileError, match="neither"):
            authority_key(keys.private)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_key_that_others_can_read_or_write_is_refused(keys: Keys, mode: int) -> None:
    (keys.private / "ca.key").chmod(mode)
    with pytest.raises(KeyFileError, match="others"):
        authority_key(keys.private)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_of_somebody_else_is_refused(keys: Keys) -> None:
    os.chown(keys.private / "ca.key", 65534, 65534)
    with pytest.raises(KeyFileError, match="somebody else"):
        authority_key(keys.private)


def test_a_key_that_is_none_is_left_out_and_the_others_are_good(keys: Keys) -> None:
    signer, verifier = GrantSigner.of(keys), GrantVerifier.of(keys)
    (keys.public / "api.next.pub").write_text("half a ke")
    assert verifier.verify(grant(signer))
    assert set(KeyRing.of(keys.public, "api")._keys()) == {key_id(verifying_key(keys.public, "api"))}


def test_a_ring_without_keys_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no public key"):
        KeyRing.of(tmp_path, "api")
