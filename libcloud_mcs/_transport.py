"""
What lies below a request: connections that are kept and checked, bounded bodies, and what can be
said of a request that failed.

Whether a failed request was sent decides whether it may be sent again. The exceptions of requests
cannot tell in every case, so the connections here keep track.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import requests
import urllib3
import urllib3.connection
import urllib3.exceptions
from requests import exceptions as failures
from requests.adapters import HTTPAdapter

from libcloud_mcs.response import without_signature

__all__ = ["FAILURES", "Session", "certificate_refused", "never_sent", "read_body", "reason"]

#: What may be raised while a request is sent or its answer is read.
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError)

#: A whole page of 2,048 instances has about 1 MB; the rest is room for endpoints without pages.
_MAX_BODY = 64 * 1024 * 1024
_CHUNK = 256 * 1024
#: A pool has room for so many idle connections; only those that were needed are ever opened.
_MOST_KEPT = 256


class _Progress(threading.local):
    """How far this thread's request has come."""

    #: Whether anything of it may have reached the endpoint; ``None``: nobody kept track.
    sent: bool | None = None


_progress = _Progress()


class _Tracked(urllib3.connection.HTTPConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        # Whatever goes wrong until now went wrong before anything was sent: finding the host,
        # connecting, the proxy's tunnel, TLS.
        if self.sock is None:
            self.connect()
        _progress.sent = True
        super().request(*args, **kwargs)


class _TrackedTLS(_Tracked, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Tracked


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TrackedTLS


_POOLS = {"http": _Pool, "https": _TLSPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        if type(manager) is urllib3.ProxyManager:  # and not one for SOCKS, which has its own
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        _progress.sent = False
        return super().send(*args, **kwargs)


class Session(requests.Session):
    """
    A session that any number of threads may share. It keeps as many connections as were ever in
    use at once; urllib3 looks whether a kept one is still open before it uses it.
    """

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(pool_maxsize=_MOST_KEPT))
        # urllib3 logs the URL of each request, which a GET has its signature in.
        logging.getLogger("urllib3.connectionpool").addFilter(_hide_signature)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request, and keep track of how far it came."""
        _progress.sent = None
        return super().send(request, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Follow no redirect: a signed request is for its endpoint alone."""
        return None


def _hide_signature(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            without_signature(arg) if isinstance(arg, str) else arg for arg in record.args
        )
    return True


def read_body(response: requests.Response, end: float) -> bytes:
    """
    Read a body.

    :param response: The answer, of which only the head was read.
    :param end: When :func:`time.monotonic` is past it, there is no more time.
    :return: The body; of one that is larger than any answer of the API, the beginning.
    :raises requests.RequestException: It was cut, or took too long.
    """
    # read() waits for all that it was asked for, read1() for anything; old urllib3 lack it.
    read = getattr(response.raw, "read1", response.raw.read)
    body = bytearray()
    while chunk := read(_CHUNK, decode_content=True):
        body += chunk
        if len(body) > _MAX_BODY:
            # What is left would only fill memory. What there is cannot be read: that is the error.
            break
        if time.monotonic() > end:
            raise failures.ReadTimeout(TimeoutError("the answer timed out, it does not end"))
    return bytes(body)


def never_sent(error: Exception) -> bool:
    """
    Tell whether it is certain that nothing of a request reached the endpoint.

    :param error: How the last request of this thread failed.
    """
    if _progress.sent is not None:
        return not _progress.sent
    # The session's adapter was not ours: somebody has put another in its place, for a test.
    connecting = (
        failures.ConnectTimeout,
        failures.ProxyError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
    )
    return any(isinstance(cause, connecting) for cause in _causes(error))


def certificate_refused(error: Exception) -> bool:
    """Tell whether a request failed because the endpoint's certificate was refused."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def reason(error: Exception) -> str:
    """Say why a request failed, in few words and without its URL."""
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
