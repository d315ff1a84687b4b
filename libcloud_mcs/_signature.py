"""
AWS Signature Version 2, in the stages of the specification's chapter on signing.

All functions are pure: no clock, no I/O, no change of an argument.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

__all__ = [
    "COMMON_PARAMETERS",
    "SIGNATURE_METHODS",
    "canonical_host",
    "canonical_query",
    "sign",
    "string_to_sign",
]

#: The parameters that requests of every action can have.
COMMON_PARAMETERS = (
    *("Action", "AWSAccessKeyId", "Format", "Region", "Signature", "SignatureMethod"),
    *("SignatureVersion", "Timestamp"),
)
#: The hash function for each value of ``SignatureMethod``.
SIGNATURE_METHODS = {"HmacSHA256": hashlib.sha256, "HmacSHA1": hashlib.sha1}

#: Checks that a text needs no quoting, in a third of the time of ``quote``.
_plain = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
_DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_host(*, scheme: str, host: str, port: int | None) -> str:
    """
    Return the host in the form of the signature and of the ``Host`` header.

    :param scheme: ``http`` or ``https``.
    :param host: A host name or an address; an IPv6 address with or without brackets.
    :param port: The port, ``None`` for the scheme's default port.
    :return: The host in lower case, with any port but the scheme's default port.
    """
    host = host.lower()
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    if port is None or port == _DEFAULT_PORTS[scheme]:
        return host
    return f"{host}:{port}"


def canonical_query(params: Mapping[str, str]) -> str:
    """
    Return the canonical query string of parameters.

    The parameters are sorted by the bytes of their names. Every byte outside
    ``A-Z a-z 0-9 - _ . ~`` is written as ``%XX``. The text is also a valid form body and URL query
    of the same parameters.

    :param params: The parameters, without ``Signature``.
    """
    # The order of code points is that of their UTF-8 bytes.
    return "&".join(
        [
            f"{_quoted_name(name)}={value if _plain(value) else quote(value, safe='')}"
            for name, value in sorted(params.items())
        ]
    )


@lru_cache(maxsize=1024)
def _quoted_name(name: str) -> str:
    # The same names recur in all requests. Values do not, and some are secret.
    return quote(name, safe="")


def string_to_sign(*, method: str, host: str, path: str, query: str) -> str:
    """
    Return the string to sign.

    :param method: ``GET`` or ``POST``.
    :param host: The host that :func:`canonical_host` returns.
    :param path: The path exactly as it is sent. An empty path counts as ``/``.
    :param query: The query that :func:`canonical_query` returns.
    """
    return f"{method.upper()}\n{host}\n{path or '/'}\n{query}"


def sign(*, secret: str, text: str, signature_method: str) -> str:
    """
    Return the signature of a string to sign, in base64.

    :param secret: The account's secret.
    :param text: The text that :func:`string_to_sign` returns.
    :param signature_method: ``HmacSHA256`` or ``HmacSHA1``.
    """
    digest = hmac.digest(secret.encode(), text.encode(), SIGNATURE_METHODS[signature_method])
    return base64.b64encode(digest).decode("ascii")
