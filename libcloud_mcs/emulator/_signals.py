"""Waiting for the signals that ask a command to end, on POSIX systems and on Windows."""

from __future__ import annotations

import contextlib
import signal
import socket
from types import FrameType, TracebackType
from typing import Any

__all__ = ["EndSignals"]

#: Ctrl-C, what ``kill`` sends, and Ctrl-Break, which only Windows has.
_NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
]


class EndSignals:
    """
    As a context manager, keeps these signals from ending the process, so that it can end cleanly.
    One that comes while it does so changes nothing.

    Python writes each signal's number to a socket. Event loops have nothing to do with this: on
    Windows none of them has ``add_signal_handler``, and one that waits for sockets is not woken by
    a signal.

    :raises RuntimeError: If this is not the main thread.
    """

    def __enter__(self) -> EndSignals:
        self._wakes, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        try:
            self._fd_before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        except ValueError:
            self._close()
            raise RuntimeError(
                "signals come to the main thread alone: call run() there, or use start()"
            ) from None
        self._before: dict[int, Any] = {
            number: signal.signal(number, _take_no_notice) for number in _NUMBERS
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None: it was not set from Python, and cannot be set back from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._fd_before)
        self._close()

    def wait(self) -> None:
        """Wait until one of the signals comes, or until :meth:`wake` is called."""
        while self._wakes.recv(1)[0] not in (0, *_NUMBERS):
            pass  # another signal, for which the program has a handler

    def wake(self) -> None:
        """Wake :meth:`wait` up. Any thread may call this."""
        with contextlib.suppress(OSError):  # the wait is over
            self._waker.send(b"\0")

    def _close(self) -> None:
        self._wakes.close()
        self._waker.close()


def _take_no_notice(number: int, frame: FrameType | None) -> None:
    """Python writes the number to the socket only for signals that have a handler."""
