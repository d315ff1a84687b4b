"""
The HTTP transport: persistent connections, limits of time and size, and reasons of failures.

A failed request may be retried if it was certainly not sent. The exceptions of requests do not
always show that, so the connections of this module record it. Their base classes are urllib3's
current classes, which tools for tests or tracing may have replaced. Such a tool handles the
driver's requests as any others. Then the connections record nothing, and whether a request was sent
counts as unknown.
"""

from __future__ import annotations

import http.client
import io
import logging
import math
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import requests
import urllib3
import urllib3.connection
import urllib3.exceptions
from requests import exceptions as failures
from requests.adapters import HTTPAdapter

from libcloud_mcs._response import without_signature
from libcloud_mcs._trust import Trust

__all__ = ["FAILURES", "Session", "certificate_refused", "never_sent", "reason"]

#: The exceptions of sending a request and of reading its response.
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError)

#: The maximum length in bytes. A page of 2,048 instances has about 1 MB, an endpoint without pages
#: sends more.
_MAX_BODY = 64 * 1024 * 1024
_CHUNK = 256 * 1024
#: The highest number of idle connections. Connections are only opened when they are needed.
_MAX_IDLE = 256


if TYPE_CHECKING:
    _Connection = urllib3.connection.HTTPConnection
    _ConnectionPool = urllib3.HTTPConnectionPool
else:
    # The actual base classes are looked up when a connection is created.
    _Connection = _ConnectionPool = object


class _Progress(threading.local):
    """The progress of this thread's request."""

    #: Whether a part of the request may have reached the endpoint; ``None`` if that is unknown.
    sent: bool | None = None
    #: The deadline of the request, on the clock of :func:`time.monotonic`.
    end = math.inf


_progress = _Progress()


class _TrackedConnection(_Connection):
    """
    An addition to a connection of urllib3.

    The connection records whether a request was sent, and enforces a deadline for the request. A
    socket's timeout restarts with each byte.
    """

    #: The deadline of the current step.
    _end = math.inf

    def connect(self) -> None:
        _progress.sent = False
        self._end = min(_progress.end, time.monotonic() + cast("float", self.timeout))
        super().connect()

    def _new_conn(self) -> socket.socket:
        # urllib3 applies the timeout to each address of a host.
        timeout, self.timeout = (
            self.timeout,
            _remaining(self._end) / _address_count(self.host, self.port),
        )
        try:
            sock = super()._new_conn()
        finally:
            self.timeout = timeout
        # For the proxy's tunnel and the TLS handshake.
        sock.settimeout(_remaining(self._end))
        return sock

    def _tunnel(self) -> None:
        super()._tunnel()
        self.sock.settimeout(_remaining(self._end))

    def request(self, *args: Any, **kwargs: Any) -> None:
        # Name resolution, connection, the proxy's tunnel and TLS fail before the request is sent.
        if self.sock is None:
            self.connect()
        _progress.sent = True
        self.timeout = _remaining(_progress.end)
        self.sock.settimeout(self.timeout)
        super().request(*args, **kwargs)

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        self._end = _progress.end
        return super().getresponse(*args, **kwargs)

    def response_class(  # type: ignore[override] # a class, and called as one
        self, sock: socket.socket, **kwargs: Any
    ) -> http.client.HTTPResponse:
        """Create the object for the proxy's or the endpoint's response."""
        return _Response(sock, self._end, **kwargs)


class _Response(http.client.HTTPResponse):
    """A response with a deadline that also applies to its head."""

    def __init__(self, sock: socket.socket, end: float, **kwargs: Any) -> None:
        super().__init__(sock, **kwargs)
        # A tool may have replaced the socket.
        if isinstance(self.fp, io.BufferedReader) and isinstance(self.fp.raw, socket.SocketIO):
            raw = _TimedReader(cast("socket.SocketIO", self.fp.detach()), sock, end)
            self.fp = io.BufferedReader(raw)


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a deadline."""

    def __init__(self, raw: socket.SocketIO, sock: socket.socket, end: float) -> None:
        self._raw = raw
        self._sock = sock
        self._end = end
        self._received = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_remaining(self._end))
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError as error:
            if self._received:
                error.args = ("timed out: the response does not end",)
            raise
        self._received = True
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


def _remaining(end: float) -> float:
    """Return the seconds until a time, within the range of a socket's timeout."""
    return min(max(0.001, end - time.monotonic()), threading.TIMEOUT_MAX)


