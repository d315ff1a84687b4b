"""Arguments of the driver's constructor, checked before anything is made of them."""

from __future__ import annotations

import unicodedata

__all__ = ["one_line", "one_of", "positive", "whole_number"]


def one_line(value: object, argument: str) -> str:
    """
    Return a text that goes into every request, after checking it. No message shows it.

    :param argument: The caller's name for it.
    :raises TypeError: If it is not text.
    :raises ValueError: If it is empty, has spaces around it, or cannot stand in one line of UTF-8.
    """
    if not isinstance(value, str):
        raise TypeError(f"{argument}: expected text, got {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{argument}: it must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{argument}: expected text in UTF-8, got a byte or half a character that is not"
        ) from None
    if value != value.strip():
        raise ValueError(f"{argument}: expected text without spaces and line ends around it")
    if any(unicodedata.category(char) == "Cc" for char in value):
        raise ValueError(f"{argument}: expected one line of text, got a control character")
    return value


def one_of(value: str, allowed: tuple[str, ...], argument: str) -> str:
    """
    Return one of some words, after checking it.

    :raises ValueError: If it is anything else.
    """
    if value not in allowed:
        names = " or ".join(map(repr, allowed))
        raise ValueError(f"{argument}: {names} was expected, not {value!r}")
    return value


def positive(value: object, argument: str) -> float:
    """
    Return a number above 0, after checking it.

    :raises ValueError: If it is anything else.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{argument}: a number above 0 was expected, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{argument}: expected a number that a float can hold") from None


def whole_number(value: object, argument: str) -> int:
    """
    Return a whole number above 0, after checking it.

    :raises ValueError: If it is anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument}: a whole number above 0 was expected, not {value!r}")
    return value
