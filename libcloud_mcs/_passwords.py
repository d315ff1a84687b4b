"""The account and password that a node was created with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from libcloud.compute.types import NodeState

from libcloud_mcs import keys
from libcloud_mcs._convert import to_metadata, to_state
from libcloud_mcs._outcomes import is_refusal
from libcloud_mcs.errors import MCSError, PasswordNotReadyError, PrivateKeyRequiredError

if TYPE_CHECKING:
    from libcloud_mcs.connection import MCSConnection

__all__ = ["decrypt", "is_encrypted", "query", "query_if_possible"]

_log = logging.getLogger(__name__)

Row = dict[str, Any]

_NOT_READY = "the node has no password yet; wait until the node is running"


def query(connection: MCSConnection, node_id: str) -> Row:
    """
    Query the account and password of a node.

    :raises PasswordNotReadyError: If the node is still being created.
    """
    try:
        response = _password_data(connection, node_id)
    except MCSError as error:
        # The specification does not name the 4xx of this case, but the node's state shows it.
        if not is_refusal(error) or _state(connection, node_id) is not NodeState.PENDING:
            raise
        raise PasswordNotReadyError(
            _NOT_READY,
            action=error.action,
            http_code=error.http_code,
            code=error.code,
            driver=connection.driver,
        ) from error
    if not response.get("passwordData"):
        raise PasswordNotReadyError(_NOT_READY, action="GetPasswordData", driver=connection.driver)
    return response


def query_if_possible(connection: MCSConnection, node_id: str, name: str) -> Row:
    """
    Query the account and password of a node, but accept that the request fails.

    :param name: The name of the node, for the log.
    :return: The response, empty if the request failed.
    """
    try:
        return _password_data(connection, node_id)
    except MCSError as error:
        _log.warning(
            "logging in to the node %r without GetPasswordData, which failed: %s", name, error
        )
        return {}


def is_encrypted(response: Row) -> bool:
    """Check whether a password is encrypted: the response then names the key pair."""
    return bool(response.get("keypairId") or response.get("keypairName"))


def decrypt(connection: MCSConnection, response: Row, key: Any) -> str:
    """
    Return the password of a response in clear.

    :param key: The private key, or ``None``.
    :raises PrivateKeyRequiredError: If the password is encrypted and there is no private key.
    """
    password: str = response["passwordData"]
    if not is_encrypted(response):
        return password
    if key is None:
        name = response.get("keypairName") or response.get("keypairId")
        raise PrivateKeyRequiredError(
            f"private_key: expected the private key of the key pair {name!r}, with which the"
            " password is encrypted, got none",
            action="GetPasswordData",
            driver=connection.driver,
        )
    return keys.decrypt_password(password, key)


def _password_data(connection: MCSConnection, node_id: str) -> Row:
    return connection.call("GetPasswordData", {"InstanceId": node_id}, to_metadata)


def _state(connection: MCSConnection, node_id: str) -> NodeState:
    return connection.call(
        "DescribeInstanceStatus",
        {"InstanceId": node_id},
        lambda response: to_state(response.get("status")),
    )
