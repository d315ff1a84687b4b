"""
The exceptions of the driver.

Each is a :class:`MCSError`. Where libcloud has a class of the same meaning, the exception is a
subclass of both, so that ``except`` with either name catches it.
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
    An action was refused, could not be sent, or had no usable response.

    :param message: The error; the endpoint's own message where the response has one.
    :param action: The API action, such as ``CreateInstance``.
    :param http_code: The HTTP status of the response, ``0`` without a response.
    :param code: The ``code`` of the API's error document, ``None`` without one.
    :param retryable: Whether the same call may safely be repeated.
    :param driver: The driver of the call.
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
        # Not super(): the constructors of libcloud's classes are not compatible with each other.
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
    """The balance is too low (HTTP 406)."""


class NotFoundError(MCSError):
    """A thing does not exist (HTTP 404), or no response lists it."""


class KeyPairNotFoundError(NotFoundError, KeyPairDoesNotExistError):
    """
    No key pair has that name or ID.

    :param name: The requested name or ID, as in libcloud's class.
    """

    def __init__(self, message: str, *, name: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.name = name


class RateLimitError(MCSError, RateLimitReachedError):  # type: ignore[misc] # code: int there
    """The endpoint limits the rate of requests (HTTP 429)."""

    #: The endpoint's ``Retry-After`` in seconds; ``0`` without one.
    retry_after: float = 0.0
    headers: Any = None


class MalformedAnswerError(MCSError, MalformedResponseError):
    """The response cannot be read. The message ends with an excerpt of the response."""

    #: libcloud's attribute for the text of the response, never set: the excerpt is in the message.
    body: str | None = None


class OutcomeUnknownError(MCSError):
    """
    The outcome of an action that changes or costs something is unknown.

    The action may have been carried out. A repeated call may carry out the action twice.

    :param asked: The action's own parameters by their names on the wire.
    :param find_out: The call of the driver that shows the outcome, as Python source.
    """

    #: The private key, in PEM, of a key pair that ``create_key_pair`` generated and that may have
    #: been registered. There is no other copy. Messages and ``repr`` do not show the key; a pickled
    #: exception keeps the key.
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
    """The node has no password yet, because the node is still being created."""


class PrivateKeyRequiredError(MCSError, ValueError):
    """The password is encrypted with the node's key pair, and no private key was passed."""


class WrongPrivateKeyError(MCSError, ValueError):
    """The password cannot be decrypted with the private key."""
