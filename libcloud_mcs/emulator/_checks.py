"""
What a value must be.

A :class:`Kind` stands for it once, wherever the value comes from: an argument in a program, an
option of the command line, a field of a JSON document.
"""

from __future__ import annotations

import ipaddress
import re
import reprlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar

__all__ = [
    "ACTION_NAME",
    "FLAG",
    "HEADER",
    "HOST",
    "MONEY",
    "NAME",
    "NETWORK",
    "PROSE",
    "SECRET",
    "XML_NAME",
    "ArgumentError",
    "Kind",
    "choice",
    "moment",
    "number",
    "number_choice",
    "object_of",
    "optional",
    "shown",
    "split_words",
    "whole",
    "writable",
]

T = TypeVar("T")

_LONGEST = 256
_RICHEST = Decimal(10) ** 12
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?")
#: Characters that an XML document cannot have. The complement takes ten times as long to compile.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class ArgumentError(ValueError):
    """
    An argument, an option or a field makes no sense.

    :param name: Its name.
    :param expected: What would make sense.
    :param got: What was there instead, in a form that can be shown.
    """

    def __init__(self, name: str, expected: str, got: str) -> None:
        super().__init__(name, expected, got)
        self.name = name
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return f"{self.name}: expected {self.expected}, got {self.got}"

    def renamed(self, name: str) -> ArgumentError:
        """Return the same error about another name."""
        return ArgumentError(name, self.expected, self.got)


def shown(value: object) -> str:
    """Return a value as a message shows it: short, and in one line."""
    try:
        return " ".join(_SHORT.repr(value).splitlines())
    except ValueError:  # a whole number of thousands of digits
        return f"{type(value).__name__} that is too long to be shown"


def writable(text: str) -> str:
    """Return a text in which characters that XML does not allow are replaced."""
    return _NOT_XML.sub("\ufffd", text)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def split_words(name: str, text: str, expected: str) -> list[str]:
    """
    Return the words of a line. They are quoted as in a shell.

    :param name: The name of what has this text.
    :param expected: What the line must be.
    :raises ArgumentError: If a quotation does not end, or there are no words.
    """
    try:
        found = shlex.split(text)
    except ValueError:
        raise ArgumentError(name, expected, "a quotation that does not end") from None
    if not found:
        raise ArgumentError(name, expected, "no words")
    return found


@dataclass(frozen=True)
class Kind(Generic[T]):
    """
    What a value must be.

    :param expected: What it must be, in words.
    :param take: A function that returns the value as it is used, or raises ``ValueError``.
    :param read: Reads it from text; ``ValueError`` where that is not possible.
    :param secret: Whether a value is never shown.
    """

    expected: str
    take: Callable[[Any], T]
    read: Callable[[str], Any] = str
    secret: bool = False

    def check(self, name: str, value: object) -> T:
        """
        Return a value as it is used.

        :param name: The name of what has this value.
        :raises ArgumentError: If it is of another kind.
        """
        try:
            return self.take(value)
        except ArgumentError:  # it says more: which part of the value
            raise
        except ValueError:
            raise self.error(name, value) from None

    def parse(self, name: str, text: str) -> T:
        """
        Return a value that is written as text.

        :param name: The name of what has this value.
        :raises ArgumentError: If it is of another kind.
        """
        try:
            return self.take(self.read(text))
        except ValueError:
            error = self.error(name, text)
            # None cannot be written as text.
            expected = error.expected.removesuffix(_OR_NONE)
            raise ArgumentError(name, expected, error.got) from None

    def error(self, name: str, value: object) -> ArgumentError:
        """Return the error that says that a value is of another kind."""
        got = "another value, which is not shown" if self.secret else shown(value)
        return ArgumentError(name, self.expected, got)


_OR_NONE = " or None"


