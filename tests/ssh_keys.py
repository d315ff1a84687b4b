"""Key pairs for tests."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa


def new_key(size=1024):
    """Create a private key. A short one is created faster."""
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def new_ed25519_key():
    """Create a private key of a kind that cannot encrypt."""
    return ed25519.Ed25519PrivateKey.generate()


def public_text(key):
    """Return the public key in OpenSSH's form."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )


def private_text(key, form="TraditionalOpenSSL", passphrase=None):
    """Return a private key in PEM, or in OpenSSH's form."""
    form = getattr(serialization.PrivateFormat, form)
    encryption = serialization.NoEncryption()
    if passphrase and form is serialization.PrivateFormat.OpenSSH:
        # By default, encryption and decryption take 16 rounds.
        encryption = form.encryption_builder().kdf_rounds(1).build(passphrase)
    elif passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()
