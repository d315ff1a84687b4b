"""The ``name=value`` arguments of a command, as Salt passes them on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

__all__ = ["demand", "entries", "flag", "read", "span", "text"]

_FLAGS = {"true": True, "yes": True, "on": True, "1": True} | dict.fromkeys(
    ("false", "no", "off", "0"), False
)


def read(
    kwargs: Mapping[str, Any] | None, required: Iterable[str] = (), optional: Iterable[str] = ()
) -> dict[str, Any]:
    """
    Check the ``name=value`` arguments of a command.

    :param kwargs: What Salt passed on.
    :return: The arguments as text, with ``None`` for the optional ones that were left out.
    :raises ValueError: If one is missing, unknown, or a list or a mapping. The message names it.
    """
    given = _own(kwargs)
    known = (*required, *optional)
    if unknown := [name for name in given if name not in known]:
        takes = ", ".join(known) or "none"
        raise ValueError(f"unknown argument {', '.join(map(repr, unknown))}; known: {takes}")
    demand(given, required, "argument")
    return {name: None if given.get(name) is None else text(given[name], name) for name in known}


def entries(kwargs: Mapping[str, Any] | None) -> dict[str, str]:
    """
    Check arguments whose names are the user's own choice.

    :raises ValueError: If there is none, or a value is null, a list or a mapping. The message
        names it.
    """
    given = _own(kwargs)
    if not given:
        raise ValueError("the entries to set are missing: name=value, one or more")
    return {name: text(value, name) for name, value in given.items()}


def _own(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Leave out what Salt adds, ``__pub_fun`` and so on, as its own ``clean_kwargs`` does."""
    return {
        str(name): value for name, value in (kwargs or {}).items() if not str(name).startswith("__")
    }


def text(value: object, name: str) -> str:
    """
    Turn a scalar that Salt read as YAML back into text: ``3`` into ``"3"``, ``True`` into
    ``"true"``.

    :param name: The name of the argument or setting.
    :raises ValueError: If the value is null, a list, a mapping, or anything else.
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
        f"{name}: expected text, got {got}; quote text that YAML reads as something else twice:"
        f" {name}=\"'…'\""
    )


def flag(value: str | None, name: str) -> bool:
    """
    Read a switch; left out, it is off.

    :raises ValueError: If the text is none of ``true``, ``yes``, ``on``, ``1`` and their opposites.
    """
    if value is None:
        return False
    if value.lower() not in _FLAGS:
        raise ValueError(f"{name}: expected true or false, got {value!r}")
    return _FLAGS[value.lower()]


def span(hours: str | None, days: str | None) -> timedelta:
    """
    Add numbers of hours and of days, either of which may be ``None``.

    :raises ValueError: If both are ``None``, or one is not a number above 0.
    """
    if hours is None and days is None:
        raise ValueError("the argument 'hours' or 'days' is missing")
    whole = timedelta()
    for name, value in (("hours", hours), ("days", days)):
        if value is not None:
            try:
                part = timedelta(**{name: float(value)})
                if part <= timedelta():
                    raise ValueError
                whole += part
            except (ValueError, OverflowError):
                raise ValueError(f"{name}: a number above 0 was expected, not {value!r}") from None
    return whole


def demand(given: Mapping[str, Any], names: Iterable[str], what: str) -> None:
    """
    Check that all of some names were given.

    :param what: ``argument`` or ``setting``.
    :raises ValueError: If one is missing or empty. The message names it.
    """
    if missing := [name for name in names if given.get(name) in (None, "")]:
        several = f"{what}s {', '.join(map(repr, missing))} are"
        one = f"{what} {missing[0]!r} is"
        raise ValueError(f"the {several if len(missing) > 1 else one} missing")
