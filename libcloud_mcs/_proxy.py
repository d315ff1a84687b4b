"""The HTTP proxy between a connection and its endpoint."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies, select_proxy

__all__ = ["checked_proxy", "environment_proxy", "without_credentials"]

_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def checked_proxy(url: object, argument: str) -> str:
    """
    Check the URL of a proxy.

    :param url: ``http://[user:password@]host:port``, or with ``https`` or a SOCKS scheme.
    :param argument: The caller's name of the argument.
    :return: The unchanged URL.
    :raises TypeError: If the URL is not text.
    :raises ValueError: If the URL has another form. The message does not quote the URL.
    :raises ImportError: If the proxy is a SOCKS proxy, and the package ``PySocks`` is missing.
    """
    if not isinstance(url, str):
        raise TypeError(f"{argument}: expected text, got {type(url).__name__}")
    expected = f"{argument}: expected 'http://[user:password@]host:port'"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{expected}, got text that is not a URL") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{expected}, got a URL with another scheme or none")
    if not url.isprintable() or " " in url or not host or port == 0 or host.startswith("."):
        raise ValueError(f"{expected}, got a URL without a usable host and port")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{expected}, got a URL with a path, a query or a fragment")
    if parts.scheme.startswith("socks"):
        try:
            import socks  # type: ignore[import-untyped,unused-ignore] # noqa: F401
        except ImportError:
            raise ImportError(
                f"{argument}: a SOCKS proxy needs the package 'PySocks': pip install PySocks"
            ) from None
    return url


def environment_proxy(url: str) -> str:
    """
    Return the proxy that the environment names for a URL.

    :param url: The endpoint's URL, which ``no_proxy`` may exempt.
    :return: The proxy's URL; ``""`` for none.
    :raises ValueError: If the variable is not the URL of a proxy.
    :raises ImportError: If the proxy is a SOCKS proxy, and the package ``PySocks`` is missing.
    """
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return ""
    try:
        # The default scheme is HTTP, as in curl and requests.
        scheme = urlsplit(url).scheme
        return checked_proxy(
            proxy if "://" in proxy else f"http://{proxy}", f"{scheme}_proxy or all_proxy"
        )
    except ValueError as error:
        raise ValueError(f"{error}: {without_credentials(proxy)!r}") from None


def without_credentials(proxy: str) -> str:
    """Return the URL of a proxy without user and password. The URL may be invalid."""
    scheme, separator, rest = proxy.rpartition("://")
    return re.sub(r"\s.*", "", scheme + separator + rest.rpartition("@")[2])
