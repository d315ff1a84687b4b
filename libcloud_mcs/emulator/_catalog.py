"""What the emulated cloud offers: templates, instance types, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

__all__ = ["CATALOG", "Catalog", "InstanceType", "Template"]


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


@dataclass(frozen=True)
class InstanceType:
    """A size of instances, and its prices in the account's currency."""

    type_id: str
    name: str
    cpu: int
    #: In MB.
    memory: int
    #: In MB, the system disk included.
    volume: int
    #: In Mbps.
    internal_bandwidth: int
    #: In Mbps.
    external_bandwidth: int
    per_hour: Decimal
    per_month: Decimal


@dataclass(frozen=True)
class Catalog:
    """The templates and instance types that the service offers."""

    templates: tuple[Template, ...]
    types: tuple[InstanceType, ...]

    def instance_type(self, name: str) -> InstanceType | None:
        """Return an instance type by its ID or name."""
        for each in self.types:
            if name in (each.type_id, each.name):
                return each
        return None


def _system(distribution: str, version: str) -> dict[str, str]:
    return {"os_name": "Linux", "os_distribution": distribution, "os_version": version}


_TEMPLATES = (
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


def _type(
    type_id: str,
    name: str,
    shape: tuple[int, int, int],
    bandwidth: tuple[int, int],
    prices: tuple[str, str],
) -> InstanceType:
    return InstanceType(type_id, name, *shape, *bandwidth, *map(Decimal, prices))


#: ID, name, (cores, memory, volume), (internal, external bandwidth), (per hour, per month).
_TYPES = (
    _type(
        "8e845438-2f6d-4c87-9216-88da6692dc2b",
        "small_net_2",
        (1, 512, 20_480),
        (200, 2),
        ("0.06", "29.00"),
    ),
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

#: The offer of the specification's edition: the templates and types of its examples, and others.
CATALOG = Catalog(_TEMPLATES, _TYPES)
