"""The blocks of docs/salt.md are written, run and compared, in order."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import loaded_salt
import pytest
from conftest import in_network
from salt_master import BIN, EventBus, needs_salt, short_sleeps

PAGE = Path(__file__).parents[2] / "docs" / "salt.md"

pytestmark = needs_salt


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def emulator():
    """Run the page's command at a free port in the background, and return the endpoint."""

    def run(line):
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "libcloud_mcs.emulator"]
        assert "8883" in words
        port = stop() if running else "0"
        command = [sys.executable, *words[1:], "--port", port, "--boot-seconds", "0"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        urls.append(running[0].stdout.readline().split()[-1])
        return urls[-1]

    def stop():
        process = running.pop()
        process.terminate()
        process.communicate()
        return str(urlsplit(urls[-1]).port)

    running, urls = [], []
    yield run
    if running:
        stop()


@pytest.fixture
def shell(folder):
    """Run commands in the folder with Salt installed and without a master."""
    # Without a listener, each event takes a second.
    sockets = folder / "var" / "run" / "salt" / "master"
    sockets.mkdir(parents=True)
    bus = EventBus(sockets)
    path = f"{BIN}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(folder), **short_sleeps(folder)}

    def run(line):
        words = shlex.split(line)
        if words[0] in ("salt-cloud", "salt-call"):
            command = [BIN / words[0], *words[1:]]
            status, output, error = loaded_salt.run(command, environment, 120, folder)
        else:
            done = subprocess.run(
                words,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
            status, output, error = done.returncode, done.stdout, done.stderr
        assert status == 0, f"{line}: {error}"
        assert "ERROR" not in error
        return output

    yield run
    bus.close()


def test_blocks_of_the_page_run_in_order_and_print_their_text(
    folder, emulator, shell, node_network, port_22
):
    page = in_network(PAGE.read_text(encoding="utf-8"), node_network)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    seen, url, printed = [], None, ""
    for language, text in blocks:
        if file := re.match(r"# (salt/\S+)\n", text):
            assert language in ("yaml", "sh")
            path = folder / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("http://127.0.0.1:8883/mcs/v1", str(url)))
            assert ":8883" not in path.read_text()
        elif language == "sh" and text.startswith("python "):
            url = emulator(text)
        elif language == "sh":
            printed = "".join(shell(line) for line in text.splitlines())
        else:
            assert language == "text"
            expected = re.escape(times_hidden(text)).replace(re.escape("...\n"), r"(?:.*\n)*")
            assert re.fullmatch(expected, times_hidden(printed)), printed
        seen.append(language)
    assert seen.count("text") > 5


def times_hidden(text):
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "TIME", text)
