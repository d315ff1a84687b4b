"""Calls whose outcome is confirmed by a comparison of the states before and after the call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from libcloud_mcs._outcomes import is_refusal
from libcloud_mcs.errors import MCSError, OutcomeUnknownError

if TYPE_CHECKING:
    from libcloud_mcs.connection import MCSConnection

__all__ = ["reconcile"]

_log = logging.getLogger(__name__)

B = TypeVar("B")
T = TypeVar("T")


def reconcile(
    connection: MCSConnection,
    call: Callable[[], T],
    snapshot: Callable[[], B | None],
    confirm: Callable[[B], T | None],
    after_refusal: bool = False,
) -> T:
    """
    Carry out an action, and query its effect if the outcome is unknown.

    :param call: The function that sends the request.
    :param snapshot: The function that queries the state before the call. It returns ``None`` if no
        later state can confirm the action.
    :param confirm: The function that queries the state after the call, and compares it with the
        snapshot. It returns the result of the action, or a false value without an effect so far.
    :param after_refusal: Whether the effect is also queried after a refusal.
    :return: The result of the action.
    :raises MCSError: If the action failed, or its effect was not confirmed.
    """
    try:
        before = snapshot()
    except MCSError as error:
        _log.debug("the state before a billed request could not be queried: %s", error)
        before = None
    try:
        return call()
    except MCSError as error:
        unclear = isinstance(error, OutcomeUnknownError)
        if before is None or not (unclear or (after_refusal and is_refusal(error))):
            raise
        state = before
        return _confirmed(connection, error, lambda: confirm(state))


def _confirmed(connection: MCSConnection, error: MCSError, query: Callable[[], T | None]) -> T:
    """
    Return the result of a query. Raise the error of the action if the query finds no result.

    After an unclear outcome the action may still be in progress. The query is then repeated.
    """
    unclear = isinstance(error, OutcomeUnknownError)
    queries = connection.max_tries if unclear else 1
    for tries in range(1, queries + 1):
        try:
            if result := query():
                return result
        except MCSError as check_error:
            error.message += f" (the check failed: {check_error})"
            raise error from None
        if tries < queries:
            time.sleep(connection.backoff_delay(tries))
    if unclear:
        error.message += " (checked: no effect so far; the action may still be in progress)"
    raise error from None
