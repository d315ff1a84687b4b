"""The common parameters of requests, and the errors without them."""

import http.client
import socket
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode, urlsplit

import pytest
from plain_client import Client, refusal

from libcloud_mcs.emulator import Emulator


def signed(client, form, **how):
    return form | {"Signature": client.sign(form, **how)}


def raw(cloud, data):
    """Send bytes, and return the status line of the response."""
    with socket.create_connection(("127.0.0.1", cloud.port), timeout=5) as connection:
        connection.sendall(data)
        return connection.makefile("rb").readline().decode()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path", ["", "/", "/mcs/v1", "/mcs/v1/", "/a//b", "/%7Euser/a%20b", "/x;y=1,2", "/中"]
)
def test_request_with_any_path_is_served(make_client, cloud, method, path):
    client = make_client(method=method)
    form = client.parameters("GetBalance", {})
    sent = "".join(c if c.isascii() else "%E4%B8%AD" for c in path)
    form = signed(client, form, path=sent or "/")
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port)
    if method == "GET":
        connection.request("GET", f"{sent or '/'}?{urlencode(form)}")
    else:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", sent or "/", urlencode(form), headers)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()


@pytest.mark.parametrize(
    ("header", "signed_host"),
    [
        ("mosapi.meituan.com", "mosapi.meituan.com"),
        ("MOSAPI.Meituan.com", "mosapi.meituan.com"),
        ("mosapi.meituan.com:80", "mosapi.meituan.com"),
        ("mosapi.meituan.com:8080", "mosapi.meituan.com:8080"),
        ("[::1]:9", "[::1]:9"),
    ],
)
def test_signed_host_is_that_of_the_host_header(client, header, signed_host):
    form = signed(client, client.parameters("GetBalance", {}), host=signed_host)
    assert client.send(form, headers={"Host": header}).status_code == 200
    form = signed(client, client.parameters("GetBalance", {}), host="elsewhere")
    assert client.send(form, headers={"Host": header}).status_code == 403


def test_signature_is_checked_over_ipv6(make_client):
    with Emulator(host="::1") as cloud:
        client = Client(cloud.url, cloud.access_key, cloud.secret)
        assert cloud.url.startswith("http://[::1]:")
        client.tree("GetBalance")


@pytest.mark.parametrize("encoding", ["quote", "quote_plus", "lower case", "raw UTF-8"])
def test_form_is_read_in_any_encoding(make_client, encoding):
    client = make_client()
    form = client.parameters("GetBalance", {"Extra": "a b+~*/&=%中文😀\t"})
    form = signed(client, form)
    body = urlencode(form).encode()
    if encoding == "quote":
        body = body.replace(b"+", b"%20").replace(b"~", b"%7E")
    elif encoding == "lower case":
        body = body.replace(b"%2A", b"%2a").replace(b"%E4", b"%e4")
    elif encoding == "raw UTF-8":
        body = body.replace(b"%E4%B8%AD", "中".encode())
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert client.send(body, headers=headers).status_code == 200


def test_unknown_parameters_are_accepted_and_part_of_signature(client):
    client.tree("GetBalance", Region="Beijing", Whatever="")
    form = signed(client, client.parameters("GetBalance", {}))
    assert refusal(client.send(form | {"Region": "Beijing"}))[0] == 403


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"Action": None}, 400, "Action"),
        ({"AWSAccessKeyId": None}, 400, "AWSAccessKeyId"),
        ({"Timestamp": None}, 400, "Timestamp"),
        ({"SignatureVersion": None}, 400, "SignatureVersion"),
        ({"SignatureMethod": None}, 400, "SignatureMethod"),
        ({"Action": "DescribeNothing"}, 400, "'DescribeNothing'"),
        ({"Action": "getbalance"}, 400, "'getbalance'"),
        ({"AWSAccessKeyId": "nobody"}, 401, "'nobody'"),
        ({"SignatureVersion": "4"}, 422, "'4'"),
        ({"SignatureMethod": "HmacMD5"}, 422, "'HmacMD5'"),
        ({"Format": "yaml"}, 422, "'yaml'"),
        ({"Timestamp": "yesterday"}, 422, "'yesterday'"),
        ({"Timestamp": "2013-07-20 15:02:17"}, 422, "Timestamp"),
        ({"Timestamp": "2013-13-40T15:02:17.000Z"}, 422, "Timestamp"),
        ({"Timestamp": "2013-07-20T15:02:17.000Z"}, 403, "15 minutes off"),
    ],
)
def test_missing_or_invalid_common_parameter_is_refused(client, change, status, words):
    form = client.parameters("GetBalance", {}) | change
    form = {name: value for name, value in form.items() if value is not None}
    got, message = refusal(client.send(signed(client, form)))
    assert got == status
    assert words in message


def test_missing_signature_is_refused(client):
    assert refusal(client.send(client.parameters("GetBalance", {})))[0] == 400


