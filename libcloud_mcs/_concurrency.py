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

    :param concurrency: The highest number of simultaneous calls; ``1`` starts no thread.
    :return: The results, in the order of the arguments.
    """
    with Workers(min(concurrency, len(arguments))) as threads:
        calls = [threads.submit(function, argument) for argument in arguments]
        return [call() for call in calls]


class Workers:
    """
    A pool of threads.

    Without threads, each call runs when its result is needed: with a single worker, at the end of a
    program (the standard library starts no thread then), and where the system has no thread left.

    :param count: The number of threads; ``1`` starts no thread.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *args: object) -> None:
        if self._pool is not None:
            # Cancel queued calls and wait for running calls: Ctrl-C may interrupt the
            # submission.
            self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[[A], T], argument: A) -> Callable[[], T]:
        """
        Start a call.

        :return: The function that waits for the result and returns it.
        """
        if self._count > 1:
            try:
                # In the caller's context, which has the deadline and the data of tracing tools.
                context = copy_context()
                return self._threads().submit(context.run, function, argument).result
            except RuntimeError:
                # From now on sequentially. A queued call may run twice, which is harmless:
                # all calls only read.
                self._count = 1
        return lambda: function(argument)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            # Imported when needed: many programs never start a thread. At the end of a program,
            # the import fails.
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._count)
        return self._pool
