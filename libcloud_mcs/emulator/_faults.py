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
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from libcloud_mcs.actions import ACTIONS
from libcloud_mcs.emulator.wire import Answer, render

__all__ = [
    "EFFECTS",
    "Effect",
    "Fault",
    "Faults",
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


@dataclass(frozen=True)
class Effect:
    """
    What goes wrong with a request. Without anything set, nothing does.

    Unless :attr:`after` is set, a request that is answered with :attr:`answer` is not carried out.
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


def delay(seconds: float) -> Effect:
    """Answer late."""
    if seconds < 0:
        raise ValueError(f"seconds: a time from 0 was expected, not {seconds!r}")
    return Effect("delay", seconds=seconds)


def drop_before() -> Effect:
    """Close the connection before anything is done."""
    return Effect("drop_before", drop_before=True)


def drop_after() -> Effect:
    """Do what was asked, and close the connection without an answer."""
    return Effect("drop_after", drop_after=True)


def cut(length: int = 20) -> Effect:
    """Do what was asked, and close the connection after so many bytes of the answer's body."""
    return Effect("cut", cut=length)


def error(code: int, message: str = "Injected fault", *, after: bool = False) -> Effect:
    """
    Answer with an error document.

    :param code: The HTTP status, from 400.
    :param message: The error's message.
    :param after: Whether to do what was asked before.
    """
    _check_status(code)

    def answer(answer_format: str) -> Answer:
        tree = {"Error": {"message": message, "code": code}}
        return render("ErrorResponse", tree, answer_format, code)

    return Effect("error", answer=answer, after=after)


def html(status: int = 502, *, after: bool = False) -> Effect:
    """
    Answer with the HTML page of a proxy.

    :param status: The HTTP status, from 200.
    :param after: Whether to do what was asked before.
    """
    _check_status(status, least=200)
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    return Effect("html", answer=lambda _: Answer(status, "text/html", page.encode()), after=after)


def content_type(value: str = "text/plain") -> Effect:
    """Do what was asked, and say that the answer is of this type."""
    return Effect("content_type", content_type=value)


def too_many(retry_after: float | str | None = None) -> Effect:
    """
    Answer 429.

    :param retry_after: What ``Retry-After`` says: seconds, or any text; ``None``: it is not sent.
    """
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def answer(answer_format: str) -> Answer:
        tree = {"Error": {"message": "Too many requests", "code": 429}}
        plain = render("ErrorResponse", tree, answer_format, 429)
        return Answer(429, plain.content_type, plain.body, headers)

    return Effect("too_many", answer=answer)


def overload() -> Effect:
    """Answer 503 with an empty body, as an overloaded endpoint does."""
    return Effect("overload", answer=lambda _: Answer(503, "text/plain", b""))


def meanwhile(run: Callable[[], object]) -> Effect:
    """Call something before the request is carried out: what others do to the cloud meanwhile."""
    return Effect("meanwhile", run=run)


def _check_status(status: int, least: int = 400) -> None:
    if not least <= status <= 599:
        raise ValueError(f"status: a number from {least} to 599 was expected, not {status!r}")


@dataclass
class Fault:
    """An effect and when it comes. As a context manager, it is there until the end of the block."""

    effect: Effect
    on: str
    nth: int
    times: int | None
    probability: float
    dice: random.Random = field(repr=False)
    owner: Faults = field(repr=False)
    #: How many requests were made that it could have come to.
    seen: int = 0
    #: How often it came.
    fired: int = 0

    def __post_init__(self) -> None:
        if self.on != "*" and self.on not in ACTIONS:
            raise ValueError(f"on: '*' or an action was expected, not {self.on!r}")
        if self.nth < 1:
            raise ValueError(f"nth: a number from 1 was expected, not {self.nth!r}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times: a number from 1 was expected, not {self.times!r}")
        if not 0 <= self.probability <= 1:
            raise ValueError(
                f"probability: a number from 0 to 1 was expected, not {self.probability!r}"
            )

    def remove(self) -> None:
        """Let it come no more."""
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
    """The faults of an emulator."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let a fault come from now on."""
        with self._lock:
            self._faults.append(fault)

    def remove(self, fault: Fault) -> None:
        """Let a fault come no more."""
        with self._lock:
            self._faults = [each for each in self._faults if each is not fault]

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults = []

    def in_child(self) -> None:
        """Forget who holds the lock, in a process that was just forked."""
        self._lock = threading.Lock()

    def __iter__(self) -> Any:
        with self._lock:
            return iter(list(self._faults))

    def draw(self, action: str) -> Effect | None:
        """
        Give what goes wrong with a request: the effect of the first fault that comes to it.

        :param action: The request's action.
        """
        with self._lock:
            for fault in self._faults:
                if fault.on not in ("*", action):
                    continue
                fault.seen += 1
                spent = fault.times is not None and fault.fired >= fault.times
                if fault.seen < fault.nth or spent:
                    continue
                if fault.probability < 1 and fault.dice.random() >= fault.probability:
                    continue
                fault.fired += 1
                return fault.effect
        return None


#: The effects that can be named from outside, by name; each takes at most one plain argument.
EFFECTS: dict[str, Callable[..., Effect]] = {
    "delay": lambda seconds: delay(float(seconds)),
    "drop_before": drop_before,
    "drop_after": drop_after,
    "cut": lambda length="20": cut(int(length)),
    "error": lambda code: error(int(code)),
    "error_after": lambda code: error(int(code), after=True),
    "html": lambda status="502": html(int(status)),
    "html_after": lambda status="502": html(int(status), after=True),
    "content_type": content_type,
    "too_many": too_many,
    "overload": overload,
}


def parse_fault(text: str) -> dict[str, Any]:
    """
    Read a fault from one line: the arguments of :meth:`Emulator.inject`.

    :param text: An action or ``*``, an effect with its argument, and when it comes:
        ``CreateInstance drop_after times=1``, ``* error=500 nth=2``,
        ``* delay=0.5 probability=0.1 seed=7``.
    :raises ValueError: It is no such line.
    """
    words = shlex.split(text)
    if len(words) < 2:
        raise ValueError(f"fault: such as 'CreateInstance drop_after' was expected, not {text!r}")
    on, what, *when = words
    name, has_argument, argument = what.partition("=")
    if name not in EFFECTS:
        raise ValueError(f"fault: one of {', '.join(EFFECTS)} was expected, not {name!r}")
    types: dict[str, Callable[[str], Any]] = {
        "nth": int,
        "times": int,
        "probability": float,
        "seed": int,
    }
    try:
        arguments: dict[str, Any] = {
            "effect": EFFECTS[name](*([argument] if has_argument else [])),
            "on": on,
        }
        for word in when:
            key, _, value = word.partition("=")
            arguments[key] = types[key](value)
    except KeyError as error:
        raise ValueError(f"fault: one of {', '.join(types)} was expected, not {error}") from None
    except TypeError:
        raise ValueError(f"fault: {name!r} lacks its argument, or takes none") from None
    return arguments
