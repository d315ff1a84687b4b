"""The machines of a provider, by name and as plain values."""

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
    "IncompleteMachineError",
    "address",
    "by_name",
    "clean_up_on_error",
    "destroy",
    "details",
    "exists",
    "expiring",
    "find",
    "find_if_any",
    "list_machines",
    "plain",
    "plain_by_name",
    "summary",
    "wait",
]

_log = logging.getLogger(__name__)

Thing = TypeVar("Thing", Node, NodeImage, NodeSize, NodeLocation)


class IncompleteMachineError(Exception):
    """A machine was created, but could not be set up."""


# Lists


def list_machines(driver: MCSNodeDriver) -> dict[str, Node]:
    """List the machines that are not being destroyed, by name (see :func:`by_name`)."""
    return by_name(_not_terminated(driver.list_nodes()))


def find(driver: MCSNodeDriver, name: str) -> Node:
    """
    Find a machine by its name or, if no machine has that name, by its ID.

    :param name: The name or ID.
    :raises NotFoundError: If there is no such machine, or several machines have that name.
    """
    if node := find_if_any(driver, name):
        return node
    message = f"no machine has the name or ID {name!r}"
    raise NotFoundError(message, action="DescribeInstances", driver=driver)


def find_if_any(driver: MCSNodeDriver, name: str) -> Node | None:
    """
    Find a machine as :func:`find` does, or return ``None``.

    :raises NotFoundError: If several machines have that name.
    """
    nodes = _not_terminated(driver.list_nodes(ex_names=[name])) or _not_terminated(
        driver.list_nodes(ex_node_ids=[name])
    )
    if len(nodes) > 1:
        ids = ", ".join(str(node.id) for node in nodes)
        message = f"{len(nodes)} machines have the name {name!r}; name one by its ID: {ids}"
        raise NotFoundError(message, action="DescribeInstances", driver=driver)
    return nodes[0] if nodes else None


def exists(driver: MCSNodeDriver, node: Node) -> bool:
    """Check whether the account has a machine and is not destroying the machine."""
    return bool(_not_terminated(driver.list_nodes(ex_node_ids=[node])))


def by_name(things: Iterable[Thing]) -> dict[str, Thing]:
    """
    Return objects by name, as Salt lists them.

    Of several objects with the same name, the first is listed by name, the others by ID.
    """
    result: dict[str, Thing] = {}
    for thing in things:
        result[str(thing.id if thing.name in result else thing.name)] = thing
    return result


def _not_terminated(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.state is not NodeState.TERMINATED]


def expiring(driver: MCSNodeDriver, within: timedelta) -> dict[str, dict[str, Any]]:
    """
    Return the leases that end within a time or have ended, with one request for each machine.

    :param within: The time.
    :return: The leases, by the names of the machines.
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
        # The machine was destroyed after the list was read.
        return None


# Creation


def wait(driver: MCSNodeDriver, node: Node, profile: Profile) -> tuple[Node, str]:
    """
    Wait until a machine is running and has an address.

    :return: The machine in its new state, and its address.
    :raises MCSError: If the machine failed, no longer exists, or is not running in time.
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
    Return the first address of a running machine.

    :param interface: ``public_ips`` or ``private_ips``.
    :raises ValueError: If the machine has no such address.
    """
    addresses: list[str] = getattr(node, interface)
    if not addresses:
        raise ValueError(f"salt_interface: the machine has no address in {interface!r}")
    return addresses[0]


@contextmanager
def clean_up_on_error(driver: MCSNodeDriver, node: Node, on_failure: str) -> Iterator[None]:
    """
    Carry out the ``on_failure`` of a new machine's profile if its setup fails.

    :param on_failure: See :class:`Profile`.
    :raises IncompleteMachineError: If the setup fails. The message has the machine's ID and says
        what was done with the machine.
    """
    machine = f"the machine {node.name!r} (ID {node.id})"
    try:
        yield
    except KeyboardInterrupt:
        # The user does not wait for more requests, but needs the ID.
        _log.error("interrupted: %s was created; the machine is leased and kept", machine)
        raise
    except Exception as error:
        try:
            outcome = _clean_up(driver, node, on_failure)
        except MCSError as cleanup_error:
            outcome = f"still exists, because {on_failure!r} failed ({cleanup_error})"
        raise IncompleteMachineError(
            f"{machine} was created but could not be set up; the machine {outcome}. Cause: {error}"
        ) from error


def _clean_up(driver: MCSNodeDriver, node: Node, on_failure: str) -> str:
    if on_failure == "destroy":
        driver.destroy_node(node)
        return "was destroyed"
    if on_failure == "expire":
        driver.stop_node(node, ex_force=True)
        return "was stopped until its lease ends"
    return "is kept"


# Destruction


def destroy(driver: MCSNodeDriver, node: Node) -> None:
    """
    Destroy a machine, unless another process has destroyed the machine meanwhile.

    :raises MCSError: If the machine could not be destroyed and still exists.
    """
    try:
        driver.destroy_node(node)
    except MCSError as error:
        # With -P, Salt destroys a machine in one process for each provider that lists the machine.
        try:
            still_exists = exists(driver, node)
        except MCSError:
            raise error from None
        if still_exists:
            raise


# Plain values


def summary(node: Node) -> dict[str, Any]:
    """Return the fields of a machine in Salt's lists."""
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
    """Return all fields of a machine; ``extra`` has the API's own fields."""
    return {**summary(node), "created_at": plain(node.created_at), "extra": plain(node.extra)}


#: The attributes of libcloud's objects that Salt shows.
_ATTRIBUTES = {
    NodeImage: ("id", "name", "extra"),
    NodeSize: ("id", "name", "ram", "disk", "bandwidth", "price", "extra"),
    NodeLocation: ("id", "name", "country", "extra"),
    KeyPair: ("name", "fingerprint", "extra"),
}


def plain_by_name(things: Iterable[Thing]) -> dict[str, Any]:
    """Return objects as plain values, by name (see :func:`by_name`)."""
    return {name: plain(thing) for name, thing in by_name(things).items()}


def plain(value: Any) -> Any:
    """
    Convert a value to types that Salt can show, send and cache.

    Times become text in ISO 8601; amounts of money become text to keep all digits.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        # NodeState is a subclass of str, which Salt cannot serialize.
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
    return {name: plain(getattr(value, name)) for name in _ATTRIBUTES[type(value)]}
