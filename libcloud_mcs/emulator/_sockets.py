"""Sockets that listen, for HTTP and for SSH."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Mapping

from libcloud_mcs.emulator._lifetime import no_fork, watch_socket

__all__ = ["is_loopback", "listen"]


def listen(
    host: str, port: int, what: str = "cannot listen", advice: Mapping[int, str] | None = None
) -> socket.socket:
    """
    Listen on a port, without blocking.

    :param host: An address or a name.
    :param port: The port; ``0``: a free one.
    :param what: What an error's message begins with.
    :param advice: What can be done about an error, by its number.
    :raises OSError: If the address or the port cannot be used. The message says where and why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # It lets no two processes share a port: SO_REUSEADDR is set only where that is not its
        # meaning.
        with no_fork:
            bound = socket.create_server((host, port), family=family, backlog=128)
            watch_socket(bound)
    except OSError as error:
        number = error.errno or 0
        reason = str(error.strerror).partition(" (")[0]  # the address is named already
        told = (advice or {}).get(number, "")
        if number == errno.EADDRNOTAVAIL and is_loopback(host):
            told = (
                "; only Linux and Windows have all of 127.0.0.0/8 by themselves: on macOS, 'sudo"
                f" ifconfig lo0 alias {host} up' adds this address"
            )
        raise OSError(number, f"{what} on {host} port {port}: {reason}{told}") from None
    bound.setblocking(False)
    return bound


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is one that only this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
