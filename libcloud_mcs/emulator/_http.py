"""
HTTP/1.1 over Tornado's streams.

Tornado's own HTTP server is not used: its treatment of malformed requests differs between versions,
and some of them end in a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from http.client import responses
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from tornado.iostream import IOStream, SSLIOStream

from libcloud_mcs.emulator._errors import APIError, ErrorCode
from libcloud_mcs.emulator._lifetime import no_fork, watch_socket
from libcloud_mcs.emulator._wire import Request, Response, render_error

if TYPE_CHECKING:
    import ssl
    from datetime import datetime

__all__ = ["Application", "HTTPServer"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MAX_BODY = 4 * 1024 * 1024
#: The limit of the request line and the headers together.
_MAX_HEAD = 64 * 1024
#: The limit of a line between two chunks of a body.
_MAX_LINE = 4096
_MAX_TRAILERS = 100
_CHUNK = 64 * 1024
#: How many seconds a client that still sends may take to read the error, and after how many seconds
#: without a byte it has finished sending.
_LINGER, _QUIET = 5, 0.25
#: The statuses whose responses never have a body.
_BODILESS = (204, 205, 304)

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[\t ]*(?:;.*)?")


class Effect(Protocol):
    """What the server itself does for a fault."""

    @property
    def seconds(self) -> float:
        """The delay in seconds before a request is carried out."""


class Exchange(Protocol):
    """A request that the application has received."""

    @property
    def effect(self) -> Effect:
        """The fault that affects the request."""


class Reply(Protocol):
    """What is sent for a request."""

    @property
    def response(self) -> Response | None:
        """The response; ``None``: the connection is closed without one."""

    @property
    def cut(self) -> int | None:
        """The greatest number of bytes of the body; ``None``: the whole body."""


E = TypeVar("E", bound=Exchange)


class Application(Protocol[E]):
    """Answers requests."""

    def receive(self, request: Request) -> E:
        """Receive a request before it is carried out."""

    def reply(self, exchange: E, host: HTTPServer) -> Reply:
        """Carry a request out. This never raises an exception."""

    def now(self) -> datetime:
        """Return the time for ``Date`` headers."""


class HTTPServer:
    """
    An HTTP server on one socket.

    :param app: Answers the requests.
    :param bound: The listening socket; it is closed at the end.
    :param is_stopping: A function that returns whether the server is stopping.
    :param tls: The certificate and key for HTTPS; ``None``: HTTP.
    """

    def __init__(
        self,
        app: Application[Any],
        bound: socket.socket,
        is_stopping: Callable[[], bool],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.app = app
        self.is_stopping = is_stopping
        #: Whether a function of the user is running, which may wait for anything.
        self.is_calling = False
        self._bound = bound
        self._reopening: asyncio.TimerHandle | None = None
        self._tls = tls
        # The loop keeps only weak references to its tasks.
        self._connections: dict[asyncio.Task[None], IOStream] = {}

    def open(self) -> None:
        """Accept connections, in the thread of a running event loop."""
        asyncio.get_running_loop().add_reader(self._bound, self._accept)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function of the user, which may wait for anything."""
        self.is_calling = True
        try:
            return function()
        finally:
            self.is_calling = False

    async def close(self) -> None:
        """Stop listening and close all connections."""
        asyncio.get_running_loop().remove_reader(self._bound)
        if self._reopening:
            self._reopening.cancel()
        self._bound.close()
        for task, stream in self._connections.items():
            task.cancel()
            stream.close()  # a task that did not start does not close it
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self) -> None:
        with no_fork:
            try:
                client, _ = self._bound.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return  # the client has closed it already
            except OSError as error:
                # Too many open files, for example. Trying again immediately would not help.
                _log.error("no connection can be accepted for a second: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._bound)
                self._reopening = loop.call_later(1, self.open)
                return
            try:
                stream = self._stream(client)
            except OSError:  # the client has closed it already
                client.close()
                return
            watch_socket(stream.socket)
        task = asyncio.get_running_loop().create_task(_Connection(self, stream).serve())
        self._connections[task] = stream
        task.add_done_callback(self._connections.pop)

    def _stream(self, client: socket.socket) -> IOStream:
        client.setblocking(False)
        client.getpeername()  # wrap_socket() would fail in the same way, but leave the socket open
        if self._tls is None:
            return IOStream(client)
        return SSLIOStream(
            self._tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        )


@dataclass(frozen=True)
class _Head:
    """The request line and the headers."""

    method: str
    target: str
    #: Whether the request is HTTP/1.0.
    is_old: bool
    #: The values of each header, by names in lower case.
    fields: Mapping[str, list[str]]

    @classmethod
    def parse(cls, data: bytes) -> _Head:
        """
        Parse the request line and the headers.

        :raises APIError: If they are not valid HTTP/1.
        """
        first, *lines = data.replace(b"\r\n", b"\n").split(b"\n")
        match = _REQUEST_LINE.fullmatch(first)
        if not match:
            raise _unreadable(f"the request line {_shown(first)} is not one of HTTP/1")
        method, target, version = (part.decode("latin-1") for part in match.groups())
        fields: dict[str, list[str]] = {}
        for line in lines:
            match = _FIELD.fullmatch(line)
            if not match:
                raise _unreadable(f"the header {_shown(line)} is not one of HTTP/1")
            name, value = (part.decode("latin-1") for part in match.groups())
            fields.setdefault(name.lower(), []).append(value)
        return cls(method, target, version == "0", fields)

    def field(self, name: str) -> str:
        """Return the value of a header, ``""`` if it is missing."""
        return ",".join(self.fields.get(name, ()))

    @property
    def keeps_connection(self) -> bool:
        """Whether another request may follow."""
        options = {option.strip().lower() for option in self.field("connection").split(",")}
        return "close" not in options and ("keep-alive" in options or not self.is_old)

    def request(self, body: bytes, *, secure: bool, flaw: APIError | None) -> Request:
        """
        Return the request.

        :param secure: Whether the request was received over HTTPS.
        :param flaw: The reason why the body cannot be read, or ``None``.
        """
        hosts = self.fields.get("host", [])
        host, path, query = "".join(hosts), "", ""
        try:
            named, path, query = _split(self.method, self.target)
            host = named or host
            if len(hosts) > 1 or not (hosts or self.is_old):
                raise _unreadable(f"Host: expected this header once, got it {len(hosts)} times")
        except APIError as error:
            flaw = error
        content_type = self.field("content-type")
        return Request(self.method, path, query, host, content_type, body, secure, flaw)


class _Connection:
    """The connection of a client, with one request after another."""

    def __init__(self, server: HTTPServer, stream: IOStream) -> None:
        self._server = server
        self._app = server.app
        self._stream = stream
        self._is_secure = isinstance(stream, SSLIOStream)
        #: The bytes that were received and not parsed yet.
        self._buffer = bytearray()

    async def serve(self) -> None:
        """Serve requests until the connection is closed."""
        try:
            self._stream.set_nodelay(True)
            while await self._serve_request():
                await asyncio.sleep(0)  # others wait, too
        except OSError:
            pass  # the client has closed the connection, or does not send TLS any more
        finally:
            self._stream.close()

    async def _serve_request(self) -> bool:
        """Serve one request and return whether another one may follow."""
        try:
            head = _Head.parse(await self._read_head())
        except APIError as error:
            headers = {"Connection": "close"}
            await self._send(*_encode(render_error(error, "xml"), headers))
            await self._linger()
            return False
        body, flaw = b"", None
        try:
            body = await self._read_body(head)
        except APIError as error:
            flaw = error
        exchange = self._app.receive(head.request(body, secure=self._is_secure, flaw=flaw))
        if exchange.effect.seconds:
            await asyncio.sleep(exchange.effect.seconds)
        reply = self._app.reply(exchange, self._server)
        if reply.response is None:
            return False
        keeps = head.keeps_connection and flaw is None
        headers = {"Date": format_datetime(self._app.now(), usegmt=True)}
        if head.is_old or not keeps:
            headers["Connection"] = "keep-alive" if keeps else "close"
        sent_head, body = _encode(reply.response, headers, head.method)
        sent_body = body[: reply.cut]
        await self._send(sent_head, sent_body)
        if flaw is not None:
            await self._linger()
        return keeps and len(sent_body) == len(body)

    async def _send(self, head: bytes, body: bytes) -> None:
        """Send a response. A short one is one packet, a long one is not copied."""
        if len(body) < _CHUNK:
            head, body = head + body, b""
        await self._stream.write(head)
        if body:
            await self._stream.write(body)

    async def _linger(self) -> None:
        """Wait until the client has read the response, which closing would discard."""
        if not self._is_secure:
            with contextlib.suppress(OSError):  # the client has closed the connection
                self._stream.socket.shutdown(socket.SHUT_WR)
        end = time.monotonic() + _LINGER
        with contextlib.suppress(asyncio.TimeoutError):
            while time.monotonic() < end:
                await asyncio.wait_for(self._stream.read_bytes(_CHUNK, partial=True), _QUIET)

    # Reading

    async def _read_head(self) -> bytes:
        while True:
            # Some clients send an empty line between two requests.
            del self._buffer[: len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))]
            if self._buffer[:1] == b"\x16":  # both sides would wait for the other
                raise _unreadable("expected HTTP, got a TLS handshake")
            end = _END_OF_HEAD.search(self._buffer)
            if (end.start() if end else len(self._buffer)) > _MAX_HEAD:
                raise APIError(
                    ErrorCode.LONG_HEAD,
                    f"request line and headers are longer than {_MAX_HEAD} bytes",
                )
            if end:
                head = bytes(self._buffer[: end.start()])
                del self._buffer[: end.end()]
                return head
            await self._fill()

    async def _read_body(self, head: _Head) -> bytes:
        """
        Read the body of a request.

        :raises APIError: If the body cannot be read, and so its end is unknown.
        """
        coding = head.field("transfer-encoding")
        sizes = head.fields.get("content-length", [])
        if coding:
            if sizes or coding.lower() != "chunked":
                raise _unreadable(
                    "Transfer-Encoding: expected 'chunked', and no Content-Length, got"
                    f" {_shown(coding)}"
                )
            await self._send_continue(head)
            return await self._read_chunks()
        size = sizes[0] if sizes else "0"
        if len(set(sizes)) > 1 or not (size.isascii() and size.isdecimal()):
            got = _shown(head.field("content-length"))
            raise _unreadable(f"Content-Length: expected a whole number, got {got}")
        size = size.lstrip("0")[:20]
        if not size:
            return b""
        if int(size) > _MAX_BODY:
            raise _too_large()
        await self._send_continue(head)
        return await self._read(int(size))

    async def _send_continue(self, head: _Head) -> None:
        """Send the status 100 to a client that waits for it."""
        expects = head.field("expect").lower() == "100-continue"
        if expects and not head.is_old and not self._buffer:
            await self._stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _read_chunks(self) -> bytes:
        body = bytearray()
        while size := _chunk_size(await self._read_line()):
            if len(body) + size > _MAX_BODY:
                raise _too_large()
            body += await self._read(size)
            if await self._read_line():
                raise _unreadable("a chunk of the body is longer than it says")
        for _ in range(_MAX_TRAILERS):
            if not await self._read_line():
                return bytes(body)
        raise _unreadable(f"the body has more than {_MAX_TRAILERS} trailers")

    async def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_LINE:
                raise _unreadable(f"a line of the body is longer than {_MAX_LINE} bytes")
            await self._fill()
        return (await self._read(end + 1)).rstrip(b"\r\n")

    async def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._fill()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _fill(self) -> None:
        self._buffer += await self._stream.read_bytes(_CHUNK, partial=True)


