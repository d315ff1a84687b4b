import contextlib
import os
import random
import re
import signal
import socket
import ssl
import threading
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import pytest
import trustme
from hypothesis import HealthCheck, settings
from raw_server import read_request

from libcloud_mcs.emulator import Emulator

# How long an example takes says more about the machine than about the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A shell's "command &", nohup and some CI runners have it ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FIXTURES = Path(__file__).parent / "fixtures"

#: What a held clock shows at first.
START = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
#: The port that reserves a network for a test: neither 22 nor 2222, which the test itself uses.
CLAIM_PORT = 2221
#: Everything is done at once.
AT_ONCE = {
    f"{what}_seconds": 0
    for what in ("boot", "start", "stop", "reboot", "rebuild", "change", "save", "terminate")
}


def pytest_sessionfinish(session, exitstatus):
    # CI sets it where everything can be had. A worker of pytest-xdist has no reporter.
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter and reporter.stats.get("skipped")
    if skipped and os.environ.get("NOTHING_SKIPPED") and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Report at the very end which tests did not run, and how to run them."""
    yield
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    )
    if reasons:
        terminalreporter.write_sep("=", "not tested here")
        for reason, count in reasons.items():
            terminalreporter.write_line(f"{count} tests: {reason}")


@pytest.fixture
def example():
    """Return an example answer of the specification, as bytes."""

    def read(action, answer_format):
        return (FIXTURES / f"{action}.{answer_format}").read_bytes()

    return read


@pytest.fixture
def later_example():
    """Return a response of the later service, as bytes."""

    def read(name, answer_format):
        return (FIXTURES / "2017" / f"{name}.{answer_format}").read_bytes()

    return read


@pytest.fixture
def cloud():
    """An emulated cloud in which nothing takes time."""
    with Emulator(**AT_ONCE) as emulator:
        yield emulator


@pytest.fixture
def node_network():
    """A loopback network that no other test uses meanwhile, also not one of another run."""
    for _ in range(20):
        network = f"127.{random.randrange(1, 255)}.{random.randrange(256)}"
        try:
            claim = socket.create_server((f"{network}.0", CLAIM_PORT))
        except OSError:
            continue
        with claim:
            yield f"{network}.0/24"
        return
    pytest.fail("no loopback network is free: only Linux has all of 127.0.0.0/8")


@pytest.fixture
def port_22(node_network):
    """Port 22, libcloud's default for SSH, in the network of the test."""
    try:
        socket.create_server((node_network.removesuffix("/24"), 22)).close()
    except OSError as error:
        if os.environ.get("CI"):
            raise
        if isinstance(error, PermissionError):
            pytest.skip("port 22 is for root: sysctl -w net.ipv4.ip_unprivileged_port_start=22")
        pytest.skip("port 22 of all addresses is in use: set ListenAddress in sshd_config")


def in_network(text, node_network):
    """Return a document's text with a network of a test instead of those like 127.10.0.0/16."""
    text = re.sub(r"127\.[1-9]\d*\.0\.0/16", node_network, text)
    return re.sub(r"127\.[1-9]\d*\.0\.(?=\d)", node_network.removesuffix("0/24"), text)


@pytest.fixture(params=["xml", "json"])
def answer_format(request):
    return request.param


@pytest.fixture
def driver(cloud, answer_format):
    """A driver of that cloud, once for each format of responses."""
    return cloud.driver(response_format=answer_format)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """Remove the variables of the user who runs the tests."""
    for name in ("MOS_URL", "MOS_ACCESS", "MOS_SECRET", "MOS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def authority():
    """An authority that no client knows."""
    return trustme.CA()


@pytest.fixture
def tls(authority):
    """Start TLS servers that respond to every request as to a renewal, and return their URLs."""

    def run(name, issuer=authority, **kwargs):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert(name, **kwargs).configure_cert(context)
        listener = socket.create_server(("127.0.0.1", 0))
        started.append(listener)
        body = b"<RenewInstanceResponse><return>True</return></RenewInstanceResponse>"

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                    with context.wrap_socket(connection, server_side=True) as wrapped:
                        read_request(wrapped)
                        wrapped.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return f"https://127.0.0.1:{listener.getsockname()[1]}/"

    started = []
    yield run
    for listener in started:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def server():
    """
    A server that passes each connection to a function, and closes it after one request. A complete
    response needs ``Connection: close``: a client may send its next request before it sees the end.
    """

    def run(treat):
        listener = socket.create_server(("127.0.0.1", 0))
        seen = []

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    seen.append(read_request(connection))
                    # The client may have seen enough.
                    with contextlib.suppress(OSError):
                        treat(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        started.append((listener, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/", seen

    started = []
    yield run
    for listener, thread in started:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
