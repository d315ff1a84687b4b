"""The addresses of instances."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from libcloud_mcs.emulator._errors import APIError, ErrorCode
from libcloud_mcs.emulator._transactions import Cell, Transactions

__all__ = ["AddressPair", "AddressPool"]

_PRIVATE_NETWORK = ipaddress.IPv4Network("10.168.0.0/14")
_PUBLIC_NETWORK = ipaddress.IPv4Network("198.18.0.0/15")  # reserved for tests, by RFC 2544


@dataclass(frozen=True)
class AddressPair:
    """The addresses of one instance."""

    #: The serial number of the instance.
    serial: int
    public_ip: str
    private_ip: str


class AddressPool:
    """
    The addresses of an emulator. Two instances never share one.

    :param network: The network of the public addresses; ``None``: one that is not reachable.
    :param transactions: The transactions to which changes of the pool belong.
    """

    def __init__(
        self,
        network: ipaddress.IPv4Network | None = None,
        transactions: Transactions | None = None,
    ) -> None:
        self.network = network or _PUBLIC_NETWORK
        self._state = Cell(transactions or Transactions(), _Assigned())

    @property
    def serial(self) -> int:
        """The serial number of the last instance."""
        return self._state.value.serial

    def allocate(self) -> AddressPair:
        """
        Return addresses for the next instance.

        :raises APIError: If all addresses are in use.
        """
        state = self._state.draft()
        # The first and the last address of a network belong to the network itself.
        usable = self.network.num_addresses - 2
        for _ in range(usable):
            state.serial += 1
            public_ip = str(self.network[1 + (state.serial - 1) % usable])
            if public_ip not in state.public_ips:
                state.public_ips.add(public_ip)
                private_ip = _PRIVATE_NETWORK[state.serial % _PRIVATE_NETWORK.num_addresses]
                return AddressPair(state.serial, public_ip, str(private_ip))
        raise APIError(ErrorCode.CONFLICT, f"all addresses of {self.network} are in use")

    def reserve(self, serial: int, public_ips: Iterable[str] = ()) -> None:
        """Mark addresses, and the serial numbers up to one, as used."""
        state = self._state.draft()
        state.serial = max(state.serial, serial)
        state.public_ips.update(public_ips)

    def release(self, public_ip: str) -> None:
        """Mark an address as free."""
        self._state.draft().public_ips.discard(public_ip)

    def reset(self) -> None:
        """Mark all addresses as free."""
        self._state.put(_Assigned())


@dataclass
class _Assigned:
    """The addresses in use."""

    serial: int = 0
    public_ips: set[str] = field(default_factory=set)

    def copy(self) -> _Assigned:
        return _Assigned(self.serial, self.public_ips.copy())
