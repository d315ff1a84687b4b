"""The emulator's clock: it can be held and moved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

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
        #: Called after the clock was moved or held.
        self.on_change: Callable[[], object] = lambda: None
        if start is not None:
            self.set(start)

    def now(self) -> datetime:
        """Tell the time."""
        with self._lock:
            return self._now()

    @property
    def frozen(self) -> bool:
        """Whether the clock is held."""
        return self._frozen is not None

    def advance(self, by: timedelta) -> None:
        """Move the clock forward by ``by``; a held clock stays held."""
        with self._lock:
            self._put(self._now() + by)
        self.on_change()

    def set(self, to: datetime) -> None:
        """Move the clock to ``to``, which must be aware; a held clock stays held."""
        if to.tzinfo is None:
            raise ValueError("to: a time with a zone was expected")
        with self._lock:
            self._put(to.astimezone(timezone.utc))
        self.on_change()

    def freeze(self) -> None:
        """Hold the clock: only :meth:`advance` and :meth:`set` move it from now on."""
        with self._lock:
            self._frozen = self._now()
        self.on_change()

    def unfreeze(self) -> None:
        """Let the clock run again, from where it was held."""
        with self._lock:
            now, self._frozen = self._now(), None
            self._put(now)
        self.on_change()

    def reset(self) -> None:
        """Let the clock run with real time again."""
        with self._lock:
            self._offset, self._frozen = timedelta(), None
        self.on_change()

    def in_child(self) -> None:
        """Forget who holds the lock, in a process that was just forked."""
        self._lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """Tell how the clock stands, in a form that :meth:`restore` takes."""
        with self._lock:
            frozen = self._frozen and self._frozen.isoformat()
            return {"offset": self._offset.total_seconds(), "frozen": frozen}

    def restore(self, state: dict[str, Any]) -> None:
        """Put the clock back as it stood."""
        with self._lock:
            self._offset = timedelta(seconds=state["offset"])
            frozen = state["frozen"]
            self._frozen = datetime.fromisoformat(frozen) if frozen else None

    def _now(self) -> datetime:
        return self._frozen or datetime.now(timezone.utc) + self._offset

    def _put(self, to: datetime) -> None:
        if self._frozen is not None:
            self._frozen = to
        else:
            self._offset = to - datetime.now(timezone.utc)
