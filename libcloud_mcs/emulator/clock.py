"""The emulator's clock: it can be held and moved."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

__all__ = ["Clock"]


class Clock:
    """
    A clock that runs with real time until it is told otherwise. All times are aware, in UTC.

    :param start: The time to begin with; ``None``: now.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._offset = timedelta()
        self._frozen: datetime | None = None
        if start is not None:
            self.set(start)

    def now(self) -> datetime:
        """Tell the time."""
        with self._lock:
            return self._now()

    def advance(self, by: timedelta) -> None:
        """Move the clock forward by ``by``; a held clock stays held."""
        with self._lock:
            self._put(self._now() + by)

    def set(self, to: datetime) -> None:
        """Move the clock to ``to``, which must be aware; a held clock stays held."""
        if to.tzinfo is None:
            raise ValueError("to: a time with a zone was expected")
        with self._lock:
            self._put(to.astimezone(timezone.utc))

    def freeze(self) -> None:
        """Hold the clock: only :meth:`advance` and :meth:`set` move it from now on."""
        with self._lock:
            self._frozen = self._now()

    def _now(self) -> datetime:
        return self._frozen or datetime.now(timezone.utc) + self._offset

    def _put(self, to: datetime) -> None:
        if self._frozen is not None:
            self._frozen = to
        else:
            self._offset = to - datetime.now(timezone.utc)
