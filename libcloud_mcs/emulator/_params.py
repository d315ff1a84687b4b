"""The parameters of a request, checked as strictly as the specification describes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from libcloud_mcs.actions import Action
from libcloud_mcs.emulator._errors import APIError, ErrorCode
from libcloud_mcs.emulator._instances import Lease

__all__ = ["Params"]

_LEASE = re.compile(r"([0-9]{1,6})([HhMm])")
_LONGEST = {"H": 24 * 366 * 10, "M": 12 * 10}
_TRUE, _FALSE = ("true", "1"), ("false", "0")


class Params:
    """
    The parameters of one request. Unknown parameters are accepted and ignored.

    :param values: The parameters as they were received.
    :param ignored: The names of further parameters that are ignored.
    """

    def __init__(self, values: Mapping[str, str], ignored: Collection[str] = ()) -> None:
        self._values = {name: value for name, value in values.items() if name not in ignored}

    def required(self, name: str) -> str:
        """Return a required parameter, which must not be blank."""
        value = self._values.get(name)
        if value is None:
            raise APIError(ErrorCode.UNREADABLE, f"{name}: this parameter is required")
        if not value.strip():
            raise _unusable(name, value, "a value")
        return value

    def optional(self, name: str) -> str | None:
        """Return an optional parameter, ``None`` if it is missing. It must not be blank."""
        return self.required(name) if name in self._values else None

    def count(self, name: str) -> int | None:
        """Return a whole number from 0, ``None`` if it is missing."""
        value = self.optional(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise _unusable(name, value, "a whole number from 0 to 999999999")
        return int(value)

    def flag(self, name: str) -> bool:
        """Return a boolean, ``False`` if it is missing."""
        value = self.optional(name)
        if value is None:
            return False
        if value.lower() not in _TRUE + _FALSE:
            raise _unusable(name, value, "'True' or 'False'")
        return value.lower() in _TRUE

    def lease(self, name: str = "Duration") -> Lease:
        """Return a duration, one month if it is missing."""
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
        """Return a list, ``Name.1``, ``Name.2``, …, in the order of the numbers."""
        return [self.required(f"{name}.{n}") for n in self._numbers(name)]

    def pairs(self, name: str, value: str) -> dict[str, str]:
        """Return two lists as names and values. A value may be empty."""
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
                raise _unusable(f"{name}.{n}", key, "each name once")
            if f"{value}.{n}" not in self._values:
                self.required(f"{value}.{n}")
            pairs[key] = self._values[f"{value}.{n}"]
        return pairs

    def filters(self, action: Action) -> dict[str, list[str]]:
        """Return the filters: for each field, the values that match."""
        found: dict[str, list[str]] = {}
        for n in self._numbers("Filter", more=True):
            name = self.required(f"Filter.{n}.Name")
            if name not in action.filters:
                allowed = " or ".join(map(repr, action.filters))
                raise _unusable(f"Filter.{n}.Name", name, allowed)
            values = self.several(f"Filter.{n}.Value")
            if not values:
                self.required(f"Filter.{n}.Value.1")
            # Two filters of the same field must both match, like those of two fields.
            found[name] = [v for v in values if v in found[name]] if name in found else values
        return found

    def _numbers(self, name: str, *, more: bool = False) -> list[int]:
        numbers = set()
        for key in self._values:
            if not key.startswith(f"{name}."):
                continue
            number, *rest = key[len(name) + 1 :].split(".")
            if not re.fullmatch("[1-9][0-9]{0,5}", number) or (bool(rest) is not more):
                raise APIError(ErrorCode.UNUSABLE, f"{key!r}: expected {name}.n, counted from 1")
            numbers.add(int(number))
        return sorted(numbers)


def _unusable(name: str, value: str, expected: str) -> APIError:
    shown = value if len(value) <= 100 else value[:100] + "…"
    return APIError(ErrorCode.UNUSABLE, f"{name}: expected {expected}, got {shown!r}")
