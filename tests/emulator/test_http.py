"""HTTP over sockets: every method and status, and connections that stay usable."""

import contextlib
import json
import logging
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from functools import partial

import pytest
import requests
from conftest import AT_ONCE
from plain_client import CREATE, Client, element_tree
from raw_client import RawClient, request

from libcloud_mcs.emulator import (
    Effect,
    Emulator,
    Response,
    cut,
    delay,
    drop_after,
    html,
    meanwhile,
    overload,
)
from libcloud_mcs.emulator import _http as http

API, PAGE, CONTROL = "/mcs/v1", "/", "/_emulator/state"
FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"
ALLOWED = "GET, HEAD, POST, OPTIONS"
LARGE = 4 * 1024 * 1024 + 1


@pytest.fixture(params=["http", "https"])
def cloud(request):
    with Emulator(**AT_ONCE, tls=request.param == "https") as emulator:
        yield emulator


@pytest.fixture
def connect(cloud):
    """Open connections that are closed after the test."""
    with contextlib.ExitStack() as stack:
        wrap = {}
        if cloud.ca_cert:
            context = ssl.create_default_context(cafile=cloud.ca_cert)
            wrap["wrap"] = partial(context.wrap_socket, server_hostname="127.0.0.1")
        yield lambda: stack.enter_context(RawClient(cloud.port, **wrap))


@pytest.fixture
def raw(connect):
    return connect()


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """Check that no request of a client logs more than information."""
    yield
    for record in caplog.records:
        assert record.levelno <= logging.INFO, record.getMessage()
        assert record.exc_info is None


def is_usable(raw):
    """Return whether a valid request succeeds over the same connection."""
    response = raw.ask("GET", "/_emulator/clock")
    assert json.loads(response.body).keys() == {"now", "frozen"}
    return response.status == 200


def signed(cloud, method="GET", action="GetBalance", **params):
    """Return the form of a signed request."""
    url = f"http://127.0.0.1{API}"
    client = Client(url, cloud.access_key, cloud.secret, method)
    form = client.parameters(action, params)
    sent = requests.Request("POST", url, data=form | {"Signature": client.sign(form)}).prepare()
    return sent.body


def post(cloud, *headers, action="GetBalance", length=True, **kwargs):
    body = signed(cloud, "POST", action).encode()
    sizes = [f"Content-Length: {len(body)}"] if length else []
    return request("POST", API, FORM, *sizes, *headers, body=body, **kwargs)


def message(response):
    """Return the message of an error, in the format of the path."""
    if response.headers["content-type"] == "application/json":
        return json.loads(response.body)["error"]
    from lxml import etree

    error = element_tree(etree.fromstring(response.body))["Error"]
    assert error["code"] == str(response.status)
    return error["message"]


# Methods


@pytest.mark.parametrize(
    "target", [API, "/any?a=b", PAGE, "/?", CONTROL, "/_emulator/faults", "/_emulator/nothing"]
)
def test_head_has_status_and_headers_of_get_without_body(cloud, raw, target):
    cloud.clock.freeze()
    got, head = raw.ask("GET", target), raw.ask("HEAD", target)
    assert is_usable(raw)
    assert got.body
    assert int(head.headers["content-length"]) == len(got.body)
    assert (head.status, head.headers | {"date": ""}) == (got.status, got.headers | {"date": ""})


