"""
The outcome of a request: the result of a response, or an error.

The kind of the action and the event decide whether a request may be retried, failed, or has an
unknown outcome: see the table in ``docs/reliability.md``.
"""

from __future__ import annotations

import email.utils
import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Generic, TypeVar

import requests

from libcloud_mcs._response import ERROR_ROOT, ErrorDocument, excerpt, parse_response
from libcloud_mcs._transport import certificate_refused, never_sent, reason
from libcloud_mcs.actions import Action, Kind
from libcloud_mcs.errors import (
    InsufficientBalanceError,
    InvalidCredentialsError,
    MalformedAnswerError,
    MCSError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitError,
)

__all__ = [
    "VERDICTS",
    "Event",
    "Verdict",
    "is_refusal",
    "is_success",
    "may_be_executed",
    "read_response",
    "transport_error",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Params = Mapping[str, str]


class Event(Enum):
    """A way in which a request fails, in the words of ``docs/reliability.md``."""

    NO_CONNECTION = "no connection"
    CONNECTION_LOST = "a connection that is lost later"
    RATE_LIMITED = "429"
    UNAVAILABLE = "503"
    BROKEN = "other 5xx"
    UNREADABLE = "200 that cannot be read"


class Verdict(Enum):
    """The consequence of an event."""

    RETRY = "retry"
    ERROR = "error"
    UNKNOWN = "outcome unknown"


def _verdicts(read: Verdict, change: Verdict, billed: Verdict) -> dict[Kind, Verdict]:
    return {Kind.READ: read, Kind.CHANGE: change, Kind.BILLED: billed}


#: The consequence of each event for each kind of action. A refusal, a redirect or a refused
#: certificate is an error for all kinds.
VERDICTS: dict[Event, dict[Kind, Verdict]] = {
    Event.NO_CONNECTION: _verdicts(Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
    Event.CONNECTION_LOST: _verdicts(Verdict.RETRY, Verdict.UNKNOWN, Verdict.UNKNOWN),
    Event.RATE_LIMITED: _verdicts(Verdict.RETRY, Verdict.RETRY, Verdict.ERROR),
    Event.UNAVAILABLE: _verdicts(Verdict.RETRY, Verdict.RETRY, Verdict.UNKNOWN),
    Event.BROKEN: _verdicts(Verdict.RETRY, Verdict.UNKNOWN, Verdict.UNKNOWN),
    Event.UNREADABLE: _verdicts(Verdict.ERROR, Verdict.UNKNOWN, Verdict.UNKNOWN),
}


class _Result(Generic[T]):
    """The result of a response that is a success."""

    def __init__(self, value: T) -> None:
        self.value = value


#: The exceptions for statuses with a specific meaning.
_CLASSES: dict[int, type[MCSError]] = {
    401: InvalidCredentialsError,
    403: InvalidCredentialsError,
    404: NotFoundError,
    406: InsufficientBalanceError,
}
#: The error of a refusal mentions a difference of the clocks from so many seconds on.
_CLOCK_TOLERANCE = 60


def is_success(response: requests.Response, body: bytes) -> bool:
    """Check whether a response cannot be an error that its endpoint reports."""
    return 200 <= response.status_code < 300 and ERROR_ROOT.encode() not in body


def read_response(
    action: Action,
    params: Params,
    response: requests.Response,
    body: bytes,
    read: Callable[[Any], T],
    via: str = "",
) -> T:
    """
    Read a response.

    :param params: The parameters of the request.
    :param read: The function that converts the parsed response.
    :param via: The phrase for the proxy in a message; ``""`` without a proxy.
    :return: The result of ``read``.
    :raises MCSError: If the response is not a success. The attribute ``retryable`` says whether the
        request may be retried.
    """
    status = response.status_code
    _log.debug("%s: HTTP %d, %d bytes", action.name, status, len(body))
    if 300 <= status < 400:
        # Without a query or credentials, which may be secret. The header may not be a URL at all.
        target = re.split("[?#]", response.headers.get("Location", ""))[0][:200]
        target = re.sub("//[^/]*@", "//", target)
        error = MCSError(f"redirect to {target!r} refused; no request was sent there")
        error.http_code = status
        raise error
    result = _result(action, body, status, read)
    if isinstance(result, _Result):
        return result.value
    if isinstance(result, ErrorDocument):
        error = _api_error(action, params, response, result)
        error.code = result.code
    else:
        error = _malformed_error(action, params, response, body, result, via)
    error.http_code = status
    raise error


def _result(
    action: Action, body: bytes, status: int, read: Callable[[Any], T]
) -> _Result[T] | ErrorDocument | MalformedAnswerError:
    try:
        tree = parse_response(action, body)
        if status >= 400:
            return MalformedAnswerError("a successful response with the HTTP status of an error")
        return _Result(read(tree))
    except (ErrorDocument, MalformedAnswerError) as error:
        return error.with_traceback(None)


def transport_error(
    action: Action, params: Params, url: str, error: Exception, via: str = ""
) -> MCSError:
    """
    Create the error of a request without a response.

    :param params: The parameters of the request.
    :param url: The endpoint's URL.
    :param error: The exception of the transport.
    :param via: The phrase for the proxy in a message; ``""`` without a proxy.
    """
    cause = reason(error)
    if certificate_refused(error):
        certificate = "a certificate" if via else "the endpoint's certificate"
        return MCSError(f"{certificate} was refused{via}: {cause}")
    if never_sent(error):
        return _event_error(
            Event.NO_CONNECTION, action, params, MCSError(f"no connection to {url}{via}: {cause}")
        )
    lost = MCSError(f"the connection{via} was lost: {cause}")
    return _event_error(Event.CONNECTION_LOST, action, params, lost)


def _event_error(event: Event, action: Action, params: Params, error: MCSError) -> MCSError:
    """Return the error of an event, or the error of an unknown outcome in its place."""
    verdict = VERDICTS[event][action.kind]
    if verdict is Verdict.UNKNOWN:
        prefix = "the endpoint failed: " if event in (Event.UNAVAILABLE, Event.BROKEN) else ""
        return _unknown_outcome(action, params, prefix + error.message)
    error.retryable = verdict is Verdict.RETRY
    return error


def is_refusal(error: MCSError) -> bool:
    """
    Check whether the endpoint refused the things that a request names.

    The specification does not name the status of such a refusal. So any 4xx without another meaning
    is one.
    """
    # A 407 is the response of a proxy.
    from_endpoint = 400 <= error.http_code < 500 and error.http_code != 407
    return from_endpoint and type(error) in (MCSError, NotFoundError)


def may_be_executed(error: BaseException) -> bool:
    """Check whether an action may have been carried out: its request was sent and not refused."""
    if not isinstance(error, MCSError) or isinstance(error, OutcomeUnknownError):
        return True
    return error.http_code >= 500


def _api_error(
    action: Action, params: Params, response: requests.Response, document: ErrorDocument
) -> MCSError:
    """Create the error of an error document, whatever the HTTP status."""
    status = response.status_code
    if status < 400:
        status = document.code or 400
    message = document.message or "refused without a message"
    if status == 429:
        return _rate_limit_error(action, message, response)
    if status >= 500:
        return _server_error(action, params, status, message)
    if status in (401, 403):
        message += _clock_difference(response)
    return _CLASSES.get(status, MCSError)(message)


def _clock_difference(response: requests.Response) -> str:
    """Describe the difference of the two clocks for a message, ``""`` for a small one."""
    endpoint_time = _http_date(response.headers.get("Date", ""))
    if endpoint_time is None:
        return ""
    seconds = (datetime.now(timezone.utc) - endpoint_time).total_seconds()
    if abs(seconds) < _CLOCK_TOLERANCE:
        return ""
    difference = timedelta(seconds=round(abs(seconds)))
    direction = "ahead of" if seconds > 0 else "behind"
    return f"; this machine's clock is {difference} {direction} the endpoint's"


def _malformed_error(
    action: Action,
    params: Params,
    response: requests.Response,
    body: bytes,
    error: MalformedAnswerError,
    via: str,
) -> MCSError:
    """Create the error of a response that is not a document of the API."""
    status = response.status_code
    if status < 300:
        error.message += f" (received{via})" if via else ""
        return _event_error(Event.UNREADABLE, action, params, error)
    message = f"not a response of the API{via}: {excerpt(body, action)}"
    if status == 429:
        return _rate_limit_error(action, message, response)
    if status >= 500:
        return _server_error(action, params, status, message)
    return MCSError(message)


def _server_error(action: Action, params: Params, status: int, message: str) -> MCSError:
    event = Event.UNAVAILABLE if status == 503 else Event.BROKEN
    return _event_error(event, action, params, MCSError(message))


def _unknown_outcome(action: Action, params: Params, message: str) -> OutcomeUnknownError:
    find_out = action.find_out.format_map(params)
    advice = f"; {find_out} shows whether it was" if find_out else ""
    return OutcomeUnknownError(
        f"the action may have been carried out{advice}: {message}",
        asked=dict(params),
        find_out=find_out,
    )


def _rate_limit_error(action: Action, message: str, response: requests.Response) -> RateLimitError:
    verdict = VERDICTS[Event.RATE_LIMITED][action.kind]
    error = RateLimitError(message, retryable=verdict is Verdict.RETRY)
    error.retry_after = _retry_after(response.headers.get("Retry-After", ""))
    return error


def _retry_after(value: str) -> float:
    """Return the seconds of a ``Retry-After`` header, ``0`` if the header is missing or invalid."""
    # The value is a number of seconds or a date.
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    moment = _http_date(value)
    if moment is None:
        return 0.0
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def _http_date(value: str) -> datetime | None:
    """Return the date of a header, ``None`` if the header is missing or invalid."""
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