def _address_count(host: str, port: int | None) -> int:
    """Return the number of a host's addresses."""
    try:
        return len({item[4] for item in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return 1  # urllib3 raises the error of the host


@lru_cache(maxsize=16)
def _tracked_class(connection: type[urllib3.connection.HTTPConnection]) -> type:
    return type(f"Tracked{connection.__name__}", (_TrackedConnection, connection), {})


class _TrackingPool(_ConnectionPool):
    @staticmethod
    def QueueCls(_: int) -> queue.LifoQueue[Any]:  # type: ignore[override] # noqa: N802 - called as the class
        """Create the queue of idle connections, with space for more than urllib3 fills at once."""
        return queue.LifoQueue(_MAX_IDLE)

    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        # Only connections of urllib3: the connection of a tool has no socket to track.
        if type(connection).__module__ in ("urllib3.connection", "urllib3.contrib.socks"):
            connection.__class__ = _tracked_class(type(connection))
        return connection


@lru_cache(maxsize=16)
def _tracking_class(pool: type[urllib3.HTTPConnectionPool]) -> type:
    return type(f"Tracking{pool.__name__}", (_TrackingPool, pool), {})


class _Adapter(HTTPAdapter):
    """The adapter of a session with one endpoint and one proxy, which all have one pool."""

    def __init__(self, trust: Trust | None) -> None:
        self._context = trust and trust.context
        self._pool: Any = None
        # urllib3 fills a pool with so many placeholders, which takes long for a large pool.
        super().__init__(pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self._track(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        kwargs["ssl_context"] = self._context
        if proxy.lower().startswith("https:"):
            kwargs["proxy_ssl_context"] = self._context
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._track(manager)
        return manager

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        # requests would derive the key of the pool from each request.
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        # requests would look for a proxy in the empty mapping.
        return super().request_url(request, proxies) if proxies else request.path_url

    def close(self) -> None:
        self._pool = None
        super().close()

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Require a certificate. The context has already loaded the authorities."""
        conn.cert_reqs = "CERT_REQUIRED"

    @staticmethod
    def _track(manager: urllib3.PoolManager) -> None:
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {
            scheme: pool if issubclass(pool, _TrackingPool) else _tracking_class(pool)  # type: ignore[arg-type]
            for scheme, pool in pools.items()
        }


class Session(requests.Session):
    """
    A session with one endpoint, which threads may share.

    The session keeps as many connections as were in use simultaneously. urllib3 checks whether a
    kept connection is still open before a request.

    :param trust: The certificate authorities to trust; ``None`` without TLS.
    :param proxy: The proxy's URL; ``""`` for none.
    """

    def __init__(self, trust: Trust | None, proxy: str) -> None:
        super().__init__()
        self.proxy = proxy
        self.proxies = {"http": proxy, "https": proxy} if proxy else {}
        adapter = _Adapter(trust)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)
        # urllib3 logs the URL of each request. The URL of a GET has the signature.
        logging.getLogger("urllib3.connectionpool").addFilter(_hide_signature)

    def exchange(
        self, request: requests.PreparedRequest, connect_timeout: float, end: float
    ) -> tuple[requests.Response, bytes]:
        """
        Send a request and read its response.

        :param request: The request.
        :param connect_timeout: The timeout of an attempt to connect, in seconds.
        :param end: The deadline, on the clock of :func:`time.monotonic`.
        :return: The response and its body. A body that is larger than any response of the API is
            truncated.
        :raises requests.RequestException: If the request could not be sent, or no complete response
            arrived in time.
        """
        _progress.sent, _progress.end = None, end
        timeout = _remaining(end)
        with self.send(
            request,
            allow_redirects=False,
            stream=True,
            timeout=(min(connect_timeout, timeout), timeout),
            # Else requests reads the environment for each request.
            proxies=self.proxies,
            verify=True,
            cert=None,
        ) as response:
            return response, _read_body(response)

    def get_redirect_target(self, _: requests.Response) -> str | None:
        """Return no target: a signed request is only for its endpoint."""
        return None


def _hide_signature(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            without_signature(arg) if isinstance(arg, str) else arg for arg in record.args
        )
    return True


def _read_body(response: requests.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > _MAX_BODY:
            # The rest would only fill the memory. A truncated body causes an error when read.
            break
    return bytes(body)


def never_sent(error: Exception) -> bool:
    """
    Check whether a request was certainly not sent.

    :param error: The exception of this thread's last request.
    """
    if _progress.sent is not None:
        return not _progress.sent
    # No connection of this module was used. These errors are unambiguous, whatever raises them.
    connecting = (
        failures.ConnectTimeout,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
    )
    return any(isinstance(cause, connecting) for cause in _causes(error))


def certificate_refused(error: Exception) -> bool:
    """Check whether a request failed because a certificate was refused."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def reason(error: Exception) -> str:
    """Describe the cause of a failed request briefly, without the URL."""
    causes = list(_causes(error))
    # The innermost error of the operating system is the most specific.
    for cause in reversed(causes):
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
            return f"{type(cause).__name__}: {cause.strerror or cause}"
    return type(causes[-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    # requests and urllib3 wrap exceptions as an argument, a "reason", a cause or a context.
    visited: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and id(item) not in visited:
            visited.add(id(item))
            yield item
            queue += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
