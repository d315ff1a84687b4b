"""
What people and their tests see of an emulator beside the API: a page and ``/_emulator/``.

None of it is part of the specification, and none of it is signed: the emulator listens on loopback
unless it is told otherwise. What changes something wants JSON, which no page of another site can
send to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from libcloud_mcs.emulator._checks import FLAG, ArgumentError, Kind, number, shown
from libcloud_mcs.emulator._clock import MOMENT
from libcloud_mcs.emulator._faults import EFFECT_NAME, WHEN, Fault, named_effect
from libcloud_mcs.emulator._page import render_page
from libcloud_mcs.emulator._settings import AccountSettings
from libcloud_mcs.emulator._sockets import is_loopback
from libcloud_mcs.emulator.cloud import Charge
from libcloud_mcs.emulator.wire import Answer, Request

if TYPE_CHECKING:
    from libcloud_mcs.emulator._backend import Account
    from libcloud_mcs.emulator._emulator import Emulator, Record

__all__ = [
    "ROUTES",
    "account_data",
    "error",
    "fault_data",
    "handle",
    "is_for_people",
    "is_loopback",
    "iso",
    "record_data",
]

_PREFIX = "/_emulator/"


def is_for_people(request: Request) -> bool:
    """Tell whether a request is none of the API's: for the page, or for ``/_emulator/``."""
    if request.path.startswith(_PREFIX):
        return True
    return request.method in ("GET", "HEAD") and request.path == "/" and not request.query


def _for_this_machine(request: Request) -> bool:
    try:
        # No browser leaves it out, but simple health checks do.
        return not request.host or is_loopback(urlsplit(f"//{request.host}").hostname or "")
    except ValueError:
        return False


def handle(emulator: Emulator, request: Request) -> Answer:
    """
    Answer such a request.

    :raises ArgumentError: If a field of it makes no sense.
    """
    if emulator.loopback and not _for_this_machine(request):
        # A page of another site may have given its own name this machine's address.
        return error(f"Host: {request.host!r} is not this machine", 403)
    if request.path == "/":
        page = render_page(emulator.snapshot())
        return Answer(200, "text/html; charset=utf-8", page, {"Cache-Control": "no-store"})
    name = request.path[len(_PREFIX) :]
    methods = [method for method, each in ROUTES if each == name]
    if not methods:
        known = ", ".join(f"{method} {_PREFIX}{each}" for method, each in ROUTES)
        return error(f"there is no such thing; there are: {known}", 404)
    methods += ["HEAD", "OPTIONS"] if "GET" in methods else ["OPTIONS"]
    allow = {"Allow": ", ".join(methods)}
    if request.method == "OPTIONS":
        return Answer(204, "", b"", allow)
    if request.method not in methods:
        message = f"the method {request.method!r} is none of {allow['Allow']}"
        return replace(error(message, 405), headers=allow)
    route = ROUTES["GET" if request.method == "HEAD" else request.method, name]
    return _json(route.run(emulator, _fields(request, route)))


def error(message: str, status: int) -> Answer:
    """Give the answer to what is refused or has failed."""
    return _json({"error": message}, status)


def _json(data: Any, status: int = 200) -> Answer:
    # Half a character (a surrogate) becomes an escape of JSON.
    body = json.dumps(data, ensure_ascii=False, indent=1).encode(errors="backslashreplace")
    return Answer(status, "application/json", body)


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
        raise ArgumentError("body", "JSON", "JSON within JSON, too often") from None
    except ValueError as wrong:
        raise ArgumentError("body", "JSON", shown(str(wrong))) from None
    if not isinstance(body, dict):
        raise ArgumentError("body", "a JSON object", shown(body))
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _state(emulator: Emulator, given: dict[str, Any]) -> Any:
    return emulator.snapshot()


def _clock(emulator: Emulator, given: dict[str, Any]) -> Any:
    return {"now": iso(emulator.clock.now()), "frozen": emulator.clock.frozen}


def _move_clock(emulator: Emulator, given: dict[str, Any]) -> Any:
    if not given:
        raise ArgumentError("body", "advance, set or frozen", "none of them")
    if "frozen" in given:
        (emulator.clock.freeze if given["frozen"] else emulator.clock.unfreeze)()
    if "set" in given:
        emulator.clock.set(given["set"])
    if "advance" in given:
        try:
            emulator.clock.advance(timedelta(seconds=given["advance"]))
        except ArgumentError as wrong:
            raise wrong.renamed("advance") from None
    return _clock(emulator, given)


