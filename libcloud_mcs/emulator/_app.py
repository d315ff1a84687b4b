"""One request: received, carried out or replaced by a fault, recorded, and answered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from libcloud_mcs._signature import COMMON_PARAMETERS
from libcloud_mcs.actions import ACTIONS
from libcloud_mcs.emulator._account import AccountState
from libcloud_mcs.emulator._backend import CHURN_NAME, Account, Backend, Record
from libcloud_mcs.emulator._checks import ArgumentError, shown, writable
from libcloud_mcs.emulator._control import Control, control_error, is_administrative
from libcloud_mcs.emulator._errors import APIError, ErrorCode, StateError
from libcloud_mcs.emulator._faults import Effect
from libcloud_mcs.emulator._handlers import HANDLERS, Listing, create_instance, page
from libcloud_mcs.emulator._params import Params
from libcloud_mcs.emulator._settings import Settings
from libcloud_mcs.emulator._stubs import Stub
from libcloud_mcs.emulator._wire import (
    Renderer,
    Request,
    Response,
    error_document,
    read_form,
    render_error,
    render_options,
    verify,
)

__all__ = ["App", "Exchange", "Host", "Reply"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Parameters that records leave out: they are long, or secret.
_NOT_RECORDED = ("Signature", "PublicKeyMaterial")
_NO_EFFECT = Effect("none")


class Host(Protocol):
    """The HTTP server, as far as an application needs it."""

    def is_stopping(self) -> bool:
        """Return whether requests are not carried out any more."""

    def call(self, function: Callable[[], T]) -> T:
        """Call a function of the user, which may wait for anything."""


class Reply(NamedTuple):
    """
    What is sent for a request.

    :ivar response: The response; ``None``: the connection is closed without one.
    :ivar cut: The greatest number of bytes of the body; ``None``: the whole body.
    """

    response: Response | None
    cut: int | None = None


class Exchange:
    """A request and what is known about it before it is carried out."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.params: dict[str, str] = {}
        #: Whether the request is for the page or for ``/_emulator/``.
        self.is_administrative = False
        #: The reason why the request cannot be carried out.
        self.error: Exception | None = request.flaw
        self.effect = _NO_EFFECT
        try:
            self.is_administrative = is_administrative(request)
            if not self.is_administrative and request.flaw is None:
                self.params = read_form(request)
        except Exception as error:
            self.error = error

    @property
    def action(self) -> str:
        """The requested action, ``""`` if the request names none."""
        return self.params.get("Action", "")

    @property
    def response_format(self) -> str:
        """The format of the response: ``xml`` or ``json``."""
        return "json" if self.params.get("Format") == "json" else "xml"


