"""
The state of one account: its instances, key pairs, templates and money.

Nothing here knows HTTP. Nothing advances because a client asks: what an instance is doing follows
from its phases and the clock.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from libcloud_mcs.emulator._addresses import AddressPool
from libcloud_mcs.emulator._catalog import Extras, InstanceType, Template
from libcloud_mcs.emulator._clock import LATEST, Clock
from libcloud_mcs.emulator._content import Changes, Content
from libcloud_mcs.emulator._edition import Edition
from libcloud_mcs.emulator._errors import APIError, ErrorCode
from libcloud_mcs.emulator._instances import (
    FAILED,
    GONE,
    PERMANENT,
    Charge,
    Instance,
    KeyPair,
    Lease,
    Order,
    Timing,
)
from libcloud_mcs.emulator._public_keys import encrypt, fingerprint
from libcloud_mcs.emulator._transactions import Cell, Transactions

__all__ = ["AccountState"]

_CHARACTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _atomic(
    method: Callable[Concatenate[AccountState, _P], _T],
) -> Callable[Concatenate[AccountState, _P], _T]:
    """Run a method in a transaction."""

    @wraps(method)
    def in_transaction(self: AccountState, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self._transactions():
            return method(self, *args, **kwargs)

    return in_transaction


class AccountState:
    """
    The state of one account. Each method is one transaction.

    :param clock: The clock of the emulator.
    :param edition: The edition of the service.
    :param seed: The seed of IDs and passwords.
    :param balance: The initial balance.
    :param timing: The durations of boots, stops and so on.
    :param addresses: The pool of the instances' addresses.
    :param transactions: The transactions to which changes of the account belong.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        edition: Edition,
        seed: str,
        balance: Decimal,
        timing: Timing,
        addresses: AddressPool,
        transactions: Transactions,
    ) -> None:
        self.clock = clock
        self.edition = edition
        self.timing = timing
        self.seed = seed
        self._transactions = transactions
        self._addresses = addresses
        balance = balance.quantize(Decimal("0.01"))
        content = Content(balance, clock.now() if balance else None)
        for template in edition.catalog.templates:
            content.put_template(template)
        self._cell = Cell(transactions, content)

    @property
    def _content(self) -> Content:
        return self._cell.value

    def _draft(self) -> Content:
        """Return the state to change it."""
        state = self._cell.draft()
        state.changes.requested = True
        return state

    @property
    @_atomic
    def balance(self) -> Decimal:
        """The present balance."""
        return self._content.balance

    @property
    @_atomic
    def balance_at(self) -> datetime | None:
        """The time of the last change of the balance; ``None``: it never changed."""
        return self._content.balance_at

    @property
    @_atomic
    def drawn(self) -> int:
        """The number of IDs and passwords that were made from the seed."""
        return self._content.drawn

    @property
    @_atomic
    def ledger(self) -> list[Charge]:
        """Every charge, oldest first."""
        return self._content.ledger

    @property
    def changes(self) -> Changes:
        """The changes since the last call of :meth:`saved`."""
        return self._content.changes

    def saved(self) -> None:
        """Note that all changes are saved."""
        self._content.changes = Changes()

    @_atomic
    def restore(
        self,
        balance_at: datetime | None,
        drawn: int,
        instances: Iterable[Instance],
        key_pairs: Iterable[KeyPair],
        templates: Iterable[Template],
        ledger: Iterable[Charge],
    ) -> None:
        """
        Restore the account from the file.

        :raises ValueError: If two instances have the same name.
        """
        state = self._draft()
        state.balance_at, state.drawn = balance_at, drawn
        state.templates = {each.template_id: each for each in templates}
        for instance in instances:
            if instance.name in state.names:
                raise ValueError(f"two instances are called {instance.name!r}")
            self._put(instance)
            self._addresses.reserve(instance.serial, [instance.public_ip])
        state.key_pairs = {key_pair.name: key_pair for key_pair in key_pairs}
        state.ledger = list(ledger)
        self.saved()

    # Queries

    @_atomic
    def templates(self) -> list[Template]:
        """Return the templates, oldest first."""
        return list(self._content.templates.values())

    @_atomic
    def template(self, template_id: str) -> Template:
        """Return a template by its ID."""
        return self._template(template_id, "ImageId")

    @_atomic
    def key_pairs(self) -> list[KeyPair]:
        """Return the key pairs, oldest first."""
        return list(self._content.key_pairs.values())

    @_atomic
    def key_pair(self, name: str) -> KeyPair:
        """Return a key pair by its name or ID."""
        for key_pair in self._content.key_pairs.values():
            if name in (key_pair.name, key_pair.key_id):
                return key_pair
        raise APIError(ErrorCode.NOT_FOUND, f"KeyName: there is no key pair {name!r}")

    @_atomic
    def remove_expired(self) -> None:
        """Remove the instances whose time is over."""
        now = self.clock.now()
        if self._content.is_removal_due(now):
            for instance in self._cell.draft().remove_gone(now):
                self._addresses.release(instance.public_ip)

    @_atomic
    def instances(self) -> tuple[Instance, ...]:
        """Return the instances, oldest first."""
        self.remove_expired()
        return self._content.listed()

    @_atomic
    def find(self, ids: Iterable[str], names: Iterable[str]) -> list[Instance]:
        """Return the instances with one of these IDs or names, oldest first."""
        self.remove_expired()
        matches = [self._content.find(name) for name in ids]
        matches += [self._content.names.get(name) for name in names]
        unique = {instance.serial: instance for instance in matches if instance}
        return [unique[serial] for serial in sorted(unique)]

    @_atomic
    def instance(self, name: str) -> tuple[Instance, str]:
        """Return an instance, by its ID or name, and its status."""
        instance = self._content.find(name)
        status = instance.status(self.clock.now()) if instance else GONE
        if instance and status != GONE:
            return instance, status
        raise APIError(ErrorCode.NOT_FOUND, f"InstanceId: there is no instance {name!r}")

    # Key pairs

    @_atomic
    def import_key_pair(self, name: str, public_key: str) -> KeyPair:
        """Register a public key. The same key under the same name is registered once."""
        digest = fingerprint(public_key)
        known = self._content.key_pairs.get(name)
        if known is None:
            key_pair = KeyPair(self._new_id(), name, digest, public_key)
            self._draft().put_key_pair(key_pair)
            return key_pair
        if known.fingerprint == digest:
            return known
        raise APIError(ErrorCode.CONFLICT, f"KeyName: {name!r} is in use with another public key")

    @_atomic
    def delete_key_pair(self, name: str) -> None:
        """Remove a key pair. Its instances keep it."""
        self._draft().remove_key_pair(self.key_pair(name))

    # Templates

    @_atomic
    def save_template(self, name: str, template_name: str) -> None:
        """Save the system disk of an instance, which then returns to its state, as a template."""
        instance, status = self._in_state(name, "CreateTemplate", "running", "ready")
        instance = self._schedule(
            instance, self.timing.save_seconds, ("start_save_disk", "save_disk"), status
        )
        template = replace(
            instance.template,
            template_id=self._new_id(),
            name=template_name,
            checksum=self._draw().randbytes(16).hex(),
            saved_at=instance.phases[-1][0],
        )
        self._draft().put_template(template)

    @_atomic
    def delete_template(self, template_id: str) -> None:
        """Remove a template of the user. Its instances keep it."""
        template = self._template(template_id, "TemplateId")
        if template.is_public:
            raise APIError(
                ErrorCode.CONFLICT, f"TemplateId: {template_id!r} belongs to the service"
            )
        self._draft().remove_template(template)

    # Changes of instances

    @_atomic
    def create(self, order: Order, *, boots: bool = True) -> Instance:
        """
        Create an instance and charge the account for it.

        :param boots: Whether the instance boots. An instance that fails to boot has no password,
            and can only be terminated.
        """
        self.remove_expired()
        order.template.check_active(self.clock.now())
        order.type.check_extras(order.extras)
        self._check_free(order.name)
        instance = self._new_instance(order)
        self._charge("CreateInstance", instance, order.lease)
        words, final = self.edition.boot, "running"
        if not boots:
            words, final = words[:-1], FAILED
        seconds = self.timing.boot_seconds
        instance = instance.scheduled(self.clock.now(), seconds, words, final)
        password_at = instance.phases[-2][0] if boots else LATEST
        return self._put(replace(instance, password_at=password_at))

    @_atomic
    def add_running(self, *names: str) -> None:
        """Add instances that run already and cost nothing."""
        self.remove_expired()
        catalog = self.edition.catalog
        instance_type, zone = catalog.instance_type(catalog.initial_type), catalog.first_zone
        for name in names:
            self._check_free(name)
            order = Order(catalog.templates[0], instance_type, Lease(1, "M"), name, zone=zone)
            instance = self._new_instance(order)
            self._put(replace(instance, phases=((instance.created_at, "running"),)))

    @_atomic
    def remove(self, name: str) -> None:
        """Remove an instance immediately and without a trace."""
        instance = self.instance(name)[0]
        self._draft().remove_instance(instance)
        self._addresses.release(instance.public_ip)

    @_atomic
    def start(self, name: str) -> None:
        """Start a stopped instance."""
        instance, _ = self._in_state(name, "StartInstance", "ready")
        if self.clock.now() >= instance.expire_at:
            raise APIError(
                ErrorCode.CONFLICT, f"InstanceId: the lease of {name!r} has ended; renew it first"
            )
        self._schedule(instance, self.timing.start_seconds, ("start_start",), "running")

    @_atomic
    def stop(self, name: str, *, force: bool) -> None:
        """Stop a running instance."""
        instance, _ = self._in_state(name, "StopInstance", "running")
        seconds = 0 if force else self.timing.stop_seconds
        self._schedule(instance, seconds, ("stopping",), "ready")

    @_atomic
    def reboot(self, name: str) -> None:
        """Reboot a running instance."""
        instance, _ = self._in_state(name, "RebootInstance", "running")
        self._schedule(instance, self.timing.reboot_seconds, ("stopping", "start_start"), "running")

    @_atomic
    def rebuild(self, name: str, template: Template | None) -> None:
        """Rewrite the system disk of an instance, which then returns to its state."""
        instance, status = self._in_state(name, "RebuildInstanceRootImage", "running", "ready")
        if template is not None:
            template.check_active(self.clock.now())
            instance = replace(instance, template=template)
        seconds = self.timing.rebuild_seconds
        instance = instance.scheduled(self.clock.now(), seconds, ("rebuild_root",), status)
        password, password_at = self._new_password(), instance.phases[-1][0]
        self._put(replace(instance, password=password, password_at=password_at))

    @_atomic
    def terminate(self, name: str) -> None:
        """Delete an instance in any state. Nothing is refunded."""
        instance, status = self.instance(name)
        if status != "deleting":
            self._schedule(instance, self.timing.terminate_seconds, ("deleting",), GONE)

    @_atomic
    def renew(self, name: str, lease: Lease) -> None:
        """Extend the lease of an instance and charge the account for it."""
        instance = self._renewable(name, "RenewInstance")
        now = self.clock.now()
        expire_at = lease.end(max(instance.expire_at, now), self.edition.grace)
        self._charge("RenewInstance", instance, lease)
        self._put(replace(instance.settled(now), expire_at=expire_at))

    @_atomic
    def change_type(
        self,
        name: str,
        instance_type: InstanceType,
        lease: Lease,
        disk: int | None = None,
        bandwidth: int | None = None,
    ) -> Instance:
        """
        Change the type of an instance and charge the account for a lease that begins now. The
        instance then returns to its state.

        :param disk: The new size of the data disk in GB; ``None``: as it is.
        :param bandwidth: The new bandwidth in Mbps that is added to the type's; ``None``: as it is.
        """
        instance, status = self._in_state(name, "ChangeInstanceType", "running", "ready")
        extras = Extras(
            instance.extras.disk if disk is None else disk,
            instance.extras.bandwidth if bandwidth is None else bandwidth,
        )
        instance_type.check_extras(extras)
        now = self.clock.now()
        instance = replace(
            instance.settled(now),
            type=instance_type,
            extras=extras,
            volume_ids=self._volume_ids(extras, instance.volume_ids),
            started_at=now,
            expire_at=lease.end(now, self.edition.grace),
        )
        self._charge("ChangeInstanceType", instance, lease)
        return self._schedule(instance, self.timing.change_seconds, (self.edition.change,), status)

    @_atomic
    def metadata(self, name: str) -> dict[str, str]:
        """Return the metadata of an instance: the template's entries, overridden by the user's."""
        instance = self.instance(name)[0]
        return {**instance.template.metadata, **instance.metadata}

    @_atomic
    def set_metadata(self, name: str, entries: Mapping[str, str]) -> None:
        """Set metadata of an instance."""
        instance = self.instance(name)[0]
        self._put(replace(instance, metadata={**instance.metadata, **entries}))

    @_atomic
    def password_data(self, name: str) -> tuple[Instance, str]:
        """Return an instance and its password, encrypted if it has a key pair."""
        instance, status = self.instance(name)
        if self.clock.now() < instance.password_at:
            yet = "" if status == FAILED else " yet"
            raise APIError(
                ErrorCode.CONFLICT, f"InstanceId: {name!r} is {status}; it has no password{yet}"
            )
        if instance.key_pair is None:
            return instance, instance.password
        return instance, encrypt(instance.password, instance.key_pair)

    # Helpers

    def _template(self, template_id: str, parameter: str) -> Template:
        template = self._content.templates.get(template_id)
        if template is None:
            raise APIError(
                ErrorCode.NOT_FOUND, f"{parameter}: there is no template {template_id!r}"
            )
        return template

    def _in_state(self, name: str, action: str, *wanted: str) -> tuple[Instance, str]:
        instance, status = self.instance(name)
        if status not in wanted:
            raise APIError(
                ErrorCode.CONFLICT,
                f"InstanceId: {action} needs {name!r} to be {' or '.join(wanted)}, it is {status}",
            )
        return instance, status

    def _check_free(self, name: str | None) -> None:
        if name in self._content.names:
            raise APIError(ErrorCode.CONFLICT, f"InstanceName: {name!r} is in use")

    def _renewable(self, name: str, action: str) -> Instance:
        instance, status = self.instance(name)
        if status in PERMANENT:
            raise APIError(
                ErrorCode.CONFLICT, f"InstanceId: {action} cannot keep {name!r}, it is {status}"
            )
        return instance

    def _schedule(
        self, instance: Instance, seconds: float, statuses: tuple[str, ...], final: str
    ) -> Instance:
        """Schedule phases of an instance from now on."""
        return self._put(instance.scheduled(self.clock.now(), seconds, statuses, final))

    def _put(self, instance: Instance) -> Instance:
        """Store an instance in place of its former state."""
        self._draft().put_instance(instance)
        return instance

    def _charge(self, action: str, instance: Instance, lease: Lease) -> None:
        """Charge the account for an instance, with its type and extras."""
        amount = lease.cost(instance.price)
        if amount > self.balance:
            raise APIError(ErrorCode.BALANCE, "No enough balance")
        self._draft().charge(self.clock.now(), action, instance.instance_id, amount)

    def _new_instance(self, order: Order) -> Instance:
        now, instance_id = self.clock.now(), self._new_id()
        addresses = self._addresses.allocate()
        return Instance(
            edition=self.edition,
            instance_id=instance_id,
            name=order.name or f"vm-{instance_id[:8]}",
            type=order.type,
            template=order.template,
            key_pair=order.key_pair,
            public_ip=addresses.public_ip,
            private_ip=addresses.private_ip,
            serial=addresses.serial,
            created_at=now,
            started_at=now,
            expire_at=order.lease.end(now, self.edition.grace),
            volume_ids=self._volume_ids(order.extras),
            password=self._new_password(),
            password_at=now,
            zone=order.zone,
            group=order.group,
            extras=order.extras,
        )

    def _volume_ids(self, extras: Extras, known: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the IDs of the disks of an instance, of which some may exist already."""
        count = 3 if extras.disk else 2
        return known[:count] + tuple(self._new_id() for _ in range(count - len(known)))

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._draw().getrandbits(128), version=4))

    def _new_password(self) -> str:
        return "".join(self._draw().choices(_CHARACTERS, k=12))

    def _draw(self) -> random.Random:
        # From the seed and a counter: an account that is restored continues the same sequence.
        state = self._draft()
        state.drawn += 1
        return random.Random(f"{self.seed}/{state.drawn}")
