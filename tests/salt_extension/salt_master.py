"""What a Salt master has of salt-cloud: configuration, the command, and the bus for its events."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

needs_salt = pytest.mark.skipif(
    importlib.util.find_spec("salt") is None,
    reason="Salt is not installed: install a C compiler and Python's headers (apt install gcc"
    " python3-dev), then 'make test' again",
)

BIN = Path(sys.executable).parent

CIRROS = "cirros-0.3.0-x86_64.qcow2"
TURNKEY = "turnkey-core-12.0-squeeze-x86.qcow2"

#: Calls functions of the driver as salt.cloud does, and prints what came of each.
CALLS = """
import json, sys
import salt.config, salt.loader, salt.utils.context
clouds = salt.loader.clouds(salt.config.cloud_config(sys.argv[1]))
answers = []
for function, args, kwargs in json.loads(sys.argv[2]):
    function = clouds[f"mcs.{function}"]
    with salt.utils.context.func_globals_inject(
        function, __active_provider_name__="emulated:mcs"
    ):
        try:
            answers.append(function(*args, **kwargs))
        except Exception as error:
            answers.append({type(error).__name__: str(error)})
print(json.dumps(answers))
"""


def in_a_hurry(folder):
    """
    Create Salt's sleeps short: it has one of a second and a half for each of some twenty commands.

    :param folder: Where the means for it are put.
    :return: What the environment of a command needs.
    """
    (folder / "sitecustomize.py").write_text(
        "import time\nsleep = time.sleep\ntime.sleep = lambda seconds: sleep(seconds / 100)\n"
    )
    return {"PYTHONPATH": str(folder)}


class EventBus:
    """
    The socket where a master hears events.

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

    def heard(self):
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
                # Each event is a message of so many bytes; none at all is our mark.
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

    :param folder: Where everything is; its path must be short, for a socket is in it.
    """

    def __init__(self, folder):
        self.folder = folder
        #: What the commands have written where errors are.
        self.said = []
        self.log = folder / "log"
        self.environment = dict(os.environ, HOME=str(folder))
        self.write("minion", {"root_dir": str(folder), "id": "here", "file_client": "local"})
        # As a master has it. Several that make it at once, with "-P", are too much for Salt.
        (folder / "etc/salt/pki/master/minions").mkdir(parents=True)
        self.write("master", {"root_dir": str(folder), "sock_dir": str(folder)})
        self.write(
            "cloud",
            {
                "root_dir": str(folder),
                "sock_dir": str(folder),
                "cachedir": str(folder / "cache"),
                "log_file": str(self.log),
                # Quicker than Salt's own.
                "keysize": 2048,
                # Everything that Salt and the driver have to say.
                "log_level_logfile": "all",
            },
        )
        self._bus = EventBus(folder)

    def close(self):
        self._bus.close()

    @property
    def events(self):
        """What was fired: tags and data."""
        return self._bus.heard()

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
        """Run salt-call, which carries a function of a minion out."""
        command = [BIN / "salt-call", "--local", "-c", self.folder, "--no-color", "--out", "json"]
        return self._run([*command, *words])

    def run_all(self, *commands):
        """Run salt-cloud several times, two at once: Salt takes long to begin."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda words: self.run(*words), commands))

    def call(self, *calls):
        """
        Call functions of the driver, all in one process; an error is ``{its class: its text}``.

        :param calls: Of each its name, its arguments and its named arguments.
        """
        return self.python(CALLS, json.dumps(calls))

    def python(self, program, *words):
        """Run a program that prints JSON; its first argument is the path of the configuration."""
        answer = self._run([sys.executable, "-c", program, self.folder / "cloud", *words])
        assert answer.status == 0, answer.stderr
        return answer.data

    @property
    def told(self):
        """All that was logged, fired, or written where errors are."""
        log = self.log.read_text() if self.log.exists() else ""
        return "\n".join([log, *self.said, str(self.events)])

    def _run(self, command):
        done = subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.said.append(done.stderr)
        return Answer(done.returncode, done.stdout, done.stderr)


class Answer(NamedTuple):
    """What came of a command."""

    status: int
    stdout: str
    stderr: str

    @property
    def data(self):
        """What it printed, which must be JSON."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            raise AssertionError(f"no JSON: {self}") from None


def of(cloud, account=None, **settings):
    """Return the settings of a provider for an account of a cloud, the first by default."""
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


def only(answer):
    """What one provider's one driver answered."""
    assert answer.status == 0, answer.stderr
    return answer.data["emulated"]["mcs"]


def private_key(folder, text):
    path = folder / "id_rsa"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)
