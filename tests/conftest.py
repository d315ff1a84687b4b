import contextlib
import os
import random
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
    """A loopback network that no other program uses."""
    for _ in range(20):
        network = f"127.{random.randrange(1, 255)}.{random.randrange(256)}"
        with contextlib.suppress(OSError):
            # An emulator has the first address of its network.
            socket.create_server((f"{network}.0", 2222)).close()
            return f"{network}.0/24"
    return pytest.fail("no loopback network is free: only Linux has all of 127.0.0.0/8")


@pytest.fixture
def port_22():
    """The default port of libcloud for SSH."""
    try:
        socket.create_server(("127.0.0.1", 22)).close()
    except PermissionError:
        if os.environ.get("CI"):
            raise
        pytest.skip("port 22 is for root: sysctl -w net.ipv4.ip_unprivileged_port_start=22")
    except OSError:
        return  # a server of this machine has it there; the emulator's nodes are elsewhere


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
