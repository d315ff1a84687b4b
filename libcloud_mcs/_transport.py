"""
The HTTP transport below a request: connections that are kept and checked, bounded times and
bodies, and what is known of a request that failed.

Whether a failed request was sent decides whether it may be sent again. The exceptions of requests
cannot tell in every case, so the connections here record it. They are urllib3's own, whichever
those are at the time: a tool that has replaced them, or that steps in above them, sees the driver's
requests as it sees any other. Then nothing is recorded, and nothing is claimed.
"""

from __future__ import annotations

import http.client
import io
import logging
import math
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

#: What may be raised while a request is sent or its response is read.
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError)

#: A whole page of 2,048 instances has about 1 MB; the rest is room for endpoints without pages.
_MAX_BODY = 64 * 1024 * 1024
_CHUNK = 256 * 1024
#: A pool has room for so many idle connections; only those that were needed are ever opened.
_MOST_KEPT = 256


if TYPE_CHECKING:
    _Connection = urllib3.connection.HTTPConnection
    _ConnectionPool = urllib3.HTTPConnectionPool
else:
    # Which classes they are is found when a connection is made.
    _Connection = _ConnectionPool = object


class _Progress(threading.local):
    """How far this thread's request has come."""

    #: Whether anything of it may have reached the endpoint; ``None`` if that is not known.
    sent: bool | None = None
    #: When it has to be over, on the clock of :func:`time.monotonic`.
    end = math.inf


_progress = _Progress()


class _Tracked(_Connection):
    """
    What is added to a connection of urllib3: it records whether a request was sent, and keeps to
    the time of the request as a whole. A socket's own timeout starts again with each byte.
    """

    #: When the present step has to be over.
    _end = math.inf

    def connect(self) -> None:
        _progress.sent = False
        self._end = min(_progress.end, time.monotonic() + cast("float", self.timeout))
        super().connect()

    def _new_conn(self) -> socket.socket:
        # urllib3 tries each address of a host for the whole time.
        timeout, self.timeout = self.timeout, _left(self._end) / _addresses(self.host, self.port)
        try:
            sock = super()._new_conn()
        finally:
            self.timeout = timeout
        # For the proxy's tunnel and the TLS handshake.
        sock.settimeout(_left(self._end))
        return sock

    def _tunnel(self) -> None:
        super()._tunnel()
        self.sock.settimeout(_left(self._end))

    def request(self, *args: Any, **kwargs: Any) -> None:
        # Whatever fails until now fails before anything was sent: finding the host, connecting,
        # the proxy's tunnel, TLS.
        if self.sock is None:
            self.connect()
        _progress.sent = True
        self.timeout = _left(_progress.end)
        self.sock.settimeout(self.timeout)
        super().request(*args, **kwargs)

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        self._end = _progress.end
        return super().getresponse(*args, **kwargs)

    def response_class(  # type: ignore[override] # a class, and called as one
        self, sock: socket.socket, **kwargs: Any
    ) -> http.client.HTTPResponse:
        """Create the response object for the tunnel's or the endpoint's response."""
        return _Response(sock, self._end, **kwargs)


class _Response(http.client.HTTPResponse):
    """A response whose head, too, has to be there in time."""

    def __init__(self, sock: socket.socket, end: float, **kwargs: Any) -> None:
        super().__init__(sock, **kwargs)
        # A tool may have put something else in the socket's place.
        if isinstance(self.fp, io.BufferedReader) and isinstance(self.fp.raw, socket.SocketIO):
            raw = _Bounded(cast("socket.SocketIO", self.fp.detach()), sock, end)
            self.fp = io.BufferedReader(raw)


class _Bounded(io.RawIOBase):
    """What comes from a socket, until a time."""

    def __init__(self, raw: socket.SocketIO, sock: socket.socket, end: float) -> None:
        self._raw = raw
        self._sock = sock
        self._end = end
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._end))
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError as error:
            if self._begun:
                error.args = ("timed out: the response does not end",)
            raise
        self._begun = True
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


def _left(end: float) -> float:
    """Return the seconds until a time, in a form that a socket takes."""
    return min(max(0.001, end - time.monotonic()), threading.TIMEOUT_MAX)


