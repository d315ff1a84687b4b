"""
Texts and files of SSH keys.

No message quotes a text or a path, since either may be a private key.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import NamedTuple

from libcloud_mcs._arguments import encodable, type_name

__all__ = [
    "PUBLIC",
    "PublicKey",
    "check_private_key",
    "decode",
    "invalid_key",
    "is_key_text",
    "public_key",
    "read_file",
]

#: The expected form of a public key, for messages.
PUBLIC = "one public key in OpenSSH's form ('ssh-rsa AAAA…')"
#: The maximum length in bytes, five times that of a key of 16,384 bits.
_MAX_LENGTH = 64 * 1024
_ENCODED = "a text in UTF-16 or with control characters; save it as UTF-8"

_KEY_LINE = re.compile(r"(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w@.-]+[ \t]+AAAA", re.ASCII)
_LINE_END = re.compile(r"\r\n?|\n")

_SHOW_PUBLIC = "'ssh-keygen -y -f FILE' shows its public key"
_CONVERT = "'ssh-keygen -i -f FILE' converts it"
_PRIVATE = re.compile(r"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY", re.MULTILINE)


class _Form(NamedTuple):
    """A form of keys or certificates that is not accepted."""

    #: The pattern of the beginning of a line.
    begin: str
    #: The description of such a text, for messages.
    got: str
    #: The advice where a public key is expected.
    for_public: str = ""
    #: The advice where a private key is expected.
    for_private: str = ""


_FORMS = (
    _Form(
        "PuTTY-User-Key-File-",
        "a key in PuTTY's form",
        "'puttygen FILE -L' shows its public key",
        "'puttygen FILE -O private-openssh -o NEW' converts it",
    ),
    _Form("---- BEGIN SSH2 PUBLIC KEY", "a public key in the form of RFC 4716", _CONVERT),
    _Form("---- BEGIN SSH2", "a private key in the form of SSH2", _CONVERT, _CONVERT),
    _Form(
        "-----BEGIN PUBLIC KEY",
        "a public key in PEM",
        "'ssh-keygen -i -m PKCS8 -f FILE' converts it",
    ),
    _Form(
        "-----BEGIN RSA PUBLIC KEY",
        "a public key in PEM",
        "'ssh-keygen -i -m PEM -f FILE' converts it",
    ),
    _Form("-----BEGIN [A-Z0-9 ]*CERTIFICATE", "a certificate"),
    _Form(
        r"\S+-cert-v01@openssh\.com\s",
        "a certificate",
        "the public key is in the file of that name without '-cert'",
    ),
)


class PublicKey(NamedTuple):
    """A public key in OpenSSH's form."""

    #: The whole line, with its comment.
    line: str
    #: The MD5 of the key's blob, as the API shows it.
    fingerprint: str


def invalid_key(argument: str, expected: str, got: str, hint: str = "") -> ValueError:
    """Create the error of a text that is not the expected key."""
    return ValueError(f"{argument}: expected {expected}, got {got}{hint and '; ' + hint}")


def is_key_text(value: str) -> bool:
    """Check whether a text is the text of a key in any form, not the path of a file."""
    marks = ("-----BEGIN", "---- BEGIN", "PuTTY-User-Key-File-", "\n", "\r")
    return any(mark in value for mark in marks) or bool(_KEY_LINE.search(value))


