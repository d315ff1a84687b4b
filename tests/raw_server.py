"""Functions for servers that use a socket without a framework."""

#: The first byte of a client that speaks TLS, which then waits for the server.
TLS_HANDSHAKE = b"\x16"


def read_request(connection):
    """
    Read a whole request, or the first message of TLS. A server that closes the connection earlier
    loses its own response.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        data += chunk
        if not chunk or data.startswith(TLS_HANDSHAKE):
            return data
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
