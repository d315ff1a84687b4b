"""Run the commands of a document in the order in which a reader would."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_document(name, folder):
    """
    Run all ``sh`` blocks of a document in one shell.

    :param name: The document, in ``docs/``.
    :param folder: Where to run them; ``examples/`` is made to be there.
    :return: What they printed, and what the ``text`` blocks say that they print, as lines.
    """
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    script = "".join(block for language, block in blocks if language == "sh")
    promised = "".join(block for language, block in blocks if language == "text")
    (folder / "examples").symlink_to(ROOT / "examples")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        # What the document installs is what `make consumers` has installed, or it fails.
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_QUIET": "1",
    }
    output = folder / "printed"
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = shell.wait(timeout=180)
    finally:
        # However it ended, nothing stays in the background.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    printed = output.read_text(encoding="utf-8")
    assert status == 0, printed
    return lines(printed), lines(promised)


def lines(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


def is_in_order(wanted, found):
    """Check whether the wanted lines are among the found ones, in the same order."""
    rest = iter(found)
    return all(line in rest for line in wanted)
