"""Certificates: one user, a few minutes, nothing but commands."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)
from hypothesis import given
from hypothesis import strategies as st

from broker.keys import KeyFileError
from schemas.errors import AccessDenied
from tests.real_site import not_here
from workers.authorities import KeyAuthority
from workers.certificates import CertificateRequest, Statement, UserKey, check_user, expiry, new_serial, sign

CA = Ed25519PrivateKey.generate()
AUTHORITY = KeyAuthority(CA)
KEY = UserKey()


def certificate(user: str = "fcalice", seconds: int = 300, sources: tuple[str, ...] = (), serial: int = 7) -> str:
    """A certificate line."""
    key_id = CertificateRequest(KEY.public_line(), user, "cluster", "0a1b", "compute@host").key_id()
    return sign(AUTHORITY, Statement(KEY.public_line(), user, key_id, serial, seconds, sources))


def parsed(line: str) -> SSHCertificate:
    """What is in a certificate line."""
    found = load_ssh_public_identity(line.encode())
    assert isinstance(found, SSHCertificate)
    return found


def test_a_certificate_is_for_one_user_and_allows_nothing_but_commands() -> None:
    found = parsed(certificate())
    found.verify_cert_signature()
    assert found.type is SSHCertificateType.USER
    assert found.valid_principals == [b"fcalice"]
    assert found.extensions == {}
    assert found.critical_options == {}
    assert found.key_id == b"firecrest user=fcalice system=cluster task=0a1b worker=compute@host"
    assert found.serial == 7


def test_a_certificate_is_signed_by_the_ca_over_the_workers_key() -> None:
    def line(public):  # type: ignore[no-untyped-def]
        return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    assert line(parsed(certificate()).signature_key()) == line(CA.public_key())
    assert line(parsed(certificate()).public_key()) == KEY.public_line()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_ca_may_have_an_ecdsa_key(curve: ec.EllipticCurve) -> None:
    ca = ec.generate_private_key(curve)
    for serial in range(1, 9):  # signatures are numbers of varying length
        found = parsed(sign(KeyAuthority(ca), Statement(KEY.public_line(), "fcalice", "tests", serial, 60)))
        found.verify_cert_signature()
        assert found.signature_key().public_numbers() == ca.public_key().public_numbers()  # type: ignore[union-attr]


def test_a_ca_on_a_curve_that_ssh_does_not_know_is_refused() -> None:
    with pytest.raises(KeyFileError, match="secp256k1"):
        KeyAuthority(ec.generate_private_key(ec.SECP256K1()))


@pytest.mark.parametrize(("seconds", "past"), [(300, 60), (120, 24)])
def test_a_certificate_lives_as_long_as_asked_counting_a_little_past(seconds: int, past: int) -> None:
    before = int(time.time())
    line = certificate(seconds=seconds)
    found = parsed(line)
    assert found.valid_before == expiry(line)
    assert before - past <= found.valid_after <= time.time() - past
    assert found.valid_before - found.valid_after == seconds


@pytest.mark.parametrize("seconds", [-1, 0, 301, 86400])
def test_a_certificate_of_more_than_five_minutes_is_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="seconds"):
        certificate(seconds=seconds)


def test_source_addresses_are_a_critical_option() -> None:
    found = parsed(certificate(sources=("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")))
    assert found.critical_options == {b"source-address": b"10.0.0.0/8,192.0.2.7/32,2001:db8::/32"}


@pytest.mark.parametrize("source", ["", "*", "10.0.0.0/8,0.0.0.0/0", "host.example", "!10.0.0.1"])
def test_what_is_not_an_address_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        certificate(sources=(source,))


@pytest.mark.parametrize(
    "user", ["", "-x", "root,fcalice", "a b", "a\n", "a\0", "Alice", "0x", "*", "a/b", "a" * 33, "ünal", "a=b", "a@b", "$(id)"]
)
def test_what_is_not_one_plain_user_name_is_refused(user: str) -> None:
    with pytest.raises(AccessDenied):
        check_user(user)
    with pytest.raises(AccessDenied):
        CertificateRequest("", user, "system", "task", "worker")
    with pytest.raises(AccessDenied):
        Statement(KEY.public_line(), user, "x", 1, 60)


@given(st.text())
def test_every_name_that_passes_is_plain(user: str) -> None:
    try:
        check_user(user)
    except AccessDenied:
        return
    assert re.fullmatch("[a-z0-9_.-]+", user)
    assert user[0] not in "-."


@pytest.mark.parametrize("word", ["", "two words", "a\nb", "a=b", "-a", "a" * 129])
def test_a_system_task_or_worker_that_is_not_a_plain_word_is_refused(word: str) -> None:
    for words in ((word, "task", "worker"), ("system", word, "worker"), ("system", "task", word)):
        with pytest.raises(ValueError, match="plain"):
            CertificateRequest("", "fcalice", *words)


def openssh(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """A public key line."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 " + "A" * 300,
        openssh(ec.generate_private_key(ec.SECP256R1())),
        openssh(rsa.generate_private_key(65537, 2048)),
        "ssh-ed25519 " + openssh(ec.generate_private_key(ec.SECP256R1())).split()[1],
    ],
)
def test_only_ed25519_keys_are_certified(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        sign(AUTHORITY, Statement(line, "fcalice", "x", 1, 60))


def test_a_certificate_is_not_certified_again() -> None:
    with pytest.raises(ValueError, match="ed25519"):
        sign(AUTHORITY, Statement(certificate(), "fcalice", "x", 1, 60))


def test_serials_are_64_bits_and_never_the_same() -> None:
    serials = {new_serial() for _ in range(1000)}
    assert len(serials) == 1000
    assert all(0 < serial < 2**64 for serial in serials)
    assert parsed(certificate(serial=2**64 - 1)).serial == 2**64 - 1


def test_every_worker_has_its_own_key_and_shows_only_its_public_half() -> None:
    assert UserKey().public_line() != KEY.public_line()
    assert re.fullmatch(r"ssh-ed25519 [A-Za-z0-9+/=]+", KEY.public_line())


def test_paramiko_offers_the_certificate_and_signs_with_the_key() -> None:
    key = KEY.paramiko(certificate())
    other = KEY.paramiko(certificate(user="fcbob"))
    assert key.public_blob.key_type == "ssh-ed25519-cert-v01@openssh.com"
    assert key.public_blob.key_blob != other.public_blob.key_blob
    assert key.can_sign()


def test_the_end_of_what_is_no_certificate_is_not_told() -> None:
    with pytest.raises(ValueError, match="certificate"):
        expiry(KEY.public_line())


def test_openssh_reads_the_same(tmp_path: Path) -> None:
    if not shutil.which("ssh-keygen"):
        not_here("ssh-keygen is not installed")
    path = tmp_path / "key-cert.pub"
    path.write_text(certificate(sources=("10.0.0.0/8",)))
    shown = subprocess.run(["ssh-keygen", "-L", "-f", path], capture_output=True, check=True, text=True).stdout
    words = " ".join(shown.split())
    assert "Type: ssh-ed25519-cert-v01@openssh.com user certificate" in words
    assert 'Key ID: "firecrest user=fcalice system=cluster task=0a1b worker=compute@host"' in words
    assert "Serial: 7" in words
    assert "Principals: fcalice Critical Options: source-address 10.0.0.0/8 Extensions: (none)" in words
