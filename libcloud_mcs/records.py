"""Results for which libcloud has no class. All times are aware and in UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

__all__ = ["Balance", "Contract", "NetworkInterface", "PasswordData"]


@dataclass(frozen=True)
class Balance:
    """The balance of the account (``GetBalance``)."""

    #: The amount of money in the account's currency.
    amount: Decimal
    #: The time of the last transaction; ``None`` without transactions.
    updated_at: datetime | None


@dataclass(frozen=True)
class Contract:
    """The lease of a node (``GetInstanceContractInfo``)."""

    #: The start of the lease.
    started_at: datetime
    #: The end of the lease. The node is stopped then.
    expire_at: datetime
    #: The time until which the stopped node is kept for a renewal.
    extend_to: datetime


@dataclass(frozen=True)
class NetworkInterface:
    """A network interface of a node (``DescribeInstanceNetworkInterfaces``)."""

    network_id: str
    network_name: str
    ip_address: str
    mac_address: str
    #: The bandwidth in Mbps; ``None`` where the response has none.
    bandwidth: int | None
    #: The emulated hardware: ``virtio`` or ``e1000``.
    driver: str
    #: The number of the interface on the node, from 0; ``None`` where the response has none.
    index: int | None
    #: All fields of the response by the API's own names.
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PasswordData:
    """The account and the password that a node was created with (``GetPasswordData``)."""

    account: str
    #: The password in clear.
    password: str = field(repr=False)
    #: The time of the password's creation; ``None`` where the response has none.
    created_at: datetime | None
    #: The ID of the node's key pair; ``None`` for a node without one.
    key_pair_id: str | None
    #: The name of the node's key pair; ``None`` for a node without one.
    key_pair_name: str | None
    #: Whether the endpoint encrypted the password with that key pair.
    encrypted: bool
