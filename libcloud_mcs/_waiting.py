"""Waiting until nodes run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from libcloud.compute.base import Node
from libcloud.compute.types import NodeState

from libcloud_mcs.errors import MCSError, NotFoundError

__all__ = ["INTERFACES", "Addresses", "until_running"]

#: Where a node's addresses are, and what the addresses there are called.
INTERFACES = {"public_ips": "public", "private_ips": "private"}
#: So many looks in a row a node may be missing: it may only just be made.
_LOOKS_UNTIL_GONE = 3
#: No sleep is longer, in seconds.
_LONGEST_SLEEP = 3600.0


class Addresses(NamedTuple):
    """Which addresses of a node are waited for."""

    #: ``public_ips`` or ``private_ips``.
    interface: str
    force_ipv4: bool

    def of(self, node: Node) -> list[str]:
        """Return those that a node has."""
        return self._of(node, self.interface)

    def missing(self, node: Node) -> str:
        """Describe the addresses that a node has instead, and how to wait for those."""
        family = "IPv4 " if self.force_ipv4 else ""
        words = (
            f"runs but has no {INTERFACES[self.interface]} {family}address"
            f" (ssh_interface={self.interface!r})"
        )
        have = [
            f"{kind} {address}"
            for interface, kind in INTERFACES.items()
            for address in getattr(node, interface)
        ]
        words += f", only {', '.join(have)}" if have else " and no other"
        for interface in INTERFACES:
            if self._of(node, interface):
                words += f"; ssh_interface={interface!r} waits for {self._of(node, interface)[0]}"
        if getattr(node, self.interface):
            words += "; wait_until_running(…, force_ipv4=False) waits for IPv6 addresses too"
        return words

    def _of(self, node: Node, interface: str) -> list[str]:
        addresses: list[str] = getattr(node, interface)
        return [each for each in addresses if not self.force_ipv4 or ":" not in each]


class _Awaited:
    """
    One node that is waited for.

    :ivar named: The node, or its ID or name until a look has found the node.
    :ivar node: The node as the last look saw it.
    """

    def __init__(self, named: Node | str) -> None:
        self.named = named
        self.node: Node | None = None
        self.missed = 0

    def __str__(self) -> str:
        return repr(self.named.name if isinstance(self.named, Node) else self.named)

    def see(self, by_id: dict[str, Node], by_name: dict[str, Node]) -> None:
        """Find the node among those of a look."""
        if isinstance(self.named, Node):
            self.node = by_id.get(str(self.named.id))
        else:
            self.node = by_id.get(self.named) or by_name.get(self.named)
        self.missed = 0 if self.node else self.missed + 1
        self.named = self.node or self.named

    def is_up(self, addresses: Addresses) -> bool:
        """Check whether the node runs and has an address."""
        node = self.node
        return node is not None and node.state is NodeState.RUNNING and bool(addresses.of(node))

    def error(self, may_miss: bool) -> MCSError | None:
        """Return why the node cannot come up any more, ``None`` where it still can."""
        if self.node is None:
            if may_miss or self.missed < _LOOKS_UNTIL_GONE:
                return None
            if isinstance(self.named, Node):
                return MCSError(f"{self} is gone")
            return NotFoundError(f"no node has the ID or name {self}")
        status = self.node.extra.get("status")
        if self.node.state in (NodeState.ERROR, NodeState.TERMINATED) or status == "start_fail":
            return MCSError(f"{self} cannot come up any more: it is {status}")
        return None


def until_running(
    look: Callable[[list[Node | str]], list[Node]],
    nodes: Iterable[Node | str],
    addresses: Addresses,
    wait_period: float,
    timeout: float,
    may_miss: bool,
) -> list[tuple[Node, list[str]]]:
    """
    Wait until nodes run and have an address.

    :param look: Lists nodes, those among them that it is given.
    :param nodes: The nodes, their IDs or names.
    :param addresses: Which addresses count.
    :param wait_period: Seconds between two looks, at most; the first come sooner.
    :param timeout: Seconds after which to give up.
    :param may_miss: Whether nodes that stay missing are waited for nevertheless.
    :return: Each node as it is now, with its addresses.
    :raises MCSError: If a node has failed, is gone, or did not come up in time.
    """
    end = time.monotonic() + timeout
    all_awaited = [_Awaited(node) for node in nodes]
    interval = wait_period / 8
    while True:
        _poll(look, all_awaited, may_miss)
        late = [awaited for awaited in all_awaited if not awaited.is_up(addresses)]
        if not late:
            up = {each.node.id: each.node for each in all_awaited if each.node}
            return [(node, addresses.of(node)) for node in up.values()]
        left = end - time.monotonic()
        if left <= 0:
            raise _timed_out(late, addresses, timeout)
        time.sleep(min(interval, left, _LONGEST_SLEEP))
        interval = min(interval * 1.5, wait_period)


def _poll(
    look: Callable[[list[Node | str]], list[Node]], all_awaited: list[_Awaited], may_miss: bool
) -> None:
    """
    Query all nodes once.

    :raises MCSError: If a node cannot come up any more.
    """
    found = look([awaited.named for awaited in all_awaited])
    by_id = {str(node.id): node for node in found}
    # A node that is being deleted may still have the name.
    by_name = {node.name: node for node in sorted(found, key=_stays)}
    for awaited in all_awaited:
        awaited.see(by_id, by_name)
        if error := awaited.error(may_miss):
            raise error


def _timed_out(late: list[_Awaited], addresses: Addresses, timeout: float) -> MCSError:
    states = ", ".join(f"{each} {_state(each.node, addresses)}" for each in late)
    return MCSError(f"Timed out after {timeout} seconds: {states}")


def _stays(node: Node) -> bool:
    return node.state is not NodeState.TERMINATED


def _state(node: Node | None, addresses: Addresses) -> str:
    if node is None:
        return "is missing"
    if node.state is NodeState.RUNNING:
        return addresses.missing(node)
    return f"is {node.extra.get('status')}"
