"""The emulator itself: a cloud behind an HTTP server."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from functools import partial
from http.client import responses
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from libcloud_mcs.emulator.actions import HANDLERS, Paging
from libcloud_mcs.emulator.clock import Clock
from libcloud_mcs.emulator.cloud import Cloud, Timing
from libcloud_mcs.emulator.errors import RefusedError
from libcloud_mcs.emulator.params import Params
from libcloud_mcs.emulator.wire import (
    Answer,
    Request,
    read_form,
    render,
    render_refusal,
    verify,
)

try:
    from tornado.httpserver import HTTPServer
    from tornado.httputil import (
        HTTPConnection,
        HTTPHeaders,
        HTTPMessageDelegate,
        HTTPServerConnectionDelegate,
        RequestStartLine,
        ResponseStartLine,
    )
except ImportError:
    raise ImportError(
        "the emulator needs the package 'tornado': pip install 'libcloud-mcs[emulator]'"
    ) from None

if TYPE_CHECKING:
    from libcloud_mcs.driver import MCSNodeDriver

__all__ = ["Emulator"]

_PATH = "/mcs/v1"
_MAX_BODY = 4 * 1024 * 1024


class Emulator:
    """
    A local MCS endpoint with one account. Used with ``with``, it serves from a thread of its own::

        with Emulator(balance=1000) as cloud:
            driver = cloud.driver()

    :param host: The address to listen on.
    :param port: The port; ``0``: a free one.
    :param access_key: The account's access key; ``None``: a random one.
    :param secret: The account's secret; ``None``: a random one.
    :param balance: The money that the account begins with.
    :param instances: How many instances run at the start.
    :param clock: Tells the time to everything but the check of a request's ``Timestamp``.
    :param timing: How long things take.
    :param default_limit: How many rows a page has when ``Limit`` is left out; ``None``: all.
    :param max_limit: How many rows a page has at most, whatever ``Limit`` says; ``None``: any.
    :param seed: Makes IDs and passwords the same each time.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        access_key: str | None = None,
        secret: str | None = None,
        balance: Decimal | float | str = 1000,
        instances: int = 0,
        clock: Clock | None = None,
        timing: Timing | None = None,
        default_limit: int | None = None,
        max_limit: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.access_key = secrets.token_hex(16) if access_key is None else access_key
        self.secret = secrets.token_hex(16) if secret is None else secret
        self.clock = clock or Clock()
        self.cloud = Cloud(clock=self.clock, balance=_money(balance), timing=timing, seed=seed)
        self.cloud.add_running(instances)
        self._paging = Paging(default_limit, max_limit)
        self._lock = threading.Lock()
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] | None = None

    def __repr__(self) -> str:
        where = self.url if self._socket else "not started"
        return f"<Emulator {where} access_key={self.access_key!r}>"

    @property
    def url(self) -> str:
        """The endpoint's URL, once it is bound to its port."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}{_PATH}"

    @property
    def port(self) -> int:
        """The port that the endpoint is bound to."""
        if self._socket is None:
            raise RuntimeError("the emulator is not started")
        port: int = self._socket.getsockname()[1]
        return port

    def driver(self, **kwargs: Any) -> MCSNodeDriver:
        """
        Make a driver that is connected to this endpoint.

        :param kwargs: Further arguments of the driver.
        """
        from libcloud_mcs.driver import MCSNodeDriver

        return MCSNodeDriver(self.access_key, self.secret, url=self.url, **kwargs)

    def handle(self, request: Request) -> Answer:
        """
        Answer one request.

        :param request: The request as it came.
        """
        answer_format = "xml"
        try:
            params = read_form(request)
            if params.get("Format") == "json":
                answer_format = "json"
            verify(request, params, self._secret_of, datetime.now(timezone.utc))
            action = params["Action"]
            with self._lock:
                tree = HANDLERS[action](self.cloud, Params(params), self._paging)
        except RefusedError as error:
            return render_refusal(error, answer_format)
        return render(f"{action}Response", tree, answer_format)

    def bind(self) -> None:
        """
        Take the port; requests wait from now on until they are served.

        :raises OSError: The port is taken, or the address is not of this machine.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            bound = socket.create_server((self._host, self._port), family=family, backlog=128)
        except OSError as error:
            reason = str(error.strerror).partition(" (")[0]  # the address is named already
            raise OSError(
                error.errno, f"cannot listen on {self._host} port {self._port}: {reason}"
            ) from None
        bound.setblocking(False)
        self._socket = bound

    async def serve(self, stop: asyncio.Event) -> None:
        """
        Serve requests until told to stop.

        :param stop: Tells it.
        """
        server = HTTPServer(_Service(self.handle), max_body_size=_MAX_BODY)
        server.add_socket(cast("socket.socket", self._socket))
        try:
            await stop.wait()
        finally:
            server.stop()
            await server.close_all_connections()
            self._socket = None

    def start(self) -> None:
        """Serve from a thread, from now on until :meth:`stop`."""
        if self._thread is not None:
            raise RuntimeError("the emulator is started already")
        self.bind()
        started = threading.Event()

        async def main() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._stop = partial(loop.call_soon_threadsafe, stop.set)
            started.set()
            await self.serve(stop)

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

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _secret_of(self, access_key: str) -> str | None:
        return self.secret if access_key == self.access_key else None


class _Service(HTTPServerConnectionDelegate):
    """Tornado's view of the emulator: a message for each request."""

    def __init__(self, handle: Callable[[Request], Answer]) -> None:
        self._handle = handle

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return _Message(self._handle, request_conn)


class _Message(HTTPMessageDelegate):
    """One request while it comes in. Its body is left alone: reading forms is the wire's."""

    def __init__(self, handle: Callable[[Request], Answer], connection: HTTPConnection) -> None:
        self._handle = handle
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
        answer = self._handle(
            Request(
                method=self._start.method,
                target=self._start.path,
                host=self._headers.get("Host", ""),
                content_type=self._headers.get("Content-Type", ""),
                body=bytes(self._body),
            )
        )
        headers = HTTPHeaders(
            {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))}
        )
        line = ResponseStartLine("HTTP/1.1", answer.status, responses[answer.status])
        self._connection.write_headers(line, headers, answer.body)
        self._connection.finish()


def _money(amount: Decimal | float | str) -> Decimal:
    try:
        money = Decimal(str(amount))
        if money.is_finite() and money >= 0:
            return money
    except InvalidOperation:
        pass
    raise ValueError(f"balance: an amount of money from 0 was expected, not {amount!r}")
