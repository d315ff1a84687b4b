"""
SSH keys: what a public key is, its fingerprint, and passwords encrypted with it.

Making and using a private key wants the package ``cryptography`` (the extra ``crypto``).
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from libcloud_mcs import _key_text
from libcloud_mcs._arguments import type_name, writable
from libcloud_mcs.errors import WrongPrivateKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["decrypt_password", "generate_key_pair", "load_private_key", "public_key_fingerprint"]

_RSA_BITS = 2048
#: How the base64 of a private key in OpenSSH's form begins, and goes on in one without a cipher.
_OPENSSH, _NO_CIPHER = "b3BlbnNzaC1rZXktdjEA", "AAAABG5vbmU"
_RSA = "an RSA private key in PEM or OpenSSH's form"


def public_key_fingerprint(public_key: str, argument: str) -> str:
    """
    Return the fingerprint of a public key: the MD5 of its OpenSSH blob, as the API shows it.

    :param public_key: One line in OpenSSH's form, ``ssh-rsa AAAA… comment``.
    :param argument: What the caller named the key, for the error.
    :raises ValueError: If the text is anything else. The message never quotes it.
    """
    return _key_text.public_key(public_key, argument).fingerprint


def generate_key_pair(name: str) -> tuple[str, str]:
    """
    Create an RSA key pair: the only kind with which a password can be encrypted.

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
    :param passphrase: The passphrase of an encrypted key; an empty text means no passphrase.
    :raises TypeError: If one of them is of another type.
    :raises ValueError: If there is no such file, it holds no RSA private key, or the passphrase is
        wrong, missing or needless. The message never quotes the key.
    """
    _need_cryptography("decrypting a password")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    text = _private_text(private_key)
    secret = _passphrase(passphrase)
    encrypted = "ENCRYPTED" in text or (_OPENSSH in text and _OPENSSH + _NO_CIPHER not in text)
    if encrypted and secret is None:
        raise ValueError("passphrase: expected one, since the private key is encrypted, got none")
    load: Any = serialization.load_pem_private_key
    if "BEGIN OPENSSH PRIVATE KEY" in text:
        load = serialization.load_ssh_private_key
    try:
        key = load(text.encode(), password=secret if encrypted else None)
    except Exception:
        # Whatever is wrong with it, the text of a private key must not get into a message.
        got = "a key that cannot be read" + (" with this passphrase" if encrypted else "")
        raise _key_text.wrong("private_key", _RSA, got) from None
    if secret and not encrypted:
        raise ValueError(
            "passphrase: expected none, since the private key is not encrypted, got one"
        )
    if not isinstance(key, rsa.RSAPrivateKey):
        hint = "no other kind decrypts passwords"
        raise _key_text.wrong("private_key", _RSA, "a key of another kind", hint)
    return key


def decrypt_password(data: str, key: RSAPrivateKey) -> str:
    """
    Decrypt the password of a node with a key pair.

    :param data: ``passwordData`` as the endpoint gave it: base64 of an RSA encryption, padded
        with OAEP (SHA-1), or with PKCS #1 v1.5 by other endpoints.
    :param key: The private key.
    :raises WrongPrivateKeyError: If the text is not such a thing, or encrypted with another key.
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


def _private_text(private_key: str | bytes | os.PathLike[str]) -> str:
    if isinstance(private_key, bytes):
        text = _key_text.decoded(private_key, "private_key", _RSA)
    elif isinstance(private_key, str) and _key_text.is_text(private_key):
        text = private_key
    elif isinstance(private_key, (str, os.PathLike)):
        try:
            text = _key_text.read_file(private_key, "private_key", _RSA)
        except OSError as error:
            # Without the path: a mangled key looks like one.
            got = f"neither a key's text nor a file that can be read ({error.strerror})"
            raise _key_text.wrong("private_key", _RSA, got) from None
    else:
        raise TypeError(
            f"private_key: expected text, bytes or a path, got {type_name(private_key)}"
        )
    return _key_text.private_text(text, "private_key", _RSA)


def _passphrase(passphrase: str | bytes | None) -> bytes | None:
    if isinstance(passphrase, str):
        return writable(passphrase, "passphrase").encode() or None
    if passphrase is None or isinstance(passphrase, bytes):
        return passphrase or None
    raise TypeError(f"passphrase: expected text or bytes, got {type_name(passphrase)}")


def _need_cryptography(what: str) -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ImportError(
            f"{what} needs the package 'cryptography': pip install 'libcloud-mcs[crypto]'"
        ) from None