def _ledger(emulator: Emulator, given: dict[str, Any]) -> Any:
    return [
        {"access_key": account.access_key, **charge_data(charge)}
        for account in emulator.accounts
        for charge in account.ledger
    ]


def _requests(emulator: Emulator, given: dict[str, Any]) -> Any:
    return [record_data(record) for record in emulator.records]


def _faults(emulator: Emulator, given: dict[str, Any]) -> Any:
    return [fault_data(fault) for fault in emulator.faults]


def _inject(emulator: Emulator, given: dict[str, Any]) -> Any:
    when = {name: value for name, value in given.items() if name in WHEN}
    effect = named_effect(given.get("effect"), given.get("argument"))
    return fault_data(emulator.inject(effect, **when))


def _clear_faults(emulator: Emulator, given: dict[str, Any]) -> Any:
    emulator.faults.clear()
    return []


def _accounts(emulator: Emulator, given: dict[str, Any]) -> Any:
    return [_account_summary(account) for account in emulator.accounts]


def _add_account(emulator: Emulator, given: dict[str, Any]) -> Any:
    account = emulator.add_account(**given)
    # Who has it made must be able to sign for it.
    return {**_account_summary(account), "secret": account.secret}


def _account_summary(account: Account) -> dict[str, Any]:
    return {
        "access_key": account.access_key,
        "balance": str(account.cloud.balance),
        "instances": len(account.cloud.instances()),
    }


def _reset(emulator: Emulator, given: dict[str, Any]) -> Any:
    emulator.reset()
    return emulator.snapshot()


@dataclass(frozen=True)
class Route:
    """Something that can be asked for, and the fields that the question can have."""

    run: Callable[[Emulator, dict[str, Any]], Any]
    fields: dict[str, Kind[Any]] = field(default_factory=dict)


def _read_moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError
    return MOMENT.take(MOMENT.read(value))


_MOMENT_TEXT: Kind[datetime] = Kind(
    f"{MOMENT.expected}, such as '2030-01-01T00:00:00Z'", _read_moment
)


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
    ("POST", "faults"): Route(
        _inject, {"effect": EFFECT_NAME, "argument": Kind("anything", lambda value: value), **WHEN}
    ),
    ("DELETE", "faults"): Route(_clear_faults),
    ("GET", "accounts"): Route(_accounts),
    ("POST", "accounts"): Route(
        _add_account, {name: setting.kind for name, setting in AccountSettings.settings().items()}
    ),
    ("POST", "reset"): Route(_reset),
}


def iso(moment: datetime) -> str:
    """Write a time, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def charge_data(charge: Charge) -> dict[str, Any]:
    """Give a charge as plain data."""
    return {
        "at": iso(charge.at),
        "action": charge.action,
        "instance_id": charge.instance_id,
        "amount": str(charge.amount),
        "balance": str(charge.balance),
    }


def account_data(account: Account, now: datetime) -> dict[str, Any]:
    """Give an account as plain data."""
    cloud = account.cloud
    return {
        "access_key": account.access_key,
        "balance": str(cloud.balance),
        "instances": [
            {
                "id": instance.instance_id,
                "name": instance.name,
                "status": instance.status(now),
                "type": instance.type.name,
                "template": instance.template.name,
                "addresses": [instance.public_ip, instance.private_ip],
                "created_at": iso(instance.created_at),
                "started_at": iso(instance.started_at),
                "expire_at": iso(instance.expire_at),
                "extend_to": iso(instance.extend_to),
            }
            for instance in cloud.instances()
        ],
        "key_pairs": [
            {"id": pair.key_id, "name": pair.name, "fingerprint": pair.fingerprint}
            for pair in cloud.key_pairs()
        ],
        "ledger": [charge_data(charge) for charge in account.ledger],
    }


def record_data(record: Record) -> dict[str, Any]:
    """Give the record of a request as plain data."""
    return {**asdict(record), "at": iso(record.at)}


def fault_data(fault: Fault) -> dict[str, Any]:
    """Give a fault as plain data."""
    return {
        "action": fault.on,
        "effect": fault.effect.name,
        "nth": fault.nth,
        "times": fault.times,
        "probability": fault.probability,
        "fired": fault.fired,
    }
