"""The thread in which the HTTP server runs."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from libcloud_mcs.emulator._http import Application, HTTPServer
from libcloud_mcs.emulator._lifetime import release
from libcloud_mcs.emulator._sockets import listen

__all__ = ["Companion", "Server"]

#: The interval in seconds in which a companion is updated.
_UPDATE_SECONDS = 0.1
#: The time in seconds that a stop waits for a function of the user, which may wait for this stop.
_PATIENCE = 2.0
_STEP = 0.05


class Companion(Protocol):
    """Something that runs beside the HTTP server, in the same event loop: the SSH servers."""

    def open(self) -> None:
        """Reserve what is needed, before the thread is started."""

    def update(self) -> None:
        """Adapt to the present state of the instances."""

    async def close(self) -> None:
        """Close everything, in the event loop."""

    def release(self) -> None:
        """Release what :meth:`open` has reserved."""


class Server:
    """
    A server with a thread. All requests are carried out in this thread, one after another. A
    delayed request does not block the others.

    :param app: Answers the requests.
    :param host: The address to listen on.
    :param port: The port; ``0``: a free one, which is kept after the first start.
    :param tls: The certificate and key for HTTPS; ``None``: HTTP.
    :param companion: Runs beside the HTTP server; ``None``: nothing.
    """

    def __init__(
        self,
        app: Application[Any],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        companion: Companion | None,
    ) -> None:
        self._app = app
        self._companion = companion
        self._host = host
        self._port = port
        self._tls = tls
        self._bound_port: int | None = None
        self._serving: _Serving | None = None
        # A signal handler may call start() during start().
        self._starting = threading.RLock()

    @property
    def is_serving(self) -> bool:
        """Whether requests are served, and no stop was requested."""
        return self._serving is not None and not self._serving.is_stopping

    @property
    def port(self) -> int:
        """The port of the last start."""
        if self._bound_port is None:
            raise RuntimeError("the emulator is not started")
        return self._bound_port

    @property
    def url(self) -> str:
        """The URL of the root, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def start(self, on_end: Callable[[], object] = lambda: None) -> None:
        """
        Start the thread.

        :param on_end: Called in the thread when it ends.
        :raises OSError: If the address or the port cannot be used.
        :raises RuntimeError: If the server is started already, or has not stopped yet.
        """
        with self._starting:
            if self.is_serving:
                raise RuntimeError("the emulator is started already")
            if not self.stop():
                raise RuntimeError(
                    "the emulator has not stopped yet: a function of meanwhile() or of a stub is"
                    " still running"
                )
            self._serving = _Serving(self._app, self._bind(), self._tls, self._companion, on_end)
            try:
                self._serving.start()
            except BaseException:  # such as KeyboardInterrupt
                self.stop()
                raise

    def stop(self, patience: float | None = None) -> bool:
        """
        Stop the thread and wait until all connections are closed. Every thread can call this at any
        time. In the server's own thread it does not wait: the connections are closed when the
        calling function returns.

        :param patience: The longest wait in seconds; ``None``: without a limit, except for a
            function of :func:`meanwhile` or of a stub.
        :return: Whether the thread has ended.
        """
        serving = self._serving
        if serving is None:
            return True
        serving.stop()
        return serving.wait(patience)

    def in_child(self) -> None:
        """Release the descriptors of the event loop in a forked process."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.in_child()

    def _bind(self) -> socket.socket:
        # From now on connections are queued.
        bound = listen(self._host, self._bound_port or self._port)
        if self._companion:
            try:
                self._companion.open()
            except BaseException:
                bound.close()
                raise
        self._bound_port = bound.getsockname()[1]
        return bound


class _Serving:
    """One run of the thread, with its event loop."""

    def __init__(
        self,
        app: Application[Any],
        bound: socket.socket,
        tls: ssl.SSLContext | None,
        companion: Companion | None,
        on_end: Callable[[], object],
    ) -> None:
        self.is_stopping = False
        self._has_begun = self._has_ended = False
        self._app = app
        self._companion = companion
        self._bound = bound
        self._tls = tls
        self._on_end = on_end
        self._error: BaseException | None = None
        self._is_ready = threading.Event()
        self._wake: Callable[[], object] = lambda: None
        self._server: HTTPServer | None = None
        self._selector: selectors.BaseSelector | None = None
        self._thread = threading.Thread(target=self._run, name="mcs-emulator", daemon=True)

    def start(self) -> None:
        """Start the thread and wait until requests are served."""
        try:
            self._thread.start()
        except BaseException:
            self._end()
            raise
        self._is_ready.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ask the thread to end."""
        self.is_stopping = True
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._wake()

    def wait(self, patience: float | None) -> bool:
        """Wait for the end of the thread and return whether it has ended."""
        if threading.current_thread() is self._thread or not self._has_begun:
            return self._has_ended
        began = time.monotonic()
        # In steps: a signal handler may interrupt this method and call it.
        while not self._has_ended:
            self._thread.join(_STEP)
            limit = _PATIENCE if self._server and self._server.is_calling else patience
            if limit is not None and time.monotonic() - began > limit:
                return False
        self._thread.join(_STEP)  # for its last few instructions
        return True

    def in_child(self) -> None:
        """Release the descriptors of the event loop in a process without the thread."""
        if self._selector is not None:
            descriptors = {key.fd for key in (self._selector.get_map() or {}).values()}
            with contextlib.suppress(AttributeError, ValueError):  # there is none, or it is closed
                descriptors.add(self._selector.fileno())  # type: ignore[attr-defined]
            release(descriptors)

    def _run(self) -> None:
        self._has_begun = True
        try:
            # Tornado and the SSH servers need a selector loop on every system.
            self._selector = selectors.DefaultSelector()
            with contextlib.closing(asyncio.SelectorEventLoop(self._selector)) as loop:
                loop.run_until_complete(self._main())
        except BaseException as error:
            if self._is_ready.is_set():
                raise
            self._error = error
        finally:
            self._end()
            self._on_end()

    def _end(self) -> None:
        self._bound.close()
        if self._companion:
            self._companion.release()
        self.is_stopping = self._has_ended = True
        self._is_ready.set()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        self._wake = partial(loop.call_soon_threadsafe, stop.set)
        if self.is_stopping:  # stop() was called before
            stop.set()
        try:
            await self._serve(stop)
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await loop.shutdown_asyncgens()
            await loop.shutdown_default_executor()

    async def _serve(self, stop: asyncio.Event) -> None:
        server = HTTPServer(self._app, self._bound, lambda: self.is_stopping, self._tls)
        server.open()
        self._server = server
        try:
            if self._companion:
                self._companion.update()
            self._is_ready.set()
            await self._update_until(stop)
        finally:
            await server.close()
            if self._companion:
                await self._companion.close()

    async def _update_until(self, stop: asyncio.Event) -> None:
        """Update the companion in intervals: instances boot and expire without a request."""
        while self._companion and not stop.is_set():
            self._companion.update()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), _UPDATE_SECONDS)
        await stop.wait()