class App:
    """
    The application behind the HTTP server.

    :param backend: The accounts and everything that they share.
    :param settings: The settings of the emulator.
    :param control: Answers administrative requests.
    :param on_change: Called after each request that was carried out.
    """

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        control: Control,
        on_change: Callable[[], object],
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._control = control
        self._on_change = on_change
        self._renderer = Renderer()

    def now(self) -> datetime:
        """Return the time for ``Date`` headers, with which timestamps are compared."""
        if self._settings.signature_clock == "emulated":
            return self._backend.clock.now()
        return datetime.now(timezone.utc)

    def receive(self, request: Request) -> Exchange:
        """Read a request and choose the fault that affects it."""
        exchange = Exchange(request)
        if not exchange.is_administrative:
            exchange.effect = self._backend.faults.choose(exchange.action) or _NO_EFFECT
        return exchange

    def reply(self, exchange: Exchange, host: Host) -> Reply:
        """
        Carry a request out, as far as its fault allows, and record it. Every request is recorded
        before its response is sent, whatever fails.

        :raises BaseException: If a function of the user raises one that is not an ``Exception``.
        """
        reply = Reply(None)
        try:
            reply = self._apply_effect(exchange, host)
        except Exception as error:
            name = exchange.effect.name
            subject = "the emulator" if exchange.effect is _NO_EFFECT else f"the fault {name!r}"
            _log.exception("%s failed", subject)
            message = _failure(subject, error)
            response = error_document(message, 500, exchange.response_format)
            reply = Reply(replace(response, error=message))
        finally:
            self._record(exchange, reply.response)
        return reply

    # Stages

    def _apply_effect(self, exchange: Exchange, host: Host) -> Reply:
        """Carry a request out between what its fault does before and after."""
        effect = exchange.effect
        if effect.run:
            host.call(effect.run)
        if effect.drop_before or host.is_stopping():
            return Reply(None)
        replacement = None
        if effect.answer:
            replacement = host.call(partial(_replacement, effect.answer, exchange))
        response = replacement
        if response is None or effect.after:
            response = self._respond(exchange, host)
        if effect.drop_after or response is None:
            return Reply(None)
        response = replacement or response
        if effect.content_type is not None:
            response = replace(response, content_type=effect.content_type)
        return Reply(response, effect.cut)

    def _respond(self, exchange: Exchange, host: Host) -> Response | None:
        """
        Carry a request out and return its response, which may be an error; ``None``: the emulator
        was stopped meanwhile.
        """
        try:
            response = self._carry_out(exchange, host)
        except Exception as error:
            return self._error(exchange, error)
        self._on_change()
        return response

    def _carry_out(self, exchange: Exchange, host: Host) -> Response | None:
        """Carry a request out, completely or not at all."""
        if exchange.error is not None:
            raise exchange.error
        # Changes are saved at the end of the block, after everything else that can fail.
        with self._backend.transactions():
            if exchange.is_administrative:
                return self._control.handle(exchange.request)
            if exchange.request.method == "OPTIONS":
                return render_options()
            account = self._verify(exchange)
            stub = self._backend.stubs.find(exchange.action)
            if stub is None:
                self._churn(account.state, exchange.params)
                return self._render(exchange, self._run(exchange, account.state))
        # Outside of the transaction: a function of the user may wait for other threads.
        content = self._call_stub(exchange, stub, host)
        return None if host.is_stopping() else self._render(exchange, content)

    def _verify(self, exchange: Exchange) -> Account:
        """Check a request and return its account."""
        access_key = verify(
            exchange.request,
            exchange.params,
            self._secret_of,
            self.now(),
            actions=self._backend.edition.actions,
            stubs=self._backend.stubs,
            debug=self._settings.debug,
        )
        return self._backend.accounts[access_key]

    def _secret_of(self, access_key: str) -> str | None:
        account = self._backend.accounts.get(access_key)
        return account.secret if account else None

    def _run(self, exchange: Exchange, account: AccountState) -> dict[str, object]:
        """Run the handler of the action and return the content of the response."""
        handler = HANDLERS[exchange.action]
        if exchange.effect.boot_fail:
            handler = partial(create_instance, boots=False)
        edition = self._backend.edition
        params = Params(exchange.params, edition.ignored_params)
        result = handler(account, params)
        if isinstance(result, Listing):
            action, settings = ACTIONS[exchange.action], self._settings
            return page(
                result,
                action,
                params,
                default_limit=settings.default_limit,
                max_limit=settings.max_limit,
                always_counted=edition.counts_all_lists,
            )
        return result

    def _call_stub(self, exchange: Exchange, stub: Stub, host: Host) -> dict[str, object]:
        """Return the content of the response to an action with a stub."""
        params = {
            name: value for name, value in exchange.params.items() if name not in COMMON_PARAMETERS
        }
        try:
            return host.call(partial(stub, params))
        except Exception as error:
            subject = f"the stub of {exchange.action!r}"
            _log.exception("%s failed", subject)
            raise APIError(ErrorCode.FAILED, _failure(subject, error)) from error

    def _render(self, exchange: Exchange, content: dict[str, object]) -> Response:
        """Return the response with a content."""
        root = f"{exchange.action}Response"
        return self._renderer.render(root, content, exchange.response_format)

    def _churn(self, account: AccountState, params: dict[str, str]) -> None:
        """Replace some instances before each page of ``DescribeInstances`` but the first."""
        churn = self._settings.churn
        if not churn or params["Action"] != "DescribeInstances":
            return
        if params.get("Offset", "0") == "0":
            return
        names = [each.name for each in account.instances() if CHURN_NAME.fullmatch(each.name)]
        for name in names[:churn]:
            account.remove(name)
        for _ in range(churn):
            account.add_running(f"other-{self._backend.serial + 1}")

    def _error(self, exchange: Exchange, error: Exception) -> Response:
        """Return the response to a request that could not be carried out."""
        if exchange.is_administrative and isinstance(error, ArgumentError):
            return control_error(str(error), ErrorCode.UNREADABLE.status)
        if not isinstance(error, APIError):
            subject = exchange.action or exchange.request.path
            _log.error("%r failed, and nothing was changed", subject, exc_info=error)
            # The message of an unexpected error may contain secrets.
            reason = str(error) if isinstance(error, StateError) else type(error).__name__
            error = APIError(
                ErrorCode.FAILED, f"the emulator failed, nothing was changed: {reason}"
            )
        if exchange.is_administrative:
            return control_error(error.message, error.code.status)
        return render_error(error, exchange.response_format)

    def _record(self, exchange: Exchange, response: Response | None) -> None:
        """Record a request of the API, and what was sent for it."""
        if exchange.is_administrative:
            return
        params = {
            name: value for name, value in exchange.params.items() if name not in _NOT_RECORDED
        }
        self._backend.record(
            Record(
                at=self._backend.clock.now(),
                access_key=params.pop("AWSAccessKeyId", ""),
                action=params.pop("Action", ""),
                params=params,
                status=response.status if response else 0,
                message=response.error if response else "no response was sent",
                fault="" if exchange.effect is _NO_EFFECT else exchange.effect.name,
            )
        )


def _failure(subject: str, error: Exception) -> str:
    """Return the message of a failure. The error may be one of the user's function."""
    return f"{subject} failed: {type(error).__name__}: {writable(str(error))}"


def _replacement(answer: Callable[[str], Response], exchange: Exchange) -> Response:
    """Return the response that a fault makes in place of the true one."""
    response: object = answer(exchange.response_format)
    if not isinstance(response, Response):
        raise TypeError(f"answer: expected a Response, got {shown(response)}")
    return response
