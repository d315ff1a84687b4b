"""Waiting until nodes run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from libcloud.compute.base import Node
from libcloud.compute.types import NodeState

from libcloud_mcs.errors import MCSError

__all__ = ["until_running"]

#: So many looks in a row a node may be missing: it may only just be made.
_LOOKS_UNTIL_GONE = 3


def until_running(
    look: Callable[[], list[Node]],
    names: Mapping[str, str],
    addresses_of: Callable[[Node], list[str]],
    wait_period: float,
    timeout: float,
    may_miss: bool,
) -> list[tuple[Node, list[str]]]:
    """
    Wait until nodes run and have an address.

    :param look: Lists nodes, these among them.
    :param names: Their IDs and names.
    :param addresses_of: Gives those addresses of a node that count.
    :param wait_period: Seconds between two looks, at most; the first come sooner.
    :param timeout: Seconds after which to give up.
    :param may_miss: Whether nodes that stay missing are waited for none the less.
    :return: Each node as it is now, with its addresses.
    :raises MCSError: A node has failed, is gone, or did not come up in time.
    """
    end = time.monotonic() + timeout
    missing = dict.fromkeys(names, 0)
    interval = wait_period / 8
    while True:
        found = {node.id: node for node in look()}
        up = []
        for node_id, name in names.items():
            node = found.get(node_id)
            if node is None:
                missing[node_id] += 1
                if missing[node_id] == _LOOKS_UNTIL_GONE and not may_miss:
                    raise MCSError(f"{name!r} is gone")
                continue
            missing[node_id] = 0
            _check_can_come_up(node)
            if node.state is NodeState.RUNNING and (addresses := addresses_of(node)):
                up.append((node, addresses))
        if len(up) == len(names):
            return up
        left = end - time.monotonic()
        if left <= 0:
            states = [
                f"{name!r} is {found[node_id].extra.get('status') if node_id in found else 'gone'}"
                for node_id, name in names.items()
            ]
            raise MCSError(f"Timed out after {timeout} seconds: {', '.join(states)}")
        time.sleep(min(interval, left))
        interval = min(interval * 1.5, wait_period)


def _check_can_come_up(node: Node) -> None:
    status = node.extra.get("status")
    if node.state in (NodeState.ERROR, NodeState.TERMINATED) or status == "start_fail":
        raise MCSError(f"{node.name!r} cannot come up any more: it is {status}")
