"""Lists of an endpoint: one page, chunks of IDs or names, whole lists."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from libcloud.compute.base import Node

from libcloud_mcs._arguments import node_name, required_id, several_things
from libcloud_mcs._convert import integer
from libcloud_mcs._outcomes import is_refusal
from libcloud_mcs._paging import Fetch, collect
from libcloud_mcs._wire_values import filters, numbered
from libcloud_mcs.actions import ACTIONS
from libcloud_mcs.errors import MCSError

if TYPE_CHECKING:
    from libcloud_mcs.connection import MCSConnection

__all__ = ["Filters", "Lists", "named_nodes"]

T = TypeVar("T")
Row = dict[str, Any]
Filters = Mapping[str, "str | Iterable[str]"]

#: The highest number of IDs or names in one request.
_NAMES_PER_REQUEST = 100


class Lists:
    """
    The lists that one connection can fetch.

    :param page_size: The number of rows to ask for in one request.
    :param concurrency: The highest number of requests in flight.
    """

    def __init__(self, connection: MCSConnection, page_size: int, concurrency: int) -> None:
        self._connection = connection
        self._page_size = page_size
        self._concurrency = concurrency

    def whole(
        self,
        action: str,
        read: Callable[[list[Row]], list[T]],
        identity: Callable[[T], Hashable],
        params: Mapping[str, str] | None = None,
        ex_filters: Filters | None = None,
        most: int | None = None,
    ) -> list[T]:
        """Fetch a whole list, page by page."""
        fetch = self.fetcher(action, read, params, ex_filters)
        return collect(fetch, identity, most, self._concurrency)

    def fetcher(
        self,
        action: str,
        read: Callable[[list[Row]], list[T]],
        params: Mapping[str, str] | None = None,
        ex_filters: Filters | None = None,
    ) -> Fetch[T]:
        """Return the function that fetches one page of a list and converts its rows."""
        entry = ACTIONS[action]
        wanted = {**(params or {}), **filters(entry, ex_filters)}
        limit = {"Limit": str(self._page_size)}

        def fetch(offset: int) -> tuple[list[T], int | None]:
            page = {**limit, "Offset": str(offset)}
            try:
                return self._connection.call(action, wanted | page, rows_and_total)
            except MCSError as error:
                if wanted or not limit or not is_refusal(error):
                    raise
                # The request has nothing to refuse but a limit that is too high here.
                limit.clear()
                return fetch(offset)

        def rows_and_total(response: Row) -> tuple[list[T], int | None]:
            return read(response[entry.item_key]), integer(response.get("Total"))

        return fetch


def named_nodes(
    ex_node_ids: Iterable[Node | str] | None,
    ex_names: Iterable[Node | str] | None,
    list_some: Callable[[dict[str, str], int | None], list[Node]],
    list_all: Callable[[], list[Node]],
) -> list[Node]:
    """
    List the nodes that have one of some IDs or names.

    :param ex_node_ids: Nodes, their IDs or their names.
    :param ex_names: Names, or the nodes that have them.
    :param list_some: Lists the nodes that match some parameters of ``DescribeInstances``, and
        perhaps others; its second argument is the highest possible number of them, if it is known.
    :param list_all: Lists all nodes.
    """
    wanted = [] if ex_node_ids is None else several_things(ex_node_ids, "ex_node_ids")
    ids = {required_id(node, Node, "ex_node_ids"): node for node in wanted}
    wanted = [] if ex_names is None else several_things(ex_names, "ex_names")
    names = dict.fromkeys(node_name(node, "ex_names") for node in wanted)
    found = {
        node.id: node
        for node in _in_chunks(
            list(ids),
            lambda some: list_some(numbered("InstanceId", some), len(some)),
            list_all,
        )
        # The endpoint takes names for IDs, too.
        if node.id in ids or isinstance(ids.get(node.name), str)
    }
    seen = {node.id for node in found.values()} | {node.name for node in found.values()}
    names |= dict.fromkeys(
        text for text, node in ids.items() if isinstance(node, str) and text not in seen
    )
    for node in _in_chunks(
        list(names), lambda some: list_some(numbered("InstanceName", some), None), list_all
    ):
        if node.name in names:
            found[node.id] = node
    return list(found.values())


def _in_chunks(
    wanted: list[str],
    list_some: Callable[[list[str]], list[T]],
    list_all: Callable[[], list[T]],
) -> list[T]:
    """
    List the things with some IDs or names, and perhaps others.

    :param wanted: The IDs or names.
    :param list_some: Lists the things with as many IDs or names as one request can have.
    :param list_all: Lists all things, where the endpoint refuses an ID or name.
    """
    found: list[T] = []
    for start in range(0, len(wanted), _NAMES_PER_REQUEST):
        try:
            found += list_some(wanted[start : start + _NAMES_PER_REQUEST])
        except MCSError as error:
            if not is_refusal(error):
                raise
            # Perhaps a thing does not exist. Only the whole list can tell which.
            return list_all()
    return found
