"""The pod's own certificate authority, and what it says of NATS servers.

Knows: X.509. Does not know: where files lie, or who trusts whom.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS, SERVER_DAYS = 3650, 397
RENEW_DAYS = 30
"""A certificate that is valid for less is made anew at the next start."""
_YESTERDAY = timedelta(days=1)
"""Clocks of machines differ."""


def new_key() -> str:
    """A private key on the curve P-256, in PEM."""
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*pem).decode()


def authority_certificate(key: str, pod: str, now: datetime | None = None) -> str:
    """An authority's own certificate, which may sign servers' and no other authority's; in PEM."""
    private = _private(key)
    name = _name(f"xpod {pod}")
    usage = _usage(signs_certificates=True)
    builder = (
        _builder(now, AUTHORITY_DAYS)
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def server_certificate(
    key: str, authority: str, authority_key: str, hosts: Sequence[str], now: datetime | None = None
) -> str:
    """Says that who has `key` (PEM) is one of `hosts` (names and addresses); for clients and for other nodes."""
    issuer = x509.load_pem_x509_certificate(authority.encode())
    signer = _private(authority_key)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    public = _private(key).public_key()
    builder = (
        _builder(now, SERVER_DAYS)
        .subject_name(_name("nats"))
        .issuer_name(issuer.subject)
        .public_key(public)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(_authority_id(issuer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def still_serves(certificate: str, hosts: Sequence[str], now: datetime | None = None) -> bool:
    """Is it for all of `hosts`, and not about to end?"""
    found = x509.load_pem_x509_certificate(certificate.encode())
    named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = found.not_valid_after_utc - (now or datetime.now(UTC))
    return left > timedelta(days=RENEW_DAYS) and all(_alternative(host) in named for host in hosts)


def _private(key: str) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key.encode(), password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return loaded


def _builder(now: datetime | None, days: int) -> x509.CertificateBuilder:
    start = (now or datetime.now(UTC)) - _YESTERDAY
    builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
    return builder.not_valid_before(start).not_valid_after(start + timedelta(days=days))


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
