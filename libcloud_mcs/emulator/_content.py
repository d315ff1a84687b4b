"""The content of an account: what changes in it, and which changes are not saved yet."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from libcloud_mcs.emulator._catalog import Template
from libcloud_mcs.emulator._instances import GONE, Charge, Instance, KeyPair

__all__ = ["Changes", "Content"]


@dataclass
class Changes:
    """The unsaved changes of an account; ``None`` marks what was removed."""

    instances: dict[str, Instance | None] = field(default_factory=dict)
    key_pairs: dict[str, KeyPair | None] = field(default_factory=dict)
    templates: dict[str, Template | None] = field(default_factory=dict)
    charges: list[Charge] = field(default_factory=list)
    #: Whether there is more than the removal of expired instances, which can be repeated any time.
    requested: bool = False

    def copy(self) -> Changes:
        """Return a copy that can be changed."""
        return Changes(
            self.instances.copy(),
            self.key_pairs.copy(),
            self.templates.copy(),
            self.charges.copy(),
            self.requested,
        )


@dataclass
class Content:
    """
    Everything in an account that changes. Each method that changes something notes it in
    :attr:`changes`.
    """

    balance: Decimal
    balance_at: datetime | None
    #: The number of IDs and passwords that were made from the seed.
    drawn: int = 0
    ledger: list[Charge] = field(default_factory=list)
    instances: dict[str, Instance] = field(default_factory=dict)
    #: The instances by their names.
    names: dict[str, Instance] = field(default_factory=dict)
    #: A heap: when an instance may have to be removed, and its ID.
    removals: list[tuple[datetime, str]] = field(default_factory=list)
    key_pairs: dict[str, KeyPair] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    #: The changes that are not saved yet.
    changes: Changes = field(default_factory=Changes)
    #: The result of :meth:`listed`; ``None``: the instances have changed since.
    _listed: tuple[Instance, ...] | None = None

    def copy(self) -> Content:
        """Return a copy that can be changed."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in values.items():
            if isinstance(value, (dict, list, Changes)):
                values[name] = value.copy()
        return Content(**values)

    def find(self, name: str) -> Instance | None:
        """Return the instance with an ID or a name."""
        return self.instances.get(name) or self.names.get(name)

    def listed(self) -> tuple[Instance, ...]:
        """Return the instances, oldest first. Lists are requested more often than changed."""
        if self._listed is None:
            self._listed = tuple(self.instances.values())
        return self._listed

    def put_instance(self, instance: Instance) -> None:
        """Store an instance in place of its former state."""
        self._listed = None
        before = self.instances.get(instance.instance_id)
        self.instances[instance.instance_id] = self.names[instance.name] = instance
        self.changes.instances[instance.instance_id] = instance
        if before is None or before.gone_at != instance.gone_at:
            heapq.heappush(self.removals, (instance.gone_at, instance.instance_id))
        if len(self.removals) > 2 * len(self.instances) + 1000:
            # Most entries are of instances that were removed or renewed.
            self.removals = [(each.gone_at, name) for name, each in self.instances.items()]
            heapq.heapify(self.removals)

    def remove_instance(self, instance: Instance) -> None:
        """Remove an instance."""
        self._listed = None
        del self.instances[instance.instance_id]
        del self.names[instance.name]
        self.changes.instances[instance.instance_id] = None

    def is_removal_due(self, now: datetime) -> bool:
        """Return whether an instance may have to be removed."""
        return bool(self.removals) and self.removals[0][0] <= now

    def remove_gone(self, now: datetime) -> list[Instance]:
        """Remove the instances that do not exist any more, and return them."""
        gone = []
        while self.is_removal_due(now):
            instance = self.instances.get(heapq.heappop(self.removals)[1])
            if instance and instance.status(now) == GONE:
                self.remove_instance(instance)
                gone.append(instance)
        return gone

    def put_key_pair(self, key_pair: KeyPair) -> None:
        """Store a key pair."""
        self.key_pairs[key_pair.name] = self.changes.key_pairs[key_pair.name] = key_pair

    def remove_key_pair(self, key_pair: KeyPair) -> None:
        """Remove a key pair."""
        del self.key_pairs[key_pair.name]
        self.changes.key_pairs[key_pair.name] = None

    def put_template(self, template: Template) -> None:
        """Store a template."""
        self.templates[template.template_id] = template
        self.changes.templates[template.template_id] = template

    def remove_template(self, template: Template) -> None:
        """Remove a template."""
        del self.templates[template.template_id]
        self.changes.templates[template.template_id] = None

    def charge(self, at: datetime, action: str, instance_id: str, amount: Decimal) -> None:
        """Take a payment from the balance and note it in the ledger."""
        self.balance -= amount
        self.balance_at = at
        charge = Charge(at, action, instance_id, amount, self.balance)
        self.ledger.append(charge)
        self.changes.charges.append(charge)
