"""
SSH keys: fingerprints, new key pairs, and decryption of passwords.

Private keys require the package ``cryptography`` (the extra ``crypto``).
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from libcloud_mcs import _key_text
from libcloud_mcs._arguments import encodable, type_name
from libcloud_mcs.errors import WrongPrivateKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

__all__ = ["decrypt_password", "generate_key_pair", "load_private_key", "public_key_fingerprint"]

_RSA_BITS = 2048
#: The beginning of the base64 of a private key in OpenSSH's form, and the next characters of a key
#: without a cipher.
_OPENSSH, _NO_CIPHER = "b3BlbnNzaC1rZXktdjEA", "AAAABG5vbmU"
_RSA = "an RSA private key in PEM or OpenSSH's form"


def public_key_fingerprint(public_key: str, argument: str) -> str:
    """
    Return the fingerprint of a public key: the MD5 of its OpenSSH blob, in the form of the API.

    :param public_key: One line in OpenSSH's form, ``ssh-rsa AAAA… comment``.
    :param argument: The caller's name of the argument, for the error.
    :return: The fingerprint in hexadecimal, with colons.
    :raises ValueError: If the text has another form. The message does not quote the text.
    """
    return _key_text.public_key(public_key, argument).fingerprint


def generate_key_pair(name: str) -> tuple[str, str]:
    """
    Generate an RSA key pair. The service encrypts passwords only with RSA keys.

    :param name: The comment of the public key.
    :return: The public key in OpenSSH's form and the private key in PEM.
    :raises ImportError: If the package ``cryptography`` is missing.
    """
    _require_cryptography("create_key_pair()")
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

    :param private_key: The text of the key, in PEM or OpenSSH's form, or the path of its file.
    :param passphrase: The passphrase of an encrypted key. Empty text means no passphrase.
    :raises ImportError: If the package ``cryptography`` is missing.
    :raises TypeError: If an argument is of another type.
    :raises ValueError: If the file cannot be read, the text is not an RSA private key, or the
        passphrase is wrong, missing or superfluous. The message does not quote the key.
    """
    _require_cryptography("decrypting a password")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    text = _private_text(private_key)
    secret = _passphrase(passphrase)
    encrypted = "ENCRYPTED" in text or (_OPENSSH in text and _OPENSSH + _NO_CIPHER not in text)
    if encrypted and secret is None:
        raise ValueError("passphrase: expected the passphrase of the encrypted key, got none")
    load: Any = serialization.load_pem_private_key
    if "BEGIN OPENSSH PRIVATE KEY" in text:
        load = serialization.load_ssh_private_key
    try:
        key = load(text.encode(), password=secret if encrypted else None)
    except Exception:
        # Without the cause, which may quote the private key.
        got = "a key that cannot be read" + (" with this passphrase" if encrypted else "")
        raise _key_text.invalid_key("private_key", _RSA, got) from None
    if secret and not encrypted:
        raise ValueError(
            "passphrase: expected none, since the private key is not encrypted, got one"
        )
    if not isinstance(key, rsa.RSAPrivateKey):
        hint = "only RSA keys decrypt passwords"
        raise _key_text.invalid_key("private_key", _RSA, "a key of another kind", hint)
    return key


def decrypt_password(data: str, key: RSAPrivateKey) -> str:
    """
    Decrypt the password of a node with a key pair.

    :param data: The ``passwordData`` of the response, in base64. The service pads with OAEP
        (SHA-1), other endpoints with PKCS #1 v1.5.
    :param key: The private key.
    :return: The password in clear.
    :raises WrongPrivateKeyError: If the data cannot be decrypted with the key.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    oaep = padding.OAEP(
        mgf=padding.MGF1(hashes.SHA1()),  # noqa: S303 - the service requires SHA-1
        algorithm=hashes.SHA1(),  # noqa: S303
        label=None,
    )
    wrong = WrongPrivateKeyError(
        "private_key: expected the private key of the node's key pair, got one of another key pair"
    )
    try:
        encrypted = base64.b64decode(data, validate=False)
    except ValueError:
        raise wrong from None
    try:
        plain = key.decrypt(encrypted, oaep)
    except ValueError:
        plain = _decrypt_v15(encrypted, key)
        if not plain:
            raise wrong from None
    try:
        return plain.decode()
    except UnicodeDecodeError:
        raise wrong from None


def _decrypt_v15(encrypted: bytes, key: RSAPrivateKey) -> bytes:
    """Decrypt PKCS #1 v1.5. Return ``b""`` if the padding is wrong."""
    # Not with the library, which returns random bytes for a wrong key as a defence against padding
    # attacks. Those bytes would count as a password here.
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    number = int.from_bytes(encrypted, "big")
    if number >= modulus:
        return b""
    block = pow(number, numbers.d, modulus).to_bytes((key.key_size + 7) // 8, "big")
    end = block.find(b"\0", 2)
    return block[end + 1 :] if block[:2] == b"\0\2" and end >= 10 else b""


def _private_text(private_key: str | bytes | os.PathLike[str]) -> str:
    if isinstance(private_key, bytes):
        text = _key_text.decode(private_key, "private_key", _RSA)
    elif isinstance(private_key, str) and _key_text.is_key_text(private_key):
        text = private_key
    elif isinstance(private_key, (str, os.PathLike)):
        try:
            text = _key_text.read_file(private_key, "private_key", _RSA)
        except OSError as error:
            # Without the path, which may be a mangled key.
            got = f"neither a key's text nor a file that can be read ({error.strerror})"
            raise _key_text.invalid_key("private_key", _RSA, got) from None
    else:
        raise TypeError(
            f"private_key: expected text, bytes or a path, got {type_name(private_key)}"
        )
    return _key_text.check_private_key(text, "private_key", _RSA)


def _passphrase(passphrase: str | bytes | None) -> bytes | None:
    if isinstance(passphrase, str):
        return encodable(passphrase, "passphrase").encode() or None
    if passphrase is None or isinstance(passphrase, bytes):
        return passphrase or None
    raise TypeError(f"passphrase: expected text or bytes, got {type_name(passphrase)}")


def _require_cryptography(feature: str) -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ImportError(
            f"{feature} needs the package 'cryptography': pip install 'libcloud-mcs[crypto]'"
        ) from None
