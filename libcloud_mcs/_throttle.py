"""A throttle: requests are sent sequentially while the endpoint limits their rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from libcloud_mcs.errors import RateLimitError

__all__ = ["Throttle"]

#: The time in seconds from the last HTTP 429 until requests are sent in parallel again.
_DURATION = 10.0


class Throttle:
    """
    Limits the requests of several threads.

    Requests are sent in parallel until the endpoint responds with HTTP 429. Then no request is sent
    for the time that the endpoint demands. After that time, requests are sent sequentially.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocked_until = 0.0
        self._sequential_until = 0.0

    def rate_limited(self, wait: float = 0.0) -> None:
        """
        Record that the endpoint limits the rate.

        :param wait: The time in seconds for which no request may be sent.
        """
        now = time.monotonic()
        self._blocked_until = max(self._blocked_until, now + wait)
        self._sequential_until = self._blocked_until + _DURATION

    @contextmanager
    def slot(self, end: float) -> Iterator[None]:
        """
        Wait until a request may be sent, and block other requests meanwhile.

        :param end: The deadline, on the clock of :func:`time.monotonic`.
        :raises RateLimitError: If the deadline passed before the request could be sent.
        """
        if time.monotonic() >= self._sequential_until:
            yield
            return
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise RateLimitError(
                "rate limited: the deadline passed before this request could be sent"
            )
        try:
            wait = min(self._blocked_until, end) - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            yield
        finally:
            self._lock.release()
