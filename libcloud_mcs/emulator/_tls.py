"""Certificates of an endpoint that speaks HTTPS: the user's, or throw-away ones."""

from __future__ import annotations

import ipaddress
import os
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

from libcloud_mcs.emulator._lifetime import Folder

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_pem_private_key,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    raise ImportError(
        "HTTPS needs the package 'cryptography': pip install 'libcloud-mcs[emulator]'"
    ) from None

__all__ = ["ThrowAway", "load"]

#: How long a throw-away certificate is valid: for clocks that are wrong, and for long tests.
_BEFORE, _AFTER = timedelta(days=7), timedelta(days=30)
_LOCAL = ("localhost", "127.0.0.1", "::1")
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def load(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> ssl.SSLContext:
    """
    Load the user's certificate and key.

    :param certificate: A PEM file: the certificate, then those that it was signed with.
    :param key: A PEM file with the certificate's private key, without a passphrase.
    :raises ValueError: If they cannot be used. The message names ``tls_cert`` or ``tls_key``.
    """
    cert_data, key_data = _read(certificate, "tls_cert"), _read(key, "tls_key")
    cert_name, key_name = (f"{os.fspath(path)!r}" for path in (certificate, key))
    try:
        public = x509.load_pem_x509_certificates(cert_data)[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            f"tls_cert: {cert_name} holds no readable certificate; expected a PEM file, with"
            " '-----BEGIN CERTIFICATE-----'"
        ) from None
    try:
        private = load_pem_private_key(key_data, None)
    except TypeError:
        raise ValueError(
            f"tls_key: {key_name} is encrypted; expected a key without a passphrase, such as"
            " 'openssl pkey -in FILE -out PLAIN' writes"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            f"tls_key: {key_name} holds no readable private key; expected a PEM file, with"
            " '-----BEGIN PRIVATE KEY-----'"
        ) from None
    if _der(private.public_key()) != _der(public):
        raise ValueError(f"tls_key: {key_name} is not the key of the certificate in {cert_name}")
    try:
        return _context(certificate, key)
    except ssl.SSLError as error:  # OpenSSL finds it too weak, for example
        raise ValueError(f"tls_cert: {cert_name} cannot be used: {error.reason}") from None


class ThrowAway:
    """
    A certificate for one endpoint, signed by a certificate authority (CA) that is used once. The
    private key of the CA is not kept.

    :param host: The address or name that the endpoint listens on. The certificate is for this one,
        and for ``localhost``, ``127.0.0.1`` and ``::1``.
    :raises ValueError: If the host is neither an address nor a name that a certificate can carry.
    """

    def __init__(self, host: str) -> None:
        self._ca, server = _make(host)
        self._folder: Folder | None = None
        folder = Folder("mcs-tls-")
        try:
            file = folder.path / "server.pem"
            file.write_bytes(server)
            self.context = _context(file, file)
        finally:
            folder.remove()

    @property
    def ca_cert(self) -> str:
        """The path of a PEM file with the CA's certificate. The file exists until it is removed."""
        if self._folder is None:
            self._folder = Folder("mcs-ca-")
            (self._folder.path / "ca.pem").write_bytes(self._ca)
        return str(self._folder.path / "ca.pem")

    def remove(self) -> None:
        """Remove the file."""
        if self._folder is not None:
            self._folder.remove()
            self._folder = None


def _read(path: str | os.PathLike[str], argument: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{argument}: {str(path)!r} cannot be read: {reason}") from None


def _der(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _context(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _make(host: str) -> tuple[bytes, bytes]:
    """Return a CA's certificate, and a certificate signed by it together with its key, in PEM."""
    names = [_general_name(name) for name in dict.fromkeys((*_LOCAL, host))]
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    # A client that trusts two of them must not take one for the other.
    ca_name = _name(f"libcloud-mcs emulator, throw-away CA {ca_identifier.digest.hex()[:8]}")
    ca = (
        _certificate(ca_name, ca_name, ca_key.public_key(), ca_identifier)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier)
    certificate = (
        _certificate(_name("libcloud-mcs emulator"), ca_name, key.public_key(), identifier)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ca.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.PEM) + plain


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    identifier: x509.SubjectKeyIdentifier,
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _BEFORE,
        not_valid_after=now + _AFTER,
    ).add_extension(identifier, critical=False)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in _KEY_USAGES})


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
