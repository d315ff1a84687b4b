"""The HTTP server in front of an emulator, made of Tornado's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.client import responses
from typing import TYPE_CHECKING, cast

from libcloud_mcs.emulator.wire import Answer, Request

try:
    from tornado.http1connection import HTTP1Connection
    from tornado.httpserver import HTTPServer
    from tornado.httputil import (
        HTTPConnection,
        HTTPHeaders,
        HTTPMessageDelegate,
        HTTPServerConnectionDelegate,
        RequestStartLine,
        ResponseStartLine,
        format_timestamp,
    )
    from tornado.iostream import StreamClosedError
except ImportError:
    raise ImportError(
        "the emulator needs the package 'tornado': pip install 'libcloud-mcs[emulator]'"
    ) from None

if TYPE_CHECKING:
    from libcloud_mcs.emulator._emulator import Emulator, Exchange
    from libcloud_mcs.emulator._faults import Effect

__all__ = ["Server"]

_log = logging.getLogger(__name__)

_MAX_BODY = 4 * 1024 * 1024
#: How often to look whether an instance came up or went down without a request.
_LOOK_SECONDS = 0.1


class Server:
    """
    A server for one emulator. All requests are carried out in the thread of its event loop, one
    after another; none of them waits for anything, and a fault that waits lets the others pass.

    :param emulator: Answers the requests.
    :param host: The address to listen on.
    :param port: The port; ``0``: a free one.
    """

    def __init__(self, emulator: Emulator, host: str, port: int) -> None:
        self._emulator = emulator
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] | None = None

    @property
    def bound(self) -> bool:
        """Whether it has its port."""
        return self._socket is not None

    @property
    def port(self) -> int:
        """The port that it is bound to."""
        if self._socket is None:
            raise RuntimeError("the emulator is not started")
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def netloc(self) -> str:
        """Host and port, as in a URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self.port}"

    def start(self) -> None:
        """Serve from a thread, from now on until :meth:`stop`."""
        if self._thread is not None:
            raise RuntimeError("the emulator is started already")
        self._bind()
        started = threading.Event()

        async def main() -> None:
            stop = asyncio.Event()
            self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
            started.set()
            await self._serve(stop)

        self._thread = threading.Thread(
            target=lambda: asyncio.run(main()), name="mcs-emulator", daemon=True
        )
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """Stop serving; all connections are closed."""
        if self._thread is None or self._stop is None:
            return
        self._stop()
        self._thread.join()
        self._thread = self._stop = None

    def run(self, ready: Callable[[], object]) -> None:
        """
        Serve from this thread until SIGINT or SIGTERM comes.

        :param ready: Called when requests are served.
        """

        async def main() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
            ready()
            await self._serve(stop)

        self._bind()
        asyncio.run(main())

    def _bind(self) -> None:
        # Bound before anything returns: from now on requests wait until they are served.
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            bound = socket.create_server((self._host, self._port), family=family, backlog=128)
        except OSError as error:
            reason = str(error.strerror).partition(" (")[0]  # the address is named already
            raise OSError(
                error.errno, f"cannot listen on {self._host} port {self._port}: {reason}"
            ) from None
        bound.setblocking(False)
        if self._emulator.ssh:
            try:
                self._emulator.ssh.open()
            except BaseException:
                bound.close()
                raise
        self._socket = bound

    async def _serve(self, stop: asyncio.Event) -> None:
        server = HTTPServer(_Service(self._emulator), max_body_size=_MAX_BODY)
        server.add_socket(cast("socket.socket", self._socket))
        try:
            await self._follow(stop)
        finally:
            server.stop()
            await server.close_all_connections()
            if self._emulator.ssh:
                await self._emulator.ssh.close()
            self._socket = None

    async def _follow(self, stop: asyncio.Event) -> None:
        """Until the end, let instances that come up and go down by themselves do so over SSH."""
        while self._emulator.ssh and not stop.is_set():
            self._emulator.match_ssh()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
        await stop.wait()


class _Service(HTTPServerConnectionDelegate):
    """Tornado's view of the emulator: a message for each request."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        # The loop itself keeps no strong reference to what it runs.
        self.tasks: set[asyncio.Task[None]] = set()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return _Message(self, self._emulator, cast("HTTP1Connection", request_conn))


class _Message(HTTPMessageDelegate):
    """One request while it comes in. Its body is left alone: reading forms is the wire's."""

    def __init__(self, service: _Service, emulator: Emulator, connection: HTTP1Connection) -> None:
        self._service = service
        self._emulator = emulator
        self._connection = connection
        self._body = bytearray()

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        self._start = cast("RequestStartLine", start_line)
        self._headers = headers

    def data_received(self, chunk: bytes) -> None:
        self._body += chunk

    def finish(self) -> None:
        exchange = self._emulator.take(
            Request(
                method=self._start.method,
                target=self._start.path,
                host=self._headers.get("Host", ""),
                content_type=self._headers.get("Content-Type", ""),
                body=bytes(self._body),
            )
        )
        if exchange.effect is None:
            self._send(exchange, self._emulator.handle(exchange))
            return
        task = asyncio.get_running_loop().create_task(self._go_wrong(exchange, exchange.effect))
        self._service.tasks.add(task)
        task.add_done_callback(self._service.tasks.discard)

    async def _go_wrong(self, exchange: Exchange, effect: Effect) -> None:
        if effect.seconds:
            await asyncio.sleep(effect.seconds)
        if effect.run:
            try:
                effect.run()
            except Exception:
                _log.exception("what was to happen meanwhile failed")
                self._close()
                return
        answer = None if effect.drop_before else self._emulator.handle(exchange)
        if answer is None or effect.drop_after:
            self._emulator.remember(exchange, None)
            self._close()
            return
        if effect.content_type is not None:
            answer = replace(answer, content_type=effect.content_type)
        with contextlib.suppress(StreamClosedError):  # the client has waited long enough
            await self._send(exchange, answer, effect.cut)

    def _send(
        self, exchange: Exchange, answer: Answer, cut: int | None = None
    ) -> asyncio.Future[None]:
        self._emulator.remember(exchange, answer)
        headers = HTTPHeaders(
            {
                "Content-Type": answer.content_type,
                "Content-Length": str(len(answer.body)),
                "Date": format_timestamp(self._emulator.signature_time()),
                **answer.headers,
            }
        )
        reason = responses.get(answer.status, "Unknown")
        line = ResponseStartLine("HTTP/1.1", answer.status, reason)
        body = answer.body if cut is None else answer.body[:cut]
        sent = self._connection.write_headers(line, headers, body)
        if len(body) == len(answer.body):
            self._connection.finish()
        else:
            sent.add_done_callback(lambda _: self._close())
        return sent

    def _close(self) -> None:
        self._connection.stream.close()
