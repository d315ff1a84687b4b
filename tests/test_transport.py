"""Tools between the driver and the network, and endpoints whose responses do not end."""

import contextlib
import io
import socket
import threading
import time

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import delay
from libcloud_mcs.errors import MCSError, OutcomeUnknownError

URL = "http://mcs.example/mcs/v1"
BALANCE = b"<GetBalanceResponse><balance>5</balance></GetBalanceResponse>"
RENEWED = b"<RenewInstanceResponse><return>True</return></RenewInstanceResponse>"
CREATE = {"InstanceName": "web", "InstanceType": "small"}


def make_driver(**kwargs):
    return MCSNodeDriver("key", "secret", **{"url": URL, "retry_delay": 0.001, **kwargs})


def renew(driver):
    return driver.connection.call("RenewInstance", {"InstanceId": "web"})


# Tools that replace a part of requests, urllib3 or http.client


class Tool:
    """A tool that counts the requests, and raises an exception or responds."""

    def __init__(self):
        self.count = 0
        self.raises = None
        self.body = BALANCE

    def step_in(self):
        self.count += 1
        if self.raises is not None:
            raise self.raises


def urllib3_response(body, **kwargs):
    return urllib3.HTTPResponse(
        io.BytesIO(body), status=200, preload_content=False, headers={"Date": "x"}, **kwargs
    )


def replace_session_send(tool, monkeypatch):
    def send(self, request, **kwargs):
        tool.step_in()
        return HTTPAdapter().build_response(request, urllib3_response(tool.body))

    monkeypatch.setattr(requests.Session, "send", send)


def replace_adapter_send(tool, monkeypatch):
    def send(self, request, **kwargs):
        tool.step_in()
        return self.build_response(request, urllib3_response(tool.body))

    monkeypatch.setattr(HTTPAdapter, "send", send)


def replace_urlopen(tool, monkeypatch):
    def urlopen(self, method, url, *args, **kwargs):
        tool.step_in()
        return urllib3_response(tool.body)

    monkeypatch.setattr(HTTPConnectionPool, "urlopen", urlopen)


def replace_make_request(tool, monkeypatch):
    def make_request(self, *args, **kwargs):
        tool.step_in()
        return urllib3_response(tool.body)

    monkeypatch.setattr(HTTPConnectionPool, "_make_request", make_request)


def replace_connection_class(tool, monkeypatch):
    class Recorder:
        """A connection like vcrpy's, which is not urllib3's and never connects."""

        proxy = sock = None
        is_closed = is_connected = is_verified = has_connected_to_proxy = False
        host, port = "mcs.example", 80

        def __init__(self, *args, **kwargs):
            self.timeout = None

        def connect(self, *args, **kwargs):
            raise AssertionError("a recorder does not connect")

        def close(self):
            pass

        def request(self, *args, **kwargs):
            tool.step_in()

        def getresponse(self, *args, **kwargs):
            return urllib3_response(tool.body)

    monkeypatch.setattr(HTTPConnectionPool, "ConnectionCls", Recorder)


def replace_connection_request(tool, monkeypatch):
    def request(self, *args, **kwargs):
        tool.step_in()

    monkeypatch.setattr(HTTPConnection, "connect", lambda self: setattr(self, "sock", Socket()))
    monkeypatch.setattr(HTTPConnection, "request", request)
    monkeypatch.setattr("urllib3.connectionpool.is_connection_dropped", lambda connection: True)
    monkeypatch.setattr(
        HTTPConnection, "getresponse", lambda *args, **kwargs: urllib3_response(tool.body)
    )


class Socket:
    """A socket with only the attributes that a fake one needs."""

    def __init__(self, data=b""):
        self.data = data

    def settimeout(self, seconds):
        assert seconds > 0

    def makefile(self, mode):
        return io.BytesIO(self.data)

    def close(self):
        pass

    def shutdown(self, how):
        pass


def replace_socket(tool, monkeypatch):
    """Replace sockets as mocket does: reads come from memory."""

    def create_connection(address, *args, **kwargs):
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        fake = Socket(head + tool.body)
        fake.sendall = lambda data: tool.step_in() if b"POST" in data else None
        return fake

    monkeypatch.setattr("urllib3.util.connection.create_connection", create_connection)


