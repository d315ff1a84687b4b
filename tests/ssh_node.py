"""A node that can be reached over SSH: it runs what it is told on this machine."""

import asyncio
import threading

import asyncssh


class SSHNode(asyncssh.SSHServer):
    """
    An SSH server on a free port of a loopback address, in a thread.

    :param address: The address.
    :param account: Who may come in: with ``password()``, asked for when somebody comes, or with the
        private key of ``public_key``.
    """

    def __init__(self, address, account, password=lambda: None, public_key=None):
        self.account, self.password = account, password
        self.key = public_key and asyncssh.import_public_key(public_key)
        #: How each session came in, and what it ran.
        self.entered, self.ran = [], []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._wait(self._listen(address))
        self.port = self._server.get_port()

    def close(self):
        self._server.close()
        self._wait(self._server.wait_closed())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, address):
        return await asyncssh.listen(
            address,
            0,
            server_factory=lambda: self,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            process_factory=self._run,
            sftp_factory=True,
        )

    def _wait(self, what):
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        right = (username, password) == (self.account, self.password())
        self.entered.append("password" if right else "wrong password")
        return right

    def public_key_auth_supported(self):
        return self.key is not None

    def validate_public_key(self, username, key):
        right = (username, key) == (self.account, self.key)
        self.entered.append("key" if right else "wrong key")
        return right

    async def _run(self, process):
        self.ran.append(process.command)
        child = await asyncio.create_subprocess_shell(
            process.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await child.communicate()
        process.stdout.write(output.decode())
        process.exit(child.returncode)