def _addresses(host: str, port: int | None) -> int:
    """Return how many addresses a host has."""
    try:
        return len({item[4] for item in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return 1  # urllib3 says why


@lru_cache(maxsize=16)
def _tracked(connection: type[urllib3.connection.HTTPConnection]) -> type:
    return type(f"Tracked{connection.__name__}", (_Tracked, connection), {})


class _TrackingPool(_ConnectionPool):
    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        # Only urllib3's own: a tool's stand-in has no socket to keep track of.
        if type(connection).__module__ in ("urllib3.connection", "urllib3.contrib.socks"):
            connection.__class__ = _tracked(type(connection))
        return connection


@lru_cache(maxsize=16)
def _tracking(pool: type[urllib3.HTTPConnectionPool]) -> type:
    return type(f"Tracking{pool.__name__}", (_TrackingPool, pool), {})


class _Adapter(HTTPAdapter):
    def __init__(self, trust: Trust | None) -> None:
        self._context = trust and trust.context
        super().__init__(pool_maxsize=_MOST_KEPT)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self._track(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy not in self.proxy_manager:
            kwargs["ssl_context"] = self._context
            if proxy.lower().startswith("https:"):
                kwargs["proxy_ssl_context"] = self._context
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._track(manager)
        return manager

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Leave the certificates to the context, which has read them already."""
        conn.cert_reqs = "CERT_REQUIRED"

    @staticmethod
    def _track(manager: urllib3.PoolManager) -> None:
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {
            scheme: pool if issubclass(pool, _TrackingPool) else _tracking(pool)  # type: ignore[arg-type]
            for scheme, pool in pools.items()
        }


class Session(requests.Session):
    """
    A session that any number of threads may share. It keeps as many connections as were ever in
    use at once; urllib3 checks whether a kept one is still open before it uses it.

    :param trust: The certificate authorities to trust; ``None`` where there is no TLS.
    """

    def __init__(self, trust: Trust | None) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(trust))
        # urllib3 logs the URL of each request, which a GET has its signature in.
        logging.getLogger("urllib3.connectionpool").addFilter(_hide_signature)

    def exchange(
        self, request: requests.PreparedRequest, connect_timeout: float, end: float, proxy: str
    ) -> tuple[requests.Response, bytes]:
        """
        Send a request and read its response.

        :param request: The request.
        :param connect_timeout: Seconds after which an attempt to connect has failed.
        :param end: When it has to be over, on the clock of :func:`time.monotonic`.
        :param proxy: The proxy's URL; ``""`` for none.
        :return: The response and its body; of a body that is larger than any response of the API,
            the beginning.
        :raises requests.RequestException: If it could not be sent, or no whole response came in
            time.
        """
        _progress.sent, _progress.end = None, end
        timeout = _left(end)
        with self.send(
            request,
            allow_redirects=False,
            stream=True,
            timeout=(min(connect_timeout, timeout), timeout),
            proxies={"http": proxy, "https": proxy} if proxy else {},
            verify=True,
            cert=None,
        ) as response:
            return response, _read_body(response)

    def get_redirect_target(self, _: requests.Response) -> str | None:
        """Follow no redirect: a signed request is for its endpoint alone."""
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
            # What is left would only fill memory. What there is cannot be read: that is the error.
            break
    return bytes(body)


def never_sent(error: Exception) -> bool:
    """
    Return whether it is certain that nothing of a request was sent.

    :param error: How the last request of this thread failed.
    """
    if _progress.sent is not None:
        return not _progress.sent
    # No connection of ours was used. These errors have one meaning, whoever raises them.
    connecting = (
        failures.ConnectTimeout,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
    )
    return any(isinstance(cause, connecting) for cause in _causes(error))


def certificate_refused(error: Exception) -> bool:
    """Check whether a request failed because the endpoint's certificate was refused."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def reason(error: Exception) -> str:
    """Describe why a request failed, in few words and without its URL."""
    causes = list(_causes(error))
    # The innermost error of the operating system says most.
    for cause in reversed(causes):
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
            return f"{type(cause).__name__}: {cause.strerror or cause}"
    return type(causes[-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    # requests and urllib3 wrap what happened as an argument, a "reason", a cause or a context.
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, BaseException) and id(item) not in seen:
            seen.add(id(item))
            yield item
            waiting += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