LEVELS = [
    replace_session_send,
    replace_adapter_send,
    replace_urlopen,
    replace_make_request,
    replace_connection_class,
    replace_connection_request,
    replace_socket,
]


@pytest.fixture(params=LEVELS, ids=lambda level: level.__name__)
def level(request):
    return request.param


@pytest.mark.parametrize("when", ["before the driver was made", "after"])
def test_tool_at_any_level_sees_request_and_can_respond(level, monkeypatch, when):
    tool = Tool()
    if when == "after":
        driver = make_driver()
        level(tool, monkeypatch)
    else:
        level(tool, monkeypatch)
        driver = make_driver()
    assert driver.ex_get_balance().amount == 5
    assert tool.count == 1
    # More than one chunk is read.
    tool.body = b"<GetBalanceResponse><balance>6</balance>" + b" " * 600_000
    tool.body += b"</GetBalanceResponse>"
    assert driver.ex_get_balance().amount == 6
    assert tool.count == 2


@pytest.mark.parametrize(
    "raises",
    [
        requests.ReadTimeout("slow"),
        requests.Timeout("slow"),
        requests.ConnectionError("reset"),
        requests.exceptions.ProxyError("gone"),
        requests.exceptions.SSLError("odd"),
        requests.exceptions.ChunkedEncodingError("cut"),
        urllib3.exceptions.ProtocolError("reset"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exception_of_a_tool_is_unknown_outcome(level, monkeypatch, raises):
    driver, tool = make_driver(), Tool()
    level(tool, monkeypatch)
    tool.raises = raises
    with pytest.raises(OutcomeUnknownError):
        driver.connection.call("CreateInstance", CREATE)
    assert tool.count == 1


def test_verdict_on_earlier_request_is_not_reused(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    driver = make_driver(url=f"http://127.0.0.1:{port}/", max_tries=2)
    with pytest.raises(MCSError, match="no connection") as caught:
        driver.connection.call("CreateInstance", CREATE)
    assert type(caught.value) is MCSError
    tool = Tool()
    replace_adapter_send(tool, monkeypatch)
    tool.raises = requests.ReadTimeout("slow")
    with pytest.raises(OutcomeUnknownError):
        driver.connection.call("CreateInstance", CREATE)


def test_tool_is_used_instead_of_kept_connection(cloud, monkeypatch):
    driver, tool = cloud.driver(), Tool()
    assert driver.ex_get_balance().amount == 1000
    with monkeypatch.context() as patch:
        replace_connection_request(tool, patch)
        assert driver.ex_get_balance().amount == 5
    # The tool's socket is not one that could be kept.
    monkeypatch.setattr("urllib3.connectionpool.is_connection_dropped", lambda connection: True)
    assert driver.ex_get_balance().amount == 1000
    assert (tool.count, len(cloud.records)) == (1, 2)


def test_removed_tool_leaves_no_connection(cloud, monkeypatch):
    with monkeypatch.context() as patch:
        replace_connection_class(Tool(), patch)
        driver = cloud.driver()
        assert driver.ex_get_balance().amount == 5
    assert cloud.driver().ex_get_balance().amount == 1000
    # What the driver has kept is the tool's; urllib3 asks the pool for another when it is closed.
    driver.connection._open_channel().session.close()
    assert driver.ex_get_balance().amount == 1000


# Endpoints that never finish


@pytest.fixture
def dripping():
    """A server that sends a text byte by byte, again and again, as long as the client reads."""

    def run(text):
        listener = socket.create_server(("127.0.0.1", 0))

        def drip(connection):
            with contextlib.suppress(OSError), connection:
                connection.recv(65536)
                while not over.wait(0.01):
                    for byte in text:
                        connection.sendall(bytes([byte]))
                        if over.wait(0.01):
                            return

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=drip, args=(connection,)))
                    threads[-1].start()

        listeners.append(listener)
        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    over, listeners, threads = threading.Event(), [], []
    yield run
    over.set()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()


ENDLESS = {
    "a status line": b"HTTP/1.1 2",
    "headers": b"HTTP/1.1 200 OK\r\n" + b"X-Header: value\r\n" * 90,
    "one header": b"HTTP/1.1 200 OK\r\nX-Header: " + b"x" * 60_000,
    "interim responses": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 60_000,
    "chunk sizes": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 60_000,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 9999,
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 9999,
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("way", ["straight", "proxy"])
def test_call_ends_at_deadline_when_response_does_not_end(dripping, text, way):
    where = {"url": f"http://{dripping(text)}/"}
    if way == "proxy":
        where = {"proxy_url": where["url"]}
    driver = make_driver(**where, timeout=0.2, deadline=0.5, max_tries=100)
    with pytest.raises(OutcomeUnknownError, match="timed out"):
        renew(driver)
    with pytest.raises(MCSError, match="timed out") as caught:
        driver.ex_get_balance()
    assert caught.value.retryable is True


@pytest.mark.parametrize("concurrency", [1, 8])
def test_waiting_ends_at_timeout_when_response_does_not_end(dripping, concurrency):
    where = f"http://{dripping(ENDLESS['headers'])}/"
    driver = make_driver(url=where, timeout=600, deadline=600, concurrency=concurrency)
    with pytest.raises(MCSError, match="timed out"):
        driver.wait_until_running(["web"], timeout=0.1)


def test_threads_of_a_verb_end_at_its_timeout(cloud):
    for number in range(5):
        cloud.account.state.add_running(f"web{number}")
    cloud.inject(delay(600), on="DescribeInstances", nth=2)
    driver = cloud.driver(page_size=2)
    with pytest.raises(MCSError, match="timed out"):
        driver.wait_until_running(["web1"], timeout=0.1, ex_list_nodes_kwargs={"ex_filters": {}})


@pytest.mark.parametrize("text", list(ENDLESS.values())[:4], ids=list(ENDLESS)[:4])
def test_tunnel_ends_at_timeout_when_response_of_proxy_does_not_end(dripping, text):
    where = {"url": "https://mcs.example/", "proxy_url": f"http://{dripping(text)}"}
    driver = make_driver(**where, timeout=5, connect_timeout=0.2, deadline=0.5, max_tries=100)
    with pytest.raises(MCSError, match=r"no connection .* through the proxy") as caught:
        renew(driver)
    assert type(caught.value) is MCSError


def test_handshake_ends_at_timeout_when_it_does_not_end(dripping):
    # The beginning of a TLS record that is long.
    where = dripping(b"\x16\x03\x03\x40\x00" + b"\0" * 16_000)
    driver = make_driver(url=f"https://{where}/", connect_timeout=0.2, deadline=0.5)
    with pytest.raises(MCSError, match=r"no connection"):
        renew(driver)


def test_addresses_of_a_host_share_one_timeout(monkeypatch):
    given, real = [], socket.getaddrinfo

    def getaddrinfo(host, port, *args):
        if host != "mcs.example":
            return real(host, port, *args)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", port)) for n in range(1, 5)
        ]

    class Unreachable(socket.socket):
        def connect(self, address):
            given.append((address[0], self.gettimeout()))
            raise TimeoutError("timed out")

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    monkeypatch.setattr("socket.socket", Unreachable)
    driver = make_driver(connect_timeout=8, max_tries=1)
    with pytest.raises(MCSError, match="no connection"):
        renew(driver)
    assert [address for address, _ in given] == [f"192.0.2.{n}" for n in range(1, 5)]
    assert sum(seconds for _, seconds in given) <= 8


def test_slow_body_that_ends_in_time_is_read(server):
    def treat(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BALANCE))
        for byte in BALANCE:
            connection.sendall(bytes([byte]))

    url, _ = server(treat)
    assert make_driver(url=url).ex_get_balance().amount == 5


@given(st.binary(max_size=200), st.integers(0, 3))
def test_random_response_head_is_mcs_error_or_result(data, pause):
    # One server for each example, since what is left of one must not reach the next.
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            for start in range(0, len(data), 50):
                connection.sendall(data[start : start + 50])
                time.sleep(pause / 10_000)

    thread = threading.Thread(target=serve)
    thread.start()
    driver = make_driver(url=f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=5)
    with pytest.raises(OutcomeUnknownError):
        renew(driver)
    thread.join()
    listener.close()
