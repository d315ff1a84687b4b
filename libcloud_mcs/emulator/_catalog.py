"""What the emulated cloud offers in each edition: templates, instance types, zones, and prices."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from libcloud_mcs.emulator._errors import APIError, ErrorCode

__all__ = [
    "CATALOG_2013",
    "CATALOG_2017",
    "NO_EXTRAS",
    "Catalog",
    "Extras",
    "InstanceType",
    "Price",
    "Template",
    "Zone",
]


@dataclass(frozen=True)
class Template:
    """An image to make instances from."""

    template_id: str
    name: str
    #: In bytes.
    size: int
    #: The MD5 of the image.
    checksum: str
    #: ``active``, or a word for why no instance can be made from it.
    status: str
    #: The account that its instances come with.
    account: str
    #: The metadata that its instances come with.
    metadata: dict[str, str] = field(hash=False)
    #: For a user's template: the time at which its image is complete.
    saved_at: datetime | None = None

    @property
    def is_public(self) -> bool:
        """Whether the template is the service's, and not a user's."""
        return self.saved_at is None

    def status_at(self, now: datetime) -> str:
        """Return the status at a time."""
        return "saving" if self.saved_at and now < self.saved_at else self.status

    def check_active(self, now: datetime) -> None:
        """
        Check that instances can be made from this template.

        :raises APIError: If they cannot.
        """
        status = self.status_at(now)
        if status != "active":
            raise APIError(
                ErrorCode.CONFLICT,
                f"ImageId: the template {self.template_id!r} is {status}, not active",
            )


@dataclass(frozen=True)
class Price:
    """A price in the account's currency."""

    per_hour: Decimal = Decimal()
    per_month: Decimal = Decimal()

    def __add__(self, other: Price) -> Price:
        return Price(self.per_hour + other.per_hour, self.per_month + other.per_month)

    def __mul__(self, count: int) -> Price:
        return Price(self.per_hour * count, self.per_month * count)


@dataclass(frozen=True)
class Extras:
    """What is added to an instance type."""

    #: The size of a data disk in GB; 0: there is none.
    disk: int = 0
    #: External bandwidth in Mbps.
    bandwidth: int = 0


NO_EXTRAS = Extras()


@dataclass(frozen=True)
class InstanceType:
    """A size of instances, and its price."""

    type_id: str
    name: str
    cpu: int
    #: In MB.
    memory: int
    #: In MB, the system disk included; 0: extras are needed.
    volume: int
    #: In Mbps.
    internal_bandwidth: int
    #: In Mbps.
    external_bandwidth: int
    price: Price

    def check_extras(self, extras: Extras) -> None:
        """
        Check that an instance has a disk or bandwidth, of the type or of the extras.

        :raises APIError: If it has neither.
        """
        if not any((self.volume, self.external_bandwidth, extras.disk, extras.bandwidth)):
            raise APIError(
                ErrorCode.UNUSABLE,
                "ExtraExtDisksize, ExtraExtBandwidth: expected one of them above 0 for the type"
                f" {self.name!r}, which has neither a disk nor bandwidth",
            )


@dataclass(frozen=True)
class Zone:
    """An availability zone."""

    zone_id: str
    name: str
    chinese_name: str
    #: ``enable``, or ``soldout``: no new instances.
    status: str


@dataclass(frozen=True)
class Catalog:
    """Everything that the service offers."""

    templates: tuple[Template, ...]
    types: tuple[InstanceType, ...]
    #: The name of the type of instances that run at the start.
    initial_type: str
    #: The size of a system disk in MB. What a type has beyond that size is another disk.
    system_disk: int
    #: The first one is that of new instances whose request names none.
    zones: tuple[Zone, ...] = ()
    #: The price of a GB of a data disk.
    disk_price: Price = Price()
    #: The price of a Mbps of external bandwidth.
    bandwidth_price: Price = Price()

    def instance_type(self, name: str) -> InstanceType:
        """
        Return an instance type by its ID or name.

        :raises APIError: If there is no such type.
        """
        for each in self.types:
            if name in (each.type_id, each.name):
                return each
        raise APIError(ErrorCode.NOT_FOUND, f"InstanceType: there is no type {name!r}")

    @property
    def first_zone(self) -> str | None:
        """The ID of the first zone; ``None``: there are no zones."""
        return self.zones[0].zone_id if self.zones else None

    def zone_for(self, zone_id: str | None) -> str | None:
        """
        Return the ID of the zone of a new instance.

        :param zone_id: The ID of the zone that the request names, if it names one.
        :raises APIError: If there is no such zone, or it takes no new instances.
        """
        if zone_id is None:
            return self.first_zone
        for each in self.zones:
            if each.zone_id == zone_id:
                if each.status == "enable":
                    return zone_id
                raise APIError(
                    ErrorCode.CONFLICT,
                    f"AvailabilityZoneId: the zone {zone_id!r} is {each.status}, not enable",
                )
        raise APIError(ErrorCode.NOT_FOUND, f"AvailabilityZoneId: there is no zone {zone_id!r}")

    def price(self, instance_type: InstanceType, extras: Extras) -> Price:
        """Return the price of an instance type with extras."""
        extra_price = self.disk_price * extras.disk + self.bandwidth_price * extras.bandwidth
        return instance_type.price + extra_price


def _system(distribution: str, version: str) -> dict[str, str]:
    return {"os_name": "Linux", "os_distribution": distribution, "os_version": version}


