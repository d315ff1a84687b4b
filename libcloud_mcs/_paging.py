"""
Complete lists from an endpoint that returns pages.

Some facts about the endpoint's paging are uncertain: the default limit, the highest limit, and
whether responses have a total. Rows may also appear and disappear between two pages, which shifts
all later rows. So each page but the first starts with the last row of the previous page. If that
row differs, the rows have shifted. Then :func:`collect` repeats the pass. :func:`pages` has already
yielded rows, and returns to an offset at which it recognizes a row.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from libcloud_mcs._concurrency import Workers

__all__ = ["Fetch", "Rows", "collect", "pages"]

T = TypeVar("T")
#: The rows of a page, and the endpoint's total or ``None``.
Rows = tuple[list[T], "int | None"]
#: A function that fetches the page at an offset, and returns the function that reads its rows.
Fetch = Callable[[int], Callable[[], Rows[T]]]

#: The highest number of passes over a list that changes.
_MAX_PASSES = 3
#: After so many consecutive pages that do not join, the endpoint may ignore offsets.
_MAX_MISSES = 20
#: An offset beyond the end of every list.
_BEYOND = 10**9


def collect(
    fetch: Fetch[T],
    identity: Callable[[T], Hashable],
    max_rows: int | None = None,
    concurrency: int = 1,
) -> list[T]:
    """
    Fetch all rows of a list.

    :param fetch: The function that fetches one page.
    :param identity: The function that returns the ID of a row.
    :param max_rows: The highest possible number of rows, where it is known.
    :param concurrency: The highest number of pages that are fetched simultaneously, after a first
        page with a total.
    :return: The rows in the endpoint's order, each once. If rows changed during every pass, the
        rows of all passes.
    """
    passes: list[dict[Hashable, T]] = []
    for _ in range(_MAX_PASSES):
        with _Prefetch(fetch, concurrency) as prefetch:
            rows, consistent = _collect_once(prefetch, identity, max_rows)
        if consistent:
            return list(rows.values())
        passes.insert(0, rows)
    merged: dict[Hashable, T] = {}
    for rows in passes:
        merged = {**merged, **{name: row for name, row in rows.items() if name not in merged}}
    return list(merged.values())


def _collect_once(
    fetch: Callable[[int], Rows[T]], identity: Callable[[T], Hashable], max_rows: int | None
) -> tuple[dict[Hashable, T], bool]:
    """Return the rows of one pass by their IDs, and whether the rows are certainly complete."""
    rows: dict[Hashable, T] = {}
    first: _Page[T] | None = None
    repeats, consistent = 0, True
    for page in _traverse(fetch, identity):
        rows.update(zip(page.ids, page.rows, strict=True))
        same = first is not None and (page.ids, page.total) == (first.ids, first.total)
        repeats = repeats + 1 if same else 0
        first = first or page
        consistent = consistent and page.joins is not False and page.total == first.total
        if repeats == 2 or (max_rows is not None and len(rows) >= max_rows):
            # The same page three times: the endpoint has only this page.
            return rows, True
        if first.total is not None and page.end >= first.total:
            break
    total = first and first.total
    return rows, consistent and (total is None or len(rows) == total)


def pages(
    fetch: Fetch[T], identity: Callable[[T], Hashable], concurrency: int = 1
) -> Iterator[list[T]]:
    """
    Fetch the rows of a list page by page, without keeping them.

    :param fetch: The function that fetches one page.
    :param identity: The function that returns the ID of a row.
    :param concurrency: The highest number of pages that are fetched simultaneously, and kept until
        they are needed.
    :return: The pages, without rows of earlier pages. Every row that exists throughout is included,
        if the endpoint's order is stable.
    """
    yielded = _Yielded()
    first: list[int] = []
    start, step, misses, takes_offsets = 0, 0, 0, False
    with _Prefetch(fetch, concurrency) as prefetch:
        while True:
            for page in _traverse(prefetch, lambda row: hash(identity(row)), start):
                first, step = first or page.ids, max(step, len(page.ids))
                if page.offset and page.ids == first and not takes_offsets:
                    # Rows have shifted, or the endpoint has only this page.
                    beyond, _ = prefetch(_BEYOND)
                    if [hash(identity(row)) for row in beyond] == first:
                        return
                    takes_offsets = True
                if yielded.is_gap_before(page):
                    # Rows before this page were removed, so that the next rows have lower offsets.
                    start, misses = max(0, page.offset - step), misses + 1
                    if misses % _MAX_MISSES == 0 and prefetch(_BEYOND)[0]:
                        return
                    break
                if page.joins and page.offset:
                    misses = 0
                if new_rows := yielded.add(page):
                    yield new_rows
                if page.total is not None and page.end >= page.total:
                    return
            else:
                return


class _Yielded:
    """The hashes of all yielded rows, of eight bytes each, and a set of them after a shift."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._known: set[int] | None = None

    def is_gap_before(self, page: _Page[Any]) -> bool:
        """Check whether rows may be missing between the yielded rows and a page."""
        if page.joins is True:
            return False
        if self._known is None:
            self._known = set(self._hashes)
        return page.joins is False and self._known.isdisjoint(page.ids[:1])

    def add(self, page: _Page[T]) -> list[T]:
        """Return the rows of a page that were not yielded before, and record them."""
        if self._known is None:
            self._hashes.extend(page.ids[page.overlap :])
            return page.rows[page.overlap :]
        rows = zip(page.rows, page.ids, strict=True)
        new_rows = [row for row, row_id in rows if row_id not in self._known]
        self._known.update(page.ids)
        return new_rows


