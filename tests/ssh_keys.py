"""Key pairs for tests."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa


def new_key(size=1024):
    """Make a private key: a short one is quicker."""
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def new_ed25519_key():
    """Make a private key with which nothing can be encrypted."""
    return ed25519.Ed25519PrivateKey.generate()


def private_text(key):
    """Give a private key in OpenSSH's form."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()


def public_text(key):
    """Give its public key in OpenSSH's form."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )
