"""
Whole lists from an endpoint that answers in pages.

Nothing is known for sure of the endpoint's paging: how many rows it gives when it is not told,
how many at most, whether it says how many there are. And rows come and go between two pages, which
moves all rows behind them. So each page but the first starts with the last row of the one before:
where it does not, the rows have moved, and the walk is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["collect"]

Row = dict[str, Any]
#: Gives the rows from an offset on, and the endpoint's total where it told one.
Fetch = Callable[[int], tuple[list[Row], "int | None"]]

_WALKS = 3


def collect(
    fetch: Fetch, identity: Callable[[Row], str], most: int | None = None, concurrency: int = 1
) -> list[Row]:
    """
    Fetch all rows of a list.

    :param fetch: Fetches one page.
    :param identity: Gives what makes a row that row: its ID.
    :param most: How many rows there can be at most, where that is known.
    :param concurrency: How many pages may be fetched at once, from several threads, when the first
        has told how many rows there are.
    :return: The rows in the endpoint's order, each once. Where rows came and went during each of
        several walks, all that were seen.
    """
    walks: list[dict[str, Row]] = []
    for _ in range(_WALKS):
        with _Ahead(fetch, concurrency) as ahead:
            rows, steady = _walk(ahead, identity, most)
        if steady:
            return list(rows.values())
        walks.insert(0, rows)
    seen: dict[str, Row] = {}
    for rows in walks:
        seen = {**seen, **{name: row for name, row in rows.items() if name not in seen}}
    return list(seen.values())


class _Ahead:
    """Fetches pages before they are asked for: those at which a walk of full pages will come by."""

    def __init__(self, fetch: Fetch, concurrency: int) -> None:
        self._fetch = fetch
        self._concurrency = concurrency
        self._pool: ThreadPoolExecutor | None = None
        self._offsets: Iterator[int] = iter(())
        self._pages: dict[int, Future[tuple[list[Row], int | None]]] = {}

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *args: object) -> None:
        if self._pool is not None:
            # What nobody asks for any more is not begun; what has begun is waited for.
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, offset: int) -> tuple[list[Row], int | None]:
        if offset not in self._pages:
            found, told = self._fetch(offset)
            if offset == 0 and told is not None:
                self._look_ahead(len(found) - 1, told)
            return found, told
        page = self._pages.pop(offset).result()
        self._fill()
        return page

    def _look_ahead(self, step: int, total: int) -> None:
        if self._concurrency > 1 and step > 0 and total > 2 * step + 1:
            self._pool = ThreadPoolExecutor(self._concurrency)
            self._offsets = iter(range(step, total - 1, step))
            self._fill()

    def _fill(self) -> None:
        while self._pool and len(self._pages) < self._concurrency:
            offset = next(self._offsets, None)
            if offset is None:
                return
            self._pages[offset] = self._pool.submit(self._fetch, offset)


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
