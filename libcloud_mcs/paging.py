"""
Whole lists from an endpoint that answers in pages.

Nothing is known for sure of the endpoint's paging: how many rows it gives when it is not told,
how many at most, whether it says how many there are. And rows come and go between two pages, which
moves all rows behind them. So each page but the first starts with the last row of the one before:
where it does not, the rows have moved, and the walk is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["collect"]

Row = dict[str, Any]
#: Gives the rows from an offset on, and the endpoint's total where it told one.
Fetch = Callable[[int], tuple[list[Row], "int | None"]]

_WALKS = 3


def collect(fetch: Fetch, identity: Callable[[Row], str], most: int | None = None) -> list[Row]:
    """
    Fetch all rows of a list.

    :param fetch: Fetches one page.
    :param identity: Gives what makes a row that row: its ID.
    :param most: How many rows there can be at most, where that is known.
    :return: The rows in the endpoint's order, each once. Where rows came and went during each of
        several walks, all that were seen.
    """
    walks: list[dict[str, Row]] = []
    for _ in range(_WALKS):
        rows, steady = _walk(fetch, identity, most)
        if steady:
            return list(rows.values())
        walks.insert(0, rows)
    seen: dict[str, Row] = {}
    for rows in walks:
        seen = {**seen, **{name: row for name, row in rows.items() if name not in seen}}
    return list(seen.values())


def _walk(
    fetch: Fetch, identity: Callable[[Row], str], most: int | None
) -> tuple[dict[str, Row], bool]:
    rows: dict[str, Row] = {}
    first: list[str] = []
    page: list[str] = []
    total: int | None = None
    offset, repeats, steady = 0, 0, True
    while True:
        # A page of one row cannot overlap: it would hold nothing else.
        overlap = 1 if len(page) > 1 else 0
        last = page[-1] if page else ""
        found, told = fetch(offset - overlap)
        page = [identity(row) for row in found]
        rows.update(zip(page, found, strict=True))
        if offset == 0:
            first, total = page, told
        elif told != total or (overlap and page[:1] != [last]):
            steady = False
        repeats = repeats + 1 if offset and page == first and told == total else 0
        offset += len(page) - overlap
        if repeats == 2 or (most is not None and len(rows) >= most):
            # The same page again and again: the endpoint has only this one.
            return rows, True
        if len(page) <= overlap or (total is not None and offset >= total):
            return rows, steady and (total is None or len(rows) == total)
