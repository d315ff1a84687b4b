"""
One account of the emulated cloud: its instances, key pairs and money.

Nothing here knows HTTP. What an instance is doing is computed from the times at which its phases
begin and from the clock: nothing advances because somebody looked.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import heapq
import ipaddress
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from libcloud_mcs.emulator._catalog import TEMPLATES, TYPES, InstanceType, Template
from libcloud_mcs.emulator._clock import Clock
from libcloud_mcs.emulator._errors import Refusal, RefusedError

__all__ = [
    "Addresses",
    "Changes",
    "Charge",
    "Cloud",
    "Instance",
    "KeyPair",
    "Lease",
    "Place",
    "Timing",
    "Volume",
]

#: How long an instance is kept after its lease has ended, as in the specification's example.
_GRACE = timedelta(days=1)
#: In MB: the system disk. What a type has beyond it is a second disk.
_SYSTEM_DISK = 10_240
_PRIVATE_NETWORK = ipaddress.IPv4Network("10.168.0.0/14")
_PUBLIC_NETWORK = ipaddress.IPv4Network("198.18.0.0/15")  # reserved for tests, by RFC 2544
_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

_GONE = ""
_MADE = ("disk", "start_deploy", "deploying", "start_start")


@dataclass(frozen=True)
class Timing:
    """How long things take, in seconds of the emulator's clock; ``0``: at once."""

    boot_seconds: float = 0.8
    start_seconds: float = 0.3
    stop_seconds: float = 0.3
    reboot_seconds: float = 0.5
    rebuild_seconds: float = 0.5
    change_seconds: float = 0.3
    terminate_seconds: float = 0.3


@dataclass(frozen=True)
class Lease:
    """A time for which an instance is paid: so many hours, or so many months."""

    count: int
    unit: str

    def price(self, instance_type: InstanceType) -> Decimal:
        """Tell what it costs."""
        hourly = self.unit == "H"
        return self.count * (instance_type.per_hour if hourly else instance_type.per_month)

    def end(self, start: datetime) -> datetime:
        """Tell when it ends. A month is a month of the calendar."""
        if self.unit == "H":
            return start + timedelta(hours=self.count)
        years, month = divmod(start.month - 1 + self.count, 12)
        year, month = start.year + years, month + 1
        day = min(start.day, calendar.monthrange(year, month)[1])
        return start.replace(year=year, month=month, day=day)


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
    #: What was paid.
    amount: Decimal
    #: What was left after it.
    balance: Decimal


@dataclass(frozen=True)
class Volume:
    """A disk of an instance."""

    volume_id: str
    name: str
    #: In MB.
    size: int
    index: int