def test_signed_head_request_is_served_and_recorded(cloud, raw):
    target = f"{API}?{signed(cloud)}"
    got, head = raw.ask("GET", target), raw.ask("HEAD", target)
    assert (got.status, head.status, head.body) == (200, 200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert is_usable(raw)
    assert [record.action for record in cloud.records] == ["GetBalance"] * 2


def test_head_of_an_action_that_changes_something_is_405(cloud, raw):
    target = f"{API}?{signed(cloud, action='CreateInstance', **CREATE)}"
    head = raw.ask("HEAD", target)
    assert (head.status, head.headers["allow"]) == (405, ALLOWED)
    assert is_usable(raw)
    assert cloud.ledger == []
    assert "for CreateInstance, which changes something" in cloud.records[0].message


@pytest.mark.parametrize(
    ("target", "status", "allowed"),
    [
        (API, 204, ALLOWED),
        (f"{API}?Action=GetBalance", 204, ALLOWED),
        (PAGE, 204, ALLOWED),
        ("*", 204, ALLOWED),
        ("/_emulator/state", 204, "GET, HEAD, OPTIONS"),
        ("/_emulator/clock", 204, "GET, POST, HEAD, OPTIONS"),
        ("/_emulator/faults", 204, "GET, POST, DELETE, HEAD, OPTIONS"),
        ("/_emulator/reset", 204, "POST, OPTIONS"),
        ("/_emulator/nothing", 404, None),
    ],
)
def test_options_request_has_allow_and_no_cors_headers(raw, target, status, allowed):
    response = raw.ask("OPTIONS", target, "Origin: https://evil.example")
    assert (response.status, response.headers.get("allow")) == (status, allowed)
    # A page of another site may not send what it asks for.
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert is_usable(raw)


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW", "get", "!"]
)
@pytest.mark.parametrize("target", [API, PAGE, CONTROL])
def test_other_methods_are_refused(raw, method, target):
    response = raw.ask(method, "127.0.0.1:80" if method == "CONNECT" else target)
    allowed = "GET, HEAD, OPTIONS" if target == CONTROL and method != "CONNECT" else ALLOWED
    assert (response.status, response.headers["allow"]) == (405, allowed)
    assert message(response) == f"method: expected {allowed}, got {method!r}"
    assert is_usable(raw)


# Statuses


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize("status", [200, 201, 202, 204, 205, 206, 301, 304, 404, 503, 599])
def test_status_without_body_has_no_body(cloud, raw, method, status):
    with cloud.inject(html(status)):
        response = raw.ask(method, API, "Content-Length: 0")
    has_body = method != "HEAD" and status not in (204, 205, 304)
    assert (response.status, bool(response.body)) == (status, has_body)
    if status == 205:
        assert response.headers["content-length"] == "0"
    assert is_usable(raw)


def test_empty_body_has_content_length_0(cloud, raw):
    with cloud.inject(overload()):
        assert raw.ask("GET", API).headers["content-length"] == "0"
    assert is_usable(raw)


def test_cut_response_without_body_is_whole(cloud, raw):
    cloud.inject(cut(5), times=1)
    assert raw.ask("HEAD", API).status == 400
    cloud.inject(Effect("cut", answer=lambda _: Response(204, "", b"nothing"), cut=2), times=1)
    assert raw.ask("GET", API).status == 204
    assert is_usable(raw)


