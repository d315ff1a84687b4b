"""
The wire format: forms and signatures of requests, XML and JSON of responses.

:func:`verify` lists the checks of a request in their order.
"""

from __future__ import annotations

import hmac
import json
import re
import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from libcloud_mcs._signature import SIGNATURE_METHODS, canonical_query, sign, string_to_sign
from libcloud_mcs.actions import Action, Kind
from libcloud_mcs.emulator._clock import utc_text
from libcloud_mcs.emulator._errors import APIError, ErrorCode

__all__ = [
    "Renderer",
    "Request",
    "Response",
    "Rows",
    "error_document",
    "read_form",
    "render_error",
    "render_options",
    "verify",
]

_FORM = "application/x-www-form-urlencoded"
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
_ALLOW = {"Allow": ", ".join(_METHODS)}
_HEADER_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: With or without fractions. The service's Java client sent milliseconds without a dot.
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9}|\d{3})?Z", re.ASCII)
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
#: The greatest difference between a timestamp and the clock.
SKEW = timedelta(minutes=15)


@dataclass(frozen=True)
class Request:
    """An HTTP request as it was received."""

    method: str
    #: The path, not decoded.
    path: str
    #: The query, not decoded.
    query: str
    #: The host as the request names it; ``""``: none.
    host: str
    content_type: str
    body: bytes
    #: Whether the request was received over HTTPS.
    secure: bool = False
    #: The reason why the request is not valid HTTP, or ``None``.
    flaw: APIError | None = None


class Rows(NamedTuple):
    """
    A list of records that many responses contain. Their text is cached.

    :ivar owners: The objects that the records describe. They never change.
    :ivar now: The time at which the records describe them.
    :ivar build: Returns the record of an object at a time.
    :ivar period: Returns the beginning and the end of the period around a time in which the record
        of an object stays the same. The end is not a part of the period.
    """

    owners: Sequence[Any]
    now: datetime
    build: Callable[[Any, datetime], Mapping[str, Any]]
    period: Callable[[Any, datetime], tuple[datetime, datetime]]


