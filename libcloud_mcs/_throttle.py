"""A throttle: requests are sent one after another while the endpoint limits their rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from libcloud_mcs.errors import RateLimitError

__all__ = ["Throttle"]

#: The seconds after the last HTTP 429 until requests are sent in parallel again.
_SECONDS = 10.0


class Throttle:
    """
    Limits the requests of several threads.

    Requests are sent in parallel until the endpoint answers HTTP 429. Then no request is sent for
    the time that the endpoint asks for, and after that one after another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quiet_until = 0.0
        self._until = 0.0

    def rate_limited(self, wait: float = 0.0) -> None:
        """
        Note that the endpoint limits the rate.

        :param wait: The seconds for which no request may be sent.
        """
        now = time.monotonic()
        self._quiet_until = max(self._quiet_until, now + wait)
        self._until = self._quiet_until + _SECONDS

    @contextmanager
    def slot(self, end: float) -> Iterator[None]:
        """
        Wait until a request may be sent, and reserve the time of the block for it.

        :param end: The deadline, on the clock of :func:`time.monotonic`.
        :raises RateLimitError: If the deadline passed before. Nothing was sent.
        """
        if time.monotonic() >= self._until:
            yield
            return
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise RateLimitError(
                "rate limited: the deadline passed before this request could be sent"
            )
        try:
            wait = min(self._quiet_until, end) - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            yield
        finally:
            self._lock.release()