def read_file(path: str | os.PathLike[str], argument: str, expected: str) -> str:
    """
    Read the file of a key.

    :param path: The path of the file; ``~`` is expanded.
    :param argument: The caller's name of the argument.
    :param expected: The description of the expected key.
    :return: The text of the file.
    :raises OSError: If the file cannot be read.
    :raises TypeError: If the path is neither text nor a path object.
    :raises ValueError: If the path has an invalid value, or the file is not a short text in UTF-8.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{argument}: expected the path of a file, got {type_name(path)}")
    name = os.path.expanduser(os.fsdecode(path))
    if is_key_text(name):
        raise ValueError(f"{argument}: expected the path of a file, got the text of a key")
    if not name.strip():
        raise ValueError(f"{argument}: expected the path of a file, got a blank text")
    try:
        with open(name, "rb") as file:
            data = file.read(_MAX_LENGTH + 1)
    except ValueError:
        # A NUL, or a surrogate.
        raise ValueError(
            f"{argument}: expected the path of a file, got text that is not a path"
        ) from None
    return decode(data, argument, expected)


def decode(data: bytes, argument: str, expected: str) -> str:
    """
    Decode the bytes of a key.

    :raises ValueError: If the bytes are not a short text in UTF-8.
    """
    if len(data) > _MAX_LENGTH:
        raise invalid_key(argument, expected, f"more than {_MAX_LENGTH} bytes")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise invalid_key(argument, expected, _ENCODED)
    try:
        return data.decode()
    except UnicodeDecodeError:
        # Without the cause, which has the bytes.
        raise invalid_key(argument, expected, "bytes that are not text in UTF-8") from None


def _check_text(text: str, argument: str, expected: str) -> str:
    """
    Check the text of a key.

    :return: The text without a byte order mark and surrounding spaces.
    :raises ValueError: If the text is empty, too long, or not the text of a key.
    """
    text = encodable(text, argument).removeprefix("\ufeff").strip()
    if not text:
        raise invalid_key(argument, expected, "an empty text")
    if len(text) > _MAX_LENGTH:
        raise invalid_key(argument, expected, f"a text of {len(text)} characters")
    if "\0" in text:
        raise invalid_key(argument, expected, _ENCODED)
    return text


def public_key(text: str, argument: str) -> PublicKey:
    """
    Read a public key in OpenSSH's form. Blank lines and lines with ``#`` are ignored.

    :raises ValueError: If the text has another form, or more than one key.
    """
    text = _check_text(text, argument, PUBLIC)
    if form := _form(text):
        raise invalid_key(argument, PUBLIC, form.got, form.for_public)
    if _PRIVATE.search(text):
        raise invalid_key(argument, PUBLIC, "a private key", _SHOW_PUBLIC)
    lines = [line.strip() for line in _LINE_END.split(text)]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise invalid_key(argument, PUBLIC, f"{len(lines)} lines" if lines else "comments alone")
    (line,) = lines
    if not _KEY_LINE.match(line) and _KEY_LINE.search(line):
        raise invalid_key(argument, PUBLIC, "a key with options in front of it", "leave them out")
    words = line.split(None, 2)
    if len(words) < 2:
        raise invalid_key(argument, PUBLIC, "a single word")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:
        raise invalid_key(argument, PUBLIC, "a second word that is not base64") from None
    if not _is_key_blob(blob, words[0].encode()):
        got = "a second word that is not a whole key of the type that the first names"
        raise invalid_key(argument, PUBLIC, got)
    return PublicKey(line, hashlib.md5(blob, usedforsecurity=False).digest().hex(":"))


def check_private_key(text: str, argument: str, expected: str) -> str:
    """
    Check the form of a private key's text. The key itself is not read.

    :return: The text with a final line end.
    :raises ValueError: If the text has another form, or is not a private key.
    """
    text = _check_text(text, argument, expected)
    if form := _form(text):
        raise invalid_key(argument, expected, form.got, form.for_private)
    if _PRIVATE.search(text):
        return text + "\n"
    if _KEY_LINE.search(text):
        hint = "the private key is in the file of that name without '.pub'"
        raise invalid_key(argument, expected, "a public key", hint)
    raise invalid_key(argument, expected, "a text in another form")


def _form(text: str) -> _Form | None:
    for form in _FORMS:
        if re.search(f"^{form.begin}", text, re.ASCII | re.MULTILINE):
            return form
    return None


def _is_key_blob(blob: bytes, kind: bytes) -> bool:
    """Check whether a blob has only complete fields, each with its length, the first the type."""
    fields = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        fields.append(blob[4 : 4 + size])
        if len(blob) < 4 or len(fields[-1]) < size:
            return False
        blob = blob[4 + size :]
    return len(fields) > 1 and fields[0] == kind
