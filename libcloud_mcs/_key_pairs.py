"""Registration of an account's key pairs, and search for a key pair by its key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from libcloud.compute.base import KeyPair

from libcloud_mcs import keys
from libcloud_mcs._convert import to_key_pair
from libcloud_mcs._key_text import PublicKey
from libcloud_mcs._outcomes import may_be_executed
from libcloud_mcs._reconciling import reconcile
from libcloud_mcs.errors import MCSError

if TYPE_CHECKING:
    from libcloud_mcs.connection import MCSConnection

__all__ = ["create", "find_or_register", "register"]

#: A function that lists all key pairs of the account.
ListAll = Callable[[], list[KeyPair]]


def create(connection: MCSConnection, name: str, list_all: ListAll) -> KeyPair:
    """
    Generate an RSA key pair and register its public key.

    If an exception ends the call after the key may have been registered, the attribute
    ``private_key`` of the exception has the private key.

    :return: The key pair with its private key.
    """
    pair = _generate(connection, name)
    key = PublicKey(pair.public_key, pair.fingerprint)
    try:
        registered = register(connection, name, key, list_all, under_any_name=True)
        registered.private_key = pair.private_key
        return registered
    except BaseException as error:
        if may_be_executed(error):
            error.private_key = pair.private_key  # type: ignore[attr-defined]
            if isinstance(error, MCSError):
                error.message += (
                    "; the attribute 'private_key' of this error has the only copy of the key"
                )
        raise


def find_or_register(connection: MCSConnection, key: PublicKey, list_all: ListAll) -> KeyPair:
    """Return the registered key pair of a public key. Register a key that is not registered."""
    for pair in list_all():
        if pair.fingerprint == key.fingerprint:
            return pair
    name = f"libcloud-{key.fingerprint.replace(':', '')}"
    return register(connection, name, key, list_all, under_any_name=True)


def register(
    connection: MCSConnection,
    name: str,
    key: PublicKey,
    list_all: ListAll,
    under_any_name: bool = False,
) -> KeyPair:
    """
    Register a public key (``ImportKeyPair``).

    After a refusal or an unclear outcome, the key is searched among the registered key pairs.
    Another client may have registered the key, and an endpoint may refuse a registered key.

    :param under_any_name: Whether that search accepts another name.
    """
    registered_names: list[str] = []

    def find_registered() -> KeyPair | None:
        matches = [pair for pair in list_all() if pair.fingerprint == key.fingerprint]
        registered_names[:] = [pair.name for pair in matches]
        named = [pair for pair in matches if pair.name == name]
        return next(iter(named or (matches if under_any_name else [])), None)

    try:
        pair = reconcile(
            connection,
            lambda: connection.call(
                "ImportKeyPair",
                {"KeyName": name, "PublicKeyMaterial": key.line},
                lambda row: to_key_pair(row, connection.driver),
            ),
            snapshot=tuple,
            confirm=lambda _: find_registered(),
            after_refusal=True,
        )
    except MCSError as error:
        if registered_names:
            names = ", ".join(map(repr, registered_names))
            error.message += f" (this key is registered as {names})"
        raise
    pair.public_key = key.line
    return pair


def _generate(connection: MCSConnection, name: str) -> KeyPair:
    # In an object whose repr() does not show the key: tools print the variables of a traceback.
    public_key, private_key = keys.generate_key_pair(name)
    # Without the comment, which may have any text.
    fingerprint = keys.public_key_fingerprint(" ".join(public_key.split()[:2]), "public_key")
    return KeyPair(name, public_key, fingerprint, connection.driver, private_key)
