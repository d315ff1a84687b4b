"""The configuration of a Salt master, its command ``salt-cloud``, and its event bus."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import loaded_salt
import pytest

needs_salt = pytest.mark.skipif(
    importlib.util.find_spec("salt") is None,
    reason="Salt is not installed: install a C compiler and Python's headers (apt install gcc"
    " python3-dev), then 'make test' again",
)

BIN = Path(sys.executable).parent

CIRROS = "cirros-0.3.0-x86_64.qcow2"
TURNKEY = "turnkey-core-12.0-squeeze-x86.qcow2"

#: Calls functions of the driver as salt.cloud does, and prints the results.
CALLS = """
import json, sys
import salt.config, salt.loader, salt.utils.context
clouds = salt.loader.clouds(salt.config.cloud_config(sys.argv[1]))
results = []
for function, args, kwargs in json.loads(sys.argv[2]):
    function = clouds[f"mcs.{function}"]
    with salt.utils.context.func_globals_inject(
        function, __active_provider_name__="emulated:mcs"
    ):
        try:
            results.append(function(*args, **kwargs))
        except Exception as error:
            results.append({type(error).__name__: str(error)})
print(json.dumps(results))
"""


def short_sleeps(folder):
    """
    Shorten Salt's sleeps: Salt sleeps one and a half seconds for each of about twenty commands.

    A command that has closed its output and has not ended at Salt's next look counts as failed with
    "Exit code: None". So the sleeps must not be much shorter than the end of a process takes.

    :param folder: The folder for a module that every Python loads at its start.
    :return: The variables to add to the environment of a command.
    """
    (folder / "sitecustomize.py").write_text(
        "import time\nsleep = time.sleep\ntime.sleep = lambda seconds: sleep(seconds / 10)\n"
    )
    return {"PYTHONPATH": str(folder)}


class EventBus:
    """
    The socket on which a master receives events.

    :param folder: The master's ``sock_dir``. Its path must be short, as that of any socket.
    """

    def __init__(self, folder):
        self._events = []
        self._marked = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "master_event_pull.ipc"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def events(self):
        """Return the tags and data of all events, in the order of the connections."""
        self._marked.clear()
        with socket.socket(socket.AF_UNIX) as mark:
            mark.connect(self._listener.getsockname())
            mark.sendall(bytes(4))
        assert self._marked.wait(60)
        return list(self._events)

    def _listen(self):
        import msgpack

        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                # Each event is a message after its length; the length 0 is the mark.
                while length := stream.read(4):
                    if size := int.from_bytes(length, "big"):
                        message = msgpack.unpackb(stream.read(size))
                        tag, _, data = message["body"].partition(b"\n\n")
                        self._events.append((tag.decode(), msgpack.unpackb(data)))
                    else:
                        self._marked.set()


class SaltMaster:
    """
    The configuration of a Salt master in a folder, without a master.

    :param folder: The folder for all files. Its path must be short, since a socket is in it.
    """

    def __init__(self, folder):
        self.folder = folder
        #: The standard error of each command.
        self._stderr = []
        self.log = folder / "log"
        #: Whether commands are new processes. Forks of a process that has loaded Salt are quicker.
        self.new_processes = False
        self.environment = dict(os.environ, HOME=str(folder))
        self.write("minion", {"root_dir": str(folder), "id": "here", "file_client": "local"})
        # A master has this folder. Salt fails if several processes, with "-P", create it at once.
        (folder / "etc/salt/pki/master/minions").mkdir(parents=True)
        self.write("master", {"root_dir": str(folder), "sock_dir": str(folder), "id": "master"})
        self.write(
            "cloud",
            {
                "root_dir": str(folder),
                "sock_dir": str(folder),
                "cachedir": str(folder / "cache"),
                "log_file": str(self.log),
                # Salt runs many programs to find out about the machine.
                "id": "master",
                "skip_grains": True,
                # Quicker than Salt's own.
                "keysize": 2048,
                # All messages of Salt and of the driver.
                "log_level_logfile": "all",
            },
        )
        self._bus = EventBus(folder)

    def close(self):
        self._bus.close()

    @property
    def events(self):
        """The tags and data of all events."""
        return self._bus.events()

    def write(self, name, content):
        """Write a configuration file; JSON is YAML too."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def run(self, *words):
        """Run salt-cloud."""
        command = [BIN / "salt-cloud", "-c", self.folder, "--no-color", "-y", "--out", "json"]
        return self._run([*command, *words])

    def salt_call(self, *words):
        """Run salt-call, which calls a function of a minion."""
        command = [BIN / "salt-call", "--local", "-c", self.folder, "--no-color", "--out", "json"]
        return self._run([*command, *words])

    def run_all(self, *commands):
        """Run salt-cloud several times."""
        return [self.run(*words) for words in commands]

    def call(self, *calls):
        """
        Call functions of the driver in one process.

        :param calls: The name, arguments and named arguments of each call.
        :return: The results; of an error ``{its class: its text}``.
        """
        return self.python(CALLS, json.dumps(calls))

    def python(self, program, *words):
        """Run a program that prints JSON; its first argument is the path of the configuration."""
        result = self._run(["-c", program, self.folder / "cloud", *words])
        assert result.status == 0, result.stderr
        return result.data

    @property
    def output(self):
        """The log, the events and the standard error of all commands."""
        log = self.log.read_text() if self.log.exists() else ""
        return "\n".join([log, *self._stderr, str(self.events)])

    def _run(self, command):
        if self.new_processes:
            done = subprocess.run(
                [sys.executable, *command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
            result = Result(done.returncode, done.stdout, done.stderr)
        else:
            result = Result(*loaded_salt.run(command, self.environment, 120))
        self._stderr.append(result.stderr)
        return result


class Result(NamedTuple):
    """The result of a command."""

    status: int
    stdout: str
    stderr: str

    @property
    def data(self):
        """The standard output, which must be JSON."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            raise AssertionError(f"no JSON: {self}") from None


def of(cloud, account=None, **settings):
    """Return the settings of a provider for an account of a cloud, by default the first."""
    account = account or cloud.account
    return {
        "driver": "mcs",
        "id": account.access_key,
        "key": account.secret,
        "url": cloud.url,
        "minion": {"master": "salt.example.com"},
        "deploy": False,
        **settings,
    }


def provider(master, cloud, **settings):
    master.write("cloud.providers", {"emulated": of(cloud, **settings)})


def profile(master, **settings):
    settings = {"provider": "emulated", "image": CIRROS, "size": "small", **settings}
    master.write("cloud.profiles", {"small": settings})


def tags(master):
    return [tag for tag, _ in master.events]


def only(result):
    """Return the result of the only provider and driver."""
    assert result.status == 0, result.stderr
    return result.data["emulated"]["mcs"]


def private_key(folder, text):
    path = folder / "id_rsa"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)
