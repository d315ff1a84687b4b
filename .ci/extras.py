"""
Check that each extra suffices for its feature, and that an error names the extra that is missing.

    python .ci/extras.py dist/libcloud_mcs-*.whl

The wheel is installed with each extra into a separate environment.
"""

import email
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

DRIVER = "from libcloud_mcs import MCSNodeDriver\ndriver = MCSNodeDriver('key', 'secret')\n"
#: A feature that needs no extra: one request, answered by a server of the standard library.
BALANCE = """
import http.server, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(
            b"<GetBalanceResponse><timestamp>2013-07-19T15:52:02Z</timestamp>"
            b"<balance>1.5</balance></GetBalanceResponse>"
        )

    def log_message(self, *args):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
driver = MCSNodeDriver("key", "secret", url=f"http://127.0.0.1:{server.server_port}/")
assert str(driver.ex_get_balance().amount) == "1.5"
"""
#: The code that has to run with each extra alone.
CODE = {
    "": DRIVER + BALANCE,
    "crypto": "from libcloud_mcs.keys import generate_key_pair; generate_key_pair('mine')",
    "deploy": "from libcloud.compute.ssh import have_paramiko; assert have_paramiko",
    "emulator": (
        "from libcloud_mcs.emulator import Emulator\n"
        "with Emulator(instances=2) as cloud: assert len(cloud.driver().list_nodes()) == 2"
    ),
    "emulator-ssh": (
        "from libcloud_mcs.emulator import Emulator\n"
        "with Emulator(node_network='127.99.0.0/24', ssh=True, ssh_port=2229): pass"
    ),
    "salt": (
        "import salt.config, salt.loader\n"
        "with open('cloud', 'w') as file: file.write('root_dir: .')\n"
        "clouds = salt.loader.clouds(salt.config.cloud_config('./cloud'))\n"
        "assert 'mcs.create' in clouds"
    ),
}
#: Code that has to fail without an extra, and the words that the error has to contain.
FAILURES = {
    "crypto": (DRIVER + "driver.create_key_pair('mine')", "libcloud-mcs[crypto]"),
    "emulator": ("import libcloud_mcs.emulator", "libcloud-mcs[emulator]"),
    "deploy": (
        DRIVER + "driver.deploy_node(name='web', size='small', image='x', deploy=None)",
        "libcloud-mcs[deploy]",
    ),
}


def main(wheel):
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        check_names(wheel)
        futures = {extra: pool.submit(environment, folder, wheel, extra) for extra in CODE}
        environments = {extra: future.result() for extra, future in futures.items()}
        for extra, code in CODE.items():
            status, errors = run(environments[extra], code)
            assert status == 0, f"[{extra}]: {errors}"
            print(f"[{extra}] suffices")
        for code, words in FAILURES.values():
            check_failure(environments[""], code, words)
        check_failure(environments["emulator"], CODE["emulator-ssh"], "libcloud-mcs[emulator-ssh]")
        check_pytest(environments[""])
        print("an error names the extra that is missing")


def check_names(wheel):
    """Check that the wheel has these extras and no other."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == CODE.keys() - {""}, extras


def environment(folder, wheel, extra):
    """Return the Python of a new environment that has the wheel with an extra."""
    path = Path(folder, extra or "core")
    subprocess.run([sys.executable, "-m", "venv", path], check=True)
    python = path / "bin" / "python"
    requirement = f"{wheel}[{extra}]" if extra else wheel
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement]
    subprocess.run(pip, check=True)
    return python


def check_failure(python, code, words):
    """Check that some code fails with an error that contains some words."""
    status, errors = run(python, code)
    assert status != 0, words
    assert words in errors.splitlines()[-1], errors


def check_pytest(python):
    """Check that pytest starts without any extra, and that a fixture's error names its extra."""
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pytest"]
    subprocess.run(pip, check=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "test_it.py")
        for test, expected, words in (
            ("def test_it(): pass", 0, "1 passed"),
            ("def test_it(mcs_driver): pass", 1, "pip install 'libcloud-mcs[emulator]'"),
        ):
            file.write_text(test)
            result = subprocess.run(
                [python, "-m", "pytest", "-q", file], cwd=folder, capture_output=True, text=True
            )
            assert (result.returncode, words in result.stdout) == (expected, True), result.stdout
    print("pytest runs without the extra 'emulator'")


def run(python, code):
    """Run some code; return the exit status and the errors."""
    # In another folder: the checkout's package would be imported instead of the wheel's.
    result = subprocess.run(
        [python, "-c", code], cwd=python.parent, capture_output=True, text=True, timeout=120
    )
    return result.returncode, result.stderr


main(Path(sys.argv[1]).resolve())
