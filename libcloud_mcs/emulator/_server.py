"""The sockets of an emulator, and the thread that serves them."""

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
from typing import TYPE_CHECKING

from libcloud_mcs.emulator._http import HTTPServer
from libcloud_mcs.emulator._lifetime import release
from libcloud_mcs.emulator._sockets import listen

if TYPE_CHECKING:
    from libcloud_mcs.emulator._emulator import Emulator

__all__ = ["Server"]

#: How often to look whether an instance came up or went down without a request.
_LOOK_SECONDS = 0.1
#: How long a stop waits for a function of the user's, in seconds: it may wait for this very stop.
_PATIENCE = 2.0
_STEP = 0.05


class Server:
    """
    A server for one emulator. All requests are carried out in one thread, one after another. None
    of them waits for anything, and a fault that waits lets the others pass.

    :param emulator: Answers the requests.
    :param host: The address to listen on.
    :param port: The port; ``0``: a free one, which is kept from the first start on.
    :param tls: Certificate and key for HTTPS; ``None``: HTTP.
    """

    def __init__(
        self, emulator: Emulator, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._emulator = emulator
        self._host = host
        self._port = port
        self._tls = tls
        self._bound_port: int | None = None
        self._serving: _Serving | None = None
        # A signal handler may start it while it is being started.
        self._starting = threading.RLock()

    @property
    def is_serving(self) -> bool:
        """Whether it serves, and nobody has asked it to stop."""
        return self._serving is not None and not self._serving.is_stopping

    @property
    def port(self) -> int:
        """The port that it has, or had when it was last started."""
        if self._bound_port is None:
            raise RuntimeError("the emulator is not started")
        return self._bound_port

    @property
    def url(self) -> str:
        """The URL of its root, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def start(self, on_end: Callable[[], object] = lambda: None) -> None:
        """
        Serve from a thread, from now on until :meth:`stop`.

        :param on_end: Called in that thread when it has stopped.
        :raises OSError: If it cannot listen.
        :raises RuntimeError: If it serves already, or cannot stop before it is started again.
        """
        with self._starting:
            if self.is_serving:
                raise RuntimeError("the emulator is started already")
            if not self.stop():
                raise RuntimeError(
                    "the emulator has not stopped yet: a function of meanwhile() is still running"
                )
            self._serving = _Serving(self._emulator, self._bind(), self._tls, on_end)
            try:
                self._serving.start()
            except BaseException:  # such as KeyboardInterrupt
                self.stop()
                raise

    def stop(self, patience: float | None = None) -> bool:
        """
        Stop serving, and wait until all connections are closed. Any thread may call it, at any
        time. In the thread that serves, it does not wait: the connections are closed when the
        function that has called it returns.

        :param patience: How many seconds to wait; ``None``: as long as it takes, except for a
            function of :func:`meanwhile`.
        :return: Whether it has stopped.
        """
        serving = self._serving
        if serving is None:
            return True
        serving.stop()
        return serving.wait(patience)

    def in_child(self) -> None:
        """Let go of what the event loop has opened, in a process that was just forked."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.in_child()

    def _bind(self) -> socket.socket:
        # Bound before anything returns: from now on requests wait until they are served.
        bound = listen(self._host, self._bound_port or self._port)
        if self._emulator.ssh:
            try:
                self._emulator.ssh.open()
            except BaseException:
                bound.close()
                raise
        self._bound_port = bound.getsockname()[1]
        return bound


class _Serving:
    """One time of serving, in a thread and an event loop of its own."""

    def __init__(
        self,
        emulator: Emulator,
        bound: socket.socket,
        tls: ssl.SSLContext | None,
        on_end: Callable[[], object],
    ) -> None:
        self.is_stopping = False
        self._has_begun = self._has_ended = False
        self._emulator = emulator
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
        """Start the thread, and wait until it serves."""
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
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
            self._wake()

    def wait(self, patience: float | None) -> bool:
        """Wait for the end of the thread, and return whether it has ended."""
        if threading.current_thread() is self._thread or not self._has_begun:
            return self._has_ended
        began = time.monotonic()
        # In steps: a signal handler may call this while its own thread is in the midst of it.
        while not self._has_ended:
            self._thread.join(_STEP)
            limit = _PATIENCE if self._server and self._server.is_calling else patience
            if limit is not None and time.monotonic() - began > limit:
                return False
        self._thread.join(_STEP)  # for its last few instructions
        return True

    def in_child(self) -> None:
        """Let go of what the event loop waits for, in a process without its thread."""
        if self._selector is not None:
            descriptors = {key.fd for key in (self._selector.get_map() or {}).values()}
            with contextlib.suppress(AttributeError, ValueError):  # it has none, or is closed
                descriptors.add(self._selector.fileno())  # type: ignore[attr-defined]
            release(descriptors)

    def _run(self) -> None:
        self._has_begun = True
        try:
            # The same kind of loop on every system, whatever the program's policy: Tornado and the
            # SSH servers wait for sockets.
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
        if self._emulator.ssh:
            self._emulator.ssh.unclaim()
        self.is_stopping = self._has_ended = True
        self._is_ready.set()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        self._wake = partial(loop.call_soon_threadsafe, stop.set)
        if self.is_stopping:  # it was asked before it could be woken
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
        server = HTTPServer(self._emulator, self._bound, lambda: self.is_stopping, self._tls)
        server.open()
        self._server = server
        try:
            self._emulator.match_ssh()
            self._is_ready.set()
            await self._follow(stop)
        finally:
            await server.close()
            if self._emulator.ssh:
                await self._emulator.ssh.close()

    async def _follow(self, stop: asyncio.Event) -> None:
        """Until the end, let instances that come up and go down by themselves do so over SSH."""
        while self._emulator.ssh and not stop.is_set():
            self._emulator.match_ssh()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
        await stop.wait()
