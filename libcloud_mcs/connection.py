"""
Signed requests to the API, with retries where they are safe.

The kind of the action decides about retries, never the HTTP method: see
:meth:`MCSConnection.call`. libcloud's own retries are not used, whatever its settings are: they
would repeat an old signature, and do not distinguish a request that was never sent from one that
was carried out.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import requests
from libcloud.common.base import ConnectionUserAndKey

from libcloud_mcs import _outcomes as outcomes
from libcloud_mcs._arguments import encodable, one_of, positive, whole_number
from libcloud_mcs._endpoint import Endpoint
from libcloud_mcs._proxy import checked_proxy, environment_proxy, without_credentials
from libcloud_mcs._signature import SIGNATURE_METHODS, canonical_query, sign, string_to_sign
from libcloud_mcs._throttle import Throttle
from libcloud_mcs._transport import FAILURES, Session
from libcloud_mcs._trust import Trust
from libcloud_mcs.actions import ACTIONS, Action
from libcloud_mcs.errors import MCSError, RateLimitError

__all__ = ["MCSConnection"]

#: The longest random delay in seconds between two tries.
_MAX_DELAY = 30.0

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: The deadline for the calls of a block, on the clock of :func:`time.monotonic`.
_until: ContextVar[float] = ContextVar("_until", default=math.inf)


def _unchanged(result: Any) -> Any:
    return result


class _Channel(NamedTuple):
    """The means of a connection to send requests from one process."""

    #: The ID of the process.
    process: int
    session: Session
    throttle: Throttle


class MCSConnection(ConnectionUserAndKey):
    """
    The connection of one driver to one endpoint.

    :param user_id: The access key.
    :param key: The secret.
    :param secure: Whether the endpoint's URL begins with ``https``.
    :param url: The URL of the endpoint.
    :param region: The parameter ``Region``; ``None`` sends none.
    :param http_method: ``POST`` or ``GET``.
    :param response_format: ``xml`` or ``json``.
    :param signature_method: ``HmacSHA256`` or ``HmacSHA1``.
    :param timeout: The timeout of one try in seconds, from the connection to the last byte.
    :param connect_timeout: The timeout of an attempt to connect, in seconds.
    :param deadline: The timeout of a call with all its tries, in seconds.
    :param max_tries: The highest number of tries of a call.
    :param retry_delay: The longest delay in seconds before the second try. Delays are random.
    :param backoff: The factor by which the longest delay grows with each try.
    :param proxy_url: The URL of a proxy; ``None`` for the environment's proxy at the time of the
        first request.
    :param ca_cert: The path of a file with the certificates to trust, for this connection only. The
        constructor reads the file.
    :raises ValueError: If an argument has an invalid value. The message names the argument.
    """

    #: The driver. libcloud's annotation is a class.
    driver: Any

    def __init__(
        self,
        user_id: str,
        key: str,
        secure: bool,
        *,
        url: str,
        region: str | None,
        http_method: str,
        response_format: str,
        signature_method: str,
        timeout: float | None,
        connect_timeout: float,
        deadline: float,
        max_tries: int,
        retry_delay: float | None,
        backoff: float | None,
        proxy_url: str | None,
        ca_cert: str | None,
    ) -> None:
        self.endpoint = Endpoint.from_url(url)
        super().__init__(  # type: ignore[no-untyped-call]
            user_id,
            key,
            secure=secure,
            host=self.endpoint.host,
            port=self.endpoint.port,
            timeout=timeout,
            proxy_url=proxy_url,
            backoff=backoff,
            retry_delay=retry_delay,
        )
        self.request_path = self.endpoint.path
        # libcloud annotates its attribute user_id as a number.
        self.access_key = user_id
        self.region = region
        self.http_method = one_of(http_method, ("POST", "GET"), "http_method")
        self.response_format = one_of(response_format, ("xml", "json"), "response_format")
        self.signature_method = one_of(
            signature_method, tuple(SIGNATURE_METHODS), "signature_method"
        )
        self.timeout: float = positive(60 if timeout is None else timeout, "timeout")
        self.connect_timeout = positive(connect_timeout, "connect_timeout")
        self.deadline = positive(deadline, "deadline")
        self.max_tries = whole_number(max_tries, "max_tries")
        self.retry_delay: float = positive(
            0.5 if retry_delay is None else retry_delay, "retry_delay"
        )
        self.backoff: float = positive(2.0 if backoff is None else backoff, "backoff")
        self._blank = requests.Request(
            self.http_method,
            self.endpoint.url,
            headers={"Accept-Encoding": "gzip, deflate"},
        ).prepare()
        # requests rewrites URLs. The signature is for the rewritten URL.
        self._url = urlsplit(str(self._blank.url))
        self._proxy = None if proxy_url is None else checked_proxy(proxy_url, "proxy_url")
        secure = self.endpoint.secure or (self._proxy or "").startswith("https:")
        self._trust = Trust.from_settings(ca_cert) if secure or ca_cert is not None else None
        self._channel: _Channel | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy has separate connections.
        return {**self.__dict__, "_channel": None}

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing. libcloud calls this method, but connections are opened when needed."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """
        Refuse libcloud's requests, which are neither signed nor safe; see :meth:`call`.

        :raises NotImplementedError: If it is called.
        """
        raise NotImplementedError("use MCSConnection.call(action, params)")

    def set_http_proxy(self, proxy_url: str | None) -> None:
        """
        Use a proxy from now on.

        :param proxy_url: ``http://[user:password@]host:port``; ``None`` for no proxy, not even the
            environment's.
        :raises TypeError: If the URL is not text.
        :raises ValueError: If the URL has another form.
        :raises ImportError: If the proxy is a SOCKS proxy, and the package ``PySocks`` is missing.
        """
        self._proxy = "" if proxy_url is None else checked_proxy(proxy_url, "proxy_url")
        if self._trust is None and self._proxy.startswith("https:"):
            self._trust = Trust.from_settings(None)
        self.proxy_url = proxy_url
        self._channel = None

    def call(
        self,
        action: str | Action,
        params: Mapping[str, str] | None = None,
        read: Callable[[Any], T] = _unchanged,
    ) -> T:
        """
        Carry out an action.

        An action that only reads is retried after every temporary failure: no connection, a lost
        connection, an overloaded or broken endpoint. An action that changes or costs something is
        retried only if it was certainly not carried out: after a failure to connect. An action that
        changes something and costs nothing is also retried after the statuses 429 and 503, which
        are refusals. Each try has a new signature.

        :param action: The name of an action of the table, or an entry for any other action.
        :param params: The action's own parameters. The parameters of every request are added.
        :param read: The function that converts the result of
            :func:`~libcloud_mcs._response.parse_response`.
        :return: The result of ``read``.
        :raises ValueError: If a parameter cannot be encoded in UTF-8.
        :raises MCSError: If the action was not carried out.
        :raises OutcomeUnknownError: If the action may have been carried out.
        """
        return self.fetch(action, params or {}, read)()

    def fetch(
        self, action: str | Action, params: Mapping[str, str], read: Callable[[Any], T]
    ) -> Callable[[], T]:
        """
        Carry out an action as :meth:`call` does, without reading its result.

        Threads that read responses at the same time slow each other down. So several threads can
        fetch responses, while one thread reads them.

        :return: The function that reads the response, with the result and the errors of
            :meth:`call`.
        """
        entry = ACTIONS[action] if isinstance(action, str) else action
        own_params = dict(params)
        for name, value in own_params.items():
            encodable(name + value, name)
        end = min(time.monotonic() + self.deadline, _until.get())
        tries = 0
        while True:
            tries += 1
            try:
                channel = self._open_channel()
                with channel.throttle.slot(end):
                    reader = self._try(channel, entry, own_params, read, end)
                return partial(self._read, entry, reader)
            except MCSError as error:
                error.action, error.driver = entry.name, self.driver
                delay = self._delay_before_retry(error, tries, end)
                if isinstance(error, RateLimitError):
                    channel.throttle.rate_limited(delay or 0)
                if delay is None:
                    raise
                _log.debug("%s failed, try %d in %.2f s: %s", entry.name, tries + 1, delay, error)
            time.sleep(delay)

    def _read(self, action: Action, reader: Callable[[], T]) -> T:
        try:
            return reader()
        except MCSError as error:
            error.action, error.driver = action.name, self.driver
            raise

    @contextmanager
    def until(self, end: float) -> Iterator[None]:
        """
        Limit the time of the calls in a block, in this thread and its workers.

        :param end: The deadline, on the clock of :func:`time.monotonic`.
        """
        token = _until.set(end)
        try:
            yield
        finally:
            _until.reset(token)

    def _delay_before_retry(self, error: MCSError, tries: int, end: float) -> float | None:
        """Return the seconds before the next try, ``None`` if the call is not retried."""
        if not error.retryable or tries >= self.max_tries:
            return None
        retry_after = error.retry_after if isinstance(error, RateLimitError) else 0
        delay = retry_after or self.backoff_delay(tries)
        return delay if time.monotonic() + delay < end else None

    def backoff_delay(self, tries: int) -> float:
        """
        Return a random delay in seconds, up to a limit that grows with each try.

        :param tries: The number of tries so far.
        """
        try:
            longest = min(_MAX_DELAY, self.retry_delay * self.backoff ** (tries - 1))
        except OverflowError:
            longest = _MAX_DELAY
        return random.uniform(0, longest)

    def _open_channel(self) -> _Channel:
        """
        Return the channel of this process.

        A forked child must neither use its parent's connections nor wait for its parent's threads.

        :raises MCSError: If the environment's proxy or certificates cannot be used.
        """
        channel = self._channel
        if channel is None or channel.process != os.getpid():
            proxy, trust = self._proxy, self._trust
            try:
                if proxy is None:
                    proxy = environment_proxy(self.endpoint.url)
                if trust is None and proxy.startswith("https:"):
                    trust = Trust.from_settings(None)
            except (ValueError, ImportError) as error:
                raise MCSError(f"the request was not sent: {error}") from None
            channel = self._channel = _Channel(os.getpid(), Session(trust, proxy), Throttle())
        return channel

    def _try(
        self,
        channel: _Channel,
        action: Action,
        params: dict[str, str],
        read: Callable[[Any], T],
        end: float,
    ) -> Callable[[], T]:
        request = self._signed(action, params)
        proxy = channel.session.proxy
        via = f" through the proxy {without_credentials(proxy)!r}" if proxy else ""
        try:
            response, body = channel.session.exchange(
                request,
                self.connect_timeout,
                min(end, time.monotonic() + self.timeout),
            )
        except FAILURES as error:
            failure = outcomes.transport_error(action, params, self.endpoint.url, error, via)
        else:
            reader = partial(outcomes.read_response, action, params, response, body, read, via)
            if outcomes.is_success(response, body):
                return reader
            # The error decides about a retry.
            result = reader()
            return lambda: result
        # Outside the except block: the text of the cause has the URL, with GET the signature, too.
        raise failure

    def _signed(self, action: Action, params: dict[str, str]) -> requests.PreparedRequest:
        all_params: dict[str, str] = params | {
            "Action": action.name,
            "AWSAccessKeyId": self.access_key,
            "Timestamp": self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "SignatureVersion": "2",
            "SignatureMethod": self.signature_method,
            "Format": self.response_format,
        }
        if self.region is not None:
            all_params["Region"] = self.region
        query = canonical_query(all_params)
        signature = sign(
            secret=self.key,
            text=string_to_sign(
                method=self.http_method, host=self._url.netloc, path=self._url.path, query=query
            ),
            signature_method=self.signature_method,
        )
        form = f"{query}&Signature={quote(signature, safe='')}"
        request = self._blank.copy()
        request.headers["User-Agent"] = self._user_agent()  # type: ignore[no-untyped-call]
        if self.http_method == "GET":
            request.url = f"{request.url}?{form}"
        else:
            request.body = form.encode("ascii")
            request.headers["Content-Type"] = "application/x-www-form-urlencoded"
            request.headers["Content-Length"] = str(len(form))
        return request

    def _now(self) -> datetime:
        return datetime.now(timezone.utc)
