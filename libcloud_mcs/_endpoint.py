"""The endpoint of an API."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from requests import exceptions as failures

from libcloud_mcs._signature import canonical_host

__all__ = ["DEFAULT_URL", "Endpoint"]

#: The service's public entry point.
DEFAULT_URL = "https://mosapi.meituan.com/mcs/v1"


class Endpoint(NamedTuple):
    """
    The parts of an endpoint's URL.

    :ivar secure: Whether the scheme is ``https``.
    :ivar host: The host in lower case, an IPv6 address without brackets.
    :ivar port: The port.
    :ivar path: The path that is signed and sent; ``/`` for an empty one.
    """

    secure: bool
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL, without the scheme's default port."""
        scheme = "https" if self.secure else "http"
        return (
            f"{scheme}://{canonical_host(scheme=scheme, host=self.host, port=self.port)}{self.path}"
        )

    @classmethod
    def from_settings(
        cls,
        url: str | None,
        secure: bool | None,
        host: str | None,
        port: int | None,
        path: str | None,
    ) -> Endpoint:
        """
        Create the endpoint of a driver's arguments.

        The URL has precedence over the parts, the parts over the variable ``MOS_URL``, and the
        variable over the public endpoint, which is also the default for missing parts.

        :raises TypeError: If an argument is of another type.
        :raises ValueError: If an argument or the variable is not a URL, or not such a part of one.
        """
        if url is not None:
            return cls.from_url(url)
        default = cls.from_url(DEFAULT_URL)
        if secure is None and host is None and port is None and path is None:
            variable = os.environ.get("MOS_URL")
            return cls.from_url(variable, "MOS_URL") if variable else default
        if not (secure is None or (isinstance(secure, int) and secure in (0, 1))):
            raise TypeError(f"secure: expected True or False, got {secure!r}")
        return cls.from_parts(
            default.secure if secure is None else bool(secure),
            default.host if host is None else host,
            port,
            default.path if path is None else path,
        )

    @classmethod
    def from_url(cls, url: str, argument: str = "url") -> Endpoint:
        """
        Create an endpoint of a URL.

        :param url: A URL with ``http`` or ``https``, without credentials, query and fragment.
        :param argument: The caller's name of the argument.
        :raises TypeError: If the URL is not text.
        :raises ValueError: If the URL has another form. The message does not quote the URL.
        """
        if not isinstance(url, str):
            raise TypeError(f"{argument}: expected text, got {type(url).__name__}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(f"{argument}: expected a URL, got another text") from None
        if parts.scheme not in ("http", "https"):
            raise ValueError(
                f"{argument}: expected 'http://…' or 'https://…', got another scheme or none"
            )
        if "@" in parts.netloc:
            raise ValueError(
                f"{argument}: expected a URL without credentials, got one with credentials; the"
                " driver has the arguments key and secret for them"
            )
        if "?" in url or "#" in url:
            raise ValueError(
                f"{argument}: expected a URL without query and fragment, got one with them"
            )
        return cls.from_parts(
            parts.scheme == "https", parts.hostname or "", port, parts.path, argument
        )

    @classmethod
    def from_parts(
        cls, secure: bool, host: str, port: int | None, path: str, argument: str = ""
    ) -> Endpoint:
        """
        Create an endpoint of the parts of a URL.

        :param port: The port; ``None`` for the scheme's default port.
        :param argument: The caller's name of the URL; ``""`` if the caller passed the parts.
        :raises TypeError: If the host or the path is not text.
        :raises ValueError: If a part cannot be part of a URL.
        """
        for part, value in (("host", host), ("path", path)):
            if not isinstance(value, str):
                raise TypeError(f"{part}: expected text, got {type(value).__name__}")
        name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not name or any(char in "/?#@[]\\%" or char.isspace() for char in name):
            raise ValueError(
                f"{argument or 'host'}: expected a host name or an IP address, got"
                f" {'another text' if host else 'none'}"
            )
        if port is None:
            port = 443 if secure else 80
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise ValueError(f"{argument or 'port'}: expected a port from 1 to 65535, got {port!r}")
        if path and (
            not path.startswith("/")
            or path.startswith("//")  # requests sends such a path with a single slash
            or any(char in "?#" or char.isspace() for char in path)
        ):
            raise ValueError(
                f"{argument or 'path'}: expected a path such as '/mcs/v1', got another text"
            )
        endpoint = cls(secure, name.lower(), port, path or "/")
        try:
            requests.Request("GET", endpoint.url).prepare()
        except (failures.RequestException, ValueError):
            raise ValueError(
                f"{argument or 'host'}: expected a host name or an IP address, got another text"
            ) from None
        return endpoint
