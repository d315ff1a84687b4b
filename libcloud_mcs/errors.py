"""
The exceptions of the driver.

Each is a :class:`MCSError`. Where libcloud has a class of the same meaning, ours is both, so that
``except`` with either name catches it.
"""

from __future__ import annotations

from typing import Any

from libcloud.common.exceptions import RateLimitReachedError
from libcloud.common.types import InvalidCredsError, MalformedResponseError, ProviderError
from libcloud.compute.types import KeyPairDoesNotExistError

__all__ = [
    "InsufficientBalanceError",
    "InvalidCredentialsError",
    "KeyPairNotFoundError",
    "MCSError",
    "MalformedAnswerError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PasswordNotReadyError",
    "PrivateKeyRequiredError",
    "RateLimitError",
    "WrongPrivateKeyError",
]


class MCSError(ProviderError):
    """
    An action was refused, could not be sent, or had no usable answer.

    :param message: What went wrong: the endpoint's own words where it gave some.
    :param action: The API action, such as ``CreateInstance``.
    :param http_code: The HTTP status of the answer, ``0`` when no answer came.
    :param code: The ``code`` of the answer's error body, ``None`` when it had none.
    :param retryable: Whether the same call may simply be made again.
    :param driver: The driver that made the call.
    """

    #: Not kept when an exception is pickled: a driver holds the secret and open connections.
    driver: Any = None

    def __init__(
        self,
        message: str,
        *,
        action: str = "",
        http_code: int = 0,
        code: int | None = None,
        retryable: bool = False,
        driver: Any = None,
    ) -> None:
        # Not super(): the constructors of libcloud's classes beside this one do not fit together.
        Exception.__init__(self, message)
        self.message = message
        self.value = message
        self.action = action
        self.http_code = http_code
        self.code = code
        self.retryable = retryable
        self.driver = driver

    def __str__(self) -> str:
        status = f" (HTTP {self.http_code})" if self.http_code else ""
        return f"{self.action}: {self.message}{status}" if self.action else self.message + status

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in self.__dict__.items() if name != "driver"}
        return type(self), (self.message,), state


class InvalidCredentialsError(MCSError, InvalidCredsError):
    """The access key or the signature was refused (HTTP 401 or 403)."""


class InsufficientBalanceError(MCSError):
    """The account has not enough money for what was asked (HTTP 406)."""


class NotFoundError(MCSError):
    """What was named does not exist (HTTP 404), or no answer held it."""


class KeyPairNotFoundError(NotFoundError, KeyPairDoesNotExistError):
    """
    No key pair has that name or ID.

    :param name: The name that was asked for, as libcloud's class has it.
    """

    def __init__(self, message: str, *, name: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.name = name


class RateLimitError(MCSError, RateLimitReachedError):  # type: ignore[misc] # code: int there
    """The endpoint asked to slow down (HTTP 429)."""

    #: How long to wait, in seconds, as the endpoint said; ``0`` when it did not.
    retry_after: float = 0.0
    headers: Any = None


class MalformedAnswerError(MCSError, MalformedResponseError):
    """The answer cannot be read; the message ends with its first words."""

    #: libcloud's name for the text of the answer. What may be shown of it is in the message.
    body: str | None = None


class OutcomeUnknownError(MCSError):
    """
    A change or a bill may have been carried out, or not: the outcome is unknown.

    It is never right to simply repeat the call.

    :param asked: What was asked: the action's own parameters by their names on the wire.
    :param find_out: The call of the driver that tells what became of it, as Python source.
    """

    #: The private key, in PEM, of a key pair that ``create_key_pair`` made and that may have been
    #: registered: there is no other copy. It is in no message and no ``repr``; it is kept when the
    #: exception is pickled.
    private_key: str | None = None

    def __init__(
        self,
        message: str,
        *,
        asked: dict[str, str] | None = None,
        find_out: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(message, **kwargs)
        self.asked = asked or {}
        self.find_out = find_out


class PasswordNotReadyError(MCSError):
    """The instance has no password yet: it is still being made."""


class PrivateKeyRequiredError(MCSError, ValueError):
    """The password is encrypted with the instance's key pair, and no private key was given."""


class WrongPrivateKeyError(MCSError, ValueError):
    """The password cannot be decrypted with the private key that was given."""
