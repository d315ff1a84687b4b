"""Actions that are known by name only: their parameters, and the trees of their responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from libcloud_mcs._arguments import encodable, required_text, type_name
from libcloud_mcs._signature import COMMON_PARAMETERS
from libcloud_mcs._wire_values import numbered
from libcloud_mcs.actions import ACTIONS, Action, Kind

__all__ = ["canonical", "generic_action", "wire_parameters"]

_ACTION = re.compile("[A-Za-z][A-Za-z0-9]*")
_PARAMETER = re.compile("[A-Za-z][A-Za-z0-9._-]*")
_VALUES = "text, a number, True, False or a list of these"


def generic_action(name: str, kind: Kind) -> Action:
    """
    Return the table entry of an action whose result may have any shape.

    :param name: The name on the wire.
    :param kind: The kind of an action that is not in the table. Other actions keep their kind.
    :raises TypeError: If the name is not text, or the kind is not a :class:`Kind`.
    :raises ValueError: If the name is not one of an action.
    """
    if not _ACTION.fullmatch(required_text(name, "action")):
        raise ValueError(f"action: expected ASCII letters and digits, got {name!r}")
    if not isinstance(kind, Kind):
        raise TypeError(f"kind: expected a libcloud_mcs.actions.Kind, got {type_name(kind)}")
    known = ACTIONS.get(name)
    # Any response may hold a secret.
    return Action(name, known.kind if known else kind, "ex_call", secret=True, any_result=True)


def wire_parameters(params: Mapping[str, Any] | None) -> dict[str, str]:
    """
    Return the wire form of parameters.

    :param params: The values by their names: text, numbers, booleans, or lists of these, which
        become ``Name.1``, ``Name.2``, …
    :raises TypeError: If the parameters are not a mapping, a name is not text, or a value is of
        another type.
    :raises ValueError: If a name is not one of a parameter or is reserved for every request, or a
        value cannot be sent.
    """
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise TypeError(f"params: expected a mapping, got {type_name(params)}")
    sent: dict[str, str] = {}
    for name, value in params.items():
        if not _PARAMETER.fullmatch(required_text(name, "params, a name")):
            raise ValueError(
                f"params, a name: expected ASCII letters, digits, '.', '-' and '_', got {name!r}"
            )
        for key, text in _entries(name, value).items():
            if key in COMMON_PARAMETERS:
                raise ValueError(
                    f"params[{key!r}]: expected a parameter of the action, got one that is part of"
                    " every request"
                )
            if key in sent:
                raise ValueError(f"params[{key!r}]: expected this parameter once, got it twice")
            sent[key] = text
    return sent


def _entries(name: str, value: object) -> dict[str, str]:
    argument = f"params[{name!r}]"
    if not isinstance(value, (list, tuple)):
        return {name: _text(value, argument, _VALUES)}
    if not value:
        raise ValueError(f"{argument}: expected a list that is not empty, got an empty one")
    expected = "text, a number, True or False"
    return numbered(
        name, [_text(item, f"{argument}[{n}]", expected) for n, item in enumerate(value)]
    )


def _text(value: object, argument: str, expected: str) -> str:
    if isinstance(value, str):
        return encodable(str.__str__(value), argument)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return int.__str__(value)
    if isinstance(value, (float, Decimal)):
        number = value if isinstance(value, Decimal) else Decimal(float.__repr__(value))
        if not number.is_finite():
            raise ValueError(f"{argument}: expected a finite number, got {value}")
        # Without an exponent.
        return f"{number:f}"
    raise TypeError(f"{argument}: expected {expected}, got {type_name(value)}")


def canonical(content: Any) -> Any:
    """
    Return the content of a response in the form that XML and JSON have in common.

    XML does not distinguish a list of one from a single record, nor an empty list from an empty
    record. So in a ``<Thing>Set`` the value of ``<Thing>`` is always a list. Elsewhere, a list of
    one is the single value, an empty record is ``""``, and an empty list is left out.

    :param content: The content of the root: ``dict``, ``list`` and ``str``.
    :return: The content in the common form.
    """
    return _canonical(content, "")


def _canonical(value: Any, name: str) -> Any:
    thing = _thing(name)
    if isinstance(value, list) and (value or not thing):
        items = [_canonical(item, name) for item in value]
        return items[0] if len(items) == 1 else items
    if thing and (not isinstance(value, str) or not value.strip()):
        return _canonical_set(value if isinstance(value, dict) else {}, thing)
    return _canonical_record(value) or "" if isinstance(value, dict) else value


def _thing(name: str) -> str:
    """Return the name of the things in a set, ``""`` if the name is not that of a set."""
    return name.removesuffix("Set") if name.endswith("Set") else ""


def _canonical_set(rows: dict[str, Any], thing: str) -> dict[str, Any]:
    items = rows.get(thing, [])
    items = items if isinstance(items, list) else [items]
    return {**_canonical_record(rows), thing: [_canonical(item, thing) for item in items]}


def _canonical_record(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _canonical(item, name) for name, item in record.items() if item != [] or _thing(name)
    }