@dataclass
class Instance:
    """An instance, living or gone."""

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
    #: The user's own entries.
    metadata: dict[str, str] = field(default_factory=dict)
    #: When each phase of its life begins, and its word.
    phases: list[tuple[datetime, str]] = field(default_factory=list)
    #: What was last told of it, and the status that this has: it holds until the instance changes.
    told: tuple[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def extend_to(self) -> datetime:
        """Until when it is kept after its lease has ended."""
        return self.expire_at + _GRACE

    def status(self, now: datetime) -> str:
        """Tell the word for what it is doing; ``""`` when it is gone."""
        if now >= self.extend_to:
            return _GONE
        at, word = self.phases[-1]
        if at > now:
            begun = (each for at, each in reversed(self.phases) if at <= now)
            word = next(begun, self.phases[0][1])
        if now >= self.expire_at and word not in (_GONE, "deleting"):
            return "ready"
        return word

    def volumes(self) -> list[Volume]:
        """Give its disks."""
        sizes = [min(self.type.volume, _SYSTEM_DISK), max(0, self.type.volume - _SYSTEM_DISK)]
        stamp = f"{self.created_at.timestamp():.6f}"
        return [
            Volume(volume_id, f"vdisk_{self.name}_{stamp}_{index}", size, index)
            for index, (volume_id, size) in enumerate(zip(self.volume_ids, sizes, strict=True))
            if size
        ]

    def mac_address(self, interface: int) -> str:
        """Give the hardware address of its interface of that index."""
        number = (0x0022 << 32) + self.serial * 2 + interface
        return number.to_bytes(6, "big").hex(":")


@dataclass(frozen=True)
class Place:
    """Where an instance is."""

    serial: int
    public_ip: str
    private_ip: str


class Addresses:
    """
    Gives each instance of an emulator its addresses: no two living ones share any.

    :param network: Where the public ones are from; ``None``: where nobody can reach them.
    """

    def __init__(self, network: ipaddress.IPv4Network | None = None) -> None:
        self.network = network or _PUBLIC_NETWORK
        #: The public addresses of living instances.
        self.taken: set[str] = set()
        #: The serial number of the last instance.
        self.serial = 0

    def next(self) -> Place:
        """
        Give the next instance's place. It is free until somebody puts it into :attr:`taken`.

        :raises RefusedError: There is no free address.
        """
        # The first and the last address of a network are nobody's.
        usable = self.network.num_addresses - 2
        for _ in range(usable):
            self.serial += 1
            public_ip = str(self.network[1 + (self.serial - 1) % usable])
            if public_ip not in self.taken:
                private_ip = _PRIVATE_NETWORK[self.serial % _PRIVATE_NETWORK.num_addresses]
                return Place(self.serial, public_ip, str(private_ip))
        raise RefusedError(Refusal.CONFLICT, f"there is no free address left in {self.network}")


@dataclass
class Changes:
    """What has changed in an account; ``None`` stands for what is gone."""

    instances: dict[str, Instance | None] = field(default_factory=dict)
    key_pairs: dict[str, KeyPair | None] = field(default_factory=dict)
    charges: list[Charge] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.instances or self.key_pairs or self.charges)


