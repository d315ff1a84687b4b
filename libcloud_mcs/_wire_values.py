"""Conversion of Python's values to the parameters of a request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta

from libcloud.compute.types import NodeState

from libcloud_mcs._arguments import encodable, items, required_text, type_name, whole_number
from libcloud_mcs._convert import NODE_STATES
from libcloud_mcs.actions import Action

__all__ = ["disk_and_bandwidth", "duration", "filters", "metadata", "numbered"]

_DURATION = re.compile(r"([0-9]{1,6})([HhMm])", re.ASCII)


def duration(value: str | timedelta | None, argument: str) -> str | None:
    """
    Return the wire form of a duration.

    :param value: ``"72H"`` (hours), ``"1M"`` (months), or a ``timedelta`` of whole hours; ``None``
        for the endpoint's default, a month.
    :param argument: The caller's name of the argument.
    :return: The duration; ``None`` for the endpoint's default.
    :raises ValueError: If the duration has another form.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        hours, rest = divmod(value, timedelta(hours=1))
        if hours > 0 and not rest:
            return f"{hours}H"
    elif isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match and int(match[1]) > 0:
            return f"{int(match[1])}{match[2].upper()}"
    got = repr(value) if isinstance(value, (str, int, float, timedelta)) else type_name(value)
    raise ValueError(
        f"{argument}: expected '72H' (hours), '1M' (months) or a timedelta of whole hours,"
        f" got {got}"
    )


def disk_and_bandwidth(disk_size: int | None, bandwidth: int | None) -> dict[str, str]:
    """
    Return the wire form of a node's data disk and external bandwidth.

    :param disk_size: The size of the data disk in GB; ``None`` sends none.
    :param bandwidth: The bandwidth in Mbps; ``None`` sends none.
    :raises ValueError: If an argument is not a whole number from 0.
    """
    values = {
        "ExtraExtDisksize": (disk_size, "ex_disk_size"),
        "ExtraExtBandwidth": (bandwidth, "ex_bandwidth"),
    }
    return {
        parameter: str(whole_number(value, argument, minimum=0))
        for parameter, (value, argument) in values.items()
        if value is not None
    }


def numbered(prefix: str, values: Iterable[str]) -> dict[str, str]:
    """Return the wire form of a list: ``Name.1``, ``Name.2``, …"""
    return {f"{prefix}.{n}": value for n, value in enumerate(values, 1)}


def filters(action: Action, ex_filters: Mapping[str, str | Iterable[str]] | None) -> dict[str, str]:
    """
    Return the wire form of filters: ``Filter.n.Name`` and ``Filter.n.Value.m``.

    :param action: The action of the request.
    :param ex_filters: One or several values for each field, any of which matches. A
        :class:`~libcloud.compute.types.NodeState` means all words of its state.
    :raises TypeError: If the filters are not a mapping, or a value is not text.
    :raises ValueError: If the action has no such filter, the filter has no value, or a status can
        never match.
    """
    if ex_filters is None:
        return {}
    if not isinstance(ex_filters, Mapping):
        raise TypeError(f"ex_filters: expected a mapping, got {type_name(ex_filters)}")
    params: dict[str, str] = {}
    for n, (name, values) in enumerate(ex_filters.items(), 1):
        if name not in action.filters:
            allowed = " or ".join(map(repr, action.filters))
            raise ValueError(f"ex_filters: expected {allowed}, got {name!r}")
        argument = f"ex_filters[{name!r}]"
        if isinstance(values, str):
            values = [values]
        texts: list[str] = []
        for value in items(values, argument):
            texts += (
                _words(value, argument) if name == "status" else [required_text(value, argument)]
            )
        if not texts:
            raise ValueError(f"{argument}: expected at least one value, got none")
        params[f"Filter.{n}.Name"] = name
        params |= numbered(f"Filter.{n}.Value", dict.fromkeys(texts))
    return params


def _words(value: object, argument: str) -> list[str]:
    """Return the words of ``status`` for a state or a word."""
    if isinstance(value, NodeState):
        state, got = value, f"NodeState.{value.name}"
    else:
        word = required_text(value, argument)
        known = {state.value: state for state in NodeState}
        if word in NODE_STATES or word.lower() not in known:
            # An unknown word is sent, since the endpoint may have other words.
            return [word]
        state, got = known[word.lower()], repr(word)
    words = [word for word, meaning in NODE_STATES.items() if meaning is state]
    if not words:
        raise ValueError(
            f"{argument}: expected a word of the API or a NodeState with such a word, got {got}"
        )
    if state is not value:
        raise ValueError(
            f"{argument}: expected a word of the API ({', '.join(map(repr, words))}) or"
            f" NodeState.{state.name}, got {got}"
        )
    return words


def metadata(values: Mapping[str, str], argument: str) -> dict[str, str]:
    """
    Return the wire form of metadata: ``Name.n`` and ``Value.n``.

    :raises TypeError: If the metadata are not a mapping, or a name or value is not text.
    :raises ValueError: If the mapping or a name is empty, or a text cannot be encoded in UTF-8.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{argument}: expected a mapping, got {type_name(values)}")
    if not values:
        raise ValueError(f"{argument}: expected at least one name and value, got none")
    for name, value in values.items():
        required_text(name, f"{argument}, a name")
        if not isinstance(value, str):
            raise TypeError(f"{argument}[{name!r}]: expected text, got {type_name(value)}")
        encodable(value, f"{argument}[{name!r}]")
    return numbered("Name", values.keys()) | numbered("Value", values.values())
