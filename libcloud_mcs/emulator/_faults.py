"""
Faults on demand: what goes wrong, and when.

An :class:`Effect` says what goes wrong with a request; the functions of this module make the usual
ones. :meth:`Emulator.inject` says when::

    cloud.inject(drop_after(), on="CreateInstance", times=1)
    cloud.inject(error(500), on="RenewInstance", nth=2)
    cloud.inject(delay(0.2), probability=0.1, seed=7)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
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
from libcloud_mcs.emulator.wire import Answer, render

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

#: What each field of an effect must be.
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
    What goes wrong with a request. Without anything set, nothing does.

    Unless :attr:`after` is set, a request that is answered with :attr:`answer` is not carried out.

    :raises ValueError: If a field makes no sense.
    """

    name: str
    #: Seconds to wait first.
    seconds: float = 0.0
    #: Called first, for example to change the cloud between two pages of a list.
    run: Callable[[], object] | None = None
    #: Close the connection before the request is carried out.
    drop_before: bool = False
    #: Close the connection after the request was carried out, without an answer.
    drop_after: bool = False
    #: Makes the answer for a format (``xml`` or ``json``), in place of the true one.
    answer: Callable[[str], Answer] | None = None
    #: Carry the request out before it is answered with :attr:`answer`.
    after: bool = False
    #: Send only so many bytes of the answer's body, and close the connection.
    cut: int | None = None
    #: Say that the answer is of this type.
    content_type: str | None = None
    #: Let the instance that is created fail to come up. Only ``CreateInstance`` can have this.
    boot_fail: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            _FIELDS[each.name].check(each.name, getattr(self, each.name))

    @property
    def only(self) -> str:
        """The one action that it can come to, ``""`` where it can come to any."""
        return "CreateInstance" if self.boot_fail else ""


def delay(seconds: float) -> Effect:
    """
    Answer late.

    :param seconds: How late, from 0 to 1,000,000,000 seconds.
    :raises ValueError: If it makes no sense.
    """
    return Effect("delay", seconds=seconds)


def drop_before() -> Effect:
    """Close the connection before anything is done."""
    return Effect("drop_before", drop_before=True)


def drop_after() -> Effect:
    """Do what was asked, and close the connection without an answer."""
    return Effect("drop_after", drop_after=True)


def cut(length: int = 20) -> Effect:
    """
    Do what was asked, and close the connection after so many bytes of the answer's body.

    :param length: How many bytes, from 0.
    :raises ValueError: If it makes no sense.
    """
    return Effect("cut", cut=_LENGTH.check("length", length))


def error(code: int, message: str = "Injected fault", *, after: bool = False) -> Effect:
    """
    Answer with an error document.

    :param code: The HTTP status, from 400 to 599.
    :param message: The error's message.
    :param after: Whether to do what was asked before.
    :raises ValueError: If one of them makes no sense.
    """
    _ERROR_STATUS.check("code", code)
    PROSE.check("message", message)

    def answer(answer_format: str) -> Answer:
        tree = {"Error": {"message": message, "code": code}}
        return render("ErrorResponse", tree, answer_format, code)

    return Effect("error", answer=answer, after=after)


def html(status: int = 502, *, after: bool = False) -> Effect:
    """
    Answer with the HTML page of a proxy.

    :param status: The HTTP status, from 200 to 599.
    :param after: Whether to do what was asked before.
    :raises ValueError: If one of them makes no sense.
    """
    _STATUS.check("status", status)
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    return Effect("html", answer=lambda _: Answer(status, "text/html", page.encode()), after=after)


def content_type(value: str = "text/plain") -> Effect:
    """
    Do what was asked, and say that the answer is of this type.

    :param value: The value of the header ``Content-Type``.
    :raises ValueError: If it is not the value of a header.
    """
    return Effect("content_type", content_type=HEADER.check("value", value))


def too_many(retry_after: float | str | None = None) -> Effect:
    """
    Answer 429.

    :param retry_after: What ``Retry-After`` says: seconds, or any text; ``None``: it is not sent.
    :raises ValueError: If it is neither.
    """
    said = optional(_RETRY_AFTER).check("retry_after", retry_after)
    headers = {} if said is None else {"Retry-After": said}

    def answer(answer_format: str) -> Answer:
        tree = {"Error": {"message": "Too many requests", "code": 429}}
        plain = render("ErrorResponse", tree, answer_format, 429)
        return Answer(429, plain.content_type, plain.body, headers)

    return Effect("too_many", answer=answer)


