"""
Checks of what a caller passes.

Each raises a ``TypeError`` or ``ValueError`` that names the argument and says what was expected and
what came. No message quotes a value that may be a secret.
"""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from libcloud.compute.base import KeyPair, Node, NodeDriver, NodeSize
from libcloud.compute.types import NodeState

__all__ = [
    "flag",
    "keywords",
    "names_of",
    "node_name",
    "one_line",
    "one_of",
    "positive",
    "required_id",
    "required_text",
    "seconds",
    "several",
    "several_things",
    "type_name",
    "whole",
    "writable",
]

T = TypeVar("T")

#: The attributes ``api_name`` and ``name`` of the driver.
_API_NAME, _CLOUD = "mcs", "Meituan MCS"


def type_name(value: object) -> str:
    """Return what a message calls the type of a value."""
    return type(value).__name__


def required_text(value: object, argument: str) -> str:
    """
    Check a text.

    :param value: The value that the caller passed.
    :param argument: The caller's name of the argument.
    :return: The text; of a member of an enumeration of texts its value.
    :raises TypeError: If the value is not a text.
    :raises ValueError: If the text is empty or blank, or cannot be written in UTF-8.
    """
    if not isinstance(value, str) or isinstance(value, NodeState):
        raise TypeError(f"{argument}: expected text, got {type_name(value)}")
    plain = str.__str__(value)
    if not plain.strip():
        what = "a blank" if plain else "an empty"
        raise ValueError(f"{argument}: expected text that is not blank, got {what} one")
    return writable(plain, argument)


def writable(value: str, argument: str) -> str:
    """
    Check that a text can be sent.

    :raises ValueError: If the text cannot be written in UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        # Without the cause, which has the whole text.
        raise ValueError(
            f"{argument}: expected text that UTF-8 can write, got half a character (a surrogate)"
        ) from None
    return value


def one_line(value: object, argument: str) -> str:
    """
    Check a text that goes into every request. No message shows it.

    :raises TypeError: If the value is not a text.
    :raises ValueError: If the text is empty, has spaces around it, or cannot be one line of UTF-8.
    """
    line = required_text(value, argument)
    if line != line.strip():
        raise ValueError(f"{argument}: expected text without spaces and line ends around it")
    if any(unicodedata.category(char) == "Cc" for char in line):
        raise ValueError(f"{argument}: expected one line of text, got a control character")
    return line


def required_id(value: object, kind: type, argument: str) -> str:
    """
    Check what names a thing.

    :param value: The thing itself, or its ID or name as text.
    :param kind: libcloud's class of such things.
    :param argument: The caller's name of the argument.
    :return: The ID of the thing, the name of a key pair, or the text as it is.
    :raises TypeError: If the value is neither such a thing nor text.
    :raises ValueError: If the thing has no ID or is another cloud's, or the text is empty or cannot
        be sent.
    """
    home = getattr(value, "driver", None)
    if isinstance(home, NodeDriver) and getattr(home, "api_name", None) != _API_NAME:
        raise ValueError(
            f"{argument}: expected a {kind.__name__} of {_CLOUD}, got one of {home.name}"
        )
    if isinstance(value, kind):
        field = "name" if isinstance(value, KeyPair) else "id"
        name = getattr(value, field)
        # libcloud's sizes, images and locations make a text of an ID that is None.
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


def several(values: Iterable[T], argument: str) -> list[T]:
    """
    Check a list, or anything else that is iterable.

    :raises TypeError: If a single thing is in place of the list.
    """
    if isinstance(values, (str, bytes, Mapping, Node)) or not isinstance(values, Iterable):
        raise TypeError(f"{argument}: expected a list, got a single {type_name(values)}")
    return list(values)


def several_things(named: Iterable[T], argument: str) -> list[T]:
    """
    Check a list of things, or a mapping whose keys are their IDs.

    :return: The things; of a mapping its keys.
    :raises TypeError: If a single thing is in place of the list.
    """
    return several(named.keys() if isinstance(named, Mapping) else named, argument)


def node_name(value: Node | str, argument: str) -> str:
    """Return the name of a node, or the name itself."""
    name = required_id(value, Node, argument)
    return required_text(value.name, f"{argument}.name") if isinstance(value, Node) else name


def names_of(size: NodeSize | str) -> set[str]:
    """Return the ID and name of a size; a response may have only one of them."""
    return {size.id, size.name} if isinstance(size, NodeSize) else {size}


def flag(value: object, argument: str) -> bool:
    """
    Check a switch. A text such as ``"False"`` would be true.

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
        raise ValueError(f"{argument}: expected a number that a float can hold") from None


def whole(value: object, argument: str, least: int = 1, most: int | None = None) -> int:
    """
    Check a whole number.

    :raises ValueError: If the value is not a whole number, or below the least or above the most.
    """
    end = "" if most is None else f" to {most}"
    expected = f"{argument}: expected a whole number from {least}{end}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{expected}, got {type_name(value)}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{expected}, got {value!r}")
    return value


def keywords(
    value: Mapping[str, Any] | None, function: Callable[..., object], argument: str
) -> dict[str, Any]:
    """
    Check the keyword arguments for a function.

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
            f"{argument}: expected arguments of {function.__name__}(), got others: {error}"
        ) from None
    return dict(value)


def one_of(value: object, allowed: Collection[str], argument: str) -> str:
    """
    Check that a text is one of some words.

    :raises ValueError: If the value is anything else.
    """
    words = " or ".join(map(repr, allowed))
    if not isinstance(value, str):
        raise ValueError(f"{argument}: expected {words}, got {type_name(value)}")
    if value not in allowed:
        raise ValueError(f"{argument}: expected {words}, got {value!r}")
    return value
