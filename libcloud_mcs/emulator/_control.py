"""
Administrative requests: the status page and ``/_emulator/``.

They are not part of the specification and not signed: the emulator listens on loopback by default.
A change requires JSON, which a page of another site cannot send.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

from libcloud_mcs.emulator._backend import (
    Account,
    Backend,
    charge_data,
    fault_data,
    record_data,
)
from libcloud_mcs.emulator._checks import ACTION_NAME, FLAG, ArgumentError, Kind, number, shown
from libcloud_mcs.emulator._clock import MOMENT, utc_text
from libcloud_mcs.emulator._faults import EFFECT_NAME, WHEN, named_effect
from libcloud_mcs.emulator._page import render_page
from libcloud_mcs.emulator._settings import AccountSettings
from libcloud_mcs.emulator._sockets import is_loopback
from libcloud_mcs.emulator._wire import Request, Response

__all__ = ["ROUTES", "Control", "Route", "control_error", "is_administrative"]

_PREFIX = "/_emulator/"


def is_administrative(request: Request) -> bool:
    """Return whether a request is for the page or for ``/_emulator/``."""
    if request.path.startswith(_PREFIX):
        return True
    return request.method in ("GET", "HEAD") and request.path == "/" and not request.query


def _is_local(request: Request) -> bool:
    try:
        # Every browser sends a host; simple health checks do not.
        return not request.host or is_loopback(urlsplit(f"//{request.host}").hostname or "")
    except ValueError:
        return False


@dataclass(frozen=True)
class Control:
    """
    Answers administrative requests.

    :ivar backend: The accounts and everything that they share.
    :ivar url: Returns the URL of the endpoint.
    :ivar is_loopback: Whether only this machine can reach the control.backend.
    """

    backend: Backend
    url: Callable[[], str]
    is_loopback: bool

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, without secrets."""
        return self.backend.snapshot(self.url())

    def handle(self, request: Request) -> Response:
        """
        Answer an administrative request.

        :raises ArgumentError: If a field of the request has an invalid value.
        """
        if self.is_loopback and not _is_local(request):
            # A page of another site may use a host name that resolves to this machine.
            return control_error(f"Host: expected this machine, got {request.host!r}", 403)
        if request.path == "/":
            page = render_page(self.snapshot())
            return Response(200, "text/html; charset=utf-8", page, {"Cache-Control": "no-store"})
        name = request.path[len(_PREFIX) :]
        methods = [method for method, each in ROUTES if each == name]
        if not methods:
            known = ", ".join(f"{method} {_PREFIX}{each}" for method, each in ROUTES)
            return control_error(f"expected one of {known}, got {request.path!r}", 404)
        methods += ["HEAD", "OPTIONS"] if "GET" in methods else ["OPTIONS"]
        allow = {"Allow": ", ".join(methods)}
        if request.method == "OPTIONS":
            return Response(204, "", b"", allow)
        if request.method not in methods:
            message = f"method: expected {allow['Allow']}, got {request.method!r}"
            return replace(control_error(message, 405), headers=allow)
        route = ROUTES["GET" if request.method == "HEAD" else request.method, name]
        return _json(route.run(self, _fields(request, route)))


def control_error(message: str, status: int) -> Response:
    """Return the response to an administrative request that failed."""
    return _json({"error": message}, status)


def _json(data: Any, status: int = 200) -> Response:
    # Half a character (a surrogate) becomes an escape of JSON.
    body = json.dumps(data, ensure_ascii=False, indent=1).encode(errors="backslashreplace")
    return Response(status, "application/json", body)


def _fields(request: Request, route: Route) -> dict[str, Any]:
    """Read the fields of a request's body."""
    body = {} if request.method in ("GET", "HEAD") else _body(request)
    for name in body:
        if name not in route.fields:
            some = f"one of {', '.join(route.fields)}" if route.fields else "no field"
            raise ArgumentError("body", some, shown(name))
    return {name: route.fields[name].check(name, value) for name, value in body.items()}