#: Of a request at 03:06:56. The first is the specification's, the second the Java client's.
FRACTIONS = [".000", "000", "", ".5", ".123456789"]


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_timestamp_in_a_known_form_is_accepted(make_client, fraction):
    stamp = datetime.now(timezone.utc).strftime(f"%Y-%m-%dT%H:%M:%S{fraction}Z")
    for method in ("GET", "POST"):
        client = make_client(method=method)
        form = signed(client, client.parameters("GetBalance", {}, Timestamp=stamp))
        assert client.send(form).status_code == 200


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_timestamp_in_a_known_form_is_compared_with_the_clock(client, fraction):
    form = client.parameters("GetBalance", {}, Timestamp=f"2014-12-19T03:06:56{fraction}Z")
    status, message = refusal(client.send(signed(client, form)))
    assert (status, "15 minutes off" in message) == (403, True)


@pytest.mark.parametrize("fraction", ["0", "00", "0000", ".", ".0000000000", ",000", ".00a", "٠٠٠"])
def test_timestamp_with_another_fraction_is_refused(client, fraction):
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + f"{fraction}Z"
    form = client.parameters("GetBalance", {}, Timestamp=stamp)
    status, message = refusal(client.send(signed(client, form)))
    assert (status, "expected a time such as" in message) == (422, True)


@pytest.mark.parametrize("minutes", [-16, -14, 14, 16])
def test_timestamp_may_be_up_to_fifteen_minutes_off(client, minutes):
    moment = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    form = signed(client, client.parameters("GetBalance", {}, Timestamp=stamp))
    assert client.send(form).status_code == (200 if abs(minutes) < 15 else 403)


def test_timestamp_is_not_compared_with_emulated_clock(cloud, client):
    cloud.clock.advance(timedelta(days=400))
    client.tree("GetBalance")


def test_signature_of_another_request_is_refused(make_client, client):
    form = client.parameters("GetBalance", {})
    for wrong in (
        signed(make_client(secret="another"), form),
        signed(client, form, method="GET"),
        signed(client, form, host="elsewhere"),
        signed(client, form, path="/"),
        signed(client, form) | {"Action": "DescribeTemplates"},
        form | {"Signature": "签名"},
    ):
        status, message = refusal(client.send(wrong))
        assert status == 403
        assert wrong["Signature"] not in message


def test_other_methods_and_content_types_are_refused(cloud, client):
    form = signed(client, client.parameters("GetBalance", {}))
    for method in ("PUT", "DELETE", "PATCH"):
        response = client.session.request(method, client.url, data=form)
        assert refusal(response)[0] == 405
    assert refusal(client.session.post(client.url, json=form))[0] == 415
    assert refusal(client.session.post(client.url, files={"a": b"b"}))[0] == 415
    assert client.session.post(client.url, urlencode(form)).status_code == 200
    twice = urlencode(form) + "&Action=GetBalance"
    assert refusal(client.send(twice.encode(), headers=FORM)) == (
        400,
        "'Action': expected this parameter once, got it twice",
    )
    for bad in (b"Action=%zz", b"Action=%ff", b"Action=\xff", b"&".join([b"a=1"] * 10_001)):
        assert refusal(client.send(bad, headers=FORM))[0] == 400


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_post_with_parameters_in_url_is_accepted(make_client):
    client = make_client(method="POST")
    form = signed(client, client.parameters("GetBalance", {}))
    assert client.session.post(client.url, params=form).status_code == 200


def test_error_has_the_requested_format(make_client):
    for answer_format in ("xml", "json"):
        client = make_client(answer_format=answer_format, secret="wrong")
        response = client("GetBalance")
        assert response.headers["Content-Type"] == f"application/{answer_format}"
        assert refusal(response)[0] == 403


def test_connection_is_kept_alive(cloud, client):
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port)
    path = urlsplit(client.url).path
    for _ in range(3):
        form = signed(client, client.parameters("GetBalance", {}))
        connection.request("POST", path, urlencode(form), FORM)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        kept = connection.sock
        assert kept is not None
    connection.close()


def test_bytes_that_are_not_http_leave_the_emulator_usable(cloud, client):
    raw(cloud, b"\x16\x03\x01 hello\r\n\r\n")
    raw(cloud, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert "405" in raw(cloud, b"BREW / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    client.tree("GetBalance")


def test_request_with_absolute_target_is_served(cloud, client):
    # "POST http://host/path HTTP/1.1": the path that is signed is the path in it.
    form = urlencode(signed(client, client.parameters("GetBalance", {}), host="mcs.example"))
    for target in ("http://mcs.example/mcs/v1", "http://mcs.example"):
        if target.endswith("example"):
            form = client.parameters("GetBalance", {})
            form = urlencode(signed(client, form, host="mcs.example", path="/"))
        head = (
            f"POST {target} HTTP/1.1\r\nHost: mcs.example\r\nContent-Length: {len(form)}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        )
        assert "200" in raw(cloud, (head + form).encode())
