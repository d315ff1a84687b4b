"""
What people and their tests see of an emulator beside the API: a page and ``/_emulator/``.

None of it is part of the specification, and none of it is signed: the emulator listens on loopback
unless it is told otherwise. What changes something wants JSON, which no page of another site can
send to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from libcloud_mcs.emulator._faults import EFFECTS, Fault
from libcloud_mcs.emulator._page import render_page
from libcloud_mcs.emulator._sockets import is_loopback
from libcloud_mcs.emulator.cloud import Charge
from libcloud_mcs.emulator.wire import Answer, Request

if TYPE_CHECKING:
    from libcloud_mcs.emulator._emulator import Account, Emulator, Record

__all__ = [
    "account_data",
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
    """Answer such a request."""
    if request.flaw:
        return _json({"error": request.flaw.message}, request.flaw.refusal.status)
    if emulator.loopback and not _for_this_machine(request):
        # A page of another site may have given its own name this machine's address.
        return _json({"error": f"Host: {request.host!r} is not this machine"}, 403)
    if request.path == "/":
        page = render_page(emulator.snapshot())
        return Answer(200, "text/html; charset=utf-8", page, {"Cache-Control": "no-store"})
    name = request.path[len(_PREFIX) :]
    methods = [method for method, each in _ROUTES if each == name]
    if not methods:
        known = ", ".join(f"{method} {_PREFIX}{each}" for method, each in _ROUTES)
        return _json({"error": f"there is no such thing; there are: {known}"}, 404)
    methods += ["HEAD", "OPTIONS"] if "GET" in methods else ["OPTIONS"]
    allow = {"Allow": ", ".join(methods)}
    if request.method == "OPTIONS":
        return Answer(204, "", b"", allow)
    if request.method not in methods:
        message = f"the method {request.method!r} is none of {allow['Allow']}"
        return replace(_json({"error": message}, 405), headers=allow)
    method = "GET" if request.method == "HEAD" else request.method
    try:
        return _json(_ROUTES[method, name](emulator, _body(request)))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return _json({"error": str(error)}, 400)


def _body(request: Request) -> dict[str, Any]:
    if request.method in ("GET", "HEAD") or not request.body:
        if request.method == "POST" and "json" not in request.content_type:
            raise ValueError("Content-Type: application/json was expected")
        return {}
    if request.content_type.partition(";")[0].strip().lower() != "application/json":
        raise ValueError("Content-Type: application/json was expected")
    body = json.loads(request.body)
    if not isinstance(body, dict):
        raise ValueError("a JSON object was expected")
    return body


def _json(data: Any, status: int = 200) -> Answer:
    # Half a character (a surrogate) becomes an escape of JSON.
    body = json.dumps(data, ensure_ascii=False, indent=1).encode(errors="backslashreplace")
    return Answer(status, "application/json", body)


def _state(emulator: Emulator, body: dict[str, Any]) -> Any:
    return emulator.snapshot()


def _clock(emulator: Emulator, body: dict[str, Any]) -> Any:
    return {"now": iso(emulator.clock.now()), "frozen": emulator.clock.frozen}


def _move_clock(emulator: Emulator, body: dict[str, Any]) -> Any:
    unknown = set(body) - {"advance", "set", "frozen"}
    if unknown or not body:
        raise ValueError(
            "'advance' (seconds), 'set' (a time with a zone) or 'frozen' (true or false) was"
            f" expected, not {sorted(unknown)}"
        )
    if "frozen" in body:
        (emulator.clock.freeze if body["frozen"] else emulator.clock.unfreeze)()
    if "set" in body:
        emulator.clock.set(datetime.fromisoformat(str(body["set"]).replace("Z", "+00:00")))
    if "advance" in body:
        emulator.clock.advance(timedelta(seconds=body["advance"]))
    return _clock(emulator, body)


def _ledger(emulator: Emulator, body: dict[str, Any]) -> Any:
    return [
        {"access_key": account.access_key, **charge_data(charge)}
        for account in emulator.accounts
        for charge in account.ledger
    ]


def _requests(emulator: Emulator, body: dict[str, Any]) -> Any:
    return [record_data(record) for record in emulator.records]


def _faults(emulator: Emulator, body: dict[str, Any]) -> Any:
    return [fault_data(fault) for fault in emulator.faults]


def _inject(emulator: Emulator, body: dict[str, Any]) -> Any:
    arguments = dict(body)
    name, argument = arguments.pop("effect", None), arguments.pop("argument", None)
    if name not in EFFECTS:
        raise ValueError(f"effect: one of {', '.join(EFFECTS)} was expected, not {name!r}")
    effect = EFFECTS[name](*([] if argument is None else [argument]))
    return fault_data(emulator.inject(effect, **arguments))


def _clear_faults(emulator: Emulator, body: dict[str, Any]) -> Any:
    emulator.faults.clear()
    return []


def _reset(emulator: Emulator, body: dict[str, Any]) -> Any:
    emulator.reset()
    return emulator.snapshot()


_ROUTES: dict[tuple[str, str], Callable[[Emulator, dict[str, Any]], Any]] = {
    ("GET", "state"): _state,
    ("GET", "clock"): _clock,
    ("POST", "clock"): _move_clock,
    ("GET", "ledger"): _ledger,
    ("GET", "requests"): _requests,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _inject,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "reset"): _reset,
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