def overload() -> Effect:
    """Answer 503 with an empty body, as an overloaded endpoint does."""
    return Effect("overload", answer=lambda _: Answer(503, "text/plain", b""))


def boot_fail() -> Effect:
    """
    Create an instance that is paid, and that then fails to come up.

    It ends as ``deploy_fail`` where another would be ``running``. It can only be terminated. Of all
    actions, only ``CreateInstance`` can have this effect.
    """
    return Effect("boot_fail", boot_fail=True)


def meanwhile(run: Callable[[], object]) -> Effect:
    """
    Call something before the request is carried out: what others do to the cloud meanwhile.

    :param run: What to call, without arguments.
    :raises ValueError: If it cannot be called.
    """
    return Effect("meanwhile", run=_FUNCTION.check("run", run))


#: When a fault comes: what each argument of :meth:`Emulator.inject` beside the effect must be.
WHEN: dict[str, Kind[Any]] = {
    "on": choice("*", *ACTIONS, what="* or an action of the API"),
    "nth": whole(1, 10**9),
    "times": optional(whole(1, 10**9)),
    "probability": number(0, 1),
    "seed": optional(whole()),
}


@dataclass
class Fault:
    """An effect and when it comes. As a context manager, it is there until the end of the block."""

    effect: Effect
    on: str = "*"
    nth: int = 1
    times: int | None = None
    probability: float = 1.0
    seed: int | None = field(default=None, repr=False)
    owner: Faults | None = field(default=None, repr=False)
    #: How many requests were made that it could have come to.
    seen: int = 0
    #: How often it came.
    fired: int = 0

    def __post_init__(self) -> None:
        object_of(Effect, "an effect").check("effect", self.effect)
        for name, kind in WHEN.items():
            kind.check(name, getattr(self, name))
        if self.effect.only and self.on not in ("*", self.effect.only):
            expected = f"{self.effect.only} (or *), as {self.effect.name} comes to nothing else"
            raise ArgumentError("on", expected, shown(self.on))
        self._dice = random.Random(self.seed)

    def comes_to(self, action: str) -> bool:
        """
        Tell whether it comes to a request, which counts as seen.

        :param action: The request's action.
        """
        if self.on not in ("*", action) or self.effect.only not in ("", action):
            return False
        self.seen += 1
        spent = self.times is not None and self.fired >= self.times
        if self.seen < self.nth or spent:
            return False
        if self.probability < 1 and self._dice.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def remove(self) -> None:
        """Let it come no more."""
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

    :param transactions: The changes to which its own belong.
    """

    def __init__(self, transactions: Transactions | None = None) -> None:
        self._transactions = transactions or Transactions()
        self._faults: Cell[tuple[Fault, ...]] = Cell(self._transactions, ())

    def add(self, fault: Fault) -> None:
        """Let a fault come from now on."""
        with self._transactions():
            self._faults.put((*self._faults.value, fault))

    def remove(self, fault: Fault) -> None:
        """Let a fault come no more."""
        with self._transactions():
            self._faults.put(tuple(each for each in self._faults.value if each is not fault))

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._transactions():
            self._faults.put(())

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults.value)

    def draw(self, action: str) -> Effect | None:
        """
        Give what goes wrong with a request: the effect of the first fault that comes to it.

        :param action: The request's action.
        """
        with self._transactions():
            return next((each.effect for each in self if each.comes_to(action)), None)


@dataclass(frozen=True)
class NamedEffect:
    """An effect that can be named from outside. It takes one plain argument, or none."""

    make: Callable[..., Effect]
    #: What its argument must be; ``None``: it takes none.
    argument: Kind[Any] | None = None
    #: Whether its argument can be left out.
    optional: bool = True


#: The effects that can be named from outside, by name.
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

#: What an effect's name must be.
EFFECT_NAME = choice(*EFFECTS)


def named_effect(
    name: object, argument: Any = None, read: Callable[..., Any] = Kind.check
) -> Effect:
    """
    Return the effect of a name.

    :param name: Its name.
    :param argument: Its argument; ``None`` where there is none.
    :param read: How the argument is read: ``Kind.check``, or ``Kind.parse`` where it is text.
    :raises ArgumentError: If there is no such effect, or the argument is none of its.
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
    Read a fault from one line: the arguments of :meth:`Emulator.inject`.

    :param text: An action or ``*``, an effect with its argument, and when it comes:
        ``CreateInstance drop_after times=1``, ``* error=500 nth=2``,
        ``* delay=0.5 probability=0.1 seed=7``.
    :raises ValueError: It is no such line.
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
