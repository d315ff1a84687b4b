"""The certificate authorities that a connection trusts."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Any

import libcloud.security
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

__all__ = ["Trust"]

#: The variables that requests takes a file from, in its order.
_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Trust:
    """
    The certificate authorities to trust. Their file is read once, when this is made, so that
    nothing changes when it goes away or the working directory changes.

    :param path: The path of a file in PEM, or of a folder as ``openssl rehash`` makes it.
    :param source: The argument, setting or variable that named it, for the error.
    :raises ValueError: If it cannot be read, or holds no certificate. The message names the source.
    """

    def __init__(self, path: str | os.PathLike[str], source: str) -> None:
        self.path = os.path.abspath(_path(path, source))
        self.source = source
        try:
            status = os.stat(self.path)
            if os.path.isdir(self.path):
                self.context = create_urllib3_context()
                self.context.load_verify_locations(capath=self.path)
            else:
                self.context = _context(self.path, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            raise ValueError(f"{source}: there is no file {self.path!r}") from None
        except ssl.SSLError:
            raise ValueError(
                f"{source}: expected a file of certificates in PEM ('-----BEGIN CERTIFICATE-----'),"
                f" got {_kind(self.path)}: {self.path!r}"
            ) from None
        except OSError as error:
            raise ValueError(f"{source}: {self.path!r} cannot be read ({error.strerror})") from None

    @classmethod
    def choose(cls, ca_cert: str | os.PathLike[str] | None) -> Trust:
        """
        Take the file that was given; else libcloud's, that of a variable of requests, certifi's.

        libcloud's switch that turns verification off for the whole process is not obeyed: whoever
        sets it means another cloud, and here are bills.

        :raises ValueError: If the first of them that is set cannot be used.
        """
        if ca_cert is not None:
            return cls(ca_cert, "ca_cert")
        setting = libcloud.security.CA_CERTS_PATH
        if isinstance(setting, (list, tuple)):
            setting = setting[0] if setting else None
        if setting:
            return cls(setting, "libcloud.security.CA_CERTS_PATH")
        for variable in _VARIABLES:
            if path := os.environ.get(variable):
                return cls(path, variable)
        return cls(DEFAULT_CA_BUNDLE_PATH, "certifi")

    def __deepcopy__(self, memo: dict[int, Any]) -> Trust:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Trust, (self.path, self.source)


def _path(path: object, source: str) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{source}: expected a path, got {type(path).__name__}")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{source}: expected the path of a file, got {text!r}")
    return text


@lru_cache(maxsize=8)
def _context(path: str, *_version: int) -> ssl.SSLContext:
    # Reading a whole bundle takes about 20 ms, and drivers can share what came of it.
    context = create_urllib3_context()
    context.load_verify_locations(path)
    return context


def _kind(path: str) -> str:
    """Describe a file that holds no certificates."""
    with open(path, "rb") as file:
        start = file.read(65536)
    if not start.strip():
        return "an empty file"
    if b"PRIVATE KEY-----" in start:
        return "a private key"
    if start.startswith(b"\x30\x82"):
        return "what may be a certificate in DER ('openssl x509 -inform der' converts it)"
    return "a file without one"
