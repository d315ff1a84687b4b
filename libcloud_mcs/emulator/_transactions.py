"""
Changes that are made as a whole or not at all, in memory and in the file.

What changes is held in cells, and a cell is changed by putting another value into it. So whatever
fails on the way, the old values only have to be put back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Cell", "Transactions"]


T = TypeVar("T")


class _Copyable(Protocol):
    def copy(self: T) -> T: ...


C = TypeVar("C", bound=_Copyable)


class Transactions:
    """
    The changes of one emulator. Called, it returns the context manager in which all of them are
    made: when its block ends they are saved, and whatever exception comes out of the block or of
    saving, nothing was changed. One thread at a time is in such a block. A block within another is
    a part of the outer change, and can fail on its own.
    """

    def __init__(self) -> None:
        #: Called at the end of each change, within it; an exception takes the change back.
        self.save: Callable[[], object] = lambda: None
        self._lock = threading.RLock()
        #: For each block that was entered: what the cells held that it has changed.
        self._levels: list[dict[Cell[Any], Any]] = []

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            before: dict[Cell[Any], Any] = {}
            self._levels.append(before)
            try:
                yield
                if before and len(self._levels) == 1:
                    self.save()
            except BaseException:
                for cell, value in before.items():
                    cell.value = value
                raise
            finally:
                self._levels.pop()
            if self._levels:
                self._levels[-1].update({**before, **self._levels[-1]})

    def in_child(self) -> None:
        """Forget who was in a block, in a process that was just forked: that thread is not here."""
        self._lock = threading.RLock()
        self._levels = []

    def note(self, cell: Cell[Any]) -> bool:
        """
        Note what a cell holds, before it is changed.

        :return: Whether this block changes it for the first time.
        :raises RuntimeError: If the change is not made in a block.
        """
        if not self._levels:
            raise RuntimeError("a change outside of a transaction")
        first = cell not in self._levels[-1]
        if first:
            self._levels[-1][cell] = cell.value
        return first


class Cell(Generic[T]):
    """
    A part of the state.

    :param transactions: The changes to which its own belong.
    :param value: What it holds at first.
    """

    def __init__(self, transactions: Transactions, value: T) -> None:
        self.transactions = transactions
        #: What it holds. It is not changed in place.
        self.value = value

    def put(self, value: T) -> None:
        """Put another value in its place."""
        self.transactions.note(self)
        self.value = value

    def draft(self: Cell[C]) -> C:
        """Return a copy of the value, which is in its place from now on and may be changed."""
        if self.transactions.note(self):
            self.value = self.value.copy()
        return self.value