def test_cut_response_ends_the_connection(cloud, raw):
    cloud.inject(cut(5), times=1)
    raw.send(request("GET", API))
    assert raw.file.read().endswith(b"\r\n\r\n<?xml")


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize("missing", [0, 1])
def test_response_of_any_length_is_sent_up_to_its_cut(cloud, raw, size, missing):
    body = bytes(range(50)) * (size // 50)
    answer = Response(200, "application/octet-stream", body)
    effect = Effect("long", answer=lambda _: answer, cut=size - missing)
    cloud.inject(effect, times=1)
    raw.send(request("GET", API))
    head = raw.file.readline()
    while (line := raw.file.readline()) != b"\r\n":
        head += line
    assert f"Content-Length: {size}\r\n".encode() in head
    assert raw.file.read(size) == body[: size - missing]
    if not missing:
        assert is_usable(raw)


# Bodies


@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
def test_expect_100_continue_gets_100(cloud, raw, value):
    head, _, body = post(cloud, f"Expect: {value}").partition(b"\r\n\r\n")
    raw.send(head + b"\r\n\r\n")
    assert raw.read().status == 100
    raw.send(body)
    assert raw.read().status == 200
    assert is_usable(raw)


def test_other_expectation_is_ignored(cloud, raw):
    raw.send(post(cloud, "Expect: wonders"))
    assert raw.read().status == 200
    # HTTP/1.0 has no such answers.
    raw.send(post(cloud, "Expect: 100-continue", "Connection: keep-alive", version="1.0"))
    assert raw.read().status == 200
    assert is_usable(raw)


def test_chunked_body_is_read(cloud, raw):
    body = signed(cloud, "POST").encode()
    parts = (body[:7], body[7:8], body[8:])
    for line, end in ((b"%x\r\n", b"0\r\n\r\n"), (b"%04X ;a=b\r\n", b"0;c\r\nTrailer: d\r\n\r\n")):
        chunks = b"".join(line % len(part) + part + b"\r\n" for part in parts) + end
        raw.send(request("POST", API, FORM, "Transfer-Encoding: Chunked", body=chunks))
        assert raw.read().status == 200
    assert is_usable(raw)


def test_body_received_in_pieces_is_read(cloud, raw):
    body = signed(cloud, "POST").encode()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for size, sent in (
        (f"Content-Length: {len(body)}", body),
        ("Transfer-Encoding: chunked", chunked),
    ):
        head = request("POST", API, FORM, size)
        for piece in (head[:9], head[9:-1], head[-1:] + sent[:1], sent[1:5], sent[5:-3], sent[-3:]):
            raw.send(piece)
            # It has been read when another client was served.
            assert requests.head(cloud.url, verify=cloud.ca_cert or True).status_code == 400
        assert raw.read().status == 200
    assert is_usable(raw)


def test_body_of_get_is_ignored(cloud, raw):
    target = f"{API}?{signed(cloud)}"
    assert raw.ask("GET", target, "Content-Length: 8", body=b"Action=%").status == 200
    assert raw.ask("GET", CONTROL, "Content-Length: 2", body=b"{}").status == 200
    assert raw.ask("HEAD", PAGE, "Content-Length: 2", body=b"{}").status == 200
    assert is_usable(raw)


@pytest.mark.parametrize("target", [API, "/_emulator/clock"])
@pytest.mark.parametrize("how", ["announced", "sent", "in chunks", "waiting"])
def test_body_larger_than_the_limit_is_413(cloud, raw, connect, target, how):
    size = f"Content-Length: {LARGE}"
    raw.send(
        {
            "announced": lambda: request("POST", target, JSON, size),
            "sent": lambda: request("POST", target, JSON, size, body=b"a" * LARGE),
            "in chunks": lambda: (
                request(
                    "POST",
                    target,
                    JSON,
                    "Transfer-Encoding: chunked",
                    body=b"FFFF\r\n" + b"a" * 0xFFFF,
                )
                + (b"\r\nFFFF\r\n" + b"a" * 0xFFFF) * 65
            ),
            "waiting": lambda: request("POST", target, JSON, size, "Expect: 100-continue"),
        }[how]()
    )
    response = raw.read()
    assert (response.status, response.headers["connection"]) == (413, "close")
    assert message(response) == "the body is larger than 4194304 bytes"
    assert raw.is_closed()
    assert is_usable(connect())
    assert [record.status for record in cloud.records] == ([413] if target == API else [])


def test_endless_body_is_413_and_connection_is_closed(raw, connect, monkeypatch):
    monkeypatch.setattr(http, "_LINGER", 0.1)
    raw.send(request("POST", API, f"Content-Length: {LARGE}"))
    assert raw.read().status == 413

    def send_on():
        while True:
            raw.send(b"a" * 1000)

    with pytest.raises(OSError, match="(?i)reset|broken pipe|eof"):
        send_on()
    assert is_usable(connect())


@pytest.mark.parametrize(
    "size", ["9" * 25, "9" * 5000, str(2**63)], ids=["25 digits", "5000 digits", "2**63"]
)
def test_huge_content_length_is_413(raw, connect, size):
    assert raw.ask("POST", API, f"Content-Length: {size}").status == 413
    assert raw.is_closed()
    assert is_usable(connect())


def test_body_of_exactly_the_limit_is_read(raw):
    body = b"a=" + b"1" * (LARGE - 3)
    response = raw.ask("POST", API, FORM, f"Content-Length: {len(body)}", body=body)
    assert message(response) == "Action: this parameter is required"
    assert is_usable(raw)


# Connections


def test_http_1_0_connection_is_closed_after_response(cloud, connect):
    for target in (API, PAGE, CONTROL):
        for method in ("GET", "HEAD", "OPTIONS", "PUT"):
            raw = connect()
            response = raw.ask(method, target, version="1.0")
            assert response.headers.get("connection", "close") == "close"
            assert raw.is_closed()
    raw = connect()
    raw.send(post(cloud, version="1.0"))
    assert raw.read().status == 200
    assert raw.is_closed()


def test_http_1_0_connection_is_kept_alive_on_request(cloud, raw):
    keep = "Connection: Keep-Alive"
    for method in ("GET", "HEAD", "OPTIONS", "PUT"):
        for target in (API, PAGE, CONTROL):
            response = raw.ask(method, target, keep, version="1.0")
            assert response.headers["connection"] == "keep-alive"
    raw.send(post(cloud, keep, version="1.0"))
    assert raw.read().headers["connection"] == "keep-alive"
    assert is_usable(raw)


@pytest.mark.parametrize("options", ["close", "Close", "TE, close", "close,keep-alive"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
def test_connection_is_closed_on_request(raw, method, options):
    response = raw.ask(method, API, f"Connection: {options}")
    assert response.headers["connection"] == "close"
    assert raw.is_closed()


def test_connection_is_kept_on_request(raw):
    assert "connection" not in raw.ask("GET", API, "Connection: keep-alive, TE").headers
    assert is_usable(raw)


def test_pipelined_requests_are_answered_in_order(cloud, raw):
    cloud.inject(delay(0.05), times=1)
    methods = ["GET", "HEAD", "OPTIONS", "PUT", "HEAD", "GET"]
    raw.send(b"".join(request(method, API) for method in methods) + post(cloud))
    assert [raw.read(method).status for method in methods] == [400, 400, 204, 405, 400, 400]
    assert raw.read().status == 200
    assert is_usable(raw)


def test_many_requests_over_kept_connections_succeed(cloud, connect):
    def load(raw):
        for _ in range(50):
            raw.send(post(cloud))
            statuses.append(raw.read().status)

    statuses = []
    threads = [threading.Thread(target=load, args=[connect()]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 400


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n\r\nhalf",
        request("GET", API),
        request("GET", API) * 1000,
    ],
)
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_disconnected_client_leaves_the_emulator_usable(cloud, connect, data, how):
    cloud.inject(delay(0.01), probability=0.1, seed=1)
    raw = connect()
    raw.send(data)
    if how == "reset":
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.__exit__()
    assert is_usable(connect())


def test_client_disconnected_during_delay_leaves_the_emulator_usable(cloud, connect):
    cloud.inject(delay(0.05), times=1)
    raw = connect()
    raw.send(post(cloud))
    while not any(fault.fired for fault in cloud.faults):
        assert is_usable(connect())
    raw.__exit__()
    while not cloud.records:
        assert is_usable(connect())
    assert cloud.records[0].status == 200


def test_dropped_response_closes_connection_and_is_recorded(cloud, raw, connect):
    cloud.inject(drop_after(), times=1)
    raw.send(post(cloud))
    assert raw.is_closed()
    assert cloud.records[0].message == "no response was sent"
    assert is_usable(connect())


def test_client_disconnected_before_accept_leaves_the_emulator_usable(cloud, connect):
    def come_and_go():
        with socket.create_connection(("127.0.0.1", cloud.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    cloud.inject(meanwhile(come_and_go), times=1)
    assert connect().ask("GET", API).status == 400
    assert is_usable(connect())


@pytest.mark.parametrize("error", [BlockingIOError(), ConnectionAbortedError()])
def test_failed_accept_leaves_the_emulator_usable(raw, connect, monkeypatch, error):
    assert is_usable(raw)
    accept, errors = socket.socket.accept, [error]

    def fail_once(listener):
        if errors:
            raise errors.pop()
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", fail_once)
    assert is_usable(connect())
    assert errors == []


# What cannot be read

HOST = b"Host: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\nnonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1 more\r\n" + HOST + b"\r\n",
        b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET / HTTP/x\r\n" + HOST + b"\r\n",
        b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b": nameless\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"a b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"a: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"a: b\rc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: \xb2\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        + b"a: b\r\n" * 101,
    ],
)
def test_bytes_that_are_not_http_are_400_and_connection_is_closed(raw, connect, data):
    raw.send(data)
    response = raw.read()
    assert (response.status, response.headers["connection"]) == (400, "close")
    assert message(response)
    assert raw.is_closed()
    assert is_usable(connect())


@pytest.mark.parametrize(
    "target", ["mcs/v1", "*", "?a=b", "http:///x", "http://[x/", "127.0.0.1:80"]
)
def test_invalid_targets_are_refused(raw, target):
    response = raw.ask("GET", target)
    assert response.status == 400
    assert message(response) == f"the request target {target!r} is neither a path nor a URL"
    assert is_usable(raw)


def test_absolute_targets_are_served(cloud, raw):
    host = f"127.0.0.1:{cloud.port}"
    scheme = "https" if cloud.ca_cert else "http"
    for path in ("", "/", "/?"):
        assert b"<html" in raw.ask("GET", f"{scheme}://{host}{path}", host=host).body
    assert raw.ask("GET", f"{scheme}://{host}/_emulator/clock", host=host).status == 200
    assert raw.ask("HEAD", f"{scheme}://{host}{CONTROL}", host=host).status == 200
    assert raw.ask("PUT", f"{scheme}://{host}/", host=host).status == 405
    # It is the target's host that counts.
    target = f"{scheme}://127.0.0.1{API}?{signed(cloud)}"
    assert raw.ask("GET", target, host="elsewhere").status == 200
    assert raw.ask("GET", f"{scheme}://evil.example/", host=host).status == 403
    assert is_usable(raw)


@pytest.mark.parametrize("target", [API, PAGE, CONTROL])
@pytest.mark.parametrize(
    ("headers", "words"), [([], "got it 0 times"), (["Host: a", "Host: a"], "got it 2 times")]
)
def test_missing_or_repeated_host_is_400(raw, target, headers, words):
    response = raw.ask("GET", target, *headers, host=None)
    assert response.status == 400
    assert message(response) == f"Host: expected this header once, {words}"
    assert is_usable(raw)


@pytest.mark.parametrize("target", [PAGE, CONTROL])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_http_1_0_health_check_without_host_is_served(raw, method, target):
    assert raw.ask(method, target, version="1.0", host=None).status == 200


@pytest.mark.parametrize(
    "data",
    [
        request("GET", f"{API}?a={'b' * 70_000}"),
        request("GET", API, *[f"X-{number}: {'b' * 700}" for number in range(100)]),
        b"a" * 10_000_000,
    ],
    ids=["target", "headers", "endless"],
)
def test_head_larger_than_the_limit_is_431(raw, connect, data):
    raw.send(data)
    response = raw.read()
    assert (response.status, response.headers["connection"]) == (431, "close")
    assert message(response) == "request line and headers are longer than 65536 bytes"
    assert raw.is_closed()
    assert connect().ask("GET", f"/_emulator/clock?a={'b' * 60_000}").status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"advance": ' + b"9" * 5000 + b"}",
        b'{"effect": "\\ud800"}',
        b"\xff",
        b"NaN",
        b'{"advance": NaN}',
    ],
)
@pytest.mark.parametrize("name", ["clock", "faults"])
def test_hostile_json_is_400(raw, name, body):
    size = f"Content-Length: {len(body)}"
    response = raw.ask("POST", f"/_emulator/{name}", JSON, size, body=body)
    assert (response.status, bool(message(response))) == (400, True)
    assert is_usable(raw)


# Programs


def curl(cloud, *arguments, **kwargs):
    trust = ["--cacert", cloud.ca_cert] if cloud.ca_cert else []
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", *trust, *arguments],
        capture_output=True,
        text=True,
        **kwargs,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="the tests of curl need curl")
