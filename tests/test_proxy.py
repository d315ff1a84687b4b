"""Proxies of the constructor and of the environment."""

import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from raw_server import read_request

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.errors import MCSError, OutcomeUnknownError

SECRET = "a-very-secret-secret"
PASSWORD = "hunter2"
URL = "http://mcs.example/x"
BALANCE = "<GetBalanceResponse><balance>1</balance></GetBalanceResponse>"


def make_driver(**kwargs):
    return MCSNodeDriver("key", SECRET, **{"url": URL, "max_tries": 1, **kwargs})


def renew(driver):
    return driver.connection.call("RenewInstance", {"InstanceId": "web"})


def fails(call, driver):
    with pytest.raises(MCSError) as caught:
        call(driver)
    for secret in (SECRET, PASSWORD):
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value)
    return caught.value


@pytest.fixture
def nowhere():
    """A proxy at which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://user:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}"


def answer(status, body):
    head = f"HTTP/1.1 {status} So\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return lambda connection: connection.sendall((head + body).encode())


# Which proxy is used


def test_request_is_sent_through_configured_proxy(server):
    url, seen = server(answer(200, BALANCE))
    for proxied in (make_driver(proxy_url=url.rstrip("/")), make_driver()):
        proxied.connection.set_http_proxy(url)
        proxied.ex_get_balance()
        assert seen[-1].startswith(b"POST http://mcs.example/x HTTP/1.1\r\n")


def test_proxy_of_environment_is_used_except_for_no_proxy(server, nowhere, monkeypatch):
    url, seen = server(answer(200, BALANCE))
    monkeypatch.setenv("http_proxy", url)
    make_driver().ex_get_balance()
    assert len(seen) == 1
    monkeypatch.setenv("http_proxy", nowhere)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    make_driver(url=url).ex_get_balance()
    assert len(seen) == 2


def test_proxy_url_precedes_environment(server, nowhere, monkeypatch):
    url, seen = server(answer(200, BALANCE))
    monkeypatch.setenv("http_proxy", nowhere)
    make_driver(proxy_url=url).ex_get_balance()
    assert len(seen) == 1


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """The URL of a real proxy in a separate process."""
    port_file = tmp_path_factory.mktemp("proxy") / "port"
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0"]
    command += ["--port-file", str(port_file), "--num-workers", "1", "--num-acceptors", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while not (port_file.exists() and port_file.read_text().strip()):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port_file.read_text().strip()}"
    process.terminate()
    process.wait()


def test_real_proxy_forwards_and_tunnels(proxy, tls, authority, tmp_path, nowhere):
    path = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(path)
    with Emulator() as cloud:
        assert cloud.driver(proxy_url=proxy).ex_get_balance().amount == 1000
    settings = {"ca_cert": path, "max_tries": 1}
    tunnelled = make_driver(url=tls("127.0.0.1"), proxy_url=proxy, **settings)
    assert renew(tunnelled) == "True"
    stranded = make_driver(url=tls("127.0.0.1"), proxy_url=nowhere, **settings)
    assert "no connection" in fails(renew, stranded).message
    wrong = make_driver(url=tls("other.example"), proxy_url=proxy, **settings)
    error = fails(renew, wrong)
    assert "a certificate was refused through the proxy" in error.message


def test_failed_tunnel_means_no_request_was_sent(proxy):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    # No server listens there any more: the proxy says so, and the request never leaves.
    error = fails(renew, make_driver(url=f"https://127.0.0.1:{port}/", proxy_url=proxy))
    assert type(error) is MCSError
    assert error.retryable is True


def test_proxy_with_tls_is_verified(authority, tmp_path, server):
    """The driver's file of authorities applies to the proxy too."""
    path = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    seen = []

    def treat(connection):
        with context.wrap_socket(connection, server_side=True) as wrapped:
            seen.append(read_request(wrapped))
            answer(200, BALANCE)(wrapped)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                treat(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        where = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert make_driver(proxy_url=where, ca_cert=path).ex_get_balance().amount == 1
        thread.join()
    assert seen[0].startswith(b"POST http://mcs.example/x ")


def test_proxy_of_environment_with_tls_needs_authorities(monkeypatch, tmp_path, nowhere):
    monkeypatch.setenv("http_proxy", nowhere.replace("http:", "https:"))
    driver = make_driver()
    assert "through the proxy 'https://127.0.0.1:" in fails(renew, driver).message
    monkeypatch.setattr("libcloud.security.CA_CERTS_PATH", str(tmp_path / "gone.pem"))
    error = fails(renew, make_driver())
    assert error.message.startswith("the request was not sent: libcloud.security.CA_CERTS_PATH: ")


def test_socks_proxy_without_listener_means_no_request_was_sent(monkeypatch):
    """Connections through SOCKS are tracked as any other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"socks5h://user:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("http_proxy", where)
    for driver in (make_driver(), make_driver(proxy_url=where)):
        error = fails(renew, driver)
        assert type(error) is MCSError
        assert error.retryable is True
        assert "through the proxy 'socks5h://127.0.0.1:" in error.message


def test_socks_proxy_without_pysocks_is_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(ImportError, match=r"^proxy_url: .*PySocks"):
        make_driver(proxy_url="socks5://127.0.0.1:1")


# The emulator's own driver


def test_driver_of_emulator_uses_no_proxy_of_environment(nowhere, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, nowhere)
        monkeypatch.setenv(name.upper(), nowhere)
    with Emulator() as cloud:
        assert cloud.driver().ex_get_balance().amount == 1000
        assert cloud.driver(proxy_url=None).ex_get_balance().amount == 1000
        error = fails(
            lambda driver: driver.ex_get_balance(), cloud.driver(proxy_url=nowhere, max_tries=1)
        )
        assert "through the proxy" in error.message


def test_fixtures_use_no_proxy_of_environment(
    nowhere, monkeypatch, mcs_emulator, mcs_driver, request
):
    assert mcs_driver.ex_get_balance().amount == 1000
    monkeypatch.setenv("http_proxy", nowhere)
    assert mcs_emulator.driver().ex_get_balance().amount == 1000


# Errors behind a proxy


@pytest.mark.parametrize("how", ["argument", "environment"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unreachable_proxy_is_error_that_names_it(nowhere, monkeypatch, how, scheme):
    url = f"{scheme}://mcs.example/x"
    if how == "argument":
        driver = make_driver(url=url, proxy_url=nowhere)
    else:
        monkeypatch.setenv(f"{scheme}_proxy", nowhere)
        driver = make_driver(url=url)
    error = fails(renew, driver)
    assert type(error) is MCSError
    shown = nowhere.replace(f"user:{PASSWORD}@", "")
    assert f"no connection to {url} through the proxy {shown!r}: ConnectionRefused" in error.message


@pytest.mark.parametrize(
    ("treat", "words"),
    [
        (answer(502, "<html>Bad gateway</html>"), "not a response of the API through the proxy"),
        (answer(407, "<html>Who are you?</html>"), "not a response of the API through the proxy"),
        (answer(200, "<html>Welcome to our Wi-Fi</html>"), "received through the proxy"),
        (lambda connection: None, "the connection through the proxy"),
    ],
)
def test_unreadable_response_through_proxy_is_error_that_names_it(server, treat, words):
    url, _ = server(treat)
    driver = make_driver(proxy_url=url.replace("//", f"//user:{PASSWORD}@"))
    error = fails(lambda driver: driver.ex_get_balance(), driver)
    assert words in error.message
    assert url.rstrip("/") in error.message
    with pytest.raises(MCSError) as caught:
        renew(driver)
    assert words in caught.value.message
    assert isinstance(caught.value, OutcomeUnknownError) is ("HTTP 407" not in str(caught.value))


def test_refusal_by_the_api_does_not_name_the_proxy(server):
    error = "<Error><message>no</message><code>404</code></Error>"
    url, _ = server(answer(404, f"<ErrorResponse>{error}</ErrorResponse>"))
    assert fails(renew, make_driver(proxy_url=url)).message == "no"


# Proxies that make no sense

NONSENSE = [
    "",
    " ",
    "proxy",
    "proxy.example:3128",
    "http://",
    "http://:3128",
    f"http://user:{PASSWORD}@",
    f"http://user:{PASSWORD}@:80",
    "http:///path",
    f"http://user:{PASSWORD}@proxy.example:99999",
    f"http://user:{PASSWORD}@proxy.example:port",
    "http://proxy.example:0",
    "http://[::1",
    "http://.proxy.example",
    "http://proxy example:3128",
    "http://proxy.example:3128\n",
    "http://proxy.example:3128\x00",
    "http://proxy.example\udc80:3128",
    "http://proxy.example:3128/path",
    "http://proxy.example:3128/?query",
    "http://proxy.example:3128/#fragment",
    "ftp://proxy.example:3128",
    "socks6://proxy.example:3128",
    "//proxy.example:3128",
    "http//proxy.example:3128",
]


@pytest.mark.parametrize("proxy_url", NONSENSE)
def test_invalid_proxy_url_is_refused_at_once(proxy_url):
    with pytest.raises(ValueError, match="^proxy_url: expected 'http://") as caught:
        make_driver(proxy_url=proxy_url)
    assert PASSWORD not in str(caught.value)
    with pytest.raises(ValueError, match="^proxy_url: "):
        make_driver().connection.set_http_proxy(proxy_url)


@pytest.mark.parametrize("proxy_url", [5, b"http://proxy.example", ["http://proxy.example"]])
def test_proxy_url_that_is_not_text_is_type_error(proxy_url):
    with pytest.raises(TypeError, match="^proxy_url: expected text, got "):
        make_driver(proxy_url=proxy_url)


@pytest.mark.parametrize(
    "proxy_url",
    [
        "http://proxy.example",
        "http://proxy.example:3128/",
        "HTTP://proxy.example:3128",
        "http://[::1]:3128",
        "https://user:pass%20word@proxy.example:3128",
        "http://代理.example:3128",
        "socks5h://proxy.example",
    ],
)
def test_valid_proxy_url_is_accepted(proxy_url):
    assert make_driver(proxy_url=proxy_url).connection.proxy_url == proxy_url


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"http://user:{PASSWORD}@", "http://"),
        (f"user:{PASSWORD}@[bad:3128", "[bad:3128"),
        (f"http://user:{PASSWORD}/x@proxy.example:port", "http://proxy.example:port"),
        (f"http://user:{PASSWORD}@proxy.example:99999", "http://proxy.example:99999"),
    ],
)
def test_invalid_proxy_of_environment_is_named_without_its_password(monkeypatch, value, shown):
    monkeypatch.setenv("http_proxy", value)
    error = fails(renew, make_driver())
    assert type(error) is MCSError
    assert error.message.startswith("the request was not sent: http_proxy or all_proxy: expected ")
    assert error.message.endswith(f": {shown!r}")


def test_proxy_of_environment_may_lack_scheme(server, monkeypatch):
    url, seen = server(answer(200, BALANCE))
    monkeypatch.setenv("http_proxy", url.removeprefix("http://").rstrip("/"))
    make_driver().ex_get_balance()
    assert seen[0].startswith(b"POST http://mcs.example/x ")
