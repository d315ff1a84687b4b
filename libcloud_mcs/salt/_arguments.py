"""The ``name=value`` arguments of a command, as Salt passes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any

__all__ = [
    "entries",
    "flag",
    "merge",
    "read",
    "read_for",
    "require",
    "text",
    "timespan",
    "whole_number",
]

_FLAGS = {"true": True, "yes": True, "on": True, "1": True} | dict.fromkeys(
    ("false", "no", "off", "0"), False
)


def merge(kwargs: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the user's arguments, without those that Salt adds.

    :param kwargs: The arguments as one mapping.
    :param more: The named arguments of ``CloudClient.extra_action``: the user's, and three of
        Salt's own.
    """
    added = ("action", "profile", "provider")
    merged = {**(kwargs or {}), **{name: more[name] for name in more if name not in added}}
    # As Salt's clean_kwargs does: __pub_fun and so on.
    return {str(name): value for name, value in merged.items() if not str(name).startswith("__")}


def read_for(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check the arguments of a command against the keyword-only parameters of its function.

    A parameter whose default is a boolean is a switch. ``**`` takes arguments of any name.

    :param function: The function of the command.
    :param arguments: The user's arguments.
    :return: The keyword arguments of the function.
    :raises ValueError: If an argument is missing, unknown or of another kind. The message names the
        argument.
    """
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return dict(entries(arguments))
    keywords = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    required = [each.name for each in keywords if each.default is each.empty]
    optional = [each.name for each in keywords if each.default is not each.empty]
    values: dict[str, Any] = read(arguments, required, optional)
    for each in keywords:
        if isinstance(each.default, bool):
            values[each.name] = flag(values[each.name], each.name)
    return values


def read(
    arguments: Mapping[str, Any], required: Iterable[str] = (), optional: Iterable[str] = ()
) -> dict[str, str | None]:
    """
    Check the arguments of a command.

    :param arguments: The user's arguments.
    :param required: The names of the arguments that must be given.
    :param optional: The names of other arguments.
    :return: The arguments as text, with ``None`` for an optional argument that is not given.
    :raises ValueError: If an argument is missing, unknown, a list or a mapping. The message names
        the argument.
    """
    known = (*required, *optional)
    if unknown := [name for name in arguments if name not in known]:
        names = ", ".join(known) or "none"
        raise ValueError(f"unknown argument {', '.join(map(repr, unknown))}; known: {names}")
    require(arguments, required, "argument")
    return {
        name: None if arguments.get(name) is None else text(arguments[name], name) for name in known
    }


def entries(arguments: Mapping[str, Any]) -> dict[str, str]:
    """
    Check arguments whose names are the user's own choice.

    :param arguments: The user's arguments.
    :return: The arguments as text.
    :raises ValueError: If there are no arguments, or a value is null, a list or a mapping. The
        message names the argument.
    """
    if not arguments:
        raise ValueError("the entries to set are missing: expected name=value, one or more")
    return {name: text(value, name) for name, value in arguments.items()}


def text(value: object, name: str) -> str:
    """
    Convert a scalar that Salt read as YAML back to text: ``3`` to ``"3"``, ``True`` to ``"true"``.

    :param value: The value of an argument or setting.
    :param name: The name of the argument or setting.
    :raises ValueError: If the value is null, a list, a mapping, or of any other type.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float, date)):
        return str(value)
    if value is None:
        got = "null"
    elif isinstance(value, (list, tuple)):
        got = "a list"
    else:
        got = "a mapping" if isinstance(value, Mapping) else type(value).__name__
    raise ValueError(
        f"{name}: expected text, got {got}; to pass such a value as text, quote the value twice:"
        f" {name}=\"'…'\""
    )


def flag(value: str | None, name: str) -> bool:
    """
    Convert the text of a switch to a boolean.

    :param value: The text; ``None`` is off.
    :param name: The name of the argument.
    :raises ValueError: If the text is not ``true``, ``yes``, ``on``, ``1`` or one of their
        opposites.
    """
    if value is None:
        return False
    if value.lower() not in _FLAGS:
        raise ValueError(f"{name}: expected true or false, got {value!r}")
    return _FLAGS[value.lower()]


def whole_number(value: object, name: str, unit: str) -> int | None:
    """
    Convert a number, or its text from the command line, to an integer: ``"100"`` to ``100``.

    :param value: The number or its text; ``None`` stays ``None``.
    :param name: The name of the argument or setting.
    :param unit: The unit of the number, for the message.
    :raises ValueError: If the value is not a whole number from 0.
    """
    if value is None:
        return None
    digits = str(value)
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"{name}: expected a whole number of {unit} from 0, got {value!r}")
    return int(digits)


def timespan(hours: str | None, days: str | None) -> timedelta:
    """
    Return the sum of a number of hours and a number of days.

    :param hours: The number of hours, or ``None``.
    :param days: The number of days, or ``None``.
    :raises ValueError: If both are ``None``, or one of them is not a number above 0.
    """
    if hours is None and days is None:
        raise ValueError("the argument 'hours' or 'days' is missing")
    total = timedelta()
    for name, value in (("hours", hours), ("days", days)):
        if value is not None:
            try:
                part = timedelta(**{name: float(value)})
                if part <= timedelta():
                    raise ValueError
                total += part
            except (ValueError, OverflowError):
                raise ValueError(f"{name}: expected a number above 0, got {value!r}") from None
    return total


def require(values: Mapping[str, Any], names: Iterable[str], kind: str) -> None:
    """
    Check that arguments or settings are given.

    :param values: The arguments or settings.
    :param names: The names of those that are required.
    :param kind: ``argument`` or ``setting``.
    :raises ValueError: If one is missing or empty. The message names the missing ones.
    """
    if missing := [name for name in names if values.get(name) in (None, "")]:
        plural = f"{kind}s {', '.join(map(repr, missing))} are"
        singular = f"{kind} {missing[0]!r} is"
        raise ValueError(f"the {plural if len(missing) > 1 else singular} missing")