def test_curl_gets_page_options_and_api_over_one_connection(cloud):
    root = cloud.url.removesuffix(API)
    write = ["--output", "/dev/null", "--write-out", "%{http_code} %{num_connects} "]
    for target in (root, f"{root}/", f"{root}{CONTROL}"):
        assert curl(cloud, "-I", target).startswith("HTTP/1.1 200 OK")
    assert "Allow: GET, HEAD, POST, OPTIONS" in curl(cloud, "-i", "-X", "OPTIONS", cloud.url)
    # One connection for all of it.
    urls = [each for _ in range(3) for each in (*write[:2], root)]
    assert curl(cloud, "-I", *write[2:], *urls) == "200 1 200 0 200 0 "
    assert curl(cloud, "-X", "TRACE", *write, cloud.url) == "405 1 "
    # With so large a body, it waits to be told to go on.
    large = ["--data-binary", "@-", "--header", "Content-Type: text/plain"]
    assert curl(cloud, *large, *write, cloud.url, input="a" * 2 * LARGE) == "413 1 "


def test_requests_session_gets_page_and_options(cloud):
    root = cloud.url.removesuffix(API)
    with requests.Session() as session:
        session.verify, session.trust_env = cloud.ca_cert, False
        for _ in range(2):
            assert session.head(root).headers["Content-Type"] == "text/html; charset=utf-8"
            assert session.options(cloud.url).headers["Allow"] == ALLOWED
            with cloud.inject(html(304)):
                assert session.get(cloud.url).status_code == 304
        assert session.post(cloud.url, data=b"a" * 3 * LARGE).status_code == 413
        assert session.get(f"{root}{CONTROL}").status_code == 200
