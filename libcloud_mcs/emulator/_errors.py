"""The ways in which the emulator refuses a request."""

from __future__ import annotations

from enum import Enum

__all__ = ["Refusal", "RefusedError"]


class Refusal(Enum):
    """
    The HTTP statuses, which are also the error codes, and why they were chosen.

    The specification says only that they are 4xx, that status and code are the same, and that
    406 is "No enough balance". The rest is this project's choice: the status whose meaning in
    HTTP comes closest. 500 is not about the request, but about the emulator itself.
    """

    UNREADABLE = (
        400,
        "the request is no request of this API: a form that cannot be read, an unknown or missing"
        " action, a required parameter left out",
    )
    UNKNOWN_KEY = 401, "nobody has this access key"
    NOT_SIGNED = 403, "the key is known, but its owner did not sign this, or not lately"
    NOT_FOUND = 404, "what a parameter names does not exist"
    METHOD = (
        405,
        "the method is none of GET, HEAD, POST and OPTIONS, or it is HEAD and the action changes"
        " something",
    )
    BALANCE = 406, "the account cannot pay; the one code that the specification gives"
    CONFLICT = 409, "it could be done, but not in this state: a name in use, a node not stopped"
    LARGE_BODY = 413, "the body is larger than 4 MiB; the connection is closed"
    MEDIA_TYPE = 415, "a POST whose body is no form"
    UNUSABLE = 422, "the parameter is there, and its value makes no sense"
    LONG_HEAD = 431, "the request line and the headers together are longer than 64 KiB"
    FAILED = (
        500,
        "the emulator itself failed, or could not save its state; nothing was changed or charged",
    )

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


class RefusedError(Exception):
    """
    A request is refused. It becomes an error document in one place, the end of the wire.

    :param refusal: How.
    :param message: Why, naming the parameter and its value.
    """

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.message = message
