"""
Whole lists from an endpoint that answers in pages.

Nothing is known for sure of the endpoint's paging: how many rows it gives when it is not told,
how many at most, whether it says how many there are. And rows come and go between two pages, which
moves all rows behind them. So each page but the first starts with the last row of the one before:
where it does not, the rows have moved. :func:`collect` repeats the pass then; :func:`pages`,
which has returned rows by then, goes back to the rows that it knows.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from libcloud_mcs._concurrency import Workers

__all__ = ["Fetch", "collect", "pages"]

T = TypeVar("T")
#: Gives the rows from an offset on, and the endpoint's total where it told one.
Fetch = Callable[[int], tuple[list[T], "int | None"]]

_PASSES = 3
#: No list is as long as this.
_BEYOND = 10**9


def collect(
    fetch: Fetch[T],
    identity: Callable[[T], Hashable],
    most: int | None = None,
    concurrency: int = 1,
) -> list[T]:
    """
    Fetch all rows of a list.

    :param fetch: Fetches one page.
    :param identity: The function that returns the ID of a row.
    :param most: How many rows there can be at most, where that is known.
    :param concurrency: How many pages may be fetched at once, from several threads, when the first
        has told how many rows there are.
    :return: The rows in the endpoint's order, each once. Where rows came and went during each of
        several passes, all that were seen.
    """
    passes: list[dict[Hashable, T]] = []
    for _ in range(_PASSES):
        with _Ahead(fetch, concurrency) as ahead:
            rows, steady = _pass(ahead, identity, most)
        if steady:
            return list(rows.values())
        passes.insert(0, rows)
    seen: dict[Hashable, T] = {}
    for rows in passes:
        seen = {**seen, **{name: row for name, row in rows.items() if name not in seen}}
    return list(seen.values())


def pages(
    fetch: Fetch[T], identity: Callable[[T], Hashable], concurrency: int = 1
) -> Iterator[list[T]]:
    """
    Fetch the rows of a list page by page, and keep none.

    :param fetch: Fetches one page.
    :param identity: The function that returns the ID of a row.
    :param concurrency: How many pages may be fetched, and kept until they are asked for, at once.
    :return: The pages, without rows that were in one before. No row is missing that was there
        throughout, as long as the endpoint keeps its order.
    """
    # What was given away, in eight bytes a row; as a set once rows have moved.
    given = array("q")
    known: set[int] = set()
    first: list[int] = []
    before: list[int] = []
    offset, step, moved, knows_offsets = 0, 0, False, False
    with _Ahead(fetch, concurrency) as ahead:
        while True:
            overlap = 1 if len(before) > 1 else 0
            found, total = ahead(offset - overlap)
            page = [hash(identity(row)) for row in found]
            step = max(step, len(page))
            first = first or page
            if offset and page == first and not knows_offsets:
                # Rows have moved, or the endpoint has only this one page.
                beyond, _ = fetch(_BEYOND)
                if [hash(identity(row)) for row in beyond] == first:
                    return
                knows_offsets = True
            if offset and not moved and not (overlap and page[:1] == before[-1:]):
                moved, known = True, set(given)
            # Behind a page of one row this cannot be checked.
            if moved and offset and len(before) != 1 and not (page and page[0] in known):
                # Rows before this page have gone: what follows the known ones is further up.
                offset, before = max(0, offset - step), []
                continue
            fresh = found[overlap:]
            if moved:
                fresh = [row for row, each in zip(found, page, strict=True) if each not in known]
                known.update(page)
            else:
                given.extend(page[overlap:])
            if fresh:
                yield fresh
            before = page
            offset += len(page) - overlap
            if len(page) <= overlap or (total is not None and offset >= total):
                return


class _Ahead(Generic[T]):
    """Fetches pages before they are asked for: the offsets that a pass of full pages will reach."""

    def __init__(self, fetch: Fetch[T], concurrency: int) -> None:
        self._fetch = fetch
        self._concurrency = concurrency
        self._threads = Workers(concurrency)
        self._looks_ahead = False
        self._offsets: Iterator[int] = iter(())
        self._pages: dict[int, Callable[[], tuple[list[T], int | None]]] = {}

    def __enter__(self) -> _Ahead[T]:
        return self

    def __exit__(self, *args: object) -> None:
        self._threads.__exit__()

    def __call__(self, offset: int) -> tuple[list[T], int | None]:
        if offset not in self._pages:
            found, told = self._fetch(offset)
            if offset == 0 and told is not None and not self._looks_ahead:
                self._look_ahead(len(found) - 1, told)
            return found, told
        page = self._pages.pop(offset)()
        self._fill()
        return page

    def _look_ahead(self, step: int, total: int) -> None:
        if self._concurrency > 1 and step > 0 and total > 2 * step + 1:
            self._looks_ahead = True
            self._offsets = iter(range(step, total - 1, step))
            self._fill()

    def _fill(self) -> None:
        while self._looks_ahead and len(self._pages) < self._concurrency:
            offset = next(self._offsets, None)
            if offset is None:
                return
            self._pages[offset] = self._threads.submit(self._fetch, offset)


def _pass(
    fetch: Fetch[T], identity: Callable[[T], Hashable], most: int | None
) -> tuple[dict[Hashable, T], bool]:
    rows: dict[Hashable, T] = {}
    first: list[Hashable] = []
    page: list[Hashable] = []
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
