"""The parameters of a request, read with the strictness that the specification gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from libcloud_mcs.actions import Action
from libcloud_mcs.emulator._errors import Refusal, RefusedError
from libcloud_mcs.emulator.cloud import Lease

__all__ = ["Params"]

_LEASE = re.compile(r"([0-9]{1,6})([HhMm])")
_LONGEST = {"H": 24 * 366 * 10, "M": 12 * 10}
_TRUE, _FALSE = ("true", "1"), ("false", "0")


class Params:
    """
    The parameters of one request. Those that nobody asks for are accepted and ignored.

    :param values: As they came.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def required(self, name: str) -> str:
        """Give a parameter that must be there, and not empty."""
        value = self._values.get(name)
        if value is None:
            raise RefusedError(Refusal.UNREADABLE, f"{name}: this parameter is required")
        if not value.strip():
            raise _unusable(name, value, "something")
        return value

    def optional(self, name: str) -> str | None:
        """Give a parameter, ``None`` where it was left out; when it is there, it is not empty."""
        return self.required(name) if name in self._values else None

    def count(self, name: str) -> int | None:
        """Give a whole number from 0, ``None`` where it was left out."""
        value = self.optional(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise _unusable(name, value, "a whole number from 0 to 999999999")
        return int(value)

    def flag(self, name: str) -> bool:
        """Give a boolean, ``False`` where it was left out."""
        value = self.optional(name)
        if value is None:
            return False
        if value.lower() not in _TRUE + _FALSE:
            raise _unusable(name, value, "'True' or 'False'")
        return value.lower() in _TRUE

    def lease(self, name: str = "Duration") -> Lease:
        """Give a duration, a month where it was left out."""
        value = self.optional(name)
        if value is None:
            return Lease(1, "M")
        match = _LEASE.fullmatch(value)
        if match:
            lease = Lease(int(match[1]), match[2].upper())
            if 0 < lease.count <= _LONGEST[lease.unit]:
                return lease
        raise _unusable(name, value, "digits and H (hours) or M (months), ten years at most")

    def several(self, name: str) -> list[str]:
        """Give a list: ``Name.1``, ``Name.2``, …, in the order of the numbers."""
        return [self.required(f"{name}.{n}") for n in self._numbers(name)]

    def pairs(self, name: str, value: str) -> dict[str, str]:
        """Give two lists as names and values; a value may be empty."""
        numbers = self._numbers(name)
        for n in self._numbers(value):
            if n not in numbers:
                self.required(f"{name}.{n}")
        if not numbers:
            self.required(f"{name}.1")
        pairs: dict[str, str] = {}
        for n in numbers:
            key = self.required(f"{name}.{n}")
            if key in pairs:
                raise _unusable(f"{name}.{n}", key, "a name that is not there already")
            if f"{value}.{n}" not in self._values:
                self.required(f"{value}.{n}")
            pairs[key] = self._values[f"{value}.{n}"]
        return pairs

    def filters(self, action: Action) -> dict[str, list[str]]:
        """Give the filters: for each field the values with any of which a row passes."""
        found: dict[str, list[str]] = {}
        for n in self._numbers("Filter", more=True):
            name = self.required(f"Filter.{n}.Name")
            if name not in action.filters:
                allowed = " or ".join(map(repr, action.filters))
                raise _unusable(f"Filter.{n}.Name", name, allowed)
            values = self.several(f"Filter.{n}.Value")
            if not values:
                self.required(f"Filter.{n}.Value.1")
            # Filters of the same field must all let a row pass, as those of two fields.
            found[name] = [v for v in values if v in found[name]] if name in found else values
        return found

    def _numbers(self, name: str, *, more: bool = False) -> list[int]:
        numbers = set()
        for key in self._values:
            if not key.startswith(f"{name}."):
                continue
            number, *rest = key[len(name) + 1 :].split(".")
            if not re.fullmatch("[1-9][0-9]{0,5}", number) or (bool(rest) is not more):
                raise RefusedError(
                    Refusal.UNUSABLE, f"{key!r}: such names are {name}.n, with n counting from 1"
                )
            numbers.add(int(number))
        return sorted(numbers)


def _unusable(name: str, value: str, expected: str) -> RefusedError:
    shown = value if len(value) <= 100 else value[:100] + "…"
    return RefusedError(Refusal.UNUSABLE, f"{name}: {expected} was expected, not {shown!r}")
