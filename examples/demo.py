"""
Take three instances through their full life cycle: start an emulator, run ``lifecycle.py``.

    python examples/demo.py [OPTION ...]

The emulator gets the options: ``--edition 2017`` for zones, and sizes whose disk is to be chosen.
"""

import os
import subprocess
import sys
from pathlib import Path

OPTIONS = ("--port", "0", "--boot-seconds", "2")


def main() -> int:
    emulator = subprocess.Popen(
        [*(sys.executable, "-m", "libcloud_mcs.emulator"), *OPTIONS, *sys.argv[1:]],
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MOS_")},
    )
    try:
        # The first line has the URL; the next three are commands for a shell.
        lines = [emulator.stdout.readline().strip() for _ in range(4)]
        settings = dict(line.removeprefix("export ").split("=", 1) for line in lines[1:] if line)
        if not settings:
            return emulator.wait() or 1
        script = Path(__file__).with_name("lifecycle.py")
        return subprocess.run([sys.executable, script], env=os.environ | settings).returncode
    finally:
        emulator.terminate()
        emulator.wait()


if __name__ == "__main__":
    sys.exit(main())
