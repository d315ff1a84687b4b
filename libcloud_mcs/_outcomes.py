"""
What became of a request: an answer that was understood, or the error that says so.

Whether an action is certain not to have been carried out is decided here, by its kind: see the
table in ``docs/reliability.md``.
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

from libcloud_mcs._response import ErrorDocument, excerpt, parse_response
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

__all__ = ["VERDICTS", "Event", "Verdict", "failed", "is_refusal", "nothing_done", "understood"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Params = Mapping[str, str]


class Event(Enum):
    """What came of a request, in the words of ``docs/reliability.md``."""

    NO_CONNECTION = "no connection"
    CONNECTION_LOST = "a connection lost later"
    RATE_LIMITED = "429"
    UNAVAILABLE = "503"
    BROKEN = "other 5xx"
    UNREADABLE = "200 that cannot be read"


class Verdict(Enum):
    """What follows from an event."""

    RETRY = "again"
    ERROR = "error"
    UNKNOWN = "outcome unknown"


def _verdicts(read: Verdict, change: Verdict, billed: Verdict) -> dict[Kind, Verdict]:
    return {Kind.READ: read, Kind.CHANGE: change, Kind.BILLED: billed}


#: What follows from an event for each kind of action. A refusal, a redirect or a refused
#: certificate is an error for all of them.
VERDICTS: dict[Event, dict[Kind, Verdict]] = {
    Event.NO_CONNECTION: _verdicts(Verdict.RETRY, Verdict.RETRY, Verdict.RETRY),
    Event.CONNECTION_LOST: _verdicts(Verdict.RETRY, Verdict.UNKNOWN, Verdict.UNKNOWN),
    Event.RATE_LIMITED: _verdicts(Verdict.RETRY, Verdict.RETRY, Verdict.ERROR),
    Event.UNAVAILABLE: _verdicts(Verdict.RETRY, Verdict.RETRY, Verdict.UNKNOWN),
    Event.BROKEN: _verdicts(Verdict.RETRY, Verdict.UNKNOWN, Verdict.UNKNOWN),
    Event.UNREADABLE: _verdicts(Verdict.ERROR, Verdict.UNKNOWN, Verdict.UNKNOWN),
}


class _Result(Generic[T]):
    """The result that a caller wants."""

    def __init__(self, value: T) -> None:
        self.value = value


#: The classes of statuses with a specific meaning.
_CLASSES: dict[int, type[MCSError]] = {
    401: InvalidCredentialsError,
    403: InvalidCredentialsError,
    404: NotFoundError,
    406: InsufficientBalanceError,
}
#: A clock that is off by more seconds than this is worth a word when credentials are refused.
_CLOCK_IS_OFF = 60


def understood(
    action: Action,
    params: Params,
    response: requests.Response,
    body: bytes,
    read: Callable[[Any], T],
    via: str = "",
) -> T:
    """
    Understand an answer.

    :param params: What was asked.
    :param read: The function that converts a parsed response.
    :param via: The proxy between, as a message names it; ``""`` for none.
    :raises MCSError: If the response is not a success. Its ``retryable`` says
        whether the request may be sent again.
    """
    status = response.status_code
    _log.debug("%s: HTTP %d, %d bytes", action.name, status, len(body))
    if 300 <= status < 400:
        # Without a query or credentials, which may be secret; it may not be a URL at all.
        where = re.split("[?#]", response.headers.get("Location", ""))[0][:200]
        where = re.sub("//[^/]*@", "//", where)
        error = MCSError(f"redirect to {where!r} refused: nothing was sent there")
        error.http_code = status
        raise error
    result = _result(action, body, status, read)
    if isinstance(result, _Result):
        return result.value
    if isinstance(result, ErrorDocument):
        error = _refused(action, params, response, result)
        error.code = result.code
    else:
        error = _unreadable(action, params, response, body, result, via)
    error.http_code = status
    raise error


def _result(
    action: Action, body: bytes, status: int, read: Callable[[Any], T]
) -> _Result[T] | ErrorDocument | MalformedAnswerError:
    try:
        tree = parse_response(action, body)
        if status >= 400:
            return MalformedAnswerError("an answer of success with an error's status")
        return _Result(read(tree))
    except (ErrorDocument, MalformedAnswerError) as error:
        return error.with_traceback(None)


def failed(action: Action, params: Params, url: str, error: Exception, via: str = "") -> MCSError:
    """
    Create the error of a request that got no answer.

    :param params: What was asked.
    :param url: Whom.
    :param error: What went wrong.
    :param via: The proxy between, as a message names it; ``""`` for none.
    """
    why = reason(error)
    if certificate_refused(error):
        whose = "a certificate" if via else "the endpoint's certificate"
        return MCSError(f"{whose} was refused{via}: {why}")
    if never_sent(error):
        return _verdict(
            Event.NO_CONNECTION, action, params, MCSError(f"no connection to {url}{via}: {why}")
        )
    lost = MCSError(f"the connection{via} was lost: {why}")
    return _verdict(Event.CONNECTION_LOST, action, params, lost)


def _verdict(event: Event, action: Action, params: Params, error: MCSError) -> MCSError:
    """Return the error of an event, or the error of an unknown outcome in its place."""
    verdict = VERDICTS[event][action.kind]
    if verdict is Verdict.UNKNOWN:
        failed = "the endpoint failed: " if event in (Event.UNAVAILABLE, Event.BROKEN) else ""
        return _unknown(action, params, failed + error.message)
    error.retryable = verdict is Verdict.RETRY
    return error


def is_refusal(error: MCSError) -> bool:
    """
    Check whether the endpoint refused the things that a request names. The specification does not
    say which 4xx means that: any that has no other meaning.
    """
    # A 407 is a proxy's.
    own = 400 <= error.http_code < 500 and error.http_code != 407
    return own and type(error) in (MCSError, NotFoundError)


def nothing_done(error: BaseException) -> bool:
    """Check whether an action was certainly not carried out: refused, or never sent."""
    if not isinstance(error, MCSError) or isinstance(error, OutcomeUnknownError):
        return False
    return error.http_code < 500


def _refused(
    action: Action, params: Params, response: requests.Response, refusal: ErrorDocument
) -> MCSError:
    status = response.status_code
    if status < 400:
        # An error document is one whatever its status.
        status = refusal.code or 400
    message = refusal.message or "refused without a message"
    if status == 429:
        return _rate_limit(action, message, response)
    if status >= 500:
        return _broken(action, params, status, message)
    if status in (401, 403):
        message += _clock_words(response)
    return _CLASSES.get(status, MCSError)(message)


def _clock_words(response: requests.Response) -> str:
    there = _http_date(response.headers.get("Date", ""))
    if there is None:
        return ""
    seconds = (datetime.now(timezone.utc) - there).total_seconds()
    if abs(seconds) < _CLOCK_IS_OFF:
        return ""
    off = timedelta(seconds=round(abs(seconds)))
    where = "ahead of" if seconds > 0 else "behind"
    return f"; this machine's clock is {off} {where} the endpoint's"


def _unreadable(
    action: Action,
    params: Params,
    response: requests.Response,
    body: bytes,
    error: MalformedAnswerError,
    via: str,
) -> MCSError:
    status = response.status_code
    if status < 300:
        error.message += f" (received{via})" if via else ""
        return _verdict(Event.UNREADABLE, action, params, error)
    message = f"no answer of the API{via}: {excerpt(body, action)}"
    if status == 429:
        return _rate_limit(action, message, response)
    if status >= 500:
        return _broken(action, params, status, message)
    return MCSError(message)


def _broken(action: Action, params: Params, status: int, message: str) -> MCSError:
    event = Event.UNAVAILABLE if status == 503 else Event.BROKEN
    return _verdict(event, action, params, MCSError(message))


def _unknown(action: Action, params: Params, message: str) -> OutcomeUnknownError:
    find_out = action.find_out.format_map(params)
    tells = f"; {find_out} tells" if find_out else ""
    return OutcomeUnknownError(
        f"it may have been carried out, or not{tells}: {message}",
        asked=dict(params),
        find_out=find_out,
    )


def _rate_limit(action: Action, message: str, response: requests.Response) -> RateLimitError:
    verdict = VERDICTS[Event.RATE_LIMITED][action.kind]
    error = RateLimitError(message, retryable=verdict is Verdict.RETRY)
    error.retry_after = _retry_after(response.headers.get("Retry-After", ""))
    return error


def _retry_after(value: str) -> float:
    # Seconds, or a date; anything else says nothing.
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    moment = _http_date(value)
    if moment is None:
        return 0.0
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def _http_date(value: str) -> datetime | None:
    """Read the date of a header, ``None`` where it is not valid."""
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
