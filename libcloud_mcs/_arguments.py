"""
Checks of arguments.

Each raises a ``TypeError`` or ``ValueError`` that names the argument, and says "expected X, got Y".
No message quotes a value that may be a secret. ``argument`` is the caller's name of the argument.
"""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from libcloud.compute.base import KeyPair, Node, NodeDriver, NodeSize
from libcloud.compute.types import NodeState

__all__ = [
    "encodable",
    "flag",
    "items",
    "items_or_keys",
    "keywords",
    "names_of",
    "node_name",
    "one_line",
    "one_of",
    "positive",
    "required_id",
    "required_text",
    "seconds",
    "type_name",
    "whole_number",
]

T = TypeVar("T")

#: The attributes ``api_name`` and ``name`` of the driver.
_API_NAME, _CLOUD = "mcs", "Meituan MCS"


def type_name(value: object) -> str:
    """Return the name of a value's type, for a message."""
    return type(value).__name__


def required_text(value: object, argument: str) -> str:
    """
    Check a text.

    :return: The text. Of a member of a text enumeration, its value.
    :raises TypeError: If the value is not a text.
    :raises ValueError: If the text is empty or blank, or cannot be encoded in UTF-8.
    """
    if not isinstance(value, str) or isinstance(value, NodeState):
        raise TypeError(f"{argument}: expected text, got {type_name(value)}")
    plain = str.__str__(value)
    if not plain.strip():
        got = "a blank text" if plain else "an empty text"
        raise ValueError(f"{argument}: expected text that is not blank, got {got}")
    return encodable(plain, argument)


def encodable(value: str, argument: str) -> str:
    """
    Check that a text can be encoded in UTF-8.

    :raises ValueError: If the text has a surrogate.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        # Without the cause, which has the whole text.
        raise ValueError(
            f"{argument}: expected text that UTF-8 can encode, got a surrogate (half a character)"
        ) from None
    return value


def one_line(value: object, argument: str) -> str:
    """
    Check a text that is sent with every request. No message shows the text.

    :raises TypeError: If the value is not a text.
    :raises ValueError: If the text is empty, has spaces around it, or cannot be one line of UTF-8.
    """
    line = required_text(value, argument)
    if line != line.strip():
        raise ValueError(
            f"{argument}: expected text without surrounding spaces and line ends, got some"
        )
    if any(unicodedata.category(char) == "Cc" for char in line):
        raise ValueError(f"{argument}: expected one line of text, got a control character")
    return line


def required_id(value: object, kind: type, argument: str) -> str:
    """
    Check an argument that identifies a thing.

    :param value: The thing itself, or its ID or name as text.
    :param kind: libcloud's class of such things.
    :return: The ID of the thing, the name of a key pair, or the unchanged text.
    :raises TypeError: If the value is neither such a thing nor text.
    :raises ValueError: If the thing has no ID or belongs to another cloud, or the text is empty or
        cannot be encoded in UTF-8.
    """
    home = getattr(value, "driver", None)
    if isinstance(home, NodeDriver) and getattr(home, "api_name", None) != _API_NAME:
        raise ValueError(
            f"{argument}: expected a {kind.__name__} of {_CLOUD}, got one of {home.name}"
        )
    if isinstance(value, kind):
        field = "name" if isinstance(value, KeyPair) else "id"
        name = getattr(value, field)
        # libcloud's sizes, images and locations convert an ID of None to text.
        if not name or (field == "id" and name == "None"):
            raise ValueError(
                f"{argument}: expected a {kind.__name__} with {field}, got one without"
            )
        return required_text(name, f"{argument}.{field}")
    if not isinstance(value, str):
        raise TypeError(
            f"{argument}: expected a {kind.__name__}, or its ID or name as text,"
            f" got {type_name(value)}"
        )
    return required_text(value, argument)


def items(values: Iterable[T], argument: str) -> list[T]:
    """
    Check a list or another iterable.

    :raises TypeError: If the value is a single thing.
    """
    if isinstance(values, (str, bytes, Mapping, Node)) or not isinstance(values, Iterable):
        raise TypeError(f"{argument}: expected a list, got a single {type_name(values)}")
    return list(values)


def items_or_keys(named: Iterable[T], argument: str) -> list[T]:
    """
    Check a list of things, or a mapping whose keys are their IDs.

    :return: The things. Of a mapping, its keys.
    :raises TypeError: If the value is a single thing.
    """
    return items(named.keys() if isinstance(named, Mapping) else named, argument)


def node_name(value: Node | str, argument: str) -> str:
    """Return the name of a node. Text is the name itself."""
    name = required_id(value, Node, argument)
    return required_text(value.name, f"{argument}.name") if isinstance(value, Node) else name


def names_of(size: NodeSize | str) -> set[str]:
    """Return the ID and the name of a size. A response may have only one of the two."""
    return {size.id, size.name} if isinstance(size, NodeSize) else {size}


def flag(value: object, argument: str) -> bool:
    """
    Check a boolean. A text such as ``"False"`` would count as true.

    :raises TypeError: If the value is neither ``True`` nor ``False``.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{argument}: expected True or False, got {type_name(value)}")
    return value


def seconds(value: object, argument: str) -> float:
    """
    Check a number of seconds, which may be 0 or infinite.

    :raises TypeError: If the value is not a number.
    :raises ValueError: If the number is below 0, or not a number (NaN).
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{argument}: expected a number of seconds, got {type_name(value)}")
    if not value >= 0:
        raise ValueError(f"{argument}: expected a number of seconds from 0, got {value!r}")
    return value


def positive(value: object, argument: str) -> float:
    """
    Check a number above 0, which may be infinite.

    :raises ValueError: If the value is anything else.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{argument}: expected a number above 0, got {type_name(value)}")
    if not value > 0:
        raise ValueError(f"{argument}: expected a number above 0, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f"{argument}: expected a number that a float can hold, got a larger one"
        ) from None


def whole_number(value: object, argument: str, minimum: int = 1, maximum: int | None = None) -> int:
    """
    Check a whole number.

    :raises ValueError: If the value is not a whole number, or not in the range.
    """
    end = "" if maximum is None else f" to {maximum}"
    expected = f"{argument}: expected a whole number from {minimum}{end}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{expected}, got {type_name(value)}")
    if value < minimum or (maximum is not None and value > maximum):
        raise ValueError(f"{expected}, got {value!r}")
    return value


def keywords(
    value: Mapping[str, Any] | None, function: Callable[..., object], argument: str
) -> dict[str, Any]:
    """
    Check keyword arguments for a function.

    :raises TypeError: If the value is not a mapping, or the function does not have such arguments.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument}: expected a mapping, got {type_name(value)}")
    try:
        inspect.signature(function).bind(**value)
    except TypeError as error:
        raise TypeError(
            f"{argument}: expected arguments of {function.__name__}(), got others ({error})"
        ) from None
    return dict(value)


def one_of(value: object, allowed: Collection[str], argument: str) -> str:
    """
    Check that a text is an allowed word.

    :raises ValueError: If the value is anything else.
    """
    words = " or ".join(map(repr, allowed))
    if not isinstance(value, str):
        raise ValueError(f"{argument}: expected {words}, got {type_name(value)}")
    if value not in allowed:
        raise ValueError(f"{argument}: expected {words}, got {value!r}")
    return value