class _Page(Generic[T]):
    """
    One page of a traversal.

    :ivar overlap: The number of rows that repeat the last rows of the previous page.
    :ivar offset: The offset of the first row after the overlap.
    :ivar end: The offset after the last row.
    :ivar rows: The rows with the overlap.
    :ivar ids: The IDs of the rows.
    :ivar total: The endpoint's total, ``None`` without one.
    :ivar joins: Whether no row is missing before this page; ``None`` if that is uncertain.
    """

    def __init__(
        self,
        start: int,
        overlap: int,
        rows: list[T],
        ids: list[Any],
        total: int | None,
        joins: bool | None,
    ) -> None:
        self.overlap = overlap
        self.offset = start + overlap
        self.end = start + len(rows)
        self.rows = rows
        self.ids = ids
        self.total = total
        self.joins = joins


def _traverse(
    fetch: Callable[[int], Rows[T]], identity: Callable[[T], Hashable], start: int = 0
) -> Iterator[_Page[T]]:
    """
    Fetch pages from an offset to an empty page, each with the last row of the previous page.

    An endpoint that ignores offsets and returns other rows each time has no empty page.
    """
    last: list[Any] = []
    joins: bool | None = start == 0
    misses = 0
    while True:
        rows, total = fetch(start)
        ids = list(map(identity, rows))
        page = _Page(start, len(last), rows, ids, total, ids[:1] == last if last else joins)
        yield page
        if len(rows) <= len(last):
            return
        misses = 0 if page.joins else misses + 1
        if misses and misses % _MAX_MISSES == 0 and fetch(_BEYOND)[0]:
            return
        # A page of one row cannot overlap: it would have no new row.
        last, joins = ids[-1:] if len(ids) > 1 else [], None
        start = page.end - len(last)


class _Prefetch(Generic[T]):
    """
    Fetches pages in advance, at the offsets of full pages.

    Threads only fetch pages. The caller's thread reads them.
    """

    def __init__(self, fetch: Fetch[T], concurrency: int) -> None:
        self._fetch = fetch
        self._concurrency = concurrency
        self._workers = Workers(concurrency)
        self._is_ahead = False
        self._offsets: Iterator[int] = iter(())
        self._pages: dict[int, Callable[[], Callable[[], Rows[T]]]] = {}

    def __enter__(self) -> _Prefetch[T]:
        return self

    def __exit__(self, *args: object) -> None:
        self._workers.__exit__()

    def __call__(self, offset: int) -> Rows[T]:
        if offset not in self._pages:
            rows, total = self._fetch(offset)()
            if offset == 0 and total is not None and not self._is_ahead:
                self._start(len(rows) - 1, total)
            return rows, total
        read = self._pages.pop(offset)()
        self._fill()
        return read()

    def _start(self, step: int, total: int) -> None:
        if self._concurrency > 1 and step > 0 and total > 2 * step + 1:
            self._is_ahead = True
            self._offsets = iter(range(step, total - 1, step))
            self._fill()

    def _fill(self) -> None:
        while self._is_ahead and len(self._pages) < self._concurrency:
            offset = next(self._offsets, None)
            if offset is None:
                return
            self._pages[offset] = self._workers.submit(self._fetch, offset)
