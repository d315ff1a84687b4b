"""Polling until nodes run and have addresses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from libcloud.compute.base import Node
from libcloud.compute.types import NodeState

from libcloud_mcs.errors import MCSError, NotFoundError

__all__ = ["INTERFACES", "Addresses", "until_running"]

#: The attributes of a node that have addresses, and the adjectives for them in messages.
INTERFACES = {"public_ips": "public", "private_ips": "private"}
#: The number of consecutive queries without a node after which the node counts as missing: a new
#: node may not be listed immediately.
_MAX_MISSES = 3
#: The maximum delay in seconds between two queries.
_MAX_DELAY = 3600.0


class Addresses(NamedTuple):
    """The addresses that a node has to have."""

    #: ``public_ips`` or ``private_ips``.
    interface: str
    #: Whether IPv6 addresses are ignored.
    force_ipv4: bool

    def of(self, node: Node) -> list[str]:
        """Return the matching addresses of a node."""
        return self._of(node, self.interface)

    def describe_others(self, node: Node) -> str:
        """Describe the addresses of a node without a matching one, and how to wait for them."""
        family = "IPv4 " if self.force_ipv4 else ""
        text = (
            f"runs but has no {INTERFACES[self.interface]} {family}address"
            f" (ssh_interface={self.interface!r})"
        )
        others = [
            f"{kind} {address}"
            for interface, kind in INTERFACES.items()
            for address in getattr(node, interface)
        ]
        text += f", only {', '.join(others)}" if others else " and no other"
        for interface in INTERFACES:
            if matching := self._of(node, interface):
                text += f"; ssh_interface={interface!r} waits for {matching[0]}"
        if getattr(node, self.interface):
            text += "; wait_until_running(…, force_ipv4=False) waits for IPv6 addresses too"
        return text

    def _of(self, node: Node, interface: str) -> list[str]:
        addresses: list[str] = getattr(node, interface)
        return [each for each in addresses if not self.force_ipv4 or ":" not in each]


class _Awaited:
    """
    A node that has to run.

    :ivar named: The node; until a query has found the node, the ID or name of the caller.
    :ivar node: The node of the last query, ``None`` if the query did not find the node.
    :ivar misses: The number of consecutive queries that did not find the node.
    """

    def __init__(self, named: Node | str) -> None:
        self.named = named
        self.node: Node | None = None
        self.misses = 0

    def __str__(self) -> str:
        return repr(self.named.name if isinstance(self.named, Node) else self.named)

    def update(self, by_id: dict[str, Node], by_name: dict[str, Node]) -> None:
        """Find the node among the nodes of a query."""
        if isinstance(self.named, Node):
            self.node = by_id.get(str(self.named.id))
        else:
            self.node = by_id.get(self.named) or by_name.get(self.named)
        self.misses = 0 if self.node else self.misses + 1
        self.named = self.node or self.named

    def is_ready(self, addresses: Addresses) -> bool:
        """Check whether the node runs and has a matching address."""
        node = self.node
        return node is not None and node.state is NodeState.RUNNING and bool(addresses.of(node))

    def error(self, may_be_missing: bool) -> MCSError | None:
        """Return the error of a node that cannot run any more, ``None`` if the node still can."""
        if self.node is None:
            if may_be_missing or self.misses < _MAX_MISSES:
                return None
            if isinstance(self.named, Node):
                return MCSError(f"the node {self} does not exist any more")
            return NotFoundError(f"no node has the ID or name {self}")
        status = self.node.extra.get("status")
        if self.node.state in (NodeState.ERROR, NodeState.TERMINATED) or status == "start_fail":
            return MCSError(f"the node {self} cannot run any more: its status is {status!r}")
        return None


def until_running(
    list_nodes: Callable[[list[Node | str]], list[Node]],
    nodes: Iterable[Node | str],
    addresses: Addresses,
    wait_period: float,
    timeout: float,
    may_be_missing: bool,
) -> list[tuple[Node, list[str]]]:
    """
    Wait until nodes run and have a matching address.

    :param list_nodes: The function that lists nodes. The result may have other nodes than the
        arguments.
    :param nodes: The nodes, their IDs or names.
    :param addresses: The addresses that match.
    :param wait_period: The longest time in seconds between two queries; the first intervals are
        shorter.
    :param timeout: The longest time in seconds to wait.
    :param may_be_missing: Whether a node that is not listed is not an error.
    :return: The current nodes with their matching addresses.
    :raises MCSError: If a node failed, does not exist any more, or did not run in time.
    :raises NotFoundError: If no node has an ID or name of the arguments.
    """
    end = time.monotonic() + timeout
    awaited = [_Awaited(node) for node in nodes]
    interval = wait_period / 8
    while True:
        _query(list_nodes, awaited, may_be_missing)
        pending = [item for item in awaited if not item.is_ready(addresses)]
        if not pending:
            running = {item.node.id: item.node for item in awaited if item.node}
            return [(node, addresses.of(node)) for node in running.values()]
        remaining = end - time.monotonic()
        if remaining <= 0:
            raise _timed_out(pending, addresses, timeout)
        time.sleep(min(interval, remaining, _MAX_DELAY))
        interval = min(interval * 1.5, wait_period)


def _query(
    list_nodes: Callable[[list[Node | str]], list[Node]],
    awaited: list[_Awaited],
    may_be_missing: bool,
) -> None:
    """
    Query all nodes once.

    :raises MCSError: If a node cannot run any more.
    """
    nodes = list_nodes([item.named for item in awaited])
    by_id = {str(node.id): node for node in nodes}
    # A node that is being deleted may have the same name. Of two nodes, the last one counts.
    by_name = {node.name: node for node in sorted(nodes, key=_is_not_terminated)}
    for item in awaited:
        item.update(by_id, by_name)
        if error := item.error(may_be_missing):
            raise error


def _timed_out(pending: list[_Awaited], addresses: Addresses, timeout: float) -> MCSError:
    states = ", ".join(f"{item} {_describe(item.node, addresses)}" for item in pending)
    # libcloud's own words for this error.
    return MCSError(f"Timed out after {timeout} seconds: {states}")


def _is_not_terminated(node: Node) -> bool:
    return node.state is not NodeState.TERMINATED


def _describe(node: Node | None, addresses: Addresses) -> str:
    if node is None:
        return "is missing"
    if node.state is NodeState.RUNNING:
        return addresses.describe_others(node)
    return f"has the status {node.extra.get('status')!r}"
