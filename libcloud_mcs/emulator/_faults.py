"""
Faults on demand.

An :class:`Effect` is what goes wrong with a request; the functions of this module return the usual
effects. :meth:`Emulator.inject` decides which requests are affected::

    cloud.inject(drop_after(), on="CreateInstance", times=1)
    cloud.inject(error(500), on="RenewInstance", nth=2)
    cloud.inject(delay(0.2), probability=0.1, seed=7)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from types import TracebackType
from typing import Any

from libcloud_mcs.actions import ACTIONS
from libcloud_mcs.emulator._checks import (
    FLAG,
    HEADER,
    NAME,
    PROSE,
    ArgumentError,
    Kind,
    choice,
    number,
    object_of,
    optional,
    shown,
    split_words,
    whole,
)
from libcloud_mcs.emulator._transactions import Cell, Transactions
from libcloud_mcs.emulator._wire import Response, error_document

__all__ = [
    "EFFECTS",
    "WHEN",
    "Effect",
    "Fault",
    "Faults",
    "boot_fail",
    "content_type",
    "cut",
    "delay",
    "drop_after",
    "drop_before",
    "error",
    "html",
    "meanwhile",
    "overload",
    "parse_fault",
    "too_many",
]


_SECONDS = number(0, 10**9, "seconds")
_LENGTH = whole(0, 10**9, "a number of bytes")
_STATUS = whole(200, 599, "an HTTP status")
_ERROR_STATUS = whole(400, 599, "an HTTP status")


def _take_function(value: Any) -> Any:
    if not callable(value):
        raise ValueError
    return value


def _take_retry_after(value: Any) -> str:
    return str(HEADER.take(value) if isinstance(value, str) else _SECONDS.take(value))


_FUNCTION = Kind("a function", _take_function)
_RETRY_AFTER = Kind(f"{_SECONDS.expected}, or {HEADER.expected}", _take_retry_after)

#: The values that each field of an effect can have.
_FIELDS: dict[str, Kind[Any]] = {
    "name": NAME,
    "seconds": _SECONDS,
    "run": optional(_FUNCTION),
    "drop_before": FLAG,
    "drop_after": FLAG,
    "answer": optional(_FUNCTION),
    "after": FLAG,
    "cut": optional(_LENGTH),
    "content_type": optional(HEADER),
    "boot_fail": FLAG,
}


@dataclass(frozen=True)
class Effect:
    """
    What goes wrong with a request. Without any field set, nothing does.

    A request that is answered with :attr:`answer` is not carried out, unless :attr:`after` is set.

    :raises ValueError: If a field has an invalid value.
    """

    name: str
    #: The delay in seconds before everything else.
    seconds: float = 0.0
    #: Called before the request is carried out, for example to change instances between two pages.
    run: Callable[[], object] | None = None
    #: Close the connection before the request is carried out.
    drop_before: bool = False
    #: Close the connection after the request was carried out, without a response.
    drop_after: bool = False
    #: Returns the response for a format (``xml`` or ``json``), in place of the true one.
    answer: Callable[[str], Response] | None = None
    #: Carry the request out before :attr:`answer` is sent.
    after: bool = False
    #: Close the connection after this number of bytes of the body.
    cut: int | None = None
    #: The ``Content-Type`` of the response.
    content_type: str | None = None
    #: The instance that is created fails to boot. Only for ``CreateInstance``.
    boot_fail: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            _FIELDS[each.name].check(each.name, getattr(self, each.name))

    @property
    def only(self) -> str:
        """The only action that can have this effect; ``""``: any action."""
        return "CreateInstance" if self.boot_fail else ""


def delay(seconds: float) -> Effect:
    """
    Delay a request.

    :param seconds: The delay in seconds, from 0 to 1,000,000,000.
    :raises ValueError: If the delay is not such a number.
    """
    return Effect("delay", seconds=seconds)


def drop_before() -> Effect:
    """Close the connection before the request is carried out."""
    return Effect("drop_before", drop_before=True)


def drop_after() -> Effect:
    """Carry the request out and close the connection without a response."""
    return Effect("drop_after", drop_after=True)


def cut(length: int = 20) -> Effect:
    """
    Carry the request out and close the connection in the middle of the response.

    :param length: The number of bytes of the body that are sent, from 0.
    :raises ValueError: If the length is not such a number.
    """
    return Effect("cut", cut=_LENGTH.check("length", length))


def error(code: int, message: str = "Injected fault", *, after: bool = False) -> Effect:
    """
    Respond with an error document.

    :param code: The HTTP status, from 400 to 599.
    :param message: The message of the error.
    :param after: Whether to carry the request out before.
    :raises ValueError: If an argument has an invalid value.
    """
    _ERROR_STATUS.check("code", code)
    PROSE.check("message", message)

    return Effect("error", answer=partial(error_document, message, code), after=after)


def html(status: int = 502, *, after: bool = False) -> Effect:
    """
    Respond with the HTML page of a proxy.

    :param status: The HTTP status, from 200 to 599.
    :param after: Whether to carry the request out before.
    :raises ValueError: If the status is not such a number.
    """
    _STATUS.check("status", status)
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    response = Response(status, "text/html", page.encode())
    return Effect("html", answer=lambda _: response, after=after)


def content_type(value: str = "text/plain") -> Effect:
    """
    Carry the request out and send another content type.

    :param value: The value of the header ``Content-Type``.
    :raises ValueError: If the value cannot be sent in a header.
    """
    return Effect("content_type", content_type=HEADER.check("value", value))


def too_many(retry_after: float | str | None = None) -> Effect:
    """
    Respond with the status 429.

    :param retry_after: The value of ``Retry-After``: seconds or any text; ``None``: no header.
    :raises ValueError: If the value is neither.
    """
    value = optional(_RETRY_AFTER).check("retry_after", retry_after)
    headers = {} if value is None else {"Retry-After": value}

    def answer(response_format: str) -> Response:
        response = error_document("Too many requests", 429, response_format)
        return replace(response, headers=headers)

    return Effect("too_many", answer=answer)


def overload() -> Effect:
    """Respond with the status 503 and an empty body, like an overloaded endpoint."""
    return Effect("overload", answer=lambda _: Response(503, "text/plain", b""))


def boot_fail() -> Effect:
    """
    Create and charge an instance that fails to boot.

    Its last status is ``deploy_fail``, and it can only be terminated. Only ``CreateInstance`` can
    have this effect.
    """
    return Effect("boot_fail", boot_fail=True)


def meanwhile(run: Callable[[], object]) -> Effect:
    """
    Call a function before the request is carried out, for example to change instances meanwhile.

    :param run: The function, without parameters.
    :raises ValueError: If it is not a function.
    """
    return Effect("meanwhile", run=_FUNCTION.check("run", run))


#: The values that the arguments of :meth:`Emulator.inject` can have, without the effect.
WHEN: dict[str, Kind[Any]] = {
    "on": object_of(str, "* or an action, of the API or with a stub"),
    "nth": whole(1, 10**9),
    "times": optional(whole(1, 10**9)),
    "probability": number(0, 1),
    "seed": optional(whole()),
}


@dataclass
class Fault:
    """An effect and the requests that it affects. As a context manager, removed at the end."""

    effect: Effect
    on: str = "*"
    nth: int = 1
    times: int | None = None
    probability: float = 1.0
    seed: int | None = field(default=None, repr=False)
    owner: Faults | None = field(default=None, repr=False)
    #: The number of requests that matched ``on``.
    seen: int = 0
    #: The number of requests that were affected.
    fired: int = 0

    def __post_init__(self) -> None:
        object_of(Effect, "an effect").check("effect", self.effect)
        for name, kind in WHEN.items():
            kind.check(name, getattr(self, name))
        stubs = self.owner.stubs if self.owner else ()
        if self.on not in ("*", *ACTIONS) and self.on not in stubs:
            raise WHEN["on"].error("on", self.on)
        if self.effect.only and self.on not in ("*", self.effect.only):
            expected = f"{self.effect.only} or *, the only choice for {self.effect.name}"
            raise ArgumentError("on", expected, shown(self.on))
        self._rng = random.Random(self.seed)

    def affects(self, action: str) -> bool:
        """
        Return whether a request is affected, and count the request.

        :param action: The action of the request.
        """
        if self.on not in ("*", action) or self.effect.only not in ("", action):
            return False
        self.seen += 1
        spent = self.times is not None and self.fired >= self.times
        if self.seen < self.nth or spent:
            return False
        if self.probability < 1 and self._rng.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def remove(self) -> None:
        """Remove the fault."""
        if self.owner is not None:
            self.owner.remove(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


class Faults:
    """
    The faults of an emulator.

    :param transactions: The transactions to which changes of the faults belong.
    :param stubs: The actions with a stub, which faults can affect, too.
    """

    def __init__(
        self, transactions: Transactions | None = None, stubs: Container[str] = ()
    ) -> None:
        self._transactions = transactions or Transactions()
        self.stubs = stubs
        self._faults: Cell[tuple[Fault, ...]] = Cell(self._transactions, ())

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        with self._transactions():
            self._faults.put((*self._faults.value, fault))

    def remove(self, fault: Fault) -> None:
        """Remove a fault."""
        with self._transactions():
            self._faults.put(tuple(each for each in self._faults.value if each is not fault))

    def clear(self) -> None:
        """Remove all faults."""
        with self._transactions():
            self._faults.put(())

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults.value)

    def choose(self, action: str) -> Effect | None:
        """
        Return the effect of the first fault that affects a request, or ``None``.

        :param action: The action of the request.
        """
        with self._transactions():
            return next((each.effect for each in self if each.affects(action)), None)


@dataclass(frozen=True)
class NamedEffect:
    """An effect that has a name, with at most one argument."""

    make: Callable[..., Effect]
    #: The values that the argument can have; ``None``: no argument.
    argument: Kind[Any] | None = None
    #: Whether the argument is optional.
    optional: bool = True


#: The effects by their names, for the command line and ``/_emulator/``.
EFFECTS: dict[str, NamedEffect] = {
    "delay": NamedEffect(delay, _SECONDS, optional=False),
    "drop_before": NamedEffect(drop_before),
    "drop_after": NamedEffect(drop_after),
    "cut": NamedEffect(cut, _LENGTH),
    "error": NamedEffect(error, _ERROR_STATUS, optional=False),
    "error_after": NamedEffect(partial(error, after=True), _ERROR_STATUS, optional=False),
    "html": NamedEffect(html, _STATUS),
    "html_after": NamedEffect(partial(html, after=True), _STATUS),
    "content_type": NamedEffect(content_type, HEADER),
    "too_many": NamedEffect(too_many, _RETRY_AFTER),
    "overload": NamedEffect(overload),
    "boot_fail": NamedEffect(boot_fail),
}

#: The names that an effect can have.
EFFECT_NAME = choice(*EFFECTS)


def named_effect(
    name: object, argument: Any = None, read: Callable[..., Any] = Kind.check
) -> Effect:
    """
    Return an effect by its name.

    :param name: The name of the effect.
    :param argument: The argument of the effect; ``None``: no argument.
    :param read: ``Kind.check``, or ``Kind.parse`` for an argument that is text.
    :raises ArgumentError: If there is no such effect, or the argument is invalid.
    """
    named = EFFECTS[EFFECT_NAME.check("effect", name)]
    if argument is None:
        if not named.optional and named.argument is not None:
            raise ArgumentError("argument", named.argument.expected, "no argument")
        return named.make()
    if named.argument is None:
        raise ArgumentError("argument", "no argument", shown(argument))
    return named.make(read(named.argument, "argument", argument))


def parse_fault(text: str) -> dict[str, Any]:
    """
    Parse a fault from one line.

    :param text: An action or ``*``, an effect with its argument, and the requests it affects:
        ``CreateInstance drop_after times=1``, ``* error=500 nth=2``,
        ``* delay=0.5 probability=0.1 seed=7``.
    :return: The arguments of :meth:`Emulator.inject`.
    :raises ValueError: If the text is not such a line.
    """
    such = "words such as 'CreateInstance drop_after'"
    on, *more = split_words("fault", text, such)
    if not more:
        raise ArgumentError("fault", such, shown(text))
    what, *when = more
    name, has_argument, argument = what.partition("=")
    try:
        effect = named_effect(name, argument if has_argument else None, Kind.parse)
    except ArgumentError as error:
        raise (error.renamed(name) if error.name == "argument" else error) from None
    arguments: dict[str, Any] = {"effect": effect, "on": on}
    for word in when:
        key, _, value = word.partition("=")
        if key not in WHEN or key in arguments:
            left = [each for each in WHEN if each not in arguments]
            raise ArgumentError("fault", f"one of {', '.join(left)}", shown(key))
        arguments[key] = WHEN[key].parse(key, value)
    Fault(**arguments)
    return arguments
