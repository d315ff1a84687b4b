"""
Stubs: responses of the user to actions that the emulator does not have.

A response is the tree that is inside ``<Action>Response``: a mapping whose values are mappings,
lists, text, numbers and booleans. It is checked when it is given, so that every tree that was
accepted can be written in both formats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from typing import Any

from libcloud_mcs.emulator._checks import ACTION_NAME, PROSE, XML_NAME, ArgumentError, shown
from libcloud_mcs.emulator._transactions import Cell, Transactions

__all__ = ["Stub", "Stubs"]

#: Returns the tree of a response. Its argument has the parameters of the request's action.
Stub = Callable[[dict[str, str]], dict[str, Any]]

#: The greatest depth of a tree. XML parsers refuse documents that are much deeper.
_MAX_DEPTH = 100
#: Less than Python writes at most.
_MAX_DIGITS = 1000
#: What an item of a list can be.
_ITEM = f"text, a finite number of at most {_MAX_DIGITS} digits, True, False or a mapping"


class Stubs:
    """
    The stubs of an emulator, by their actions.

    :param transactions: The transactions to which changes of the stubs belong.
    :param actions: The actions that the emulator has.
    """

    def __init__(self, transactions: Transactions, actions: Container[str]) -> None:
        self._transactions = transactions
        self._actions = actions
        self._stubs: Cell[dict[str, Stub]] = Cell(transactions, {})

    def add(self, action: object, answer: object) -> None:
        """Add a stub, see :meth:`Emulator.stub`."""
        name = ACTION_NAME.check("action", action)
        if name in self._actions:
            expected = "an action that the emulator does not have"
            raise ArgumentError("action", expected, shown(name))
        stub = partial(_call, answer) if callable(answer) else partial(_same, _tree(answer))
        with self._transactions():
            self._stubs.put({**self._stubs.value, name: stub})

    def remove(self, action: object) -> None:
        """Remove a stub, see :meth:`Emulator.unstub`."""
        name = ACTION_NAME.check("action", action)
        with self._transactions():
            if name not in self:
                raise ArgumentError("action", "an action with a stub", shown(name))
            stubs = self._stubs.value
            self._stubs.put({each: stub for each, stub in stubs.items() if each != name})

    def clear(self) -> None:
        """Remove all stubs."""
        with self._transactions():
            self._stubs.put({})

    def find(self, action: str) -> Stub | None:
        """Return the stub of an action, or ``None``."""
        return self._stubs.value.get(action)

    def __contains__(self, action: object) -> bool:
        return action in self._stubs.value

    def __iter__(self) -> Iterator[str]:
        return iter(self._stubs.value)


def _same(tree: dict[str, Any], _params: dict[str, str]) -> dict[str, Any]:
    return tree


def _call(function: Callable[[dict[str, str]], object], params: dict[str, str]) -> dict[str, Any]:
    return _tree(function(params))


def _tree(answer: object) -> dict[str, Any]:
    """
    Return a tree as it is written: a copy in which booleans are text.

    :raises ArgumentError: If XML or JSON cannot hold a part of it. The error names the part.
    """
    if not isinstance(answer, Mapping):
        raise ArgumentError("answer", "a mapping, or a function that returns one", shown(answer))
    return _mapping(answer, "", 1)


def _mapping(value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ArgumentError(_subject(path), f"at most {_MAX_DEPTH} nested mappings", "more")
    for name in value:
        XML_NAME.check(f"{_subject(path)}, a name", name)
    prefix = f"{path}." if path else ""
    return {
        _text(name): "" if _is_empty_set(name, item) else _value(item, f"{prefix}{name}", depth)
        for name, item in value.items()
    }


def _is_empty_set(name: str, value: object) -> bool:
    """Return whether a list is in place of a whole set, which is an empty element in XML."""
    return value in ([], ()) and name.endswith("Set") and name != "Set"


def _value(value: object, path: str, depth: int) -> Any:
    """Return the value of a name: a list or an item."""
    if isinstance(value, (list, tuple)):
        return [_item(item, f"{path}[{n}]", depth, _ITEM) for n, item in enumerate(value)]
    return _item(value, path, depth, f"{_ITEM}, or a list of these")


def _item(value: object, path: str, depth: int, expected: str) -> Any:
    if isinstance(value, Mapping):
        return _mapping(value, path, depth + 1)
    if isinstance(value, str):
        return _text(PROSE.check(_subject(path), value))
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int) and abs(value) < 10**_MAX_DIGITS:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise ArgumentError(_subject(path), expected, shown(value))


def _text(value: str) -> str:
    # str() and format() would write the name of an enumeration's member, not its value.
    return str.__str__(value)


def _subject(path: str) -> str:
    return f"answer: {path}" if path else "answer"
