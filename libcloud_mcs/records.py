"""What the API answers and libcloud has no class for. All times are aware and in UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

__all__ = ["Balance", "Contract", "NetworkInterface", "PasswordData"]


@dataclass(frozen=True)
class Balance:
    """The account's money (``GetBalance``)."""

    #: What is left, in the account's currency.
    amount: Decimal
    #: When it last changed; ``None`` for an account that never had a transaction.
    updated_at: datetime | None


@dataclass(frozen=True)
class Contract:
    """The lease of a node (``GetInstanceContractInfo``)."""

    #: When the lease began.
    started_at: datetime
    #: When it ends; the node is stopped then.
    expire_at: datetime
    #: Until when the node is kept, stopped, for a renewal.
    extend_to: datetime


@dataclass(frozen=True)
class NetworkInterface:
    """A network interface of a node (``DescribeInstanceNetworkInterfaces``)."""

    network_id: str
    network_name: str
    ip_address: str
    mac_address: str
    #: In Mbps; ``None`` where the answer has none.
    bandwidth: int | None
    #: The emulated hardware: ``virtio`` or ``e1000``.
    driver: str
    #: Its place on the node, from 0; ``None`` where the answer has none.
    index: int | None
    #: All fields of the answer under the API's own names.
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PasswordData:
    """The account that a new node comes with (``GetPasswordData``)."""

    account: str
    #: The password itself, decrypted where that was needed.
    password: str = field(repr=False)
    #: When the password was made.
    created_at: datetime | None
    #: The key pair of the node, ``None`` for a node without one.
    key_pair_id: str | None
    key_pair_name: str | None
    #: Whether the endpoint sent the password encrypted with that key pair.
    encrypted: bool
