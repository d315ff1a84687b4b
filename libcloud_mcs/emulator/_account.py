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
from datetime import datetime, timedelta
from decimal import Decimal
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from libcloud_mcs.emulator._addresses import AddressPair, AddressPool
from libcloud_mcs.emulator._catalog import Catalog, InstanceType, Template
from libcloud_mcs.emulator._clock import LATEST, Clock, later
from libcloud_mcs.emulator._content import Changes, Content
from libcloud_mcs.emulator._errors import APIError, ErrorCode
from libcloud_mcs.emulator._instances import (
    FAILED,
    GONE,
    PERMANENT,
    Charge,
    Instance,
    KeyPair,
    Lease,
    Timing,
)
from libcloud_mcs.emulator._public_keys import encrypt, fingerprint
from libcloud_mcs.emulator._transactions import Cell, Transactions

__all__ = ["AccountState"]

_CHARACTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_BOOT = ("disk", "start_deploy", "deploying", "start_start")

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
    :param catalog: The templates of a new account, and the instance types.
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
        catalog: Catalog,
        seed: str,
        balance: Decimal,
        timing: Timing,
        addresses: AddressPool,
        transactions: Transactions,
    ) -> None:
        self.clock = clock
        self.catalog = catalog
        self.timing = timing
        self.seed = seed
        self._transactions = transactions
        self._addresses = addresses
        balance = balance.quantize(Decimal("0.01"))
        content = Content(balance, clock.now() if balance else None)
        for template in catalog.templates:
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
        template = self._content.templates.get(template_id)
        if template is None:
            raise APIError(ErrorCode.NOT_FOUND, f"ImageId: there is no template {template_id!r}")
        return template

    def instance_type(self, name: str) -> InstanceType:
        """Return an instance type by its ID or name."""
        instance_type = self.catalog.instance_type(name)
        if instance_type is None:
            raise APIError(ErrorCode.NOT_FOUND, f"InstanceType: there is no type {name!r}")
        return instance_type

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
    def instances(self) -> list[Instance]:
        """Return the instances, oldest first."""
        self.remove_expired()
        return list(self._content.instances.values())

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

    # Changes of instances

    @_atomic
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
        Create an instance and charge the account for it.

        :param boots: Whether the instance boots. An instance that fails to boot has no password,
            and can only be terminated.
        """
        self.remove_expired()
        _check_active(template)
        self._check_free(name)
        instance_id = self._new_id()
        addresses = self._addresses.allocate()
        name = name or f"vm-{instance_id[:8]}"
        instance = self._new_instance(
            instance_id, name, template, instance_type, lease, key_pair, addresses
        )
        self._charge("CreateInstance", instance_id, lease.price(instance_type))
        if boots:
            phases = self._phases(instance, self.timing.boot_seconds, _BOOT, "running")
            password_at = phases[-2][0]
        else:
            phases = self._phases(instance, self.timing.boot_seconds, _BOOT[:-1], FAILED)
            password_at = LATEST
        return self._put(replace(instance, phases=phases, password_at=password_at))

    @_atomic
    def add_running(self, *names: str) -> None:
        """Add instances that run already and cost nothing."""
        self.remove_expired()
        for name in names:
            self._check_free(name)
            addresses, month = self._addresses.allocate(), Lease(1, "M")
            template, instance_type = self.catalog.templates[0], self.catalog.types[1]
            instance = self._new_instance(
                self._new_id(), name, template, instance_type, month, None, addresses
            )
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
            _check_active(template)
            instance = replace(instance, template=template)
        phases = self._phases(instance, self.timing.rebuild_seconds, ("rebuild_root",), status)
        password = self._new_password()
        self._put(replace(instance, phases=phases, password=password, password_at=phases[-1][0]))

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
        expire_at = lease.end(max(instance.expire_at, self.clock.now()))
        self._charge("RenewInstance", instance.instance_id, lease.price(instance.type))
        self._put(replace(self._settled(instance), expire_at=expire_at))

    @_atomic
    def change_type(self, name: str, instance_type: InstanceType, lease: Lease) -> None:
        """
        Change the type of an instance and charge the account for a lease that begins now. The
        instance then returns to its state.
        """
        instance, status = self._in_state(name, "ChangeInstanceType", "running", "ready")
        now = self.clock.now()
        expire_at = lease.end(now)
        self._charge("ChangeInstanceType", instance.instance_id, lease.price(instance_type))
        instance = replace(
            self._settled(instance), type=instance_type, started_at=now, expire_at=expire_at
        )
        self._schedule(instance, self.timing.change_seconds, ("change_flavor",), status)

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
    ) -> None:
        """Schedule phases of an instance from now on."""
        self._put(replace(instance, phases=self._phases(instance, seconds, statuses, final)))

    def _phases(
        self, instance: Instance, seconds: float, statuses: tuple[str, ...], final: str
    ) -> tuple[tuple[datetime, str], ...]:
        """Return the next phases of an instance, equally long, and the status after them."""
        now = self.clock.now()
        whole = timedelta(seconds=seconds)
        current = [phase for phase in instance.phases if phase[0] <= now][-1:]
        following = [
            (later(now, whole * n / len(statuses)), status)
            for n, status in enumerate((*statuses, final))
        ]
        return (*current, *following)

    def _put(self, instance: Instance) -> Instance:
        """Store an instance in place of its former state."""
        self._draft().put_instance(instance)
        return instance

    def _settled(self, instance: Instance) -> Instance:
        """Record the end of a lease as a phase, before the lease is changed."""
        if self.clock.now() < instance.expire_at:
            return instance
        return replace(instance, phases=((instance.expire_at, "ready"),))

    def _charge(self, action: str, instance_id: str, amount: Decimal) -> None:
        if amount > self.balance:
            raise APIError(ErrorCode.BALANCE, "No enough balance")
        self._draft().charge(self.clock.now(), action, instance_id, amount)

    def _new_instance(
        self,
        instance_id: str,
        name: str,
        template: Template,
        instance_type: InstanceType,
        lease: Lease,
        key_pair: KeyPair | None,
        addresses: AddressPair,
    ) -> Instance:
        now = self.clock.now()
        return Instance(
            instance_id=instance_id,
            name=name,
            type=instance_type,
            template=template,
            key_pair=key_pair,
            public_ip=addresses.public_ip,
            private_ip=addresses.private_ip,
            serial=addresses.serial,
            created_at=now,
            started_at=now,
            expire_at=lease.end(now),
            volume_ids=(self._new_id(), self._new_id()),
            password=self._new_password(),
            password_at=now,
        )

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._draw().getrandbits(128), version=4))

    def _new_password(self) -> str:
        return "".join(self._draw().choices(_CHARACTERS, k=12))

    def _draw(self) -> random.Random:
        # From the seed and a counter: an account that is restored continues the same sequence.
        state = self._draft()
        state.drawn += 1
        return random.Random(f"{self.seed}/{state.drawn}")


def _check_active(template: Template) -> None:
    if template.status != "active":
        raise APIError(
            ErrorCode.CONFLICT,
            f"ImageId: the template {template.template_id!r} is {template.status}, not active",
        )