_TEMPLATES_2013 = (
    Template(
        "019c6db6-55fa-443d-ac0c-182e3379d175",
        "turnkey-core-12.0-squeeze-x86.qcow2",
        187_367_424,
        "952a921243eecf2f457b82051e880558",
        "active",
        "root",
        _system("TurnKey", "12.0"),
    ),
    Template(
        "d1620e45-c561-42e7-a2a4-53ae0a389bb9",
        "cirros-0.3.0-x86_64.qcow2",
        9_761_280,
        "50bdc35edb03a38d91b1b071afb20a3c",
        "active",
        "cirros",
        _system("Cirros", "2011.08"),
    ),
    Template(
        "6c1f1e0a-7b0c-4f5e-9a55-0f9f9d1f6d21",
        "CentOS-6.4-x86_64-中文.qcow2",
        612_368_384,
        "1d0a5c1e6b0f6b9a2f5d6f0b0c7f7a42",
        "active",
        "root",
        _system("CentOS", "6.4"),
    ),
    Template(
        "b84e2f0d-3c0b-4a3e-8f3b-52a8d1b1c5aa",
        "Debian-7.0-x86_64.qcow2",
        438_304_768,
        "7d793037a0760186574b0282f2f435e7",
        "saving",
        "root",
        _system("Debian", "7.0"),
    ),
)

#: Entries of the metadata that instances of 2017 had as well.
_METADATA_2017 = {"kvm": "True", "app_tags": "", "storage_type": "local"}
_TEMPLATES_2017 = tuple(
    replace(each, metadata={**each.metadata, **_METADATA_2017}) for each in _TEMPLATES_2013
)


def _type(
    type_id: str,
    name: str,
    shape: tuple[int, int, int],
    bandwidth: tuple[int, int],
    prices: tuple[str, str],
) -> InstanceType:
    return InstanceType(type_id, name, *shape, *bandwidth, _price(*prices))


def _price(per_hour: str, per_month: str) -> Price:
    return Price(Decimal(per_hour), Decimal(per_month))


# ID, name, (cores, memory, volume), (internal, external bandwidth), (per hour, per month).

#: The type of the specification's example, whose volume is less than a system disk of 2017.
_SMALLEST = _type(
    "8e845438-2f6d-4c87-9216-88da6692dc2b",
    "small_net_2",
    (1, 512, 20_480),
    (200, 2),
    ("0.06", "29.00"),
)
#: The types with a disk and bandwidth, in both editions.
_WHOLE = (
    _type(
        "3f0a7d5c-6a51-4a0e-8c2f-9d1f0b7d9e10",
        "small",
        (1, 1_024, 30_720),
        (200, 5),
        ("0.12", "59.00"),
    ),
    _type(
        "0a4c9a57-5d0b-4f3c-b7c6-c1e3b3f8f6a4",
        "medium",
        (2, 4_096, 61_440),
        (500, 10),
        ("0.35", "169.00"),
    ),
    _type(
        "5b7f6e0c-9f6f-4f4a-a7de-1f6f3a5a0b77",
        "large",
        (4, 8_192, 122_880),
        (500, 20),
        ("0.71", "339.00"),
    ),
    _type(
        "c6c5b7f1-8e14-4d51-9f4e-2d7c1f1b0c3d",
        "xlarge",
        (8, 16_384, 245_760),
        (1_000, 50),
        ("1.45", "699.00"),
    ),
)


def _bare_type(
    type_id: str, cpu: int, gigabytes: int, per_hour: str, per_month: str
) -> InstanceType:
    """Return a type without a disk and bandwidth."""
    name = f"C{cpu}_M{gigabytes}"
    return _type(type_id, name, (cpu, 1_024 * gigabytes, 0), (0, 0), (per_hour, per_month))


_BARE = (
    _bare_type("9d3b2a64-51f7-4a0b-8e3c-6f1d20b7c481", 1, 1, "0.05", "24.00"),
    _bare_type("2c7e90d1-4b8a-4f36-9a15-d0e7f3b8a562", 1, 2, "0.08", "39.00"),
    _bare_type("e41f6b83-0d29-4c57-b7a8-35c9d1f2e074", 2, 4, "0.16", "79.00"),
    _bare_type("71a8c5f0-93de-4b12-8c64-a2b0e7d9f316", 4, 8, "0.33", "159.00"),
    _bare_type("b60d47e9-2f85-4d3a-9e71-84f3c6a1d2b8", 8, 16, "0.66", "319.00"),
    _bare_type("58f2d3a7-c16b-4e90-a4d8-1b7e9f0c6352", 16, 64, "1.90", "915.00"),
)

_ZONES = (
    Zone("4f9c1d7e-8b30-4a65-9d12-e7c5a0b3f681", "Beijing-1", "北京一区", "enable"),
    Zone("a25e8b06-d7f4-4c19-8e3a-60b1f9d2c547", "Beijing-2", "北京二区", "enable"),
    Zone("d83b60f5-1a9e-4e72-b5c4-97f0e2a8d136", "Beijing-3", "北京三区", "soldout"),
)

#: The offer of the specification's edition: the templates and types of its examples, and others.
CATALOG_2013 = Catalog(
    _TEMPLATES_2013, (_SMALLEST, *_WHOLE), initial_type="small", system_disk=10_240
)
CATALOG_2017 = Catalog(
    _TEMPLATES_2017,
    (*_WHOLE, *_BARE),
    initial_type="small",
    system_disk=25_600,
    zones=_ZONES,
    disk_price=_price("0.01", "0.40"),
    bandwidth_price=_price("0.01", "5.00"),
)
