"""
Texts of SSH keys: reads files, and says what a text is where another one was expected.

No message quotes a text or a path: either may be a private key.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import NamedTuple

from libcloud_mcs._arguments import type_name, writable

__all__ = [
    "PUBLIC",
    "PublicKey",
    "decoded",
    "is_text",
    "private_text",
    "public_key",
    "read_file",
    "wrong",
]

#: What a public key has to be.
PUBLIC = "one public key in OpenSSH's form ('ssh-rsa AAAA…')"
#: A key of 16,384 bits takes a fifth of it.
_LONGEST = 64 * 1024
_ENCODED = "a text in UTF-16 or with control characters; save it as UTF-8"

_KEY_LINE = re.compile(r"(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w@.-]+[ \t]+AAAA", re.ASCII)
_LINE_END = re.compile(r"\r\n?|\n")

_SHOWS = "'ssh-keygen -y -f FILE' shows its public key"
_CONVERTS = "'ssh-keygen -i -f FILE' converts it"
_PRIVATE = re.compile(r"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY", re.MULTILINE)


class _Form(NamedTuple):
    """A form of keys that is not accepted, or a key's neighbour."""

    #: How a line of the text begins, as a pattern.
    begin: str
    #: What such a text is.
    got: str
    #: What to do where a public key was expected.
    for_public: str = ""
    #: What to do where a private key was expected.
    for_private: str = ""


_FORMS = (
    _Form(
        "PuTTY-User-Key-File-",
        "a key in PuTTY's form",
        "'puttygen FILE -L' shows its public key",
        "'puttygen FILE -O private-openssh -o NEW' converts it",
    ),
    _Form("---- BEGIN SSH2 PUBLIC KEY", "a public key in the form of RFC 4716", _CONVERTS),
    _Form("---- BEGIN SSH2", "a private key in the form of SSH2", _CONVERTS, _CONVERTS),
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


def wrong(argument: str, expected: str, got: str, hint: str = "") -> ValueError:
    """Create the error of a key that is not what was expected."""
    return ValueError(f"{argument}: expected {expected}, got {got}{hint and '; ' + hint}")


def is_text(value: str) -> bool:
    """Distinguish the text of a key, in any form, from the path of a file."""
    marks = ("-----BEGIN", "---- BEGIN", "PuTTY-User-Key-File-", "\n", "\r")
    return any(mark in value for mark in marks) or bool(_KEY_LINE.search(value))


def read_file(path: str | os.PathLike[str], argument: str, expected: str) -> str:
    """
    Read the file of a key.

    :param path: The file's path; ``~`` is expanded.
    :param argument: The caller's name of the argument.
    :param expected: The key that is expected in the file.
    :raises OSError: If the file cannot be read.
    :raises TypeError: If the path is not a path.
    :raises ValueError: If the path cannot be one, or the file is not a short text in UTF-8.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{argument}: expected the path of a file, got {type_name(path)}")
    name = os.path.expanduser(os.fsdecode(path))
    if is_text(name):
        raise ValueError(f"{argument}: expected the path of a file, got the text of a key")
    if not name.strip():
        raise ValueError(f"{argument}: expected the path of a file, got a blank text")
    try:
        with open(name, "rb") as file:
            data = file.read(_LONGEST + 1)
    except ValueError:
        # A NUL, or half a character.
        raise ValueError(
            f"{argument}: expected the path of a file, got text that cannot be one"
        ) from None
    return decoded(data, argument, expected)


def decoded(data: bytes, argument: str, expected: str) -> str:
    """
    Decode the bytes of a key.

    :raises ValueError: If the bytes are not a short text in UTF-8.
    """
    if len(data) > _LONGEST:
        raise wrong(argument, expected, f"more than {_LONGEST} bytes")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise wrong(argument, expected, _ENCODED)
    try:
        return data.decode()
    except UnicodeDecodeError:
        # Without the cause, which has the bytes.
        raise wrong(argument, expected, "bytes that are not text in UTF-8") from None


def checked(text: str, argument: str, expected: str) -> str:
    """
    Check the text of a key, and read over its byte order mark.

    :raises ValueError: If the text is empty or too long, or cannot be the text of any key.
    """
    text = writable(text, argument).removeprefix("\ufeff").strip()
    if not text:
        raise wrong(argument, expected, "an empty text")
    if len(text) > _LONGEST:
        raise wrong(argument, expected, f"a text of {len(text)} characters")
    if "\0" in text:
        raise wrong(argument, expected, _ENCODED)
    return text


def public_key(text: str, argument: str) -> PublicKey:
    """
    Read a public key in OpenSSH's form. Blank lines and lines with ``#`` around it are left out.

    :raises ValueError: If the text is anything else, or more than one key.
    """
    text = checked(text, argument, PUBLIC)
    if form := _form(text):
        raise wrong(argument, PUBLIC, form.got, form.for_public)
    if _PRIVATE.search(text):
        raise wrong(argument, PUBLIC, "a private key", _SHOWS)
    lines = [line.strip() for line in _LINE_END.split(text)]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise wrong(argument, PUBLIC, f"{len(lines)} lines" if lines else "comments alone")
    (line,) = lines
    if not _KEY_LINE.match(line) and _KEY_LINE.search(line):
        raise wrong(argument, PUBLIC, "a key with options in front of it", "leave them out")
    words = line.split(None, 2)
    if len(words) < 2:
        raise wrong(argument, PUBLIC, "a single word")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:
        raise wrong(argument, PUBLIC, "a second word that is not base64") from None
    if not _is_key(blob, words[0].encode()):
        got = "a second word that is not a whole key of the type that the first names"
        raise wrong(argument, PUBLIC, got)
    return PublicKey(line, hashlib.md5(blob, usedforsecurity=False).digest().hex(":"))


def private_text(text: str, argument: str, expected: str) -> str:
    """
    Check the text of a private key, without reading the key.

    :raises ValueError: If the text is in another form, or of another thing.
    """
    text = checked(text, argument, expected)
    if form := _form(text):
        raise wrong(argument, expected, form.got, form.for_private)
    if _PRIVATE.search(text):
        return text + "\n"
    if _KEY_LINE.search(text):
        hint = "the private key is in the file of that name without '.pub'"
        raise wrong(argument, expected, "a public key", hint)
    raise wrong(argument, expected, "a text in another form")


def _form(text: str) -> _Form | None:
    for form in _FORMS:
        if re.search(f"^{form.begin}", text, re.ASCII | re.MULTILINE):
            return form
    return None


def _is_key(blob: bytes, kind: bytes) -> bool:
    """Check whether a blob is fields to its end, each behind its length, and the first the type."""
    fields = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        fields.append(blob[4 : 4 + size])
        if len(blob) < 4 or len(fields[-1]) < size:
            return False
        blob = blob[4 + size :]
    return len(fields) > 1 and fields[0] == kind