@dataclass(frozen=True)
class Response:
    """An HTTP response before it is sent."""

    status: int
    content_type: str
    body: bytes
    #: Further headers.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The message of an error; ``""``: a success.
    error: str = ""

    def __post_init__(self) -> None:
        lines = [f"HTTP/1.1 {self.status}", f"Content-Type: {self.content_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        for line in lines:
            if not _HEADER_LINE.fullmatch(line):
                raise ValueError(f"{line!r} cannot be sent as a header")


def read_form(request: Request) -> dict[str, str]:
    """
    Return the parameters from the URL and from the body of a POST.

    :raises APIError: If they are not a form, or a parameter occurs twice.
    """
    if request.method not in _METHODS:
        raise APIError(
            ErrorCode.METHOD, f"method: expected {', '.join(_METHODS)}, got {request.method!r}"
        )
    forms = [request.query]
    if request.method == "POST" and request.body:
        media_type = request.content_type.partition(";")[0].strip().lower()
        # A body without a type can only be a form.
        if media_type not in ("", _FORM):
            raise APIError(
                ErrorCode.MEDIA_TYPE, f"Content-Type: expected {_FORM!r}, got {media_type!r}"
            )
        try:
            # UTF-8 that should have been escaped is unambiguous.
            forms.append(request.body.decode())
        except UnicodeDecodeError:
            raise APIError(ErrorCode.UNREADABLE, "the form is not UTF-8") from None
    params: dict[str, str] = {}
    for form in forms:
        if _BAD_ESCAPE.search(form):
            raise APIError(ErrorCode.UNREADABLE, "the form has a '%' without two digits")
        try:
            fields = parse_qsl(
                form.strip(), keep_blank_values=True, errors="strict", max_num_fields=10_000
            )
        except ValueError:
            raise APIError(
                ErrorCode.UNREADABLE, "the form is not UTF-8, or has more than 10000 parameters"
            ) from None
        for name, value in fields:
            if name in params:
                raise APIError(
                    ErrorCode.UNREADABLE, f"{name!r}: expected this parameter once, got it twice"
                )
            params[name] = value
    return params


def verify(
    request: Request,
    params: Mapping[str, str],
    secret_of: Callable[[str], str | None],
    now: datetime,
    *,
    actions: Mapping[str, Action],
    stubs: Container[str] = (),
    debug: bool = False,
) -> str:
    """
    Check the common parameters, the signature, the time and the action of a request.

    :param params: The parameters of the request.
    :param secret_of: A function that returns the secret of an access key, ``None`` if unknown.
    :param now: The time with which the timestamp is compared.
    :param actions: The actions by their names.
    :param stubs: The actions with a stub.
    :param debug: Whether the error of a wrong signature contains the string to sign.
    :return: The access key.
    :raises APIError: If a check fails.
    """
    for check in (_check_format, _check_required, _check_algorithm):
        check(params)
    secret = secret_of(params["AWSAccessKeyId"])
    if secret is None:
        raise APIError(
            ErrorCode.UNKNOWN_KEY,
            f"AWSAccessKeyId: no account has the access key {params['AWSAccessKeyId']!r}",
        )
    _check_signature(request, params, secret, debug=debug)
    _check_time(params["Timestamp"], now)
    action = actions.get(params["Action"])
    if action is None and params["Action"] not in stubs:
        raise APIError(ErrorCode.UNREADABLE, f"Action: this API has no action {params['Action']!r}")
    if request.method == "HEAD" and (action is None or action.kind is not Kind.READ):
        # An action with a stub may change something.
        reason = "changes something" if action else "has a stub"
        raise APIError(
            ErrorCode.METHOD,
            f"method: expected GET or POST for {params['Action']}, which {reason}, got 'HEAD'",
        )
    return params["AWSAccessKeyId"]


def _check_format(params: Mapping[str, str]) -> None:
    if params.get("Format", "xml") not in ("xml", "json"):
        raise APIError(
            ErrorCode.UNUSABLE, f"Format: expected 'xml' or 'json', got {params['Format']!r}"
        )


def _check_required(params: Mapping[str, str]) -> None:
    for name in (
        "Action",
        "AWSAccessKeyId",
        "Timestamp",
        "SignatureVersion",
        "SignatureMethod",
        "Signature",
    ):
        if not params.get(name):
            raise APIError(ErrorCode.UNREADABLE, f"{name}: this parameter is required")


def _check_algorithm(params: Mapping[str, str]) -> None:
    if params["SignatureVersion"] != "2":
        raise APIError(
            ErrorCode.UNUSABLE,
            f"SignatureVersion: expected '2', got {params['SignatureVersion']!r}",
        )
    if params["SignatureMethod"] not in SIGNATURE_METHODS:
        raise APIError(
            ErrorCode.UNUSABLE,
            f"SignatureMethod: expected 'HmacSHA256' or 'HmacSHA1', got"
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
        raise APIError(ErrorCode.NOT_SIGNED, f"Signature: it does not match this request{hint}")


def _check_time(timestamp: str, now: datetime) -> None:
    match = _TIMESTAMP.fullmatch(timestamp)
    try:
        if not match:
            raise ValueError
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=timezone.utc)
    except ValueError:
        raise APIError(
            ErrorCode.UNUSABLE,
            f"Timestamp: expected a time such as '2013-07-20T15:02:17.000Z', got {timestamp!r}",
        ) from None
    if abs(moment - now) > SKEW:
        raise APIError(
            ErrorCode.NOT_SIGNED,
            f"Timestamp: {timestamp!r} is more than 15 minutes off, the time is {utc_text(now)}",
        )


class Renderer:
    """Writes documents in XML and JSON, and caches the text of rows."""

    def __init__(self) -> None:
        #: For each format, by the identities of the owners.
        self._cache: dict[str, dict[int, _Text]] = {}

    def render(
        self, root: str, tree: Mapping[str, Any], response_format: str, status: int = 200
    ) -> Response:
        """
        Write a document.

        :param root: The name of the root element.
        :param tree: The content of the root element.
        :param response_format: ``xml`` or ``json``.
        :param status: The HTTP status of the response.
        """
        parts: list[bytes] = []
        if response_format == "json":
            self._write_json(parts, {root: tree})
            return Response(status, "application/json", b"".join(parts))
        parts.append(b'<?xml version="1.0" encoding="utf-8"?>\n')
        self._write_xml(parts, root, tree)
        return Response(status, "application/xml", b"".join(parts))

    # The text is encoded in parts and joined once: each copy of a long one is memory that the
    # system has to provide.

    def _write_json(self, parts: list[bytes], value: Any) -> None:
        if isinstance(value, Rows):
            first, *others = self._texts(value, "json", _json_row) or [b""]
            parts += (b"[", first.removeprefix(b", "), *others, b"]")
        elif isinstance(value, Mapping):
            separator = "{"
            for name, item in value.items():
                parts.append(f"{separator}{_dumps(name)}: ".encode())
                self._write_json(parts, item)
                separator = ", "
            parts.append(b"}" if value else b"{}")
        else:
            parts.append(_dumps(value).encode())

    def _write_xml(self, parts: list[bytes], name: str, value: Any) -> None:
        if isinstance(value, Rows):
            parts += self._texts(value, f"xml {name}", partial(self._xml_row, name))
            return
        if isinstance(value, list):
            for item in value:
                self._write_xml(parts, name, item)
            return
        parts.append(f"<{name}>".encode())
        if isinstance(value, Mapping):
            for child, item in value.items():
                self._write_xml(parts, child, item)
        else:
            # A carriage return would come out of a parser as a line feed.
            parts.append(escape(str(value), {"\r": "&#13;"}).encode())
        parts.append(f"</{name}>".encode())

    def _xml_row(self, name: str, record: Mapping[str, Any]) -> bytes:
        parts: list[bytes] = []
        self._write_xml(parts, name, record)
        return b"".join(parts)

    def _texts(
        self, rows: Rows, form: str, write: Callable[[Mapping[str, Any]], bytes]
    ) -> list[bytes]:
        """Return the texts of records. Lists are long, so that this loop is kept fast."""
        cache = self._cache.setdefault(form, {})
        find, now, texts = cache.get, rows.now, []
        for owner in rows.owners:
            key = id(owner)
            known = find(key)
            if known is None or not known[1] <= now < known[2]:
                text = write(rows.build(owner, now))
                # The text is removed with its owner, before another object can have its identity.
                reference = weakref.ref(owner, partial(_forget, cache, key))
                known = cache[key] = reference, *rows.period(owner, now), text
            texts.append(known[3])
        return texts


#: A weak reference to an owner, the beginning and the end of the period in which a text describes
#: the owner, and the text.
_Text = tuple[object, datetime, datetime, bytes]


def _forget(cache: dict[int, _Text], key: int, _reference: object) -> None:
    cache.pop(key, None)


def render_error(error: APIError, response_format: str) -> Response:
    """Write an error document."""
    status = error.code.status
    response = error_document(error.message, status, response_format)
    headers = _ALLOW if error.code is ErrorCode.METHOD else {}
    return replace(response, headers=headers, error=error.message)


def error_document(message: str, status: int, response_format: str) -> Response:
    """Write an error document with any status."""
    tree = {"Error": {"message": message, "code": status}}
    return Renderer().render("ErrorResponse", tree, response_format, status)


def render_options() -> Response:
    """Return the response to ``OPTIONS``."""
    return Response(204, "", b"", _ALLOW)


def _json_row(record: Mapping[str, Any]) -> bytes:
    """Return a record as it follows another one."""
    return f", {_dumps(record)}".encode()


def _dumps(value: Any) -> str:
    # float: for amounts of money, the only values that are neither text nor whole numbers.
    return json.dumps(value, ensure_ascii=False, default=float)