def _body(request: Request) -> dict[Any, Any]:
    if request.method != "POST" and not request.body:
        return {}
    if request.content_type.partition(";")[0].strip().lower() != "application/json":
        raise ArgumentError("Content-Type", "application/json", shown(request.content_type))
    if not request.body:
        return {}
    try:
        body = json.loads(request.body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ArgumentError("body", "JSON", "JSON that is nested too deeply") from None
    except ValueError as wrong:
        raise ArgumentError("body", "JSON", shown(str(wrong))) from None
    if not isinstance(body, dict):
        raise ArgumentError("body", "a JSON object", shown(body))
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _state(control: Control, _: dict[str, Any]) -> Any:
    return control.snapshot()


def _clock(control: Control, _: dict[str, Any]) -> Any:
    return {"now": utc_text(control.backend.clock.now()), "frozen": control.backend.clock.frozen}


def _move_clock(control: Control, fields: dict[str, Any]) -> Any:
    if not fields:
        raise ArgumentError("body", "advance, set or frozen", "none of them")
    if "frozen" in fields:
        (control.backend.clock.freeze if fields["frozen"] else control.backend.clock.unfreeze)()
    if "set" in fields:
        control.backend.clock.set(fields["set"])
    if "advance" in fields:
        try:
            control.backend.clock.advance(timedelta(seconds=fields["advance"]))
        except ArgumentError as wrong:
            raise wrong.renamed("advance") from None
    return _clock(control, fields)


def _ledger(control: Control, _: dict[str, Any]) -> Any:
    return [
        {"access_key": account.access_key, **charge_data(charge)}
        for account in control.backend.accounts.values()
        for charge in account.ledger
    ]


def _requests(control: Control, _: dict[str, Any]) -> Any:
    return [record_data(record) for record in control.backend.records]


def _faults(control: Control, _: dict[str, Any]) -> Any:
    return [fault_data(fault) for fault in control.backend.faults]


def _inject(control: Control, fields: dict[str, Any]) -> Any:
    when = {name: value for name, value in fields.items() if name in WHEN}
    effect = named_effect(fields.get("effect"), fields.get("argument"))
    return fault_data(control.backend.inject(effect, **when))


def _clear_faults(control: Control, _: dict[str, Any]) -> Any:
    control.backend.faults.clear()
    return []


def _stubs(control: Control, _: dict[str, Any]) -> Any:
    return list(control.backend.stubs)


def _add_stub(control: Control, fields: dict[str, Any]) -> Any:
    control.backend.stubs.add(fields.get("action"), fields.get("answer"))
    return _stubs(control, fields)


def _remove_stubs(control: Control, fields: dict[str, Any]) -> Any:
    if "action" in fields:
        control.backend.stubs.remove(fields["action"])
    else:
        control.backend.stubs.clear()
    return _stubs(control, fields)


def _accounts(control: Control, _: dict[str, Any]) -> Any:
    return [_account_summary(account) for account in control.backend.accounts.values()]


def _add_account(control: Control, fields: dict[str, Any]) -> Any:
    account = control.backend.add(AccountSettings(**fields))
    # The caller needs the secret to sign requests.
    return {**_account_summary(account), "secret": account.secret}


def _account_summary(account: Account) -> dict[str, Any]:
    return {
        "access_key": account.access_key,
        "balance": str(account.state.balance),
        "instances": len(account.state.instances()),
    }


def _reset(control: Control, _: dict[str, Any]) -> Any:
    control.backend.reset()
    return control.snapshot()


@dataclass(frozen=True)
class Route:
    """An administrative request, and the fields that its body can have."""

    run: Callable[[Control, dict[str, Any]], Any]
    fields: dict[str, Kind[Any]] = field(default_factory=dict)


def _read_moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError
    return MOMENT.take(MOMENT.read(value))


_MOMENT_TEXT: Kind[datetime] = Kind(
    f"{MOMENT.expected}, such as '2030-01-01T00:00:00Z'", _read_moment
)

#: A value that is checked where it is used.
_ANYTHING: Kind[Any] = Kind("anything", lambda value: value)


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "state"): Route(_state),
    ("GET", "clock"): Route(_clock),
    ("POST", "clock"): Route(
        _move_clock,
        {"advance": number(-(10**12), 10**12, "seconds"), "set": _MOMENT_TEXT, "frozen": FLAG},
    ),
    ("GET", "ledger"): Route(_ledger),
    ("GET", "requests"): Route(_requests),
    ("GET", "faults"): Route(_faults),
    ("POST", "faults"): Route(_inject, {"effect": EFFECT_NAME, "argument": _ANYTHING, **WHEN}),
    ("DELETE", "faults"): Route(_clear_faults),
    ("GET", "stubs"): Route(_stubs),
    ("POST", "stubs"): Route(_add_stub, {"action": ACTION_NAME, "answer": _ANYTHING}),
    ("DELETE", "stubs"): Route(_remove_stubs, {"action": ACTION_NAME}),
    ("GET", "accounts"): Route(_accounts),
    ("POST", "accounts"): Route(
        _add_account, {name: setting.kind for name, setting in AccountSettings.settings().items()}
    ),
    ("POST", "reset"): Route(_reset),
}
