"""``make`` on machines that lack something."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def make(tmp_path):
    """Runs make in a checkout that has nothing but the Makefile."""
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
    """Makes an interpreter in which some modules of the standard library are missing."""

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


TARGETS = ["demo", "test", "check", "dist", "docs", "consumers", "lower-bounds"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("lacks", [["ensurepip"], ["venv"], ["venv", "ensurepip"]], ids=str)
def test_without_venv_or_pip_one_line_says_what_to_install(make, python, tmp_path, target, lacks):
    done = make(target, f"PYTHON={python(*lacks)}")
    assert done.returncode == 2
    error = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(error) == 1
    assert "apt install python3-venv" in error[0]
    # Nothing is left behind that would be taken for an environment.
    assert not list(tmp_path.glob(".venv*/bin"))


@pytest.mark.parametrize("target", TARGETS)
def test_a_python_that_is_not_there_is_named(make, target):
    done = make(target, "PYTHON=python9.99")
    assert done.returncode == 2
    assert "there is no python9.99" in done.stderr


def test_a_python_that_is_too_old_is_named(make, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    done = make("demo", f"PYTHON={script}")
    assert done.returncode == 2
    assert "is too old" in done.stderr


def test_an_environment_that_cannot_be_made_is_not_left_behind(make, tmp_path):
    script = tmp_path / "python"
    script.write_text(
        '#!/bin/sh\n[ "$2" != venv ] || { mkdir -p "$3/bin"; touch "$3/bin/python"; exit 1; }\n'
    )
    script.chmod(0o755)
    assert make("demo", f"PYTHON={script}").returncode == 2
    assert not (tmp_path / ".venv").exists()


def test_help_names_every_target(make):
    done = make("help")
    assert done.returncode == 0
    for target in TARGETS:
        assert f"\n{target} " in f"\n{done.stdout}"
