"""
HTTP/1.1 over Tornado's streams: bytes to requests, answers to bytes.

Tornado's own HTTP is not used. What it makes of odd requests differs from one version to the next,
some of them end in a traceback, and an answer without a body is left to its caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import format_datetime
from functools import partial
from http.client import responses
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from tornado.iostream import IOStream, SSLIOStream

from libcloud_mcs.emulator._errors import Refusal, RefusedError
from libcloud_mcs.emulator._faults import Effect
from libcloud_mcs.emulator._lifetime import no_fork, watch_socket
from libcloud_mcs.emulator.wire import Answer, Request, render, render_refusal

if TYPE_CHECKING:
    import ssl

    from libcloud_mcs.emulator._emulator import Emulator, Exchange

__all__ = ["HTTPServer"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MAX_BODY = 4 * 1024 * 1024
#: Of the request line and the headers together.
_MAX_HEAD = 64 * 1024
#: Of one line between the chunks of a body.
_MAX_LINE = 4096
_MAX_TRAILERS = 100
_CHUNK = 64 * 1024
#: How many seconds a client that is still sending has for reading why it was refused; and after how
#: many without a byte it has surely sent everything.
_LINGER, _QUIET = 5, 0.25
#: The statuses whose answers never have a body.
_BODILESS = (204, 205, 304)
_NOTHING = Effect("nothing")

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[\t ]*(?:;.*)?")


class HTTPServer:
    """
    Serves connections to an emulator.

    :param emulator: Answers the requests.
    :param bound: The socket that listens; closed at the end.
    :param is_stopping: Whether requests are carried out no more.
    :param tls: Certificate and key for HTTPS; ``None``: HTTP.
    """

    def __init__(
        self,
        emulator: Emulator,
        bound: socket.socket,
        is_stopping: Callable[[], bool],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.emulator = emulator
        self.is_stopping = is_stopping
        #: Whether a function of the user's is running, which may wait for anything.
        self.is_calling = False
        self._bound = bound
        self._reopening: asyncio.TimerHandle | None = None
        self._tls = tls
        # The loop itself keeps no strong reference to what it runs.
        self._connections: dict[asyncio.Task[None], IOStream] = {}

    def open(self) -> None:
        """Accept connections, in the thread of a running event loop."""
        asyncio.get_running_loop().add_reader(self._bound, self._accept)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function of the user's."""
        self.is_calling = True
        try:
            return function()
        finally:
            self.is_calling = False

    async def close(self) -> None:
        """Stop listening, and close all connections."""
        asyncio.get_running_loop().remove_reader(self._bound)
        if self._reopening:
            self._reopening.cancel()
        self._bound.close()
        for task, stream in self._connections.items():
            task.cancel()
            stream.close()  # a task that was not begun does not do it
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self) -> None:
        with no_fork:
            try:
                client, _ = self._bound.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return  # it has gone again
            except OSError as error:
                # Such as too many open files: trying at once would change nothing.
                _log.error("no connection can be accepted for a second: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._bound)
                self._reopening = loop.call_later(1, self.open)
                return
            try:
                stream = self._stream(client)
            except OSError:  # it has gone again, before a handshake could begin
                client.close()
                return
            watch_socket(stream.socket)
        task = asyncio.get_running_loop().create_task(_Connection(self, stream).serve())
        self._connections[task] = stream
        task.add_done_callback(self._connections.pop)

    def _stream(self, client: socket.socket) -> IOStream:
        client.setblocking(False)
        client.getpeername()  # where wrap_socket() fails at this, it leaves the socket open
        if self._tls is None:
            return IOStream(client)
        return SSLIOStream(
            self._tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        )


@dataclass(frozen=True)
class _Head:
    """What comes before a request's body."""

    method: str
    target: str
    #: Whether it is of HTTP/1.0.
    is_old: bool
    #: The values of each header, by its name in lower case.
    fields: Mapping[str, list[str]]

    @classmethod
    def parse(cls, data: bytes) -> _Head:
        """
        Read request line and headers.

        :raises RefusedError: If they are not HTTP/1.
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
        """Return the value of a header, ``""`` where it is not there."""
        return ",".join(self.fields.get(name, ()))

    @property
    def keeps_connection(self) -> bool:
        """Whether another request may follow."""
        options = {option.strip().lower() for option in self.field("connection").split(",")}
        return "close" not in options and ("keep-alive" in options or not self.is_old)

    def request(self, body: bytes, *, secure: bool, flaw: RefusedError | None) -> Request:
        """
        Make the request of it.

        :param secure: Whether it came over HTTPS.
        :param flaw: Why its body cannot be read, if it cannot.
        """
        hosts = self.fields.get("host", [])
        host, path, query = "".join(hosts), "", ""
        try:
            named, path, query = _split(self.method, self.target)
            host = named or host
            if len(hosts) > 1 or not (hosts or self.is_old):
                raise _unreadable(f"Host: expected this header once, got it {len(hosts)} times")
        except RefusedError as error:
            flaw = error
        content_type = self.field("content-type")
        return Request(self.method, path, query, host, content_type, body, secure, flaw)


class _Connection:
    """A client's connection, and one request after another that comes over it."""

    def __init__(self, server: HTTPServer, stream: IOStream) -> None:
        self._server = server
        self._emulator = server.emulator
        self._stream = stream
        self._is_secure = isinstance(stream, SSLIOStream)
        #: What has come, and was not read yet.
        self._buffer = bytearray()

    async def serve(self) -> None:
        """Serve it until its end."""
        try:
            self._stream.set_nodelay(True)
            while await self._serve_request():
                await asyncio.sleep(0)  # many may have come at once
        except OSError:
            pass  # the client has gone, or what it sends is not TLS any more
        finally:
            self._stream.close()

    async def _serve_request(self) -> bool:
        """Serve one request, and return whether another may follow."""
        try:
            head = _Head.parse(await self._read_head())
        except RefusedError as error:
            data, _ = _encode(render_refusal(error, "xml"), {"Connection": "close"})
            await self._stream.write(data)
            await self._linger()
            return False
        body, flaw = b"", None
        try:
            body = await self._read_body(head)
        except RefusedError as error:
            flaw = error
        exchange = self._emulator.take(head.request(body, secure=self._is_secure, flaw=flaw))
        effect = exchange.effect or _NOTHING
        if effect.seconds:
            await asyncio.sleep(effect.seconds)
        keeps = head.keeps_connection and flaw is None
        data, is_whole = self._answer(exchange, effect, head, keeps=keeps)
        await self._stream.write(data)
        if flaw is not None:
            await self._linger()
        return keeps and is_whole

    def _answer(
        self, exchange: Exchange, effect: Effect, head: _Head, *, keeps: bool
    ) -> tuple[bytes, bool]:
        """Carry a request out; return the answer's bytes, and whether they are all of it."""
        headers = {"Date": format_datetime(self._emulator.signature_time(), usegmt=True)}
        if head.is_old or not keeps:
            headers["Connection"] = "keep-alive" if keeps else "close"
        answer: Answer | None
        try:
            answer = self._carry_out(exchange, effect)
            data, is_whole = b"", False
            if answer is not None:
                data, is_whole = _encode(answer, headers, head.method, effect.cut)
        except Exception as error:
            what = f"the fault {effect.name!r}" if exchange.effect else "the emulator"
            _log.exception("%s failed", what)
            message = f"{what} failed: {type(error).__name__}: {error}"
            tree = {"Error": {"message": message, "code": 500}}
            answer = render("ErrorResponse", tree, exchange.answer_format, 500)
            answer = replace(answer, refusal=message)
            data, is_whole = _encode(answer, headers, head.method)
        # Before it is sent: whoever reads the answer finds its record.
        self._emulator.remember(exchange, answer)
        return data, is_whole

    def _carry_out(self, exchange: Exchange, effect: Effect) -> Answer | None:
        """Return the answer, ``None`` where the connection is closed without one."""
        if effect.run:
            self._server.call(effect.run)
        if effect.drop_before or self._server.is_stopping():
            return None
        handle = partial(self._emulator.handle, exchange)
        # What an effect answers with is a function of the user's, which may wait for anything.
        answer = self._server.call(handle) if effect.answer else handle()
        if effect.drop_after:
            return None
        if effect.content_type is not None:
            answer = replace(answer, content_type=effect.content_type)
        return answer

    async def _linger(self) -> None:
        """Let the client read its answer: if it is cut off while it sends, it may lose it."""
        if not self._is_secure:
            with contextlib.suppress(OSError):  # it has gone
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
            if self._buffer[:1] == b"\x16":  # waiting for more would make both wait forever
                raise _unreadable("this is a handshake of TLS, and the endpoint speaks HTTP")
            end = _END_OF_HEAD.search(self._buffer)
            if (end.start() if end else len(self._buffer)) > _MAX_HEAD:
                raise RefusedError(
                    Refusal.LONG_HEAD, f"request line and headers are longer than {_MAX_HEAD} bytes"
                )
            if end:
                head = bytes(self._buffer[: end.start()])
                del self._buffer[: end.end()]
                return head
            await self._fill()

    async def _read_body(self, head: _Head) -> bytes:
        """
        Read a request's body.

        :raises RefusedError: If it cannot be read, so that nobody knows where it ends.
        """
        coding = head.field("transfer-encoding")
        sizes = head.fields.get("content-length", [])
        if coding:
            if sizes or coding.lower() != "chunked":
                raise _unreadable(
                    "Transfer-Encoding: expected 'chunked', and no Content-Length, got"
                    f" {_shown(coding)}"
                )
            await self._let_go_on(head)
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
        await self._let_go_on(head)
        return await self._read(int(size))

    async def _let_go_on(self, head: _Head) -> None:
        """Tell a client that waits for it to send the body."""
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

    :return: The host that it names, ``""`` where it names none; path and query, not decoded.
    :raises RefusedError: If it is not one.
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
    answer: Answer, headers: Mapping[str, str], method: str = "GET", cut: int | None = None
) -> tuple[bytes, bool]:
    """
    Write an answer.

    :param headers: Those that do not depend on it.
    :param method: The request's.
    :param cut: How many bytes of the body are sent at most; ``None``: all.
    :return: Its bytes, and whether they are all of it.
    :raises ValueError: If a header cannot be written.
    """
    body = b"" if answer.status in _BODILESS else answer.body
    fields = dict(headers)
    if answer.status not in (204, 304):
        fields["Content-Type"] = answer.content_type
        fields["Content-Length"] = str(len(body))
    fields |= answer.headers
    lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    for line in lines:
        if not _LINE.fullmatch(line):
            raise ValueError(f"{line!r} cannot be a header")
    if method == "HEAD":
        body = b""
    sent = body[:cut]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + sent, len(sent) == len(body)


def _unreadable(message: str) -> RefusedError:
    return RefusedError(Refusal.UNREADABLE, message)


def _too_large() -> RefusedError:
    return RefusedError(Refusal.LARGE_BODY, f"the body is larger than {_MAX_BODY} bytes")


def _shown(what: str | bytes) -> str:
    text = what.decode("latin-1") if isinstance(what, bytes) else what
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
