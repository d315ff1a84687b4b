"""
One request to the API: signed, sent, and made again where that is safe.

What may be made again is decided by the kind of the action, never by the HTTP method: see
:meth:`MCSConnection.call`. libcloud's own retry, whatever its variable and its switch say, has no
part in it: it would replay an old signature, and cannot tell a request that was never sent from
one that was carried out.
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
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import requests
from libcloud.common.base import ConnectionUserAndKey

from libcloud_mcs import _outcomes as outcomes
from libcloud_mcs._arguments import one_of, positive, whole
from libcloud_mcs._endpoint import Endpoint
from libcloud_mcs._proxy import checked_proxy, environment_proxy, without_credentials
from libcloud_mcs._signature import SIGNATURE_METHODS, canonical_query, sign, string_to_sign
from libcloud_mcs._throttle import Throttle
from libcloud_mcs._transport import FAILURES, Session
from libcloud_mcs._trust import Trust
from libcloud_mcs.actions import ACTIONS, Action
from libcloud_mcs.errors import MCSError, RateLimitError

__all__ = ["MCSConnection"]

_MAX_WAIT = 30.0

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: When the calls of a verb have to be over, on the clock of :func:`time.monotonic`.
_until: ContextVar[float] = ContextVar("_until", default=math.inf)


def _unchanged(result: Any) -> Any:
    return result


class _Channel(NamedTuple):
    """What a connection needs to send, in one process."""

    process: int
    session: Session
    throttle: Throttle
    #: The proxy's URL; ``""`` for none.
    proxy: str


class MCSConnection(ConnectionUserAndKey):
    """
    The connection of one driver to one endpoint.

    :param user_id: The access key.
    :param key: The secret.
    :param secure: Whether the endpoint's URL begins with ``https``.
    :param url: The endpoint; the driver has made it of what it was given.
    :param region: Sent as ``Region``; ``None`` sends none.
    :param http_method: ``POST`` or ``GET``.
    :param response_format: ``xml`` or ``json``.
    :param signature_method: ``HmacSHA256`` or ``HmacSHA1``.
    :param timeout: Seconds after which one try has failed, from connecting to the last byte.
    :param connect_timeout: Seconds after which an attempt to connect has failed.
    :param deadline: Seconds after which a call has failed, with all its tries.
    :param max_tries: How often one call is sent at most.
    :param retry_delay: The longest wait in seconds before the second try; waits are random.
    :param backoff: By what the longest wait grows with each try.
    :param proxy_url: A proxy; without it those of the environment are used, as they are at the
        first request.
    :param ca_cert: The path of a file with the certificates to trust, for this connection alone. It
        is read at once, and may go away then.
    """

    #: The driver, which libcloud types as a class.
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
        # libcloud's name for it, user_id, is typed as a number there.
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
        self.max_tries = whole(max_tries, "max_tries")
        self.retry_delay: float = positive(
            0.5 if retry_delay is None else retry_delay, "retry_delay"
        )
        self.backoff: float = positive(2.0 if backoff is None else backoff, "backoff")
        self._blank = requests.Request(
            self.http_method,
            self.endpoint.url,
            headers={"Accept-Encoding": "gzip, deflate"},
        ).prepare()
        self._proxy = None if proxy_url is None else checked_proxy(proxy_url, "proxy_url")
        secure = self.endpoint.secure or (self._proxy or "").startswith("https:")
        self._trust = Trust.choose(ca_cert) if secure or ca_cert is not None else None
        self._channel: _Channel | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy has separate connections.
        return {**self.__dict__, "_channel": None}

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: connections are opened when they are needed. libcloud calls this."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: libcloud's request is neither signed nor safe here; see :meth:`call`."""
        raise NotImplementedError("use MCSConnection.call(action, params)")

    def set_http_proxy(self, proxy_url: str | None) -> None:
        """
        Use a proxy from now on.

        :param proxy_url: ``http://[user:password@]host:port``; ``None`` for no proxy, not even that
            of the environment.
        :raises ValueError: If it is not such a URL.
        """
        self._proxy = "" if proxy_url is None else checked_proxy(proxy_url, "proxy_url")
        if self._trust is None and self._proxy.startswith("https:"):
            self._trust = Trust.choose(None)
        self.proxy_url = proxy_url
        self._channel = None

    def call(
        self,
        action: str | Action,
        params: Mapping[str, str] | None = None,
        read: Callable[[Any], T] = _unchanged,
    ) -> T:
        """
        Carry an action out.

        A reading action is tried again after anything that may pass: no connection, a lost one, a
        busy or broken endpoint. One that changes or costs something is tried again only where it
        is certain that it was not carried out: no connection, and for a change also the statuses
        429 and 503, which refuse. Each try is signed again.

        :param action: The name of an action of the table, or an entry for any other action.
        :param params: Its own parameters; those that every request has are added.
        :param read: The function that converts the result; its argument is the result of
            :func:`~libcloud_mcs._response.parse_response`.
        :return: What ``read`` gives.
        :raises ValueError: If a parameter cannot be written in UTF-8.
        :raises MCSError: If the action was not carried out.
        :raises OutcomeUnknownError: If it may have been carried out.
        """
        entry = ACTIONS[action] if isinstance(action, str) else action
        asked = dict(params or {})
        for name, value in asked.items():
            try:
                (name + value).encode()
            except UnicodeEncodeError:
                raise ValueError(f"{name}: it holds half a character (a surrogate)") from None
        end = min(time.monotonic() + self.deadline, _until.get())
        tries = 0
        while True:
            tries += 1
            try:
                channel = self._open_channel()
                with channel.throttle.slot(end):
                    return self._try(channel, entry, asked, read, end)
            except MCSError as error:
                error.action, error.driver = entry.name, self.driver
                delay = self._delay_before_retry(error, tries, end)
                if isinstance(error, RateLimitError):
                    channel.throttle.rate_limited(delay or 0)
                if delay is None:
                    raise
                _log.debug("%s failed, try %d in %.2f s: %s", entry.name, tries + 1, delay, error)
            time.sleep(delay)

    @contextmanager
    def until(self, end: float) -> Iterator[None]:
        """
        Limit the time of the calls in a block, of this thread and of its workers.

        :param end: When, on the clock of :func:`time.monotonic`.
        """
        token = _until.set(end)
        try:
            yield
        finally:
            _until.reset(token)

    def _delay_before_retry(self, error: MCSError, tries: int, end: float) -> float | None:
        """Return the seconds to wait before the next try, ``None`` if there is to be none."""
        if not error.retryable or tries >= self.max_tries:
            return None
        retry_after = error.retry_after if isinstance(error, RateLimitError) else 0
        delay = retry_after or self.backoff_delay(tries)
        return delay if time.monotonic() + delay < end else None

    def backoff_delay(self, tries: int) -> float:
        """
        Return the seconds to wait after so many tries: by chance, up to a limit that grows.

        :param tries: How many tries there were.
        """
        try:
            longest = min(_MAX_WAIT, self.retry_delay * self.backoff ** (tries - 1))
        except OverflowError:
            longest = _MAX_WAIT
        return random.uniform(0, longest)

    def _open_channel(self) -> _Channel:
        """
        Return the channel of this process: a forked child must not write to its parent's
        connections, nor wait for its threads.
        """
        channel = self._channel
        if channel is None or channel.process != os.getpid():
            proxy, trust = self._proxy, self._trust
            try:
                if proxy is None:
                    proxy = environment_proxy(self.endpoint.url)
                if trust is None and proxy.startswith("https:"):
                    trust = Trust.choose(None)
            except (ValueError, ImportError) as error:
                raise MCSError(f"nothing was sent: {error}") from None
            channel = self._channel = _Channel(os.getpid(), Session(trust), Throttle(), proxy)
        return channel

    def _try(
        self,
        channel: _Channel,
        action: Action,
        params: dict[str, str],
        read: Callable[[Any], T],
        end: float,
    ) -> T:
        request = self._signed(action, params)
        via = f" through the proxy {without_credentials(channel.proxy)!r}" if channel.proxy else ""
        try:
            response, body = channel.session.exchange(
                request,
                self.connect_timeout,
                min(end, time.monotonic() + self.timeout),
                channel.proxy,
            )
        except FAILURES as error:
            failure = outcomes.failed(action, params, self.endpoint.url, error, via)
        else:
            return outcomes.understood(action, params, response, body, read, via)
        # Not while the cause is at hand: its text has the URL, and with GET that has the signature.
        raise failure

    def _signed(self, action: Action, params: dict[str, str]) -> requests.PreparedRequest:
        all_params: dict[str, str] = params | {
            "Action": action.name,
            "AWSAccessKeyId": self.access_key,
            "Timestamp": self._now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "SignatureVersion": "2",
            "SignatureMethod": self.signature_method,
            "Format": self.response_format,
        }
        if self.region is not None:
            all_params["Region"] = self.region
        # requests rewrites URLs, so that what is signed is what it has made of this one.
        request = self._blank.copy()
        request.headers["User-Agent"] = self._user_agent()  # type: ignore[no-untyped-call]
        url = str(request.url)
        sent = urlsplit(url)
        query = canonical_query(all_params)
        signature = sign(
            secret=self.key,
            text=string_to_sign(
                method=self.http_method, host=sent.netloc, path=sent.path, query=query
            ),
            signature_method=self.signature_method,
        )
        form = f"{query}&Signature={quote(signature, safe='')}"
        if self.http_method == "GET":
            request.url = f"{url}?{form}"
        else:
            request.headers["Content-Type"] = "application/x-www-form-urlencoded"
            request.prepare_body(form.encode("ascii"), None)
        return request

    def _now(self) -> datetime:
        return datetime.now(timezone.utc)
