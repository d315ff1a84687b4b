"""
Bytes of an answer → a plain tree of ``dict``, ``list`` and ``str``, the same from XML and JSON.

The bytes are UTF-8 whatever their headers say, and all scalars are text, as XML has them: what is
a number, a date or a boolean is for :mod:`libcloud_mcs._convert` to say.
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

__all__ = ["ErrorDocument", "excerpt", "parse_response", "without_signature"]

_EXCERPT_LENGTH = 200
#: What else than text a scalar may be in JSON, when numbers are read as text.
_WORDS = (b"null", b"true", b"false")
_SIGNATURE = re.compile(r"(Signature(?:=|%3D))[A-Za-z0-9%+/=]+")


class ErrorDocument(Exception):  # noqa: N818 - it is an answer: the connection makes an error of it
    """
    The answer is the API's error document.

    :ivar code: The error code, ``None`` when it is not a number.
    :ivar message: The endpoint's words.
    """

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parse_response(action: Action, body: bytes) -> Any:
    """
    Read the answer to an action.

    :param action: The action that was asked for.
    :param body: The bytes of the answer, XML or JSON.
    :return: The content of the answer: for ``return`` its text, else a ``dict``; in that of a set
        the repeated element is always a list of ``dict``. Of an action with any result, the content
        of the root as it came.
    :raises ErrorDocument: If the answer is an error document.
    :raises MalformedAnswerError: If it is anything else.
    """
    text = body.removeprefix(codecs.BOM_UTF8).lstrip()
    try:
        # Not by the content type: proxies and error pages get it wrong.
        root, content = _from_json(text) if text.startswith(b"{") else _from_xml(text)
        if root == "ErrorResponse":
            raise _error_document(content)
        if root != f"{action.name}Response":
            raise ValueError(f"the root is {root[:80]!r}, not '{action.name}Response'")
        return _shaped(action, content)
    except (ValueError, RecursionError, SyntaxError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedAnswerError(
            f"unusable answer: {what}; it begins: {excerpt(body, action)}", action=action.name
        ) from None


def excerpt(body: bytes, action: Action) -> str:
    """
    Return the first words of an answer for a message, without what is secret in it.

    :param body: The bytes of the answer.
    :param action: The action that was asked for.
    """
    if action.secret:
        return f"<{len(body)} bytes, not shown>"
    text = " ".join(body[: 4 * _EXCERPT_LENGTH].decode("utf-8", "replace").split())
    text = without_signature(text)
    return repr(text if len(text) <= _EXCERPT_LENGTH else text[:_EXCERPT_LENGTH] + "…")


def without_signature(text: str) -> str:
    """Return a text without the signatures that stand in it as in a URL."""
    return _SIGNATURE.sub(r"\1***", text)


def _from_xml(body: bytes) -> tuple[str, Any]:
    from lxml import etree  # whoever asks for JSON has no need of it

    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
    )
    root = etree.fromstring(body, parser)
    if root.getroottree().docinfo.internalDTD is not None:
        raise ValueError("a document type is not allowed in it")
    if b"xmlns" in body:
        # A namespace changes no name here.
        for element in root.iter():
            element.tag = etree.QName(element).localname
    return root.tag, _xml_value(root)


def _xml_value(element: etree._Element) -> Any:
    if not len(element):
        return element.text or ""
    tree: dict[str, Any] = {}
    for child in element:
        name = child.tag
        # Nearly all elements are leaves: no call for them.
        value = _xml_value(child) if len(child) else child.text or ""
        if name not in tree:
            tree[name] = value
        elif isinstance(tree[name], list):
            tree[name].append(value)
        else:
            tree[name] = [tree[name], value]
    return tree


def _from_json(body: bytes) -> tuple[str, Any]:
    # Numbers stay as they are written: a decimal must not become a float on its way.
    document = json.loads(body.decode("utf-8"), parse_int=str, parse_float=str, parse_constant=str)
    if not isinstance(document, dict) or len(document) != 1:
        raise ValueError("a single root was expected")
    ((root, content),) = document.items()
    if any(word in body for word in _WORDS):
        content = _json_value(content)
    return root, content


def _json_value(value: Any) -> Any:
    # In place: the document is not shared, and nearly all of it is text already.
    if isinstance(value, dict):
        for name in [name for name, item in value.items() if type(item) is not str]:
            if value[name] is None:
                del value[name]
            else:
                value[name] = _json_value(value[name])
        return value
    if isinstance(value, list):
        return [_json_value(item) for item in value if item is not None]
    return str(value) if isinstance(value, bool) else value


def _error_document(content: Any) -> ErrorDocument:
    error = content.get("Error") if isinstance(content, dict) else None
    if not isinstance(error, dict):
        raise ValueError("an error document without an error")
    # Later answers have a record "error" in it, which has a message or details.
    nested = error.get("error")
    records = [error, nested] if isinstance(nested, dict) else [error]

    def first(*names: str) -> Any:
        found = (each.get(name, "") for name in names for each in records)
        return next((value for value in found if value != ""), "")

    code, message = first("code"), first("message", "details")
    if not isinstance(code, str) or not isinstance(message, str):
        raise ValueError("an error document without code and message")
    return ErrorDocument(int(code) if code.isascii() and code.isdigit() else None, message)


def _shaped(action: Action, content: Any) -> Any:
    if action.any_result:
        return "" if content is None else content
    # An element without children reads as "" in XML, as does null in JSON as nothing at all.
    content = _record(content, action.name + "Response")
    if not action.result_keys:
        return content
    key = next((each for each in action.result_keys if each in content), None)
    if action.item_key:
        if content and key is None:
            raise ValueError(f"it has no {action.result_keys[0]}")
        return _shaped_set(action, content.get(key, ""))
    if key is None:
        raise ValueError(f"it has no {' or '.join(action.result_keys)}")
    return content[key] if key == "return" else _record(content[key], key)


def _shaped_set(action: Action, content: Any) -> dict[str, Any]:
    rows = _record(content, action.result_keys[0])
    items = rows.get(action.item_key) or []
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"{action.item_key} is not a list of records")
    rows[action.item_key] = items
    return rows


def _record(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if value is None or value == "" or value == []:
        return {}
    if isinstance(value, str) and not value.strip():
        return {}
    raise ValueError(f"{name} is not a record")
