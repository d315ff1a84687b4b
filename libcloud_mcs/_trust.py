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

#: The variables from which requests reads a path, in its order.
_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Trust:
    """
    The certificate authorities to trust.

    The file is read once, by the constructor. A later change of the file or of the working
    directory has no effect.

    :param path: The path of a file in PEM, or of a folder in the form of ``openssl rehash``.
    :param source: The argument, setting or variable with the path, for errors.
    :raises TypeError: If the path is neither text nor a path object.
    :raises ValueError: If the file cannot be read, or has no certificate. The message names the
        source.
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
    def from_settings(cls, ca_cert: str | os.PathLike[str] | None) -> Trust:
        """
        Read the first file that is set: the argument's, libcloud's, that of a variable of requests,
        certifi's.

        libcloud's setting that disables verification for the whole process is ignored: it is meant
        for another cloud, while requests to this one cost money.

        :raises ValueError: If the first file that is set cannot be used.
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
    # A bundle is read in about 20 ms. Drivers can share the context.
    context = create_urllib3_context()
    context.load_verify_locations(path)
    return context


def _kind(path: str) -> str:
    """Describe a file without certificates."""
    with open(path, "rb") as file:
        start = file.read(65536)
    if not start.strip():
        return "an empty file"
    if b"PRIVATE KEY-----" in start:
        return "a private key"
    if start.startswith(b"\x30\x82"):
        return "a file that may be in DER ('openssl x509 -inform der' converts it)"
    return "a file without certificates"