def _kind(
    expected: str,
    accepts: Callable[[Any], bool],
    read: Callable[[str], Any] = str,
    *,
    secret: bool = False,
) -> Kind[Any]:
    def take(value: Any) -> Any:
        if not accepts(value):
            raise ValueError
        return value

    return Kind(expected, take, read, secret)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Return the kind of what may be ``None``."""

    def take(value: Any) -> T | None:
        return None if value is None else kind.take(value)

    return Kind(f"{kind.expected}{_OR_NONE}", take, kind.read, kind.secret)


def whole(
    least: int | None = None, most: int | None = None, what: str = "a whole number"
) -> Kind[int]:
    """Return the kind of whole numbers within bounds."""
    return _kind(
        what if least is None else f"{what} from {least} to {most}",
        lambda value: _is_number(value, int) and _within(value, least, most),
        _read_whole,
    )


def number(least: float, most: float, what: str = "a number") -> Kind[float]:
    """Return the kind of numbers within bounds. NaN and infinity are excluded."""
    return _kind(
        f"{what} from {least} to {most}",
        lambda value: _is_number(value, (int, float)) and _within(value, least, most),
        _read_number,
    )


def choice(*words: str, what: str = "") -> Kind[str]:
    """Return the kind of what must be one of some words."""
    return _kind(
        what or f"one of {', '.join(words)}",
        lambda value: isinstance(value, str) and value in words,
    )


def number_choice(*numbers: int) -> Kind[int]:
    """Return the kind of what must be one of some whole numbers."""
    return _kind(
        f"one of {', '.join(map(str, numbers))}",
        lambda value: _is_number(value, int) and value in numbers,
        _read_whole,
    )


def object_of(kind: type | tuple[type, ...], expected: str) -> Kind[Any]:
    """Return the kind of the objects of a class."""
    return _kind(expected, lambda value: isinstance(value, kind))


def moment(earliest: datetime, latest: datetime) -> Kind[datetime]:
    """Return the kind of aware times within bounds. They come out in UTC."""

    def take(value: Any) -> datetime:
        if not isinstance(value, datetime) or value.utcoffset() is None:
            raise ValueError
        if not earliest <= value <= latest:
            raise ValueError
        return value.astimezone(timezone.utc)

    def read(text: str) -> datetime:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))

    bounds = f"from {earliest:%Y-%m-%d} to {latest:%Y-%m-%d}"
    return Kind(f"a time with a zone {bounds}", take, read)


def _is_number(value: object, kind: type | tuple[type, ...]) -> bool:
    # True and False are numbers to Python.
    return isinstance(value, kind) and not isinstance(value, bool)


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _read_whole(text: str) -> int:
    if not re.fullmatch("[+-]?[0-9]{1,30}", text):
        raise ValueError
    return int(text)


def _read_number(text: str) -> float:
    # More than this is a number to Python: digits of any script, with underscores between them.
    if not re.fullmatch(r"[0-9.eE+-]{1,50}", text):
        raise ValueError
    return float(text)


def _is_plain(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        return False
    return value.isprintable() and value == value.strip()


def _is_host(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        # An address within one network card alone (fe80::1%eth0) cannot stand in a URL.
        return "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        # What looks like an IPv4 address and is not one is not a name either.
        return bool(_HOST_NAME.fullmatch(value)) and not re.fullmatch("[0-9.]+", value)


def _is_action_name(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[A-Za-z][A-Za-z0-9]{0,63}", value))


def _is_xml_name(value: object) -> bool:
    # A brace begins a namespace in the notation of lxml.
    if not isinstance(value, str) or "{" in value:
        return False
    from lxml import etree  # most emulators never need it

    etree.Element(value)
    return True


def _take_money(value: Any) -> Decimal:
    if not _is_number(value, (int, float, str, Decimal)):
        raise ValueError
    if isinstance(value, str) and not re.fullmatch("[0-9.eE+-]{1,50}", value):
        raise ValueError
    try:
        money = Decimal(str(value))
    except InvalidOperation:
        raise ValueError from None
    if not money.is_finite() or not 0 <= money <= _RICHEST:
        raise ValueError
    return money


def _take_network(value: Any) -> ipaddress.IPv4Network:
    # A whole number is an address to Python.
    if not isinstance(value, (str, ipaddress.IPv4Network)):
        raise ValueError
    network = ipaddress.IPv4Network(value)
    if not network.is_loopback or not 8 <= network.prefixlen <= 30:
        raise ValueError
    return network


#: What is true or false.
FLAG = _kind("true or false", lambda value: isinstance(value, bool))
#: A name that is sent in requests and shown to people.
NAME = _kind(f"1 to {_LONGEST} printable characters without space around them", _is_plain)
#: The same, and it is never shown.
SECRET = _kind(NAME.expected, _is_plain, secret=True)
#: A name or an address to listen on.
HOST = _kind("a host name or an IP address", _is_host)
#: The name of an action, whether or not the API has it.
ACTION_NAME = _kind(
    "the name of an action: a letter, then at most 63 letters and digits", _is_action_name
)
#: An amount of money.
MONEY = Kind(f"an amount from 0 to {_RICHEST}", _take_money)
#: A network of this machine's own addresses.
NETWORK = Kind(
    "a loopback network from /8 to /30 without host bits, like '127.10.0.0/16'", _take_network
)
#: The value of an HTTP header.
HEADER = _kind(
    "1 to 256 printable ASCII characters", lambda value: _is_plain(value) and value.isascii()
)
#: A text for people. It may be empty.
PROSE = _kind(
    "text of characters that XML allows",
    lambda value: isinstance(value, str) and not _NOT_XML.search(value),
)
#: The name of an XML element, without a namespace.
XML_NAME = _kind("the name of an XML element", _is_xml_name)
