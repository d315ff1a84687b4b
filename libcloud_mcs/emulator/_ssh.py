"""
A real SSH server for each running instance.

Commands run on this machine, as the user who runs the emulator. Therefore the servers are started
only on request, listen only on loopback addresses, and check passwords and keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from libcloud_mcs.emulator._instances import Instance
from libcloud_mcs.emulator._lifetime import Folder, no_fork, watch_socket
from libcloud_mcs.emulator._sockets import listen

try:
    import fcntl
    import termios
except ImportError:
    raise ImportError(
        f"ssh: the nodes' SSH servers need a POSIX system such as Linux; this one is {sys.platform}"
    ) from None

try:
    import asyncssh
except ImportError:
    raise ImportError(
        "the nodes' SSH servers need the package 'asyncssh': pip install"
        " 'libcloud-mcs[emulator-ssh]'"
    ) from None

__all__ = ["SSHServers"]

_log = logging.getLogger(__name__)

_SHELL = "/bin/sh"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The terminal that a new session opens first becomes the one that controls it.
_ON_A_TERMINAL = 'terminal=$1; shift; exec "$@" <"$terminal" >"$terminal" 2>&1'
_CHUNK = 65536
_AUTHORIZED_KEYS = Path(".ssh", "authorized_keys")


class _Disk:
    """The disk of an instance: kept while it is stopped, lost when it is rebuilt."""

    def __init__(self, password: str) -> None:
        #: The password of the instance. A rebuilt disk has another one.
        self.password = password
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._folder = Folder("mcs-node-")
        self.home = self._folder.path

    def remove(self) -> None:
        """Remove the content of the disk."""
        self._folder.remove()


class SSHServers:
    """
    The SSH servers of an emulator's instances. All methods but :meth:`open` and :meth:`release`
    belong to the thread of one event loop.

    :param network: The network of the instances' addresses.
    :param port: The port of each server.
    :param instances: A function that returns all instances by their IDs, each with its status.
    """

    def __init__(
        self,
        network: ipaddress.IPv4Network,
        port: int,
        instances: Callable[[], Mapping[str, tuple[Instance, str]]],
    ) -> None:
        self._network = network
        self._port = port
        self._instances = instances
        self._claim: socket.socket | None = None
        self._disks: dict[str, _Disk] = {}
        self._up: dict[str, _NodeServer | None] = {}
        #: Connections and commands, also those of servers that were closed.
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """
        Reserve the port for all instances.

        :raises OSError: If the port cannot be used. The message says what can be done about it.
        """
        # No instance has the first address of the network, so that it can stand for the network.
        self._claim = self._bind(str(self._network.network_address))

    def update(self) -> None:
        """Start and close servers, so that exactly the running instances have one."""
        try:
            self._match(self._instances())
        except Exception:
            # The request after which this happens was carried out in any case.
            _log.exception("the SSH servers do not match the running instances")

    def _match(self, instances: Mapping[str, tuple[Instance, str]]) -> None:
        for node_id in list(self._up):
            instance, status = instances.get(node_id, (None, ""))
            if status != "running" or not self._is_on(self._disks.get(node_id), instance):
                self._shut_down(node_id)
        for node_id, disk in list(self._disks.items()):
            if not self._is_on(disk, instances.get(node_id, (None, ""))[0]):
                self._disks.pop(node_id).remove()
        for node_id, (instance, status) in instances.items():
            if status == "running" and node_id not in self._up:
                self._up[node_id] = self._boot(instance)

    async def close(self) -> None:
        """Close all servers and remove all disks."""
        for node_id in list(self._up):
            self._shut_down(node_id)
        while self._tasks:
            await asyncio.wait(self._tasks)
        while self._disks:
            self._disks.popitem()[1].remove()
        self.release()

    def release(self) -> None:
        """Release the network for other emulators."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    @staticmethod
    def _is_on(disk: _Disk | None, instance: Instance | None) -> bool:
        """Return whether an instance exists and still has this disk."""
        return instance is not None and (disk is None or disk.password == instance.password)

    def _boot(self, instance: Instance) -> _NodeServer | None:
        if ipaddress.ip_address(instance.public_ip) not in self._network:
            _log.warning(
                "%s has no SSH server: its address, %s, is not in %s",
                *(instance.name, instance.public_ip, self._network),
            )
            return None
        try:
            disk = self._disks.get(instance.instance_id)
            if disk is None:
                disk = self._disks[instance.instance_id] = _Disk(instance.password)
            bound = self._bind(instance.public_ip)
        except OSError as error:
            _log.error("%s has no SSH server: %s", instance.name, error)
            return None
        return _NodeServer(bound, instance, disk, self._start_task)

    def _start_task(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _shut_down(self, node_id: str) -> None:
        if server := self._up.pop(node_id, None):
            server.close()

    def _bind(self, address: str) -> socket.socket:
        return listen(address, self._port, "no SSH server can listen", _ADVICE)


_ADVICE = {
    errno.EACCES: "; ports below 1024 are for root, unless 'sysctl -w"
    " net.ipv4.ip_unprivileged_port_start=22' lets everybody use them: take another port"
    " (--ssh-port 2222), and tell deploy_node(ssh_port=2222)",
    errno.EADDRINUSE: "; an SSH server of this machine or another emulator has it: take another"
    " port (--ssh-port) or another network (--node-network)",
}


class _NodeServer:
    """The SSH server of one instance."""

    def __init__(
        self,
        bound: socket.socket,
        instance: Instance,
        disk: _Disk,
        start_task: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
    ) -> None:
        self.instance = instance
        self.disk = disk
        self._start_task = start_task
        #: The open connections; ``None`` after :meth:`close`.
        self._connections: set[asyncssh.SSHServerConnection] | None = set()
        # Not with asyncssh.listen(), whose sockets cannot be closed immediately.
        self._socket = bound
        asyncio.get_running_loop().add_reader(bound, self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the client has closed it already
            with no_fork:
                client, _ = self._socket.accept()
                watch_socket(client)
            client.setblocking(False)
            self._start_task(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(
            OSError, asyncssh.Error
        ):  # closed by the client, or not authenticated
            connection = await asyncssh.run_server(
                client,
                server_factory=lambda: _Session(self),
                server_host_keys=[self.disk.host_key],
                process_factory=self._run,
                sftp_factory=lambda channel: _Files(channel, self.disk),
                allow_scp=True,
                agent_forwarding=False,
                gss_host=None,
                encoding=None,
                line_editor=False,
            )
            await connection.wait_closed()

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        await self._start_task(_run(process, self.instance, self.disk))

    def add(self, connection: asyncssh.SSHServerConnection) -> None:
        """Register a connection."""
        if self._connections is None:
            connection.abort()
        else:
            self._connections.add(connection)

    def discard(self, connection: asyncssh.SSHServerConnection) -> None:
        """Forget a closed connection."""
        if self._connections is not None:
            self._connections.discard(connection)

    def close(self) -> None:
        """Stop listening and close all connections."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        connections, self._connections = self._connections, None
        for connection in connections or ():
            connection.abort()


class _Session(asyncssh.SSHServer):
    """Authenticates a client: the account of the instance, with its password or a key."""

    def __init__(self, server: _NodeServer) -> None:
        self._server = server
        self._is_ours = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.add(conn)

    def connection_lost(self, _: Exception | None) -> None:
        self._server.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        self._is_ours = username == self._server.instance.template.account
        self._connection.set_authorized_keys(self._keys() if self._is_ours else None)
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, _: str, password: str) -> bool:
        known = hmac.compare_digest(password.encode(), self._server.disk.password.encode())
        return self._is_ours and known

    def _keys(self) -> asyncssh.SSHAuthorizedKeys | None:
        """Return the key of the key pair, and those that authenticated clients have added."""
        key_pair = self._server.instance.key_pair
        lines = [key_pair.public_key] if key_pair else []
        with contextlib.suppress(OSError):
            file = self._server.disk.home / _AUTHORIZED_KEYS
            lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
        try:
            return asyncssh.import_authorized_keys("\n".join(lines))
        except ValueError:  # there is no key among them
            return None


class _Files(asyncssh.SFTPServer):
    """The files that SFTP and scp see: relative ones in the node's home, absolute ones as such."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], disk: _Disk) -> None:
        super().__init__(channel)
        self._home = os.fsencode(disk.home)

    def map_path(self, path: bytes) -> bytes:
        return os.path.join(self._home, path)

    def exit(self) -> None:
        # Without a status, OpenSSH's scp says that it failed.
        if self.channel.get_subsystem() == "sftp" and not self.channel.is_closing():
            self.channel.exit(0)


async def _run(process: asyncssh.SSHServerProcess[bytes], instance: Instance, disk: _Disk) -> None:
    """Run a command, or a shell."""
    child, to_child = await _start(process, instance, disk)
    feeding = asyncio.ensure_future(_feed(process, to_child))
    ended = asyncio.ensure_future(_end(process, child))
    hung_up = asyncio.ensure_future(process.wait_closed())
    await asyncio.wait({ended, hung_up}, return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        status = ended.result()
        if status < 0:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            process.exit(status)
    else:
        ended.cancel()
        # A command without a client must not continue on this machine.
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
    await hung_up
    feeding.cancel()
    await asyncio.wait({feeding})
    to_child.close()


async def _feed(process: asyncssh.SSHServerProcess[bytes], to_child: asyncio.StreamWriter) -> None:
    """Send the input of the client to a command."""
    # Not with asyncssh's redirect(): what it writes to a pipe that is full may be lost at its end.
    with contextlib.suppress(OSError, asyncssh.Error):  # the command or the client has ended
        while True:
            try:
                data = await process.stdin.read(_CHUNK)
            except asyncssh.TerminalSizeChanged as change:
                _set_size(to_child, change.term_size)
                continue
            except (asyncssh.BreakReceived, asyncssh.SignalReceived):
                continue  # those that matter are typed
            if not data:
                break
            to_child.write(data)
            await to_child.drain()
        to_child.close()


async def _end(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> int:
    """Wait until a command has ended and all that it wrote is sent; give its status."""
    status = await child.wait()
    with contextlib.suppress(OSError, asyncssh.Error):  # the client has gone
        await process.stdout.drain()
        await process.stderr.drain()
    return status


async def _start(
    process: asyncssh.SSHServerProcess[bytes], instance: Instance, disk: _Disk
) -> tuple[asyncio.subprocess.Process, asyncio.StreamWriter]:
    account = instance.template.account
    # As with any SSH server, nothing of the environment of this process, which may contain secrets.
    environment = {
        "HOME": os.fspath(disk.home),
        "USER": account,
        "LOGNAME": account,
        "SHELL": _SHELL,
        "PATH": _PATH,
        "LANG": "C.UTF-8",
    }
    arguments = [_SHELL] if process.command is None else [_SHELL, "-c", process.command]
    start = partial(
        asyncio.create_subprocess_exec, cwd=disk.home, env=environment, start_new_session=True
    )
    if process.term_type is None:
        pipe = asyncio.subprocess.PIPE
        (from_stdout, stdout), (from_stderr, stderr) = os.pipe(), os.pipe()
        try:
            child = await start(*arguments, stdin=pipe, stdout=stdout, stderr=stderr)
        finally:
            os.close(stdout)
            os.close(stderr)
        await process.redirect(None, from_stdout, from_stderr, send_eof=False)
        return child, cast("asyncio.StreamWriter", child.stdin)
    environment["TERM"] = process.term_type
    ours, theirs = os.openpty()
    to_child = await _writer(os.dup(ours))
    _set_size(to_child, process.term_size)
    arguments = [_SHELL, "-c", _ON_A_TERMINAL, _SHELL, os.ttyname(theirs), *arguments]
    try:
        child = await start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
    finally:
        os.close(theirs)
    await process.redirect(None, ours, send_eof=False)
    return child, to_child


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    file = os.fdopen(descriptor, "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, file)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _set_size(terminal: asyncio.StreamWriter, size: tuple[int, int, int, int]) -> None:
    width, height, *pixels = size
    packed = struct.pack("4H", height, width, *pixels)
    fcntl.ioctl(terminal.get_extra_info("pipe"), termios.TIOCSWINSZ, packed)