class Cloud:
    """
    One account.

    :param clock: Tells the time.
    :param seed: What IDs and passwords are made from: the same ones from the same seed.
    :param balance: The money it begins with.
    :param timing: How long things take.
    :param addresses: Where its instances get their addresses from.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        seed: str,
        balance: Decimal = Decimal("1000.00"),
        timing: Timing | None = None,
        addresses: Addresses | None = None,
    ) -> None:
        self.clock = clock
        self.timing = timing or Timing()
        self.balance = balance.quantize(Decimal("0.01"))
        #: When the balance last changed; ``None``: there never was a transaction.
        self.balance_at = clock.now() if self.balance else None
        self.ledger: list[Charge] = []
        self.seed = seed
        #: How many IDs and passwords were made.
        self.drawn = 0
        self._addresses = addresses or Addresses()
        self._instances: dict[str, Instance] = {}
        self._names: dict[str, Instance] = {}
        #: When instances may be gone, soonest first.
        self._leaving: list[tuple[datetime, str]] = []
        self._gone_at: dict[str, datetime] = {}
        self._key_pairs: dict[str, KeyPair] = {}
        self._changes = Changes()

    def restore(
        self, instances: Iterable[Instance], key_pairs: Iterable[KeyPair], ledger: Iterable[Charge]
    ) -> None:
        """Put back what was kept of an account."""
        for instance in instances:
            self._instances[instance.instance_id] = self._names[instance.name] = instance
            self._note(instance)
            self._addresses.serial = max(self._addresses.serial, instance.serial)
            self._addresses.taken.add(instance.public_ip)
        self._key_pairs = {key_pair.name: key_pair for key_pair in key_pairs}
        self.ledger = list(ledger)
        self._changes = Changes()

    def take_changes(self) -> Changes:
        """Give what has changed since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    # What there is

    def template(self, template_id: str) -> Template:
        """Find a template by its ID."""
        for template in TEMPLATES:
            if template.template_id == template_id:
                return template
        raise RefusedError(Refusal.NOT_FOUND, f"ImageId: there is no template {template_id!r}")

    def instance_type(self, name: str) -> InstanceType:
        """Find an instance type by its ID or name."""
        for instance_type in TYPES:
            if name in (instance_type.type_id, instance_type.name):
                return instance_type
        raise RefusedError(Refusal.NOT_FOUND, f"InstanceType: there is no type {name!r}")

    def key_pairs(self) -> list[KeyPair]:
        """List the key pairs, oldest first."""
        return list(self._key_pairs.values())

    def key_pair(self, name: str) -> KeyPair:
        """Find a key pair by its name or ID."""
        for key_pair in self._key_pairs.values():
            if name in (key_pair.name, key_pair.key_id):
                return key_pair
        raise RefusedError(Refusal.NOT_FOUND, f"KeyName: there is no key pair {name!r}")

    def instances(self) -> list[Instance]:
        """List the instances, oldest first."""
        now = self.clock.now()
        while self._leaving and self._leaving[0][0] <= now:
            instance = self._instances.get(heapq.heappop(self._leaving)[1])
            if instance and instance.status(now) == _GONE:
                self._forget(instance)
        return list(self._instances.values())

    def find(self, ids: Iterable[str], names: Iterable[str]) -> list[Instance]:
        """List the instances with one of these IDs or names, oldest first."""
        self.instances()
        found = [self._instances.get(name) or self._names.get(name) for name in ids]
        found += [self._names.get(name) for name in names]
        unique = {instance.serial: instance for instance in found if instance}
        return [unique[serial] for serial in sorted(unique)]

    def instance(self, name: str) -> tuple[Instance, str]:
        """Find an instance by its ID or name, with its status."""
        instance = self._instances.get(name) or self._names.get(name)
        status = instance.status(self.clock.now()) if instance else _GONE
        if instance and status != _GONE:
            return instance, status
        if instance:
            self._forget(instance)
        raise RefusedError(Refusal.NOT_FOUND, f"InstanceId: there is no instance {name!r}")

    # Key pairs

    def import_key_pair(self, name: str, public_key: str) -> KeyPair:
        """Register a public key. A name in use with the same key is that key."""
        fingerprint = _fingerprint(public_key)
        known = self._key_pairs.get(name)
        if known is None:
            key_pair = KeyPair(self._new_id(), name, fingerprint, public_key)
            self._key_pairs[name] = self._changes.key_pairs[name] = key_pair
            return key_pair
        if known.fingerprint == fingerprint:
            return known
        raise RefusedError(Refusal.CONFLICT, f"KeyName: {name!r} is in use with another public key")

    def delete_key_pair(self, name: str) -> None:
        """Forget a key pair. Instances made with it keep it."""
        name = self.key_pair(name).name
        del self._key_pairs[name]
        self._changes.key_pairs[name] = None

    # A life of an instance

    def create(
        self,
        template: Template,
        instance_type: InstanceType,
        lease: Lease,
        name: str | None = None,
        key_pair: KeyPair | None = None,
    ) -> Instance:
        """Make an instance and charge the account for it."""
        _check_active(template)
        if name is not None and self._in_use(name):
            raise RefusedError(Refusal.CONFLICT, f"InstanceName: {name!r} is in use")
        instance_id = self._new_id()
        place = self._addresses.next()
        self._charge("CreateInstance", instance_id, lease.price(instance_type))
        name = name or f"vm-{instance_id[:8]}"
        instance = self._new_instance(
            instance_id, name, template, instance_type, lease, key_pair, place
        )
        self._go_through(instance, self.timing.boot_seconds, _MADE, "running")
        instance.password_at = instance.phases[-2][0]
        return instance

    def add_running(self, name: str) -> None:
        """Add an instance that runs already, and that nobody has to pay for."""
        place, month = self._addresses.next(), Lease(1, "M")
        instance = self._new_instance(
            self._new_id(), name, TEMPLATES[0], TYPES[1], month, None, place
        )
        instance.phases = [(instance.created_at, "running")]

    def remove(self, name: str) -> None:
        """Take an instance away at once, as if it never was."""
        self._forget(self.instance(name)[0])

    def start(self, name: str) -> None:
        """Start an instance that is stopped."""
        instance, _ = self._in_state(name, "StartInstance", "ready")
        if self.clock.now() >= instance.expire_at:
            raise RefusedError(
                Refusal.CONFLICT, f"InstanceId: the lease of {name!r} has ended; renew it first"
            )
        self._go_through(instance, self.timing.start_seconds, ("start_start",), "running")

    def stop(self, name: str, *, force: bool) -> None:
        """Stop an instance that runs."""
        instance, _ = self._in_state(name, "StopInstance", "running")
        seconds = 0 if force else self.timing.stop_seconds
        self._go_through(instance, seconds, ("stopping",), "ready")

    def reboot(self, name: str) -> None:
        """Stop and start an instance that runs."""
        instance, _ = self._in_state(name, "RebootInstance", "running")
        self._go_through(
            instance, self.timing.reboot_seconds, ("stopping", "start_start"), "running"
        )

    def rebuild(self, name: str, template: Template | None) -> None:
        """Write an instance's system disk anew; it ends in the state in which it was."""
        instance, status = self._in_state(name, "RebuildInstanceRootImage", "running", "ready")
        if template is not None:
            _check_active(template)
            instance.template = template
        self._go_through(instance, self.timing.rebuild_seconds, ("rebuild_root",), status)
        instance.password = self._new_password()
        instance.password_at = instance.phases[-1][0]
        self._note(instance)

    def terminate(self, name: str) -> None:
        """Delete an instance, whatever it is doing. There is no money back."""
        instance, status = self.instance(name)
        if status != "deleting":
            self._go_through(instance, self.timing.terminate_seconds, ("deleting",), _GONE)

    def renew(self, name: str, lease: Lease) -> None:
        """Make an instance's lease longer, and charge the account for it."""
        instance = self._to_pay_for(name, "RenewInstance")
        start = max(instance.expire_at, self.clock.now())
        self._charge("RenewInstance", instance.instance_id, lease.price(instance.type))
        self._settle(instance)
        instance.expire_at = lease.end(start)
        self._note(instance)

    def change_type(self, name: str, instance_type: InstanceType, lease: Lease) -> None:
        """
        Give an instance another type, and charge the account for a lease that begins now. The
        instance ends in the state in which it was.
        """
        instance, status = self._in_state(name, "ChangeInstanceType", "running", "ready")
        self._charge("ChangeInstanceType", instance.instance_id, lease.price(instance_type))
        self._settle(instance)
        instance.type = instance_type
        instance.started_at = self.clock.now()
        instance.expire_at = lease.end(instance.started_at)
        self._go_through(instance, self.timing.change_seconds, ("change_flavor",), status)

    def metadata(self, name: str) -> dict[str, str]:
        """Give an instance's metadata: the system's entries, and over them the user's."""
        instance = self.instance(name)[0]
        return {**instance.template.metadata, **instance.metadata}

    def set_metadata(self, name: str, entries: dict[str, str]) -> None:
        """Set entries of an instance's metadata."""
        instance = self.instance(name)[0]
        instance.metadata.update(entries)
        self._note(instance)

    def password_data(self, name: str) -> tuple[Instance, str]:
        """Give an instance and its password, encrypted where it has a key pair."""
        instance, status = self.instance(name)
        if self.clock.now() < instance.password_at:
            raise RefusedError(
                Refusal.CONFLICT, f"InstanceId: {name!r} is {status}; it has no password yet"
            )
        if instance.key_pair is None:
            return instance, instance.password
        return instance, _encrypt(instance.password, instance.key_pair)

    # What these stand on

    def _in_state(self, name: str, action: str, *wanted: str) -> tuple[Instance, str]:
        instance, status = self.instance(name)
        if status not in wanted:
            raise RefusedError(
                Refusal.CONFLICT,
                f"InstanceId: {action} needs {name!r} to be {' or '.join(wanted)}, it is {status}",
            )
        return instance, status

    def _to_pay_for(self, name: str, action: str) -> Instance:
        instance, status = self.instance(name)
        if status == "deleting":
            raise RefusedError(
                Refusal.CONFLICT, f"InstanceId: {action} cannot keep {name!r}, it is deleting"
            )
        return instance

    def _go_through(
        self, instance: Instance, seconds: float, words: Iterable[str], at_last: str
    ) -> None:
        """Plan an instance's next phases, which take equally long, and the state after them."""
        now = self.clock.now()
        words = tuple(words)
        each = timedelta(seconds=seconds) / len(words)
        instance.phases = [phase for phase in instance.phases if phase[0] <= now][-1:]
        instance.phases += [(now + each * n, word) for n, word in enumerate((*words, at_last))]
        self._note(instance)

    def _note(self, instance: Instance) -> None:
        """Note that an instance has changed, and when it may be gone."""
        self._changes.instances[instance.instance_id] = instance
        instance.told = None
        at, word = instance.phases[-1] if instance.phases else (instance.extend_to, _GONE)
        gone_at = min(at, instance.extend_to) if word == _GONE else instance.extend_to
        if self._gone_at.get(instance.instance_id) == gone_at:
            return
        self._gone_at[instance.instance_id] = gone_at
        heapq.heappush(self._leaving, (gone_at, instance.instance_id))
        if len(self._leaving) > 2 * len(self._instances) + 1000:
            # Most of it is about instances that are gone, or were renewed.
            self._leaving = [(at, name) for name, at in self._gone_at.items()]
            heapq.heapify(self._leaving)

    def _settle(self, instance: Instance) -> None:
        """Make the end of a lease a phase of its own, before the lease is moved."""
        if self.clock.now() >= instance.expire_at:
            instance.phases = [(instance.expire_at, "ready")]

    def _charge(self, action: str, instance_id: str, amount: Decimal) -> None:
        if amount > self.balance:
            raise RefusedError(Refusal.BALANCE, "No enough balance")
        self.balance -= amount
        self.balance_at = self.clock.now()
        charge = Charge(self.balance_at, action, instance_id, amount, self.balance)
        self.ledger.append(charge)
        self._changes.charges.append(charge)

    def _in_use(self, name: str) -> bool:
        instance = self._names.get(name)
        return instance is not None and instance.status(self.clock.now()) != _GONE

    def _new_instance(
        self,
        instance_id: str,
        name: str,
        template: Template,
        instance_type: InstanceType,
        lease: Lease,
        key_pair: KeyPair | None,
        place: Place,
    ) -> Instance:
        now = self.clock.now()
        instance = Instance(
            instance_id=instance_id,
            name=name,
            type=instance_type,
            template=template,
            key_pair=key_pair,
            public_ip=place.public_ip,
            private_ip=place.private_ip,
            serial=place.serial,
            created_at=now,
            started_at=now,
            expire_at=lease.end(now),
            volume_ids=(self._new_id(), self._new_id()),
            password=self._new_password(),
            password_at=now,
        )
        if gone := self._names.get(name):
            self._forget(gone)
        self._instances[instance_id] = self._names[name] = instance
        self._addresses.taken.add(place.public_ip)
        self._note(instance)
        return instance

    def _forget(self, instance: Instance) -> None:
        del self._instances[instance.instance_id]
        del self._names[instance.name]
        del self._gone_at[instance.instance_id]
        self._addresses.taken.discard(instance.public_ip)
        self._changes.instances[instance.instance_id] = None

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._draw().getrandbits(128), version=4))

    def _new_password(self) -> str:
        return "".join(self._draw().choices(_LETTERS, k=12))

    def _draw(self) -> random.Random:
        # From the seed and a number that is kept, so that a kept account goes on where it was.
        self.drawn += 1
        return random.Random(f"{self.seed}/{self.drawn}")


def _check_active(template: Template) -> None:
    if template.status != "active":
        raise RefusedError(
            Refusal.CONFLICT,
            f"ImageId: the template {template.template_id!r} is {template.status}, not active",
        )


def _fingerprint(public_key: str) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        load_ssh_public_key(public_key.strip().encode())
        blob = base64.b64decode(public_key.split()[1], validate=True)
    except (ValueError, IndexError, UnsupportedAlgorithm):
        raise RefusedError(
            Refusal.UNUSABLE, "PublicKeyMaterial: it is no public key in OpenSSH's form"
        ) from None
    return hashlib.md5(blob, usedforsecurity=False).digest().hex(":")


def _encrypt(password: str, key_pair: KeyPair) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    key = load_ssh_public_key(key_pair.public_key.strip().encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise RefusedError(
            Refusal.CONFLICT,
            f"InstanceId: its key pair {key_pair.name!r} is no RSA key, so that its password"
            " cannot be encrypted",
        )
    oaep = padding.OAEP(
        mgf=padding.MGF1(hashes.SHA1()),  # noqa: S303 - the service chose it
        algorithm=hashes.SHA1(),  # noqa: S303
        label=None,
    )
    return base64.b64encode(key.encrypt(password.encode(), oaep)).decode()
