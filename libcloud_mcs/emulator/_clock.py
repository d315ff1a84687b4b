"""The emulator's clock: it can be held and moved."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from libcloud_mcs.emulator._checks import ArgumentError, moment, object_of, optional
from libcloud_mcs.emulator._transactions import Cell, Transactions

__all__ = ["EARLIEST", "LATEST", "MOMENT", "Clock", "later", "utc_text"]

#: Between these the clock can be. It stands still when it comes to the end.
EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)
LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
#: What the clock can be set to.
MOMENT = moment(EARLIEST, LATEST)

_SPAN = object_of(timedelta, "a timedelta")


def later(moment: datetime, by: timedelta) -> datetime:
    """Return a time after another, :data:`LATEST` at most."""
    try:
        return min(moment + by, LATEST)
    except OverflowError:
        return LATEST


def utc_text(moment: datetime) -> str:
    """Return a time as text: UTC, to the second, such as ``2013-07-20T15:02:17Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Clock:
    """
    A clock that runs with real time until it is told otherwise. All times are aware, in UTC. It can
    be set to any time from 1970 to 9999.

    :param start: The time to begin with; ``None``: now.
    :raises ValueError: If ``start`` is not such a time, or has no zone.
    """

    def __init__(self, start: datetime | None = None) -> None:
        start = optional(MOMENT).check("start", start)
        #: How far it is from real time, and the time at which it is held.
        self._state: Cell[tuple[timedelta, datetime | None]]
        self._state = Cell(Transactions(), (timedelta(), None))
        if start is not None:
            self.set(start)

    def now(self) -> datetime:
        """Return the time."""
        offset, frozen = self._state.value
        return frozen or later(datetime.now(timezone.utc), offset)

    @property
    def frozen(self) -> bool:
        """Whether the clock is held."""
        return self._state.value[1] is not None

    def advance(self, by: timedelta) -> None:
        """
        Move the clock forward by ``by``, or back where that is negative; a held clock stays held.

        :raises ValueError: If ``by`` is not a timedelta, or leads out of the years 1970 to 9999.
        :raises StateError: If the change cannot be saved; the clock is as it was.
        """
        _SPAN.check("by", by)
        with self._state.transactions():
            try:
                to = MOMENT.take(self.now() + by)
            except (ValueError, OverflowError):
                expected = f"what leads to a time from {EARLIEST.year} to {LATEST.year}"
                raise ArgumentError("by", expected, str(by)) from None
            self._put(to, self.frozen)

    def set(self, to: datetime) -> None:
        """
        Move the clock to ``to``, which must be aware; a held clock stays held.

        :raises ValueError: If ``to`` is not such a time, or is not in the years 1970 to 9999.
        :raises StateError: If the change cannot be saved; the clock is as it was.
        """
        to = MOMENT.check("to", to)
        with self._state.transactions():
            self._put(to, self.frozen)

    def freeze(self) -> None:
        """
        Hold the clock: only :meth:`advance` and :meth:`set` move it from now on.

        :raises StateError: If the change cannot be saved; the clock is as it was.
        """
        with self._state.transactions():
            self._put(self.now(), frozen=True)

    def unfreeze(self) -> None:
        """
        Resume the clock at the time at which it was frozen.

        :raises StateError: If the change cannot be saved; the clock is as it was.
        """
        with self._state.transactions():
            self._put(self.now(), frozen=False)

    def reset(self) -> None:
        """
        Return to real time.

        :raises StateError: If the change cannot be saved; the clock is as it was.
        """
        with self._state.transactions():
            self._state.put((timedelta(), None))

    def join(self, transactions: Transactions) -> None:
        """Include changes of this clock in the given transactions from now on."""
        self._state.transactions = transactions

    def state(self) -> dict[str, Any]:
        """Return the state of the clock, for :meth:`restore`."""
        offset, frozen = self._state.value
        return {"offset": offset.total_seconds(), "frozen": frozen and frozen.isoformat()}

    def restore(self, state: dict[str, Any]) -> None:
        """
        Put the clock back as it stood.

        :raises ValueError: If there is no such time. Anything else that is not a state can be any
            of the errors that Python has for that.
        """
        frozen = state["frozen"]
        if frozen is not None:
            frozen = MOMENT.take(datetime.fromisoformat(frozen))
        offset = timedelta(seconds=state["offset"])
        if datetime.now(timezone.utc) - EARLIEST < -offset:
            raise ValueError(f"the clock stands before {EARLIEST.year}")
        with self._state.transactions():
            self._state.put((offset, frozen))

    def _put(self, to: datetime, frozen: bool) -> None:
        offset, _ = self._state.value
        if frozen:
            self._state.put((offset, to))
        else:
            self._state.put((to - datetime.now(timezone.utc), None))
