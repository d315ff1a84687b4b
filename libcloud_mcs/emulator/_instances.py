"""
Instances and what belongs to them.

None of these objects changes: a change replaces an object with another one. What an instance is
doing is computed from the times at which its phases begin.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from libcloud_mcs.emulator._catalog import InstanceType, Template
from libcloud_mcs.emulator._clock import LATEST, utc_text
from libcloud_mcs.emulator._errors import APIError, ErrorCode

__all__ = [
    "FAILED",
    "GONE",
    "PERMANENT",
    "Charge",
    "Instance",
    "KeyPair",
    "Lease",
    "Timing",
    "Volume",
]

#: How long an instance is kept after its lease has ended, as in the specification's example.
_GRACE = timedelta(days=1)
#: The size of the system disk in MB. What a type has beyond it is a second disk.
_SYSTEM_DISK = 10_240

#: The status of an instance that does not exist any more.
GONE = ""
#: The status of an instance that failed to boot.
FAILED = "deploy_fail"
#: Statuses that neither a renewal nor the end of the lease changes.
PERMANENT = (GONE, "deleting", FAILED)


@dataclass(frozen=True)
class Timing:
    """Durations in seconds of the emulator's clock; ``0``: immediately."""

    boot_seconds: float = 0.8
    start_seconds: float = 0.3
    stop_seconds: float = 0.3
    reboot_seconds: float = 0.5
    rebuild_seconds: float = 0.5
    change_seconds: float = 0.3
    terminate_seconds: float = 0.3


@dataclass(frozen=True)
class Lease:
    """A paid period: a number of hours (``H``) or of calendar months (``M``)."""

    count: int
    unit: str

    def price(self, instance_type: InstanceType) -> Decimal:
        """Return the price of this period for an instance type."""
        hourly = self.unit == "H"
        return self.count * (instance_type.per_hour if hourly else instance_type.per_month)

    def end(self, start: datetime) -> datetime:
        """
        Return the end of the period.

        :raises APIError: If the period ends after the last time that the clock can have.
        """
        years, month = divmod(start.month - 1 + self.count, 12)
        year, month = start.year + years, month + 1
        try:
            if self.unit == "H":
                end = start + timedelta(hours=self.count)
            else:
                day = min(start.day, calendar.monthrange(year, month)[1])
                end = start.replace(year=year, month=month, day=day)
            if end <= LATEST - _GRACE:
                return end
        except (OverflowError, ValueError):  # there are no more years
            pass
        raise APIError(
            ErrorCode.UNUSABLE,
            f"Duration: expected a lease that ends before the year {LATEST.year + 1}, got"
            f" {self.count}{self.unit} from {utc_text(start)}",
        )


@dataclass(frozen=True)
class KeyPair:
    """A registered public key."""

    key_id: str
    name: str
    fingerprint: str
    public_key: str


@dataclass(frozen=True)
class Charge:
    """A line of the account's ledger."""

    at: datetime
    action: str
    instance_id: str
    #: The amount that was paid.
    amount: Decimal
    #: The balance after the payment.
    balance: Decimal


@dataclass(frozen=True)
class Volume:
    """A disk of an instance."""

    volume_id: str
    name: str
    #: In MB.
    size: int
    index: int


@dataclass(frozen=True)
class Instance:
    """An instance between two changes."""

    instance_id: str
    name: str
    type: InstanceType
    template: Template
    key_pair: KeyPair | None
    public_ip: str
    private_ip: str
    serial: int
    created_at: datetime
    started_at: datetime
    expire_at: datetime
    volume_ids: tuple[str, str]
    password: str = field(repr=False)
    password_at: datetime
    #: The entries that the user has set.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: The start and the status of each phase, in order.
    phases: tuple[tuple[datetime, str], ...] = ()

    @property
    def extend_to(self) -> datetime:
        """The end of the time for which an instance is kept after its lease."""
        return self.expire_at + _GRACE

    @property
    def gone_at(self) -> datetime:
        """The time of removal, as far as it is known now."""
        at, word = self.phases[-1]
        return min(at, self.extend_to) if word == GONE else self.extend_to

    def status(self, now: datetime) -> str:
        """Return the status at a time; ``""`` after the removal."""
        if now >= self.extend_to:
            return GONE
        at, word = self.phases[-1]
        if at > now:
            begun = (each for at, each in reversed(self.phases) if at <= now)
            word = next(begun, self.phases[0][1])
        if now >= self.expire_at and word not in PERMANENT:
            return "ready"
        return word

    def volumes(self) -> list[Volume]:
        """Return the disks."""
        sizes = [min(self.type.volume, _SYSTEM_DISK), max(0, self.type.volume - _SYSTEM_DISK)]
        stamp = f"{self.created_at.timestamp():.6f}"
        return [
            Volume(volume_id, f"vdisk_{self.name}_{stamp}_{index}", size, index)
            for index, (volume_id, size) in enumerate(zip(self.volume_ids, sizes, strict=True))
            if size
        ]

    def mac_address(self, interface: int) -> str:
        """Return the hardware address of a network interface, by its index."""
        number = (0x0022 << 32) + self.serial * 2 + interface
        return number.to_bytes(6, "big").hex(":")
