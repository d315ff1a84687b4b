"""The errors of the API and of the state file."""

from __future__ import annotations

from enum import Enum

__all__ = ["APIError", "ErrorCode", "StateError"]


class ErrorCode(Enum):
    """
    The error codes, which are also the HTTP statuses, and their meaning.

    The specification says only that they are 4xx, that status and code are the same, and that
    406 is "No enough balance". The rest is this project's choice: the status whose meaning in
    HTTP comes closest. 500 is an error of the emulator itself.
    """

    UNREADABLE = (
        400,
        "the request is not valid: a form that cannot be read, an unknown or missing action, a"
        " missing parameter",
    )
    UNKNOWN_KEY = 401, "no account has this access key"
    NOT_SIGNED = 403, "the signature is wrong, or the timestamp is too old or too new"
    NOT_FOUND = 404, "what a parameter names does not exist"
    METHOD = (
        405,
        "the method is not GET, HEAD, POST or OPTIONS, or it is HEAD and the action changes"
        " something or has a stub",
    )
    BALANCE = 406, "the account cannot pay; the one code that the specification gives"
    CONFLICT = (
        409,
        "the present state does not allow it: a name in use, an instance that is not stopped",
    )
    LARGE_BODY = 413, "the body is larger than 4 MiB; the connection is closed"
    MEDIA_TYPE = 415, "a POST whose body is not a form"
    UNUSABLE = 422, "a parameter has an invalid value"
    LONG_HEAD = 431, "the request line and the headers together are longer than 64 KiB"
    FAILED = (
        500,
        "the emulator itself failed, or could not save its state; nothing was changed or charged",
    )

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


class APIError(Exception):
    """
    An error of the API: the request is refused.

    :param code: The error code.
    :param message: The reason, with the parameter and its value.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StateError(ValueError):
    """The state file cannot be used, or a change cannot be saved in it. It was not changed."""
