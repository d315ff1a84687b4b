"""Lists of an endpoint: single pages, chunks of IDs or names, complete lists."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from libcloud.compute.base import Node

from libcloud_mcs._arguments import items_or_keys, node_name, required_id
from libcloud_mcs._convert import integer
from libcloud_mcs._outcomes import is_refusal
from libcloud_mcs._paging import Fetch, Rows, collect
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

    :param page_size: The number of rows that one request asks for.
    :param concurrency: The highest number of simultaneous requests.
    """

    def __init__(self, connection: MCSConnection, page_size: int, concurrency: int) -> None:
        self._connection = connection
        self._page_size = page_size
        self._concurrency = concurrency

    def fetch_all(
        self,
        action: str,
        read: Callable[[list[Row]], list[T]],
        identity: Callable[[T], Hashable],
        params: Mapping[str, str] | None = None,
        ex_filters: Filters | None = None,
        max_rows: int | None = None,
    ) -> list[T]:
        """
        Fetch a complete list, page by page.

        :param action: The name of the action.
        :param read: The function that converts the rows of a page.
        :param identity: The function that returns the ID of a row.
        :param params: The parameters of the action, without filters and the page.
        :param ex_filters: The caller's filters.
        :param max_rows: The highest possible number of rows, where it is known.
        """
        fetch = self.fetcher(action, read, params, ex_filters)
        return collect(fetch, identity, max_rows, self._concurrency)

    def fetcher(
        self,
        action: str,
        read: Callable[[list[Row]], list[T]],
        params: Mapping[str, str] | None = None,
        ex_filters: Filters | None = None,
    ) -> Fetch[T]:
        """Return the function that fetches one page of a list."""
        entry = ACTIONS[action]
        selection = {**(params or {}), **filters(entry, ex_filters)}
        limit = {"Limit": str(self._page_size)}

        def fetch(offset: int) -> Callable[[], Rows[T]]:
            page = {**limit, "Offset": str(offset)}
            try:
                return self._connection.fetch(action, selection | page, rows_and_total)
            except MCSError as error:
                if selection or not limit or not is_refusal(error):
                    raise
                # Only the limit can be refused: it is too high for this endpoint.
                limit.clear()
                return fetch(offset)

        def rows_and_total(response: Row) -> Rows[T]:
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
    :param list_some: The function that lists the nodes that match some parameters of
        ``DescribeInstances``, and perhaps others. Its second argument is the highest possible
        number of nodes, if it is known.
    :param list_all: The function that lists all nodes.
    """
    by_id = [] if ex_node_ids is None else items_or_keys(ex_node_ids, "ex_node_ids")
    ids = {required_id(node, Node, "ex_node_ids"): node for node in by_id}
    by_name = [] if ex_names is None else items_or_keys(ex_names, "ex_names")
    names = dict.fromkeys(node_name(node, "ex_names") for node in by_name)
    nodes = {
        node.id: node
        for node in _in_chunks(
            list(ids),
            lambda some: list_some(numbered("InstanceId", some), len(some)),
            list_all,
        )
        # The endpoint accepts names as IDs.
        if node.id in ids or isinstance(ids.get(node.name), str)
    }
    matched = {node.id for node in nodes.values()} | {node.name for node in nodes.values()}
    names |= dict.fromkeys(
        text for text, node in ids.items() if isinstance(node, str) and text not in matched
    )
    for node in _in_chunks(
        list(names), lambda some: list_some(numbered("InstanceName", some), None), list_all
    ):
        if node.name in names:
            nodes[node.id] = node
    return list(nodes.values())


def _in_chunks(
    named: list[str],
    list_some: Callable[[list[str]], list[T]],
    list_all: Callable[[], list[T]],
) -> list[T]:
    """
    List the things with some IDs or names, and perhaps others.

    :param named: The IDs or names.
    :param list_some: The function that lists the things of one request's IDs or names.
    :param list_all: The function that lists all things, if the endpoint refuses an ID or name.
    """
    things: list[T] = []
    for start in range(0, len(named), _NAMES_PER_REQUEST):
        try:
            things += list_some(named[start : start + _NAMES_PER_REQUEST])
        except MCSError as error:
            if not is_refusal(error):
                raise
            # A thing may not exist. Only the complete list shows which.
            return list_all()
    return things
