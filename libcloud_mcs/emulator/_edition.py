"""The editions of the service: what differs between the specification and what came later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from libcloud_mcs.actions import ACTIONS, Action
from libcloud_mcs.emulator._catalog import CATALOG_2013, CATALOG_2017, Catalog

__all__ = ["EDITIONS", "Edition"]


@dataclass(frozen=True)
class Edition:
    """The service as it was in a year."""

    year: int
    catalog: Catalog
    #: The time for which an instance is kept after its lease.
    grace: timedelta
    #: The statuses of an instance that boots, in order.
    boot: tuple[str, ...]
    #: The status of an instance whose type changes.
    change: str
    #: The names of the parameters of later editions, which have no effect.
    ignored_params: frozenset[str]
    #: Whether each list has ``Total``, ``Limit`` and ``Offset``. Otherwise a list has them only if
    #: its request has ``Limit`` or ``Offset``, or if rows are missing.
    counts_all_lists: bool
    #: Whether templates have ``is_public``.
    has_public_templates: bool
    #: Whether the result of ``CreateInstance`` has ``volume``.
    has_volume_when_created: bool
    #: Whether the result of ``ChangeInstanceType`` is the instance.
    returns_changed_instance: bool

    @cached_property
    def actions(self) -> Mapping[str, Action]:
        """The actions by their names."""
        return {name: each for name, each in ACTIONS.items() if each.edition <= self.year}


#: The editions by their years.
EDITIONS = {
    each.year: each
    for each in (
        Edition(
            year=2013,
            catalog=CATALOG_2013,
            grace=timedelta(days=1),
            boot=("disk", "start_deploy", "deploying", "start_start"),
            change="change_flavor",
            ignored_params=frozenset(
                ("AvailabilityZoneId", "GroupId", "ExtraExtDisksize", "ExtraExtBandwidth")
            ),
            counts_all_lists=True,
            has_public_templates=False,
            has_volume_when_created=True,
            returns_changed_instance=False,
        ),
        Edition(
            year=2017,
            catalog=CATALOG_2017,
            grace=timedelta(days=7),
            boot=("schedule", "disk", "start_deploy", "deploying", "start_start"),
            change="disk",
            ignored_params=frozenset(),
            counts_all_lists=False,
            has_public_templates=True,
            has_volume_when_created=False,
            returns_changed_instance=True,
        ),
    )
}
