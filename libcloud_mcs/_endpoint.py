"""Where an API is."""

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
    Where an API is: the parts of its URL.

    :ivar host: In lower case, an IPv6 address without its brackets.
    :ivar path: As it is signed and sent; ``/`` for an empty one.
    """

    secure: bool
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL, with the port left out where it is the scheme's own."""
        scheme = "https" if self.secure else "http"
        return (
            f"{scheme}://{canonical_host(scheme=scheme, host=self.host, port=self.port)}{self.path}"
        )

    @classmethod
    def choose(
        cls,
        url: str | None,
        secure: bool | None,
        host: str | None,
        port: int | None,
        path: str | None,
    ) -> Endpoint:
        """
        Take the URL; or the parts, where one is given; or the variable ``MOS_URL``; or the public
        endpoint, which also has the parts that are not given.

        :raises ValueError: If what is given cannot be a URL, or part of one.
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
        Take a URL apart.

        :param url: ``http`` or ``https``, without credentials, query and fragment.
        :param argument: What the caller named it.
        :raises ValueError: If it is anything else. The message never quotes the URL.
        """
        if not isinstance(url, str):
            raise TypeError(f"{argument}: text was expected, not {type(url).__name__}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(f"{argument}: it cannot be read as a URL") from None
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"{argument}: 'http://…' or 'https://…' was expected")
        if "@" in parts.netloc:
            raise ValueError(
                f"{argument}: it must not carry credentials; the driver takes key and secret"
            )
        if "?" in url or "#" in url:
            raise ValueError(f"{argument}: it must not have a query or a fragment")
        return cls.from_parts(
            parts.scheme == "https", parts.hostname or "", port, parts.path, argument
        )

    @classmethod
    def from_parts(
        cls, secure: bool, host: str, port: int | None, path: str, argument: str = ""
    ) -> Endpoint:
        """
        Put the parts together.

        :param port: ``None`` for the scheme's own.
        :param argument: The URL they are from; ``""`` when the caller gave the parts.
        :raises ValueError: If one of them cannot be part of a URL.
        """
        for part, value in (("host", host), ("path", path)):
            if not isinstance(value, str):
                raise TypeError(f"{part}: expected text, got {type(value).__name__}")
        name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not name or any(char in "/?#@[]\\%" or char.isspace() for char in name):
            raise ValueError(f"{argument or 'host'}: a host name or an IP address was expected")
        if port is None:
            port = 443 if secure else 80
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise ValueError(f"{argument or 'port'}: a port from 1 to 65535 was expected")
        if path and (
            not path.startswith("/")
            or path.startswith("//")  # requests sends such a path with a single slash
            or any(char in "?#" or char.isspace() for char in path)
        ):
            raise ValueError(f"{argument or 'path'}: a path such as '/mcs/v1' was expected")
        endpoint = cls(secure, name.lower(), port, path or "/")
        try:
            requests.Request("GET", endpoint.url).prepare()
        except (failures.RequestException, ValueError):
            raise ValueError(f"{argument or 'host'}: it cannot be read as a URL") from None
        return endpoint
