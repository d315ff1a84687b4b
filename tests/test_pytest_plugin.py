"""The pytest plugin in test runs of users."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

#: What no run of pytest that has nothing to do with us may pay for.
OTHERS = ("libcloud", "requests", "urllib3", "tornado", "lxml", "cryptography")


@pytest.fixture
def pytest_run(tmp_path):
    """
    Runs pytest on a file, in a separate process that lacks some packages. No plugin is loaded
    but ours, by the name of its entry point.
    """

    def run(test, lacks=(), *options, alone=True):
        (tmp_path / "test_it.py").write_text(textwrap.dedent(test))
        code = (
            f"import sys\nfor name in {list(lacks)!r}: sys.modules[name] = None\n"
            "import pytest\n"
            "status = pytest.main(['-q', '-p', 'no:cacheprovider', '-W', 'error', *sys.argv[1:]])\n"
            "import json\nprint(json.dumps([n for n in sys.modules if sys.modules[n]]))\n"
            "sys.exit(status)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *(["-p", "libcloud_mcs"] * alone), *options, "test_it.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if alone else {}),
        )
        output, _, modules = done.stdout.strip().rpartition("\n")
        return done.returncode, output + done.stderr, set(json.loads(modules))

    return run


def test_plugin_without_used_fixture_imports_nothing(pytest_run):
    status, output, modules = pytest_run("def test_it(): pass")
    assert (status, "1 passed" in output) == (0, True)
    assert "libcloud_mcs_pytest" in modules
    assert modules.isdisjoint(("libcloud_mcs", *OTHERS))


@pytest.mark.parametrize("lacks", [*[(name,) for name in OTHERS], OTHERS], ids=str)
def test_plugin_without_extra_runs_other_tests(pytest_run, lacks):
    status, output, _ = pytest_run("def test_it(): pass", lacks)
    assert (status, "1 passed" in output) == (0, True)


@pytest.mark.parametrize("lacks", ["tornado", "cryptography"])
@pytest.mark.parametrize("fixture", ["mcs_emulator", "mcs_driver"])
def test_fixture_without_extra_fails_and_names_the_extra(pytest_run, lacks, fixture):
    status, output, _ = pytest_run(
        f"""
        def test_other(): pass
        def test_it({fixture}): pass
        """,
        [lacks],
    )
    assert status == 1
    assert f"{lacks!r}: pip install 'libcloud-mcs[emulator]'" in output
    assert "1 passed, 1 error" in output
    assert "Traceback" not in output


def test_fixtures_are_listed_with_their_docstrings(pytest_run):
    status, output, _ = pytest_run("", (), "--fixtures")
    assert status == 0
    assert "A fresh emulated cloud, for this test alone." in output


def test_each_test_has_a_separate_cloud(pytest_run):
    status, output, _ = pytest_run(
        """
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_it(mcs_emulator, mcs_driver, number):
            assert mcs_driver.list_key_pairs() == []
            mcs_driver.create_key_pair("mine")
            assert len(mcs_emulator.records) == 2
        """
    )
    assert (status, "3 passed" in output) == (0, True), output


@pytest.mark.parametrize("options", [(), ("-p", "no:libcloud_mcs")], ids=str)
def test_plugin_is_loaded_by_default_and_can_be_disabled(pytest_run, options):
    test = "def test_it(mcs_emulator): pass"
    status, output, modules = pytest_run(test, (), *options, alone=False)
    assert status == bool(options)
    assert ("fixture 'mcs_emulator' not found" in output) is bool(options)
    assert ("libcloud_mcs_pytest" in modules) is not bool(options)
