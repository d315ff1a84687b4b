"""Requests one after another, for as long as an endpoint finds that there are too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from libcloud_mcs.errors import RateLimitError

__all__ = ["Throttle"]

#: So many seconds after the endpoint last spoke of too many requests they go side by side again.
_SECONDS = 10.0


class Throttle:
    """
    Who of several threads may send when.

    All of them may, at any time, until the endpoint says that there are too many requests. Then
    none does before the time that it told, and from there one after another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quiet_until = 0.0
        self._until = 0.0

    def rate_limited(self, wait: float = 0.0) -> None:
        """
        Take note of what the endpoint has said.

        :param wait: Seconds before which nothing is to be sent.
        """
        now = time.monotonic()
        self._quiet_until = max(self._quiet_until, now + wait)
        self._until = self._quiet_until + _SECONDS

    @contextmanager
    def slot(self, end: float) -> Iterator[None]:
        """
        Wait for one's turn, and have it.

        :param end: When :func:`time.monotonic` is past it, there is no more time.
        :raises RateLimitError: If it did not come in time. Nothing was sent.
        """
        if time.monotonic() >= self._until:
            yield
            return
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise RateLimitError("there are too many requests, and this one's turn never came")
        try:
            wait = min(self._quiet_until, end) - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            yield
        finally:
            self._lock.release()
