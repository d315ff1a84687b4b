"""``examples/demo.py`` and ``examples/lifecycle.py``, on each edition of the emulator."""

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"


@pytest.mark.parametrize(("edition", "chooses"), [("2013", False), ("2017", True)])
def test_demo_on_each_edition_takes_three_nodes_through_their_life_cycle(edition, chooses):
    options = ["--edition", edition, "--boot-seconds", "0"]
    done = subprocess.run(
        [sys.executable, DEMO, *options], capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "3 nodes destroyed" in done.stdout
    assert "key pair deleted" in done.stdout
    assert ("to be chosen" in done.stdout) is chooses
    assert ("soldout" in done.stdout) is chooses
