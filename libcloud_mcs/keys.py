"""
SSH keys: what a public key is, its fingerprint, and passwords encrypted with it.

Making and using a private key wants the package ``cryptography`` (the extra ``crypto``).
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libcloud_mcs.errors import WrongPrivateKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["decrypt_password", "generate_key_pair", "load_private_key", "public_key_fingerprint"]

_RSA_BITS = 2048


def public_key_fingerprint(public_key: str, argument: str) -> str:
    """
    Give the fingerprint of a public key: the MD5 of its OpenSSH blob, as the API shows it.

    :param public_key: One line in OpenSSH's form, ``ssh-rsa AAAA… comment``.
    :param argument: What the caller named the key, for the error.
    :raises ValueError: It is no such line. The message never quotes it.
    """
    wanted = f"{argument}: a public key in OpenSSH's form was expected ('ssh-rsa AAAA…')"
    if "PRIVATE KEY" in public_key:
        raise ValueError(f"{wanted}, not a private key")
    lines = public_key.strip().splitlines()
    words = lines[0].split(None, 2) if len(lines) == 1 else []
    if len(words) < 2:
        raise ValueError(wanted)
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:
        raise ValueError(f"{wanted}; its second word is no base64") from None
    # The blob begins with the length and the text of the key's type.
    size = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + size] != words[0].encode() or not size or len(blob) <= 4 + size:
        raise ValueError(f"{wanted}; its second word is no key of the type that the first names")
    return hashlib.md5(blob, usedforsecurity=False).digest().hex(":")


def generate_key_pair(name: str) -> tuple[str, str]:
    """
    Make an RSA key pair: the only kind with which a password can be encrypted.

    :param name: The comment of the public key.
    :return: The public key in OpenSSH's form and the private key in PEM.
    """
    _need_cryptography("create_key_pair()")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return f"{public.decode()} {'-'.join(name.split())}", private.decode()


def load_private_key(
    private_key: str | bytes | os.PathLike[str], passphrase: str | bytes | None = None
) -> RSAPrivateKey:
    """
    Read an RSA private key.

    :param private_key: The key's text, in PEM or OpenSSH's form, or the path of a file with it.
    :param passphrase: What the key is encrypted with, where it is.
    :raises ValueError: There is no such file, it holds no RSA private key, or the passphrase is
        wrong or missing. The message never quotes the key.
    """
    _need_cryptography("decrypting a password")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    text = _key_text(private_key)
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    load: Any = serialization.load_pem_private_key
    if b"BEGIN OPENSSH PRIVATE KEY" in text:
        load = serialization.load_ssh_private_key
    try:
        key = load(text, password=secret)
    except TypeError:
        # That is how cryptography says both.
        have = "is not encrypted: leave passphrase out" if secret else "is encrypted"
        raise ValueError(f"private_key: the key {have}; passphrase: {_given(secret)}") from None
    except Exception:
        # Whatever is wrong with it, the text of a private key must not get into a message.
        raise ValueError(
            "private_key: it cannot be read: an RSA private key in PEM or OpenSSH's form and "
            f"its passphrase were expected; passphrase: {_given(secret)}"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("private_key: an RSA key was expected, nothing else decrypts a password")
    return key


def decrypt_password(data: str, key: RSAPrivateKey) -> str:
    """
    Decrypt the password of a node with a key pair.

    :param data: ``passwordData`` as the endpoint gave it: base64 of an RSA encryption, padded
        with OAEP (SHA-1), or with PKCS #1 v1.5 by other endpoints.
    :param key: The private key.
    :raises WrongPrivateKeyError: It is no such thing, or encrypted with another key.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    oaep = padding.OAEP(
        mgf=padding.MGF1(hashes.SHA1()),  # noqa: S303 - the service chose it
        algorithm=hashes.SHA1(),  # noqa: S303
        label=None,
    )
    wrong = WrongPrivateKeyError(
        "private_key: the password cannot be decrypted with it; it belongs to another key pair"
    )
    try:
        secret = base64.b64decode(data, validate=False)
    except ValueError:
        raise wrong from None
    try:
        plain = key.decrypt(secret, oaep)
    except ValueError:
        plain = _unpad_v15(secret, key)
        if not plain:
            raise wrong from None
    try:
        return plain.decode()
    except UnicodeDecodeError:
        raise wrong from None


def _unpad_v15(secret: bytes, key: RSAPrivateKey) -> bytes:
    # Not with the library: to hide what it sees from an attacker, its PKCS #1 v1.5 answers a
    # wrong key with random bytes, which would pass for a password here.
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    number = int.from_bytes(secret, "big")
    if number >= modulus:
        return b""
    block = pow(number, numbers.d, modulus).to_bytes((key.key_size + 7) // 8, "big")
    end = block.find(b"\0", 2)
    return block[end + 1 :] if block[:2] == b"\0\2" and end >= 10 else b""


def _key_text(private_key: str | bytes | os.PathLike[str]) -> bytes:
    if isinstance(private_key, bytes):
        return private_key
    if isinstance(private_key, str) and "-----BEGIN" in private_key:
        return private_key.encode()
    if not isinstance(private_key, (str, os.PathLike)):
        raise TypeError("private_key: text, bytes or a path was expected")
    try:
        return Path(private_key).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        # Without the name: a mangled key looks like one.
        reason = error.strerror if isinstance(error, OSError) else "no path"
        raise ValueError(
            f"private_key: neither a key's text nor a file that can be read ({reason})"
        ) from None


def _given(secret: bytes | None) -> str:
    return "given" if secret else "not given"


def _need_cryptography(what: str) -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ImportError(
            f"{what} needs the package 'cryptography': pip install 'libcloud-mcs[crypto]'"
        ) from None
