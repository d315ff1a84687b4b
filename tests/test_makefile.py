"""``make`` on machines without some of its requirements."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def make(tmp_path):
    """A function that runs make in a checkout that has only the Makefile."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "consumers").mkdir()
    for name in ("setup.cfg", "pyproject.toml", "consumers/requirements.txt"):
        (tmp_path / name).touch()

    def run(*arguments):
        environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        return subprocess.run(
            ["make", *arguments], cwd=tmp_path, capture_output=True, text=True, env=environment
        )

    return run


@pytest.fixture
def python(tmp_path):
    """A function that creates an interpreter without some modules of the standard library."""

    def make(*lacks):
        folder = tmp_path / "lacks"
        folder.mkdir()
        for name in lacks:
            (folder / f"{name}.py").write_text(f"raise ImportError('No module named {name!r}')\n")
        script = tmp_path / "python"
        script.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
        script.chmod(0o755)
        return script

    return make


TARGETS = [
    "demo",
    "test",
    "check",
    "dist",
    "release-check",
    "docs",
    "consumers",
    "lower-bounds",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("lacks", [["ensurepip"], ["venv"], ["venv", "ensurepip"]], ids=str)
def test_make_without_venv_or_pip_prints_one_line(make, python, tmp_path, target, lacks):
    done = make(target, f"PYTHON={python(*lacks)}")
    assert done.returncode == 2
    error = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(error) == 1
    assert "apt install python3-venv" in error[0]
    # No incomplete environment remains.
    assert not list(tmp_path.glob(".venv*/bin"))


@pytest.mark.parametrize("target", TARGETS)
def test_make_with_missing_python_names_it(make, target):
    done = make(target, "PYTHON=python9.99")
    assert done.returncode == 2
    assert "there is no python9.99" in done.stderr


def test_make_with_old_python_names_it(make, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    done = make("demo", f"PYTHON={script}")
    assert done.returncode == 2
    assert "is too old" in done.stderr


def test_make_with_failing_venv_leaves_no_environment(make, tmp_path):
    script = tmp_path / "python"
    script.write_text(
        '#!/bin/sh\n[ "$2" != venv ] || { mkdir -p "$3/bin"; touch "$3/bin/python"; exit 1; }\n'
    )
    script.chmod(0o755)
    assert make("demo", f"PYTHON={script}").returncode == 2
    assert not (tmp_path / ".venv").exists()


def test_help_lists_every_target(make):
    done = make("help")
    assert done.returncode == 0
    for target in TARGETS:
        assert f"\n{target} " in f"\n{done.stdout}"
