"""
Each extra does by itself what it is for; and without it, one is told which it is.

    python .ci/extras.py dist/libcloud_mcs-*.whl

The wheel is installed with each extra into an environment of its own.
"""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

DRIVER = "from libcloud_mcs import MCSNodeDriver\ndriver = MCSNodeDriver('key', 'secret')\n"
#: What there is no extra for: a request with an answer read, from a server of the standard library.
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
WORKS = {
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
#: What is tried without an extra, and the extra that the error names.
TELLS = {
    "crypto": (DRIVER + "driver.create_key_pair('mine')", "libcloud-mcs[crypto]"),
    "emulator": ("import libcloud_mcs.emulator", "libcloud-mcs[emulator]"),
    "deploy": (
        DRIVER + "driver.deploy_node(name='web', size='small', image='x', deploy=None)",
        "libcloud-mcs[deploy]",
    ),
}


def main(wheel):
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        making = {extra: pool.submit(environment, folder, wheel, extra) for extra in WORKS}
        environments = {extra: future.result() for extra, future in making.items()}
        for extra, code in WORKS.items():
            status, said = run(environments[extra], code)
            assert status == 0, f"[{extra}]: {said}"
            print(f"[{extra}] works alone")
        for extra, (code, words) in TELLS.items():
            status, said = run(environments[""], code)
            assert status != 0, extra
            assert words in said.splitlines()[-1], f"[{extra}]: {said}"
        test_runs(environments[""])
        status, said = run(environments["emulator"], WORKS["emulator-ssh"])
        assert status != 0
        assert "libcloud-mcs[emulator-ssh]" in said.splitlines()[-1], said
        print("without them, the error names them")


def environment(folder, wheel, extra):
    """Install the wheel with an extra; give that environment's Python."""
    where = Path(folder, extra or "core")
    subprocess.run([sys.executable, "-m", "venv", where], check=True)
    python = where / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra else wheel
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wanted]
    subprocess.run(pip, check=True)
    return python


def test_runs(python):
    """pytest beside the package alone: it starts, and a fixture's error names the extra."""
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pytest"]
    subprocess.run(pip, check=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "test_it.py")
        for test, expected, words in (
            ("def test_it(): pass", 0, "1 passed"),
            ("def test_it(mcs_driver): pass", 1, "pip install 'libcloud-mcs[emulator]'"),
        ):
            file.write_text(test)
            done = subprocess.run(
                [python, "-m", "pytest", "-q", file], cwd=folder, capture_output=True, text=True
            )
            assert (done.returncode, words in done.stdout) == (expected, True), done.stdout
    print("pytest runs without the extra 'emulator', and names it")


def run(python, code):
    # Elsewhere: not the checkout's package, which would be found first.
    done = subprocess.run(
        [python, "-c", code], cwd=python.parent, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stderr


main(Path(sys.argv[1]).resolve())
