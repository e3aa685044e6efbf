"""`python -m deploy.certificates FOLDER NAME …`: certificates for the servers of a demo, by a CA whose key is forgotten at once.

Makes ca.pem, and NAME.pem and NAME.key for each name, unless they are there. A name is a host's; all are good for the loopback too.
For a real deployment take those of your own CA: the settings only name files.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LASTING = timedelta(days=3650)


def make_missing(folder: Path, names: list[str]) -> None:
    """Make the certificates of all names, by one CA, unless all are there."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    wanted = [folder / "ca.pem", *(folder / f"{name}.{kind}" for name in names for kind in ("pem", "key"))]
    if all(path.exists() for path in wanted):
        return
    key, issuer = generate_private_key(SECP256R1()), _name("FirecREST demo CA")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = (
        _begun(issuer, issuer, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, SHA256())
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    for name in names:
        _make(folder, name, ca, key)


def _make(folder: Path, name: str, ca: x509.Certificate, signer: EllipticCurvePrivateKey) -> None:
    key = generate_private_key(SECP256R1())
    hosts = [x509.DNSName(name), x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        _begun(_name(name), ca.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").unlink(missing_ok=True)
    with os.fdopen(os.open(folder / f"{name}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _begun(subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now, public = datetime.now(UTC), key.public_key()
    return (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LASTING)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


if __name__ == "__main__":
    make_missing(Path(sys.argv[1]), sys.argv[2:])
