"""
One account of the emulated cloud: its instances, key pairs and money.

Nothing here knows HTTP. What an instance is doing is computed from the times at which its phases
begin and from the clock: nothing advances because somebody looked.

Instances, key pairs and charges never change: where one is another from now on, another takes its
place. So a change that fails halfway is taken back by putting the old ones back.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import heapq
import ipaddress
import random
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from libcloud_mcs.emulator._catalog import TEMPLATES, TYPES, InstanceType, Template
from libcloud_mcs.emulator._clock import LATEST, Clock, later
from libcloud_mcs.emulator._errors import Refusal, RefusedError
from libcloud_mcs.emulator._transactions import Cell, Transactions

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
#: What comes in place of ``start_start`` and ``running`` when an instance fails to come up.
_FAILED = "deploy_fail"
#: The words of what is lost: no lease keeps it, and the end of its lease does not stop it.
_STAYS = (_GONE, "deleting", _FAILED)

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
        """
        Tell when it ends. A month is a month of the calendar.

        :raises RefusedError: If there is no such time.
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
        raise RefusedError(
            Refusal.UNUSABLE,
            f"Duration: a lease that ends before the year {LATEST.year + 1} was expected, not"
            f" {self.count}{self.unit} from {start:%Y-%m-%dT%H:%M:%SZ}",
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


@dataclass(frozen=True)
class Instance:
    """An instance, living or gone, as it is until it changes."""

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
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: When each phase of its life begins, and its word.
    phases: tuple[tuple[datetime, str], ...] = ()
    #: What was last told of it, by the status that it had.
    told: dict[str, Any] = field(init=False, default_factory=dict, repr=False, compare=False)

    @property
    def extend_to(self) -> datetime:
        """Until when it is kept after its lease has ended."""
        return self.expire_at + _GRACE

    @property
    def gone_at(self) -> datetime:
        """When it is gone, as far as is known now."""
        at, word = self.phases[-1]
        return min(at, self.extend_to) if word == _GONE else self.extend_to

    def status(self, now: datetime) -> str:
        """Tell the word for what it is doing; ``""`` when it is gone."""
        if now >= self.extend_to:
            return _GONE
        at, word = self.phases[-1]
        if at > now:
            begun = (each for at, each in reversed(self.phases) if at <= now)
            word = next(begun, self.phases[0][1])
        if now >= self.expire_at and word not in _STAYS:
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
    :param transactions: The changes to which its own belong.
    """

    def __init__(
        self,
        network: ipaddress.IPv4Network | None = None,
        transactions: Transactions | None = None,
    ) -> None:
        self.network = network or _PUBLIC_NETWORK
        self._state = Cell(transactions or Transactions(), _Taken())

    @property
    def serial(self) -> int:
        """The serial number of the last instance."""
        return self._state.value.serial

    def next(self) -> Place:
        """
        Give the next instance's place.

        :raises RefusedError: There is no free address.
        """
        state = self._state.draft()
        # The first and the last address of a network are nobody's.
        usable = self.network.num_addresses - 2
        for _ in range(usable):
            state.serial += 1
            public_ip = str(self.network[1 + (state.serial - 1) % usable])
            if public_ip not in state.public_ips:
                state.public_ips.add(public_ip)
                private_ip = _PRIVATE_NETWORK[state.serial % _PRIVATE_NETWORK.num_addresses]
                return Place(state.serial, public_ip, str(private_ip))
        raise RefusedError(Refusal.CONFLICT, f"there is no free address left in {self.network}")

    def keep(self, serial: int, public_ips: Iterable[str] = ()) -> None:
        """Take these addresses, up to that serial number, for taken."""
        state = self._state.draft()
        state.serial = max(state.serial, serial)
        state.public_ips.update(public_ips)

    def free(self, public_ip: str) -> None:
        """Give an address back."""
        self._state.draft().public_ips.discard(public_ip)

    def reset(self) -> None:
        """Begin anew."""
        self._state.put(_Taken())


@dataclass
class _Taken:
    """Which addresses are taken."""

    serial: int = 0
    public_ips: set[str] = field(default_factory=set)

    def copy(self) -> _Taken:
        return _Taken(self.serial, self.public_ips.copy())


@dataclass
class Changes:
    """What has changed in an account; ``None`` stands for what is gone."""

    instances: dict[str, Instance | None] = field(default_factory=dict)
    key_pairs: dict[str, KeyPair | None] = field(default_factory=dict)
    charges: list[Charge] = field(default_factory=list)
    #: Whether there is more than instances whose time was over: those go by themselves.
    wanted: bool = False

    def copy(self) -> Changes:
        """Return a copy, to which more can be added."""
        return Changes(
            self.instances.copy(), self.key_pairs.copy(), self.charges.copy(), self.wanted
        )


@dataclass
class _State:
    """All of an account that changes."""

    balance: Decimal
    balance_at: datetime | None
    drawn: int = 0
    ledger: list[Charge] = field(default_factory=list)
    instances: dict[str, Instance] = field(default_factory=dict)
    names: dict[str, Instance] = field(default_factory=dict)
    #: When instances may be gone, soonest first.
    leaving: list[tuple[datetime, str]] = field(default_factory=list)
    key_pairs: dict[str, KeyPair] = field(default_factory=dict)
    #: What is not saved yet.
    changes: Changes = field(default_factory=Changes)

    def copy(self) -> _State:
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in values.items():
            if isinstance(value, (dict, list, Changes)):
                values[name] = value.copy()
        return _State(**values)


def _as_a_whole(
    method: Callable[Concatenate[Cloud, _P], _T],
) -> Callable[Concatenate[Cloud, _P], _T]:
    """Let a method see the account as it is between two changes, and change all or nothing."""

    @wraps(method)
    def wrapped(self: Cloud, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self._transactions():
            return method(self, *args, **kwargs)

    return wrapped


class Cloud:
    """
    One account. Each of its methods is carried out as a whole, or not at all.

    :param clock: Tells the time.
    :param seed: What IDs and passwords are made from: the same ones from the same seed.
    :param balance: The money it begins with.
    :param timing: How long things take.
    :param addresses: Where its instances get their addresses from.
    :param transactions: The changes to which its own belong.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        seed: str,
        balance: Decimal = Decimal("1000.00"),
        timing: Timing | None = None,
        addresses: Addresses | None = None,
        transactions: Transactions | None = None,
    ) -> None:
        self.clock = clock
        self.timing = timing or Timing()
        self.seed = seed
        self._transactions = transactions or Transactions()
        self._addresses = addresses or Addresses(None, self._transactions)
        balance = balance.quantize(Decimal("0.01"))
        self._cell = Cell(self._transactions, _State(balance, clock.now() if balance else None))

    @property
    def _state(self) -> _State:
        return self._cell.value

    def _draft(self) -> _State:
        """Return the state to change it."""
        state = self._cell.draft()
        state.changes.wanted = True
        return state

    @property
    @_as_a_whole
    def balance(self) -> Decimal:
        """The money that is left."""
        return self._state.balance

    @property
    @_as_a_whole
    def balance_at(self) -> datetime | None:
        """When the balance last changed; ``None``: there never was a transaction."""
        return self._state.balance_at

    @property
    @_as_a_whole
    def drawn(self) -> int:
        """How many IDs and passwords were made."""
        return self._state.drawn

    @property
    @_as_a_whole
    def ledger(self) -> list[Charge]:
        """Every charge, oldest first."""
        return self._state.ledger

    @property
    def changes(self) -> Changes:
        """What has changed since :meth:`saved` was last called."""
        return self._state.changes

    def saved(self) -> None:
        """Take note that all changes are saved."""
        self._state.changes = Changes()

    @_as_a_whole
    def restore(
        self,
        balance_at: datetime | None,
        drawn: int,
        instances: Iterable[Instance],
        key_pairs: Iterable[KeyPair],
        ledger: Iterable[Charge],
    ) -> None:
        """
        Put back what was kept of an account.

        :raises ValueError: If it makes no sense.
        """
        state = self._draft()
        state.balance_at, state.drawn = balance_at, drawn
        for instance in instances:
            if instance.name in state.names:
                raise ValueError(f"two instances are called {instance.name!r}")
            self._put(instance)
            self._addresses.keep(instance.serial, [instance.public_ip])
        state.key_pairs = {key_pair.name: key_pair for key_pair in key_pairs}
        state.ledger = list(ledger)
        self.saved()

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

    @_as_a_whole
    def key_pairs(self) -> list[KeyPair]:
        """List the key pairs, oldest first."""
        return list(self._state.key_pairs.values())

    @_as_a_whole
    def key_pair(self, name: str) -> KeyPair:
        """Find a key pair by its name or ID."""
        for key_pair in self._state.key_pairs.values():
            if name in (key_pair.name, key_pair.key_id):
                return key_pair
        raise RefusedError(Refusal.NOT_FOUND, f"KeyName: there is no key pair {name!r}")

    @_as_a_whole
    def sweep(self) -> None:
        """Forget the instances that are gone by now."""
        now = self.clock.now()
        while self._state.leaving and self._state.leaving[0][0] <= now:
            name = heapq.heappop(self._cell.draft().leaving)[1]
            instance = self._state.instances.get(name)
            if instance and instance.status(now) == _GONE:
                self._forget(instance)

    @_as_a_whole
    def instances(self) -> list[Instance]:
        """List the instances, oldest first."""
        self.sweep()
        return list(self._state.instances.values())

    @_as_a_whole
    def find(self, ids: Iterable[str], names: Iterable[str]) -> list[Instance]:
        """List the instances with one of these IDs or names, oldest first."""
        self.sweep()
        found = [self._named(name) for name in ids]
        found += [self._state.names.get(name) for name in names]
        unique = {instance.serial: instance for instance in found if instance}
        return [unique[serial] for serial in sorted(unique)]

    @_as_a_whole
    def instance(self, name: str) -> tuple[Instance, str]:
        """Find an instance by its ID or name, with its status."""
        instance = self._named(name)
        status = instance.status(self.clock.now()) if instance else _GONE
        if instance and status != _GONE:
            return instance, status
        raise RefusedError(Refusal.NOT_FOUND, f"InstanceId: there is no instance {name!r}")

    # Key pairs

    @_as_a_whole
    def import_key_pair(self, name: str, public_key: str) -> KeyPair:
        """Register a public key. A name in use with the same key is that key."""
        fingerprint = _fingerprint(public_key)
        known = self._state.key_pairs.get(name)
        if known is None:
            key_pair = KeyPair(self._new_id(), name, fingerprint, public_key)
            state = self._draft()
            state.key_pairs[name] = state.changes.key_pairs[name] = key_pair
            return key_pair
        if known.fingerprint == fingerprint:
            return known
        raise RefusedError(Refusal.CONFLICT, f"KeyName: {name!r} is in use with another public key")

    @_as_a_whole
    def delete_key_pair(self, name: str) -> None:
        """Forget a key pair. Instances made with it keep it."""
        name = self.key_pair(name).name
        state = self._draft()
        del state.key_pairs[name]
        state.changes.key_pairs[name] = None

    # A life of an instance

    @_as_a_whole
    def create(
        self,
        template: Template,
        instance_type: InstanceType,
        lease: Lease,
        name: str | None = None,
        key_pair: KeyPair | None = None,
        *,
        boots: bool = True,
    ) -> Instance:
        """
        Make an instance and charge the account for it.

        :param boots: Whether it comes up. One that fails to has no password, and can only be
            terminated.
        """
        self.sweep()
        _check_active(template)
        self._check_free(name)
        instance_id = self._new_id()
        place = self._addresses.next()
        name = name or f"vm-{instance_id[:8]}"
        instance = self._new_instance(
            instance_id, name, template, instance_type, lease, key_pair, place
        )
        self._charge("CreateInstance", instance_id, lease.price(instance_type))
        if boots:
            phases = self._phases(instance, self.timing.boot_seconds, _MADE, "running")
            password_at = phases[-2][0]
        else:
            phases = self._phases(instance, self.timing.boot_seconds, _MADE[:-1], _FAILED)
            password_at = LATEST
        return self._put(replace(instance, phases=phases, password_at=password_at))

    @_as_a_whole
    def add_running(self, *names: str) -> None:
        """Add instances that run already, and that nobody has to pay for."""
        self.sweep()
        for name in names:
            self._check_free(name)
            place, month = self._addresses.next(), Lease(1, "M")
            instance = self._new_instance(
                self._new_id(), name, TEMPLATES[0], TYPES[1], month, None, place
            )
            self._put(replace(instance, phases=((instance.created_at, "running"),)))

    @_as_a_whole
    def remove(self, name: str) -> None:
        """Take an instance away at once, as if it never was."""
        self._draft()
        self._forget(self.instance(name)[0])

    @_as_a_whole
    def start(self, name: str) -> None:
        """Start an instance that is stopped."""
        instance, _ = self._in_state(name, "StartInstance", "ready")
        if self.clock.now() >= instance.expire_at:
            raise RefusedError(
                Refusal.CONFLICT, f"InstanceId: the lease of {name!r} has ended; renew it first"
            )
        self._go_through(instance, self.timing.start_seconds, ("start_start",), "running")

    @_as_a_whole
    def stop(self, name: str, *, force: bool) -> None:
        """Stop an instance that runs."""
        instance, _ = self._in_state(name, "StopInstance", "running")
        seconds = 0 if force else self.timing.stop_seconds
        self._go_through(instance, seconds, ("stopping",), "ready")

    @_as_a_whole
    def reboot(self, name: str) -> None:
        """Stop and start an instance that runs."""
        instance, _ = self._in_state(name, "RebootInstance", "running")
        self._go_through(
            instance, self.timing.reboot_seconds, ("stopping", "start_start"), "running"
        )

    @_as_a_whole
    def rebuild(self, name: str, template: Template | None) -> None:
        """Write an instance's system disk anew; it ends in the state in which it was."""
        instance, status = self._in_state(name, "RebuildInstanceRootImage", "running", "ready")
        if template is not None:
            _check_active(template)
            instance = replace(instance, template=template)
        phases = self._phases(instance, self.timing.rebuild_seconds, ("rebuild_root",), status)
        password = self._new_password()
        self._put(replace(instance, phases=phases, password=password, password_at=phases[-1][0]))

    @_as_a_whole
    def terminate(self, name: str) -> None:
        """Delete an instance, whatever it is doing. There is no money back."""
        instance, status = self.instance(name)
        if status != "deleting":
            self._go_through(instance, self.timing.terminate_seconds, ("deleting",), _GONE)

    @_as_a_whole
    def renew(self, name: str, lease: Lease) -> None:
        """Make an instance's lease longer, and charge the account for it."""
        instance = self._to_pay_for(name, "RenewInstance")
        expire_at = lease.end(max(instance.expire_at, self.clock.now()))
        self._charge("RenewInstance", instance.instance_id, lease.price(instance.type))
        self._put(replace(self._settled(instance), expire_at=expire_at))

    @_as_a_whole
    def change_type(self, name: str, instance_type: InstanceType, lease: Lease) -> None:
        """
        Give an instance another type, and charge the account for a lease that begins now. The
        instance ends in the state in which it was.
        """
        instance, status = self._in_state(name, "ChangeInstanceType", "running", "ready")
        now = self.clock.now()
        expire_at = lease.end(now)
        self._charge("ChangeInstanceType", instance.instance_id, lease.price(instance_type))
        instance = replace(
            self._settled(instance), type=instance_type, started_at=now, expire_at=expire_at
        )
        self._go_through(instance, self.timing.change_seconds, ("change_flavor",), status)

    @_as_a_whole
    def metadata(self, name: str) -> dict[str, str]:
        """Give an instance's metadata: the system's entries, and over them the user's."""
        instance = self.instance(name)[0]
        return {**instance.template.metadata, **instance.metadata}

    @_as_a_whole
    def set_metadata(self, name: str, entries: Mapping[str, str]) -> None:
        """Set entries of an instance's metadata."""
        instance = self.instance(name)[0]
        self._put(replace(instance, metadata={**instance.metadata, **entries}))

    @_as_a_whole
    def password_data(self, name: str) -> tuple[Instance, str]:
        """Give an instance and its password, encrypted where it has a key pair."""
        instance, status = self.instance(name)
        if self.clock.now() < instance.password_at:
            yet = "" if status == _FAILED else " yet"
            raise RefusedError(
                Refusal.CONFLICT, f"InstanceId: {name!r} is {status}; it has no password{yet}"
            )
        if instance.key_pair is None:
            return instance, instance.password
        return instance, _encrypt(instance.password, instance.key_pair)

    # What these stand on

    def _named(self, name: str) -> Instance | None:
        return self._state.instances.get(name) or self._state.names.get(name)

    def _in_state(self, name: str, action: str, *wanted: str) -> tuple[Instance, str]:
        instance, status = self.instance(name)
        if status not in wanted:
            raise RefusedError(
                Refusal.CONFLICT,
                f"InstanceId: {action} needs {name!r} to be {' or '.join(wanted)}, it is {status}",
            )
        return instance, status

    def _check_free(self, name: str | None) -> None:
        if name in self._state.names:
            raise RefusedError(Refusal.CONFLICT, f"InstanceName: {name!r} is in use")

    def _to_pay_for(self, name: str, action: str) -> Instance:
        instance, status = self.instance(name)
        if status in _STAYS:
            raise RefusedError(
                Refusal.CONFLICT, f"InstanceId: {action} cannot keep {name!r}, it is {status}"
            )
        return instance

    def _go_through(
        self, instance: Instance, seconds: float, words: tuple[str, ...], at_last: str
    ) -> None:
        """Let an instance go through phases from now on."""
        self._put(replace(instance, phases=self._phases(instance, seconds, words, at_last)))

    def _phases(
        self, instance: Instance, seconds: float, words: tuple[str, ...], at_last: str
    ) -> tuple[tuple[datetime, str], ...]:
        """Plan an instance's next phases, which take equally long, and the state after them."""
        now = self.clock.now()
        whole = timedelta(seconds=seconds)
        current = [phase for phase in instance.phases if phase[0] <= now][-1:]
        following = [
            (later(now, whole * n / len(words)), word) for n, word in enumerate((*words, at_last))
        ]
        return (*current, *following)

    def _put(self, instance: Instance) -> Instance:
        """Put an instance in the place of what it was."""
        state = self._draft()
        before = state.instances.get(instance.instance_id)
        state.instances[instance.instance_id] = state.names[instance.name] = instance
        state.changes.instances[instance.instance_id] = instance
        if before is None or before.gone_at != instance.gone_at:
            heapq.heappush(state.leaving, (instance.gone_at, instance.instance_id))
        if len(state.leaving) > 2 * len(state.instances) + 1000:
            # Most of it is about instances that are gone, or were renewed.
            state.leaving = [(each.gone_at, name) for name, each in state.instances.items()]
            heapq.heapify(state.leaving)
        return instance

    def _settled(self, instance: Instance) -> Instance:
        """Make the end of a lease a phase of its own, before the lease is moved."""
        if self.clock.now() < instance.expire_at:
            return instance
        return replace(instance, phases=((instance.expire_at, "ready"),))

    def _charge(self, action: str, instance_id: str, amount: Decimal) -> None:
        if amount > self.balance:
            raise RefusedError(Refusal.BALANCE, "No enough balance")
        state, now = self._draft(), self.clock.now()
        state.balance -= amount
        state.balance_at = now
        charge = Charge(now, action, instance_id, amount, state.balance)
        state.ledger.append(charge)
        state.changes.charges.append(charge)

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
        return Instance(
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

    def _forget(self, instance: Instance) -> None:
        state = self._cell.draft()
        del state.instances[instance.instance_id]
        del state.names[instance.name]
        state.changes.instances[instance.instance_id] = None
        self._addresses.free(instance.public_ip)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._draw().getrandbits(128), version=4))

    def _new_password(self) -> str:
        return "".join(self._draw().choices(_LETTERS, k=12))

    def _draw(self) -> random.Random:
        # From the seed and a number that is kept, so that a kept account goes on where it was.
        state = self._draft()
        state.drawn += 1
        return random.Random(f"{self.seed}/{state.drawn}")


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