def _split(method: str, target: str) -> tuple[str, str, str]:
    """
    Split a request target.

    :return: The host of the target, ``""`` if it has none; path and query, not decoded.
    :raises APIError: If the target is not valid.
    """
    if target.startswith("/"):
        path, _, query = target.partition("?")
        return "", path, query
    if (method, target) == ("OPTIONS", "*") or method == "CONNECT":
        return "", target, ""
    with contextlib.suppress(ValueError):
        parts = urlsplit(target)
        if parts.scheme and parts.netloc:
            return parts.netloc, parts.path or "/", target.partition("?")[2]
    raise _unreadable(f"the request target {_shown(target)} is neither a path nor a URL")


def _chunk_size(line: bytes) -> int:
    match = _CHUNK_SIZE.fullmatch(line)
    if not match:
        raise _unreadable(f"the body has a chunk of the size {_shown(line)}")
    return int(match[1], 16)


def _encode(
    response: Response, headers: Mapping[str, str], method: str = "GET"
) -> tuple[bytes, bytes]:
    """
    Return the bytes of a response.

    :param headers: Headers that do not depend on the response.
    :param method: The method of the request.
    :return: The status line with the headers, and the body.
    """
    body = b"" if response.status in _BODILESS else response.body
    fields = dict(headers)
    if response.status not in (204, 304):
        fields["Content-Type"] = response.content_type
        fields["Content-Length"] = str(len(body))
    fields |= response.headers
    lines = [f"HTTP/1.1 {response.status} {responses.get(response.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1"), b"" if method == "HEAD" else body


def _unreadable(message: str) -> APIError:
    return APIError(ErrorCode.UNREADABLE, message)


def _too_large() -> APIError:
    return APIError(ErrorCode.LARGE_BODY, f"the body is larger than {_MAX_BODY} bytes")


def _shown(value: str | bytes) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
