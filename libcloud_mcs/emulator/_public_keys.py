"""Public keys in OpenSSH's form. The package cryptography is imported on first use."""

from __future__ import annotations

import base64
import hashlib

from libcloud_mcs.emulator._errors import APIError, ErrorCode
from libcloud_mcs.emulator._instances import KeyPair

__all__ = ["encrypt", "fingerprint"]


def fingerprint(public_key: str) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        load_ssh_public_key(public_key.strip().encode())
        blob = base64.b64decode(public_key.split()[1], validate=True)
    except (ValueError, IndexError, UnsupportedAlgorithm):
        raise APIError(
            ErrorCode.UNUSABLE, "PublicKeyMaterial: expected a public key in OpenSSH's form"
        ) from None
    return hashlib.md5(blob, usedforsecurity=False).digest().hex(":")


def encrypt(password: str, key_pair: KeyPair) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    key = load_ssh_public_key(key_pair.public_key.strip().encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise APIError(
            ErrorCode.CONFLICT,
            f"InstanceId: the key pair {key_pair.name!r} of the instance is not an RSA key, so that"
            " the password cannot be encrypted",
        )
    oaep = padding.OAEP(
        mgf=padding.MGF1(hashes.SHA1()),  # noqa: S303 - the service chose it
        algorithm=hashes.SHA1(),  # noqa: S303
        label=None,
    )
    return base64.b64encode(key.encrypt(password.encode(), oaep)).decode()
