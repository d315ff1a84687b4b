"""A client that sends raw bytes over a socket, and reads HTTP strictly."""

import socket
from typing import NamedTuple


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """One connection."""

    def __init__(self, port, wrap=lambda connection: connection):
        self.socket = wrap(socket.create_connection(("127.0.0.1", port), timeout=30))
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read(self, method="GET"):
        """Read the response to a request of a method, and no byte after it."""
        line = self.file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        status = int(line.split()[1])
        headers = {}
        while (line := self.file.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), line
            name, _, value = line.decode("latin-1").partition(":")
            assert name.lower() not in headers, line
            headers[name.lower()] = value.strip()
        assert "transfer-encoding" not in headers
        if status < 200 or status in (204, 304):
            assert "content-length" not in headers
            return Response(status, headers, b"")
        length = 0 if method == "HEAD" else int(headers["content-length"])
        body = self.file.read(length)
        assert len(body) == length
        return Response(status, headers, body)

    def ask(self, method, target, *headers, body=b"", version="1.1", host="127.0.0.1"):
        """Send a request and read its response."""
        self.send(request(method, target, *headers, body=body, version=version, host=host))
        return self.read(method)

    def is_closed(self):
        """Wait for the end of the connection, and return whether no byte came before it."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True


def request(method, target, *headers, body=b"", version="1.1", host="127.0.0.1"):
    """Write a request; one without a host has no such header."""
    lines = [f"{method} {target} HTTP/{version}", *([f"Host: {host}"] if host else []), *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
