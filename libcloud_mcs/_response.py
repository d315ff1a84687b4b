"""
Conversion of a response's bytes to a tree of ``dict``, ``list`` and ``str``.

XML and JSON result in the same tree. The bytes are read as UTF-8, whatever the headers say. All
scalars are text, as in XML: :mod:`libcloud_mcs._convert` converts numbers, dates and booleans.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any

from libcloud_mcs.actions import Action
from libcloud_mcs.errors import MalformedAnswerError

if TYPE_CHECKING:
    from lxml import etree

__all__ = ["ERROR_ROOT", "ErrorDocument", "excerpt", "parse_response", "without_signature"]

#: The root of an error document.
ERROR_ROOT = "ErrorResponse"

_EXCERPT_LENGTH = 200
#: The scalars of JSON that are not text, when numbers are read as text.
_NOT_TEXT = (b"null", b"true", b"false")
_SIGNATURE = re.compile(r"(Signature(?:=|%3D))[A-Za-z0-9%+/=]+")


class ErrorDocument(Exception):  # noqa: N818 - a document, not an error
    """
    The API's error document.

    :ivar code: The error code, ``None`` if it is not a number.
    :ivar message: The endpoint's message.
    """

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parse_response(action: Action, body: bytes) -> Any:
    """
    Read the response to an action.

    :param action: The requested action.
    :param body: The bytes of the response, in XML or JSON.
    :return: The result: for ``return`` its text, else a ``dict``. In a set, the repeated element is
        always a list of ``dict``. For an action with any result, the unchanged content of the root.
    :raises ErrorDocument: If the response is an error document.
    :raises MalformedAnswerError: If the response is neither a result nor an error document.
    """
    text = body.removeprefix(codecs.BOM_UTF8).lstrip()
    try:
        # Not by the content type, which proxies and error pages set incorrectly.
        root, content = _from_json(text) if text.startswith(b"{") else _from_xml(text)
        if root == ERROR_ROOT:
            raise _error_document(content)
        if root != f"{action.name}Response":
            raise ValueError(f"expected the root '{action.name}Response', got {root[:80]!r}")
        return _result_content(action, content)
    except (ValueError, RecursionError, SyntaxError) as error:
        cause = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedAnswerError(
            f"malformed response: {cause}; the response begins with {excerpt(body, action)}",
            action=action.name,
        ) from None


def excerpt(body: bytes, action: Action) -> str:
    """
    Return the beginning of a response for a message, without signatures.

    :param body: The bytes of the response.
    :param action: The requested action. The response to one with secrets is not shown.
    """
    if action.secret:
        return f"<{len(body)} bytes, not shown>"
    text = " ".join(body[: 4 * _EXCERPT_LENGTH].decode("utf-8", "replace").split())
    text = without_signature(text)
    return repr(text if len(text) <= _EXCERPT_LENGTH else text[:_EXCERPT_LENGTH] + "…")


def without_signature(text: str) -> str:
    """Return a text without the signatures of the URLs in it."""
    return _SIGNATURE.sub(r"\1***", text)


def _from_xml(body: bytes) -> tuple[str, Any]:
    from lxml import etree  # imported when needed: JSON does not need it

    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
    )
    root = etree.fromstring(body, parser)
    if root.getroottree().docinfo.internalDTD is not None:
        raise ValueError("expected XML without a document type, got one")
    if b"xmlns" in body:
        # Namespaces are ignored.
        for element in root.iter():
            element.tag = etree.QName(element).localname
    return root.tag, _xml_value(root)


def _xml_value(element: etree._Element) -> Any:
    if not len(element):
        return element.text or ""
    tree: dict[str, Any] = {}
    for child in element:
        name = child.tag
        # Nearly all elements are leaves, which need no call.
        value = _xml_value(child) if len(child) else child.text or ""
        if name not in tree:
            tree[name] = value
        elif isinstance(tree[name], list):
            tree[name].append(value)
        else:
            tree[name] = [tree[name], value]
    return tree


def _from_json(body: bytes) -> tuple[str, Any]:
    # Numbers stay text: a decimal must not become a float.
    document = json.loads(body.decode("utf-8"), parse_int=str, parse_float=str, parse_constant=str)
    if not isinstance(document, dict) or len(document) != 1:
        raise ValueError("expected a single root, got none or several")
    ((root, content),) = document.items()
    if any(word in body for word in _NOT_TEXT):
        content = _json_value(content)
    return root, content


def _json_value(value: Any) -> Any:
    # In place: the document is not shared, and nearly all values are already text.
    if isinstance(value, dict):
        for name in [name for name, item in value.items() if type(item) is not str]:
            if value[name] is not None:
                value[name] = _json_value(value[name])
            elif name.endswith("Set"):
                value[name] = ""  # an empty set
            else:
                del value[name]
        return value
    if isinstance(value, list):
        return [_json_value(item) for item in value if item is not None]
    return str(value) if isinstance(value, bool) else value


def _error_document(content: Any) -> ErrorDocument:
    error = content.get("Error") if isinstance(content, dict) else None
    if not isinstance(error, dict):
        raise ValueError("an error document without an error")
    # The later service nests a record "error", which has a message or details.
    nested = error.get("error")
    records = [error, nested] if isinstance(nested, dict) else [error]

    def first(*names: str) -> Any:
        values = (record.get(name, "") for name in names for record in records)
        return next((value for value in values if value != ""), "")

    code, message = first("code"), first("message", "details")
    if not isinstance(code, str) or not isinstance(message, str):
        raise ValueError("an error document without code and message")
    return ErrorDocument(int(code) if code.isascii() and code.isdigit() else None, message)


def _result_content(action: Action, content: Any) -> Any:
    if action.any_result:
        return "" if content is None else content
    # An element without children is "" in XML. A null in JSON is left out.
    content = _record(content, action.name + "Response")
    if not action.result_keys:
        return content
    key = next((name for name in action.result_keys if name in content), None)
    if action.item_key:
        if content and key is None:
            raise ValueError(f"{action.result_keys[0]} is missing")
        return _set_content(action, content.get(key, ""))
    if key is None:
        raise ValueError(f"{' or '.join(action.result_keys)} is missing")
    return content[key] if key == "return" else _record(content[key], key)


def _set_content(action: Action, content: Any) -> dict[str, Any]:
    rows = _record(content, action.result_keys[0])
    items = rows.get(action.item_key) or []
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list) or set(map(type, items)) - {dict}:
        raise ValueError(f"{action.item_key}: expected a list of records, got another value")
    rows[action.item_key] = items
    return rows


def _record(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if value is None or value == "" or value == []:
        return {}
    if isinstance(value, str) and not value.strip():
        return {}
    raise ValueError(f"{name}: expected a record, got text or a list")
