"""Key pairs of an account: registered with the endpoint, and looked up by their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from libcloud.compute.base import KeyPair

from libcloud_mcs import keys
from libcloud_mcs._convert import to_key_pair
from libcloud_mcs._key_text import PublicKey
from libcloud_mcs._outcomes import nothing_done
from libcloud_mcs._reconciling import reconcile
from libcloud_mcs.errors import MCSError

if TYPE_CHECKING:
    from libcloud_mcs.connection import MCSConnection

__all__ = ["create", "find_or_register", "register"]

#: Lists all key pairs of the account.
ListAll = Callable[[], list[KeyPair]]


def create(connection: MCSConnection, name: str, list_all: ListAll) -> KeyPair:
    """
    Generate an RSA key pair and register its public key.

    :return: The key pair with its private key. If another exception ends the call after the key may
        have been registered, its attribute ``private_key`` has the private key.
    """
    pair = _generate(connection, name)
    key = PublicKey(pair.public_key, pair.fingerprint)
    try:
        registered = register(connection, name, key, list_all, under_any_name=True)
        registered.private_key = pair.private_key
        return registered
    except BaseException as error:
        if not nothing_done(error):
            error.private_key = pair.private_key  # type: ignore[attr-defined]
            if isinstance(error, MCSError):
                error.message += "; 'private_key' of this error has the only copy of the key"
        raise


def find_or_register(connection: MCSConnection, key: PublicKey, list_all: ListAll) -> KeyPair:
    """Return the registered key pair of a public key. Register the key if there is none."""
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
    Register a public key (``ImportKeyPair``), and look it up if that is refused or unclear.

    Another client may have registered it just before, and then an endpoint may refuse it.

    :param under_any_name: Whether a registered pair of another name is as good.
    """
    names: list[str] = []

    def registered() -> KeyPair | None:
        same = [pair for pair in list_all() if pair.fingerprint == key.fingerprint]
        names[:] = [pair.name for pair in same]
        of_name = [pair for pair in same if pair.name == name]
        return next(iter(of_name or (same if under_any_name else [])), None)

    try:
        pair = reconcile(
            connection,
            lambda: connection.call(
                "ImportKeyPair",
                {"KeyName": name, "PublicKeyMaterial": key.line},
                lambda row: to_key_pair(row, connection.driver),
            ),
            snapshot=tuple,
            confirm=lambda _: registered(),
            after_refusal=True,
        )
    except MCSError as error:
        if names:
            error.message += f" (this key is registered as {', '.join(map(repr, names))})"
        raise
    pair.public_key = key.line
    return pair


def _generate(connection: MCSConnection, name: str) -> KeyPair:
    # In an object whose repr() shows no key: tools print the variables of a traceback's frames.
    public_key, private_key = keys.generate_key_pair(name)
    # Without its comment, which may hold anything.
    fingerprint = keys.public_key_fingerprint(" ".join(public_key.split()[:2]), "public_key")
    return KeyPair(name, public_key, fingerprint, connection.driver, private_key)
