"""
Instances and what belongs to them.

None of these objects changes: a change replaces an object with another one. What an instance is
doing is computed from the times at which its phases begin.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from libcloud_mcs.emulator._catalog import NO_EXTRAS, Extras, InstanceType, Price, Template
from libcloud_mcs.emulator._clock import EARLIEST, LATEST, later, utc_text
from libcloud_mcs.emulator._edition import Edition
from libcloud_mcs.emulator._errors import APIError, ErrorCode

__all__ = [
    "FAILED",
    "GONE",
    "PERMANENT",
    "Charge",
    "Instance",
    "KeyPair",
    "Lease",
    "Order",
    "Timing",
    "Volume",
]

#: The status of an instance that does not exist any more.
GONE = ""
#: The status of an instance that failed to boot.
FAILED = "deploy_fail"
#: The status of an instance that has no address yet.
SCHEDULED = "schedule"
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
    save_seconds: float = 0.5
    terminate_seconds: float = 0.3


@dataclass(frozen=True)
class Lease:
    """A paid period: a number of hours (``H``) or of calendar months (``M``)."""

    count: int
    unit: str

    def cost(self, price: Price) -> Decimal:
        """Return what this period costs."""
        return self.count * (price.per_hour if self.unit == "H" else price.per_month)

    def end(self, start: datetime, grace: timedelta) -> datetime:
        """
        Return the end of the period.

        :param grace: The time for which an instance is kept after the period.
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
            if end <= LATEST - grace:
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
class Order:
    """What a request to create an instance asks for."""

    template: Template
    type: InstanceType
    lease: Lease
    #: ``None``: a name that is made from the ID.
    name: str | None = None
    key_pair: KeyPair | None = None
    #: The ID of an availability zone; ``None``: the edition has no zones.
    zone: str | None = None
    #: The ID of a security group; ``None``: none.
    group: str | None = None
    extras: Extras = NO_EXTRAS


@dataclass(frozen=True)
class Instance:
    """An instance between two changes."""

    edition: Edition = field(repr=False)
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
    #: The IDs of the system disk, the type's other disk and the data disk, as far as there are any.
    volume_ids: tuple[str, ...]
    password: str = field(repr=False)
    password_at: datetime
    #: The entries that the user has set.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: The start and the status of each phase, in order.
    phases: tuple[tuple[datetime, str], ...] = ()
    #: The ID of the availability zone; ``None``: the edition has no zones.
    zone: str | None = None
    #: The ID of the security group; ``None``: none.
    group: str | None = None
    extras: Extras = NO_EXTRAS

    @property
    def extend_to(self) -> datetime:
        """The end of the time for which an instance is kept after its lease."""
        return self.expire_at + self.edition.grace

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

    def status_period(self, now: datetime) -> tuple[datetime, datetime]:
        """
        Return the period around a time in which the status does not change.

        :return: Its beginning and its end. The end is not a part of the period.
        """
        changes = [*(at for at, _ in self.phases), self.expire_at, self.extend_to]
        return (
            max((at for at in changes if at <= now), default=EARLIEST),
            min((at for at in changes if at > now), default=LATEST),
        )

    @property
    def price(self) -> Price:
        """The price of the type and the extras."""
        return self.edition.catalog.price(self.type, self.extras)

    @property
    def external_bandwidth(self) -> int:
        """The external bandwidth in Mbps."""
        return self.type.external_bandwidth + self.extras.bandwidth

    def addresses(self, status: str) -> tuple[str, ...]:
        """Return the public and the private address, of which a scheduled instance has none."""
        return () if status == SCHEDULED else (self.public_ip, self.private_ip)

    def scheduled(
        self, now: datetime, seconds: float, statuses: tuple[str, ...], final: str
    ) -> Instance:
        """
        Return the instance with its next phases.

        :param now: The beginning of the first of these phases.
        :param seconds: The duration of all of them, which are equally long.
        :param statuses: Their statuses.
        :param final: The status after them.
        """
        whole = timedelta(seconds=seconds)
        current = [phase for phase in self.phases if phase[0] <= now][-1:]
        following = [
            (later(now, whole * n / len(statuses)), status)
            for n, status in enumerate((*statuses, final))
        ]
        return replace(self, phases=(*current, *following))

    def settled(self, now: datetime) -> Instance:
        """Return the instance with the end of its lease as a phase, before the lease changes."""
        if now < self.expire_at:
            return self
        return replace(self, phases=((self.expire_at, "ready"),))

    def volumes(self) -> list[Volume]:
        """Return the disks."""
        system_disk = self.edition.catalog.system_disk
        # The last one has an ID only if there is such a disk.
        sizes = (system_disk, max(0, self.type.volume - system_disk), self.extras.disk * 1024)
        disks = [
            (number, volume_id, size)
            for number, (volume_id, size) in enumerate(zip(self.volume_ids, sizes, strict=False))
            if size
        ]
        stamp = f"{self.created_at.timestamp():.6f}"
        return [
            Volume(volume_id, f"vdisk_{self.name}_{stamp}_{number}", size, index)
            for index, (number, volume_id, size) in enumerate(disks)
        ]

    def mac_address(self, interface: int) -> str:
        """Return the hardware address of a network interface, by its index."""
        number = (0x0022 << 32) + self.serial * 2 + interface
        return number.to_bytes(6, "big").hex(":")
