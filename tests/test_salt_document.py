"""docs/salt.md leads to a working result: its blocks are written, run and compared, in order."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from salt_master import BIN, EventBus, needs_salt

PAGE = Path(__file__).parent.parent / "docs" / "salt.md"

pytestmark = needs_salt


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def emulator():
    """Runs the page's command, at a free port and without waiting; gives what it says to be at."""

    def run(line):
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "libcloud_mcs.emulator"]
        command = [sys.executable, *words[1:], "--port", "0", "--boot-seconds", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process.stdout.readline().split()[-1]

    started = []
    yield run
    for process in started:
        process.terminate()
        process.communicate()


@pytest.fixture
def shell(folder):
    """Runs commands in the folder, as somebody who has Salt at hand and no master."""
    # Without somebody to hear them, each event takes a second.
    sockets = folder / "var" / "run" / "salt" / "master"
    sockets.mkdir(parents=True)
    bus = EventBus(sockets)

    def run(line):
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=folder,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert "ERROR" not in done.stderr
        return done.stdout

    yield run
    bus.close()


def test_the_page_leads_to_a_working_result(folder, emulator, shell):
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    seen, url, printed = [], None, ""
    for language, text in blocks:
        if language == "yaml":
            name = re.match(r"# (salt/\S+)\n", text)[1]
            path = folder / name
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
