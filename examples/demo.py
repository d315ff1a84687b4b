"""Starts the local endpoint in a process of its own and runs ``lifecycle.py`` against it."""

import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    emulator = subprocess.Popen(
        [sys.executable, "-m", "libcloud_mcs.emulator", "--port", "0", "--boot-seconds", "2"],
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MOS_")},
    )
    try:
        # The first line says where it listens; the next three are what a shell would take.
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
