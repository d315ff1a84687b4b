"""Machines as Salt sees them: by name, as plain values, and never left behind without their ID."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeVar

from libcloud.compute.base import KeyPair, Node, NodeImage, NodeLocation, NodeSize
from libcloud.compute.types import NodeState

from libcloud_mcs._concurrency import concurrent_map
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.errors import MCSError, NotFoundError
from libcloud_mcs.records import Contract
from libcloud_mcs.salt._settings import Profile

__all__ = [
    "HalfMadeError",
    "address",
    "by_name",
    "destroy",
    "details",
    "expiring",
    "find",
    "find_if_any",
    "half_made",
    "list_machines",
    "plain",
    "sees",
    "summary",
    "wait",
]

_log = logging.getLogger(__name__)


Thing = TypeVar("Thing", Node, NodeImage, NodeSize, NodeLocation)


class HalfMadeError(Exception):
    """A machine was made, and then did not come up or could not be set up."""


# Finding


def list_machines(driver: MCSNodeDriver) -> dict[str, Node]:
    """List all machines that are not on their way out, by their names (see :func:`by_name`)."""
    return by_name(_there(driver.list_nodes()))


def find(driver: MCSNodeDriver, name: str) -> Node:
    """
    Find one machine on the server.

    :param name: Its name or its ID; looked for in this order.
    :raises NotFoundError: No machine has it, or several have that name.
    """
    if node := find_if_any(driver, name):
        return node
    message = f"no machine has the name or ID {name!r}"
    raise NotFoundError(message, action="DescribeInstances", driver=driver)


def find_if_any(driver: MCSNodeDriver, name: str) -> Node | None:
    """
    Find one machine on the server, or none.

    :raises NotFoundError: Several have that name.
    """
    found = _there(driver.list_nodes(ex_names=[name])) or _there(
        driver.list_nodes(ex_node_ids=[name])
    )
    if len(found) > 1:
        ids = ", ".join(str(node.id) for node in found)
        message = f"{len(found)} machines have the name {name!r}; name one by its ID: {ids}"
        raise NotFoundError(message, action="DescribeInstances", driver=driver)
    return found[0] if found else None


def sees(driver: MCSNodeDriver, node: Node) -> bool:
    """Check whether an account has a machine that is not being destroyed."""
    return bool(_there(driver.list_nodes(ex_node_ids=[node])))


def by_name(things: Iterable[Thing]) -> dict[str, Thing]:
    """
    Key things by their names, as Salt does, without losing one.

    Of several of one name the first stands under it, the others under their IDs.
    """
    found: dict[str, Thing] = {}
    for thing in things:
        found[str(thing.id if thing.name in found else thing.name)] = thing
    return found


def _there(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.state is not NodeState.TERMINATED]


def expiring(driver: MCSNodeDriver, within: timedelta) -> dict[str, dict[str, Any]]:
    """
    Find the machines whose leases end soon or have ended: one request for each machine.

    :param within: How soon.
    :return: Their leases, by their names.
    """
    machines = list_machines(driver)
    leases = concurrent_map(
        lambda node: _lease(driver, node), list(machines.values()), driver.concurrency
    )
    end = datetime.now(timezone.utc) + within
    return {
        name: {"id": node.id, **plain(lease)}
        for (name, node), lease in zip(machines.items(), leases, strict=True)
        if lease is not None and lease.expire_at <= end
    }


def _lease(driver: MCSNodeDriver, node: Node) -> Contract | None:
    try:
        return driver.ex_get_contract(node)
    except NotFoundError:
        # It went away after it was listed.
        return None


# Making


def wait(driver: MCSNodeDriver, node: Node, profile: Profile) -> tuple[Node, str]:
    """
    Wait until a machine runs and has an address.

    :return: The machine as it is now, and where to reach it.
    :raises MCSError: It has failed, is gone, or did not come up in time.
    """
    ((running, addresses),) = driver.wait_until_running(
        [node],
        wait_period=profile.wait_for_ip_interval,
        timeout=profile.wait_for_ip_timeout,
        ssh_interface=profile.ssh_interface,
    )
    return running, addresses[0]


def address(node: Node, interface: str) -> str:
    """
    Return the first address of a machine that runs.

    :param interface: ``public_ips`` or ``private_ips``.
    :raises ValueError: If it has none there.
    """
    addresses: list[str] = getattr(node, interface)
    if not addresses:
        raise ValueError(f"salt_interface: the machine has no address in {interface!r}")
    return addresses[0]


@contextmanager
def half_made(driver: MCSNodeDriver, node: Node, on_failure: str) -> Iterator[None]:
    """
    Do with a new machine what still has to be done; see to it when that fails.

    :param on_failure: What becomes of it then, see :class:`Profile`.
    :raises HalfMadeError: It failed. The message has the machine's ID and what became of it.
    """
    named = f"the machine {node.name!r} (ID {node.id})"
    try:
        yield
    except KeyboardInterrupt:
        # Whoever is in a hurry shall not wait for more requests, but has to know.
        _log.error("interrupted: %s was made, and is leased and kept", named)
        raise
    except Exception as error:
        try:
            became = _give_up(driver, node, on_failure)
        except MCSError as failed:
            became = f"and is still there: it could not be given up ({failed})"
        raise HalfMadeError(f"{named} was made, {became}. What failed: {error}") from error


def _give_up(driver: MCSNodeDriver, node: Node, on_failure: str) -> str:
    if on_failure == "destroy":
        driver.destroy_node(node)
        return "and is destroyed now"
    if on_failure == "expire":
        driver.stop_node(node, ex_force=True)
        return "and is stopped now, until its lease ends"
    return "and is kept as it is"


# Destroying


def destroy(driver: MCSNodeDriver, node: Node) -> None:
    """
    Destroy a machine. If somebody else has destroyed it meanwhile, that is no error.

    :raises MCSError: If it could not be destroyed and is still there.
    """
    try:
        driver.destroy_node(node)
    except MCSError as error:
        # With -P, Salt destroys a machine in one process for each provider that lists it.
        try:
            there = sees(driver, node)
        except MCSError:
            raise error from None
        if there:
            raise


# Plain values


def summary(node: Node) -> dict[str, Any]:
    """Give what Salt shows of a machine in a list."""
    return {
        "id": node.id,
        "name": node.name,
        "image": plain(node.image and node.image.name),
        "size": plain(node.size and node.size.name),
        "state": plain(node.state),
        "private_ips": plain(node.private_ips),
        "public_ips": plain(node.public_ips),
    }


def details(node: Node) -> dict[str, Any]:
    """Give all that is known of a machine; ``extra`` has the API's own fields."""
    return {**summary(node), "created_at": plain(node.created_at), "extra": plain(node.extra)}


#: What Salt shows of libcloud's objects.
_SHOWN = {
    NodeImage: ("id", "name", "extra"),
    NodeSize: ("id", "name", "ram", "disk", "bandwidth", "price", "extra"),
    NodeLocation: ("id", "name", "country"),
    KeyPair: ("name", "fingerprint", "extra"),
}


def plain(value: Any) -> Any:
    """
    Make a value of such types that Salt can show, send and cache it.

    Times become text in ISO 8601, amounts of money text, so that no digit is lost.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        # NodeState is a str with a form of its own.
        return str(value) if isinstance(value, str) else value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    return {name: plain(getattr(value, name)) for name in _SHOWN[type(value)]}
