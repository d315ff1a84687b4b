"""
The wire: bytes of a request → an action with its parameters, an answer's tree → bytes.

:func:`verify` has the checks in the order in which they are made.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from libcloud_mcs._signature import SIGNATURE_METHODS, canonical_query, sign, string_to_sign
from libcloud_mcs.actions import ACTIONS, Kind
from libcloud_mcs.emulator._errors import Refusal, RefusedError

__all__ = [
    "Answer",
    "Part",
    "Request",
    "read_form",
    "render",
    "render_options",
    "render_refusal",
    "verify",
]

_FORM = "application/x-www-form-urlencoded"
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
_ALLOW = {"Allow": ", ".join(_METHODS)}
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?Z", re.ASCII)
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
#: How far a request's time may be off.
SKEW = timedelta(minutes=15)


@dataclass(frozen=True)
class Request:
    """A request as it came, frozen at the edge."""

    method: str
    #: Not decoded.
    path: str
    #: Not decoded.
    query: str
    #: The host that was asked, as the request has it; ``""`` where it has none.
    host: str
    content_type: str
    body: bytes
    #: Whether it came over HTTPS.
    secure: bool = False
    #: Why it cannot be read as HTTP, if it cannot.
    flaw: RefusedError | None = None


class Part(dict[str, Any]):
    """A part of many answers: it is written once for each format. Nobody changes it."""

    __slots__ = ("json", "xml")

    def __init__(self, tree: Mapping[str, Any]) -> None:
        super().__init__(tree)
        self.json = self.xml = ""


@dataclass(frozen=True)
class Answer:
    """An answer as it goes out."""

    status: int
    content_type: str
    body: bytes
    #: Further headers.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Why the request was refused; ``""`` when it was not.
    refusal: str = ""


def read_form(request: Request) -> dict[str, str]:
    """
    Read the parameters, of the URL and of a POST's body.

    :raises RefusedError: They are no form, or one is there twice.
    """
    if request.method not in _METHODS:
        raise RefusedError(
            Refusal.METHOD, f"the method {request.method!r} is none of {', '.join(_METHODS)}"
        )
    forms = [request.query]
    if request.method == "POST" and request.body:
        media_type = request.content_type.partition(";")[0].strip().lower()
        # Without any type, a body is taken for what it can only be.
        if media_type not in ("", _FORM):
            raise RefusedError(
                Refusal.MEDIA_TYPE, f"Content-Type: {_FORM!r} was expected, not {media_type!r}"
            )
        try:
            # Bytes that should have been escaped are clear all the same, if they are UTF-8.
            forms.append(request.body.decode())
        except UnicodeDecodeError:
            raise RefusedError(Refusal.UNREADABLE, "the form is not UTF-8") from None
    params: dict[str, str] = {}
    for form in forms:
        if _BAD_ESCAPE.search(form):
            raise RefusedError(Refusal.UNREADABLE, "the form has a '%' without two digits")
        try:
            fields = parse_qsl(
                form.strip(), keep_blank_values=True, errors="strict", max_num_fields=10_000
            )
        except ValueError:
            raise RefusedError(
                Refusal.UNREADABLE, "the form is not UTF-8, or has more than 10000 fields"
            ) from None
        for name, value in fields:
            if name in params:
                raise RefusedError(Refusal.UNREADABLE, f"{name!r}: this parameter is there twice")
            params[name] = value
    return params


def verify(
    request: Request,
    params: Mapping[str, str],
    secret_of: Callable[[str], str | None],
    now: datetime,
    *,
    debug: bool = False,
) -> str:
    """
    Check what every request must have.

    :param params: The parameters.
    :param secret_of: Gives the secret of an access key, ``None`` for one that nobody has.
    :param now: The time that the request's own is compared with.
    :param debug: Whether to tell the owner of a wrong signature what should have been signed.
    :return: The access key.
    :raises RefusedError: A check failed.
    """
    for check in (_check_format, _check_there, _check_algorithm):
        check(params)
    secret = secret_of(params["AWSAccessKeyId"])
    if secret is None:
        raise RefusedError(
            Refusal.UNKNOWN_KEY,
            f"AWSAccessKeyId: nobody has the access key {params['AWSAccessKeyId']!r}",
        )
    _check_signature(request, params, secret, debug=debug)
    _check_time(params["Timestamp"], now)
    action = ACTIONS.get(params["Action"])
    if action is None:
        raise RefusedError(
            Refusal.UNREADABLE, f"Action: this API has no action {params['Action']!r}"
        )
    if request.method == "HEAD" and action.kind is not Kind.READ:
        raise RefusedError(
            Refusal.METHOD,
            f"the method 'HEAD' asks for nothing, and {action.name} changes something",
        )
    return params["AWSAccessKeyId"]


def _check_format(params: Mapping[str, str]) -> None:
    if params.get("Format", "xml") not in ("xml", "json"):
        raise RefusedError(
            Refusal.UNUSABLE, f"Format: 'xml' or 'json' was expected, not {params['Format']!r}"
        )


def _check_there(params: Mapping[str, str]) -> None:
    for name in (
        "Action",
        "AWSAccessKeyId",
        "Timestamp",
        "SignatureVersion",
        "SignatureMethod",
        "Signature",
    ):
        if not params.get(name):
            raise RefusedError(Refusal.UNREADABLE, f"{name}: this parameter is required")


def _check_algorithm(params: Mapping[str, str]) -> None:
    if params["SignatureVersion"] != "2":
        raise RefusedError(
            Refusal.UNUSABLE,
            f"SignatureVersion: '2' was expected, not {params['SignatureVersion']!r}",
        )
    if params["SignatureMethod"] not in SIGNATURE_METHODS:
        raise RefusedError(
            Refusal.UNUSABLE,
            f"SignatureMethod: 'HmacSHA256' or 'HmacSHA1' was expected, not"
            f" {params['SignatureMethod']!r}",
        )


def _check_signature(
    request: Request, params: Mapping[str, str], secret: str, *, debug: bool
) -> None:
    host = request.host.strip().lower().removesuffix(":443" if request.secure else ":80")
    signed = {name: value for name, value in params.items() if name != "Signature"}
    method = "GET" if request.method == "HEAD" else request.method
    text = string_to_sign(
        method=method, host=host, path=request.path, query=canonical_query(signed)
    )
    expected = sign(secret=secret, text=text, signature_method=params["SignatureMethod"])
    if not hmac.compare_digest(expected.encode(), params["Signature"].encode()):
        hint = f"; the string to sign is {text!r}" if debug else ""
        raise RefusedError(Refusal.NOT_SIGNED, f"Signature: it is not that of this request{hint}")


def _check_time(timestamp: str, now: datetime) -> None:
    match = _TIMESTAMP.fullmatch(timestamp)
    try:
        if not match:
            raise ValueError
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=timezone.utc)
    except ValueError:
        raise RefusedError(
            Refusal.UNUSABLE,
            f"Timestamp: such as '2013-07-20T15:02:17.000Z' was expected, not {timestamp!r}",
        ) from None
    if abs(moment - now) > SKEW:
        raise RefusedError(
            Refusal.NOT_SIGNED,
            f"Timestamp: {timestamp!r} is more than 15 minutes off, it is"
            f" {now.strftime('%Y-%m-%dT%H:%M:%SZ')}",
        )


def render(root: str, tree: Mapping[str, Any], answer_format: str, status: int = 200) -> Answer:
    """
    Write a document.

    :param root: Its root element.
    :param tree: What is in it.
    :param answer_format: ``xml`` or ``json``.
    :param status: The HTTP status that it goes out with.
    """
    if answer_format == "json":
        return Answer(status, "application/json", _json({root: tree}).encode())
    parts = ['<?xml version="1.0" encoding="utf-8"?>\n']
    _write_xml(parts, root, tree)
    return Answer(status, "application/xml", "".join(parts).encode())


def render_refusal(error: RefusedError, answer_format: str) -> Answer:
    """Write the error document of a refusal."""
    status = error.refusal.status
    tree = {"Error": {"message": error.message, "code": status}}
    answer = render("ErrorResponse", tree, answer_format, status)
    headers = _ALLOW if error.refusal is Refusal.METHOD else {}
    return replace(answer, headers=headers, refusal=error.message)


def render_options() -> Answer:
    """Return the answer to ``OPTIONS``."""
    return Answer(204, "", b"", _ALLOW)


def _json(value: Any) -> str:
    if isinstance(value, Part):
        value.json = value.json or _dumps(value)
        return value.json
    if isinstance(value, Mapping):
        content = ", ".join([f"{_dumps(name)}: {_json(item)}" for name, item in value.items()])
        return f"{{{content}}}"
    if isinstance(value, list):
        return f"[{', '.join([_json(item) for item in value])}]"
    return _dumps(value)


def _dumps(value: Any) -> str:
    # float: for money, which is all that is neither text nor a whole number.
    return json.dumps(value, ensure_ascii=False, default=float)


def _write_xml(parts: list[str], name: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _write_xml(parts, name, item)
        return
    if isinstance(value, Part):
        if not value.xml:
            text: list[str] = []
            _write_xml(text, name, dict(value))
            value.xml = "".join(text)
        parts.append(value.xml)
        return
    parts.append(f"<{name}>")
    if isinstance(value, Mapping):
        for child, item in value.items():
            _write_xml(parts, child, item)
    else:
        # A carriage return would come out of a parser as a line feed.
        parts.append(escape(str(value), {"\r": "&#13;"}))
    parts.append(f"</{name}>")
