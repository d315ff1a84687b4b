"""Calls from several threads."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["Workers", "concurrent_map"]

T = TypeVar("T")
A = TypeVar("A")


def concurrent_map(function: Callable[[A], T], arguments: list[A], concurrency: int) -> list[T]:
    """
    Call a function for each of several arguments, from several threads.

    :param concurrency: How many calls may be under way at once; ``1`` starts no thread.
    :return: The results, in the order of the arguments.
    """
    with Workers(min(concurrency, len(arguments))) as threads:
        calls = [threads.submit(function, argument) for argument in arguments]
        return [call() for call in calls]


class Workers:
    """
    Some threads, where there may be any. Else each call is made when its result is asked for:
    with one thread, at the end of a program (the standard library starts none then), and where the
    system has none left.

    :param count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *args: object) -> None:
        if self._pool is not None:
            # Queued calls are cancelled, running calls are waited for. Ctrl-C may
            # come before all calls are submitted.
            self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[[A], T], argument: A) -> Callable[[], T]:
        """
        Begin a call.

        :return: The function that waits for the result and returns it.
        """
        if self._count > 1:
            try:
                # In the caller's context: how much time is left, and what tracing tools keep there.
                context = copy_context()
                return self._threads().submit(context.run, function, argument).result
            except RuntimeError:
                # From now on one after another. A call that was queued is made twice,
                # which does no harm: all calls only read.
                self._count = 1
        return lambda: function(argument)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            # Imported when it is needed: many programs never do. At the end of a program, it fails.
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._count)
        return self._pool
