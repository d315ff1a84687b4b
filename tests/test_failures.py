"""Refusals, lost connections, redirects and other failures, and the error for each."""

import base64
import pickle
import re
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import trustme
from libcloud.common.exceptions import RateLimitReachedError
from libcloud.common.types import (
    InvalidCredsError,
    LibcloudError,
    MalformedResponseError,
    ProviderError,
)
from libcloud.compute.base import NodeImage
from libcloud.compute.types import KeyPairDoesNotExistError
from raw_server import TLS_HANDSHAKE
from requests_mock import Mocker

from libcloud_mcs import errors
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.errors import (
    InsufficientBalanceError,
    InvalidCredentialsError,
    KeyPairNotFoundError,
    MalformedAnswerError,
    MCSError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitError,
)
from libcloud_mcs.keys import public_key_fingerprint

URL = "https://mosapi.meituan.com/mcs/v1"
SECRET = "a-very-secret-secret"
TRIES = 3

GOOD = {
    "read": "<GetBalanceResponse><balance>1</balance></GetBalanceResponse>",
    "change": "<StartInstanceResponse><return>True</return></StartInstanceResponse>",
    "billed": "<RenewInstanceResponse><return>True</return></RenewInstanceResponse>",
}
CALLS = {
    "read": lambda driver: driver.ex_get_balance(),
    "change": lambda driver: driver.start_node("web"),
    # The verb looks at the contract before and after; here is only what the connection does.
    "billed": lambda driver: driver.connection.call(
        "RenewInstance", {"InstanceId": "web", "Duration": "1H"}
    ),
}
FIND_OUT = {
    "change": "driver.ex_get_node_state('web')",
    "billed": "driver.ex_get_contract('web')",
}
KINDS = list(CALLS)


@pytest.fixture
def driver():
    return MCSNodeDriver("key", SECRET, max_tries=TRIES, retry_delay=0.001)


real_sleep = time.sleep


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Replace waiting, and collect the delays."""
    found = []
    monkeypatch.setattr("libcloud_mcs.connection.time.sleep", found.append)
    return found


def refusal(status, message="no"):
    error = f"<Error><message>{message}</message><code>{status}</code></Error>"
    return f"<ErrorResponse>{error}</ErrorResponse>"


def fails(call, driver):
    with pytest.raises(MCSError) as caught:
        call(driver)
    error = caught.value
    assert SECRET not in str(error)
    assert error.driver is driver
    return error


# The classes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "ours", "libclouds"),
    [
        (400, MCSError, ProviderError),
        (401, InvalidCredentialsError, InvalidCredsError),
        (403, InvalidCredentialsError, InvalidCredsError),
        (404, NotFoundError, ProviderError),
        (406, InsufficientBalanceError, ProviderError),
        (409, MCSError, LibcloudError),
        (418, MCSError, LibcloudError),
        (499, MCSError, LibcloudError),
    ],
)
def test_refusal_raises_class_of_its_status(requests_mock, driver, kind, status, ours, libclouds):
    requests_mock.post(
        URL, status_code=status, text=refusal(status, "中文 & so on".replace("&", "&amp;"))
    )
    error = fails(CALLS[kind], driver)
    assert type(error) is ours
    assert isinstance(error, libclouds)
    assert (error.http_code, error.code, error.message) == (status, status, "中文 & so on")
    assert (
        error.action
        == {"read": "GetBalance", "change": "StartInstance", "billed": "RenewInstance"}[kind]
    )
    assert error.retryable is False
    assert requests_mock.call_count == 1


def test_error_code_that_differs_from_status_is_kept(requests_mock, driver):
    requests_mock.post(URL, status_code=400, text=refusal("17"))
    error = fails(CALLS["read"], driver)
    assert (error.http_code, error.code) == (400, 17)
    requests_mock.post(URL, status_code=400, text=refusal("Invalid.Name"))
    assert fails(CALLS["read"], driver).code is None


def test_error_document_with_status_200_is_error(requests_mock, driver):
    requests_mock.post(URL, status_code=200, text=refusal(406))
    error = fails(CALLS["billed"], driver)
    assert type(error) is InsufficientBalanceError
    assert (error.http_code, error.code) == (200, 406)


def test_error_in_the_other_format_is_read(requests_mock, driver):
    requests_mock.post(
        URL, status_code=404, json={"ErrorResponse": {"Error": {"code": 404, "message": "m"}}}
    )
    assert type(fails(CALLS["read"], driver)) is NotFoundError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 401, 404, 406, 413])
def test_4xx_without_error_document_is_plain_error(requests_mock, driver, kind, status):
    requests_mock.post(URL, status_code=status, text="<html><h1>Blocked by proxy</h1></html>")
    error = fails(CALLS[kind], driver)
    assert type(error) is MCSError
    assert (error.http_code, error.code) == (status, None)
    assert "Blocked by proxy" in error.message
    assert requests_mock.call_count == 1


@pytest.mark.parametrize("body", ["", "<html>" + "x" * 10_000, "\x00\xff", GOOD["read"]])
def test_error_of_any_body_has_status_and_short_excerpt(requests_mock, driver, body):
    requests_mock.post(URL, status_code=400, text=body)
    error = fails(CALLS["read"], driver)
    assert error.http_code == 400
    assert len(str(error)) < 400


# What is done again


def result(kind, driver):
    return CALLS[kind](driver)


@pytest.mark.parametrize("body", [refusal(429), "<html>slow down</html>"])
@pytest.mark.parametrize(("kind", "tries"), [("read", TRIES), ("change", TRIES), ("billed", 1)])
def test_429_is_retried_unless_billed(requests_mock, driver, kind, tries, body):
    requests_mock.post(URL, status_code=429, text=body)
    error = fails(CALLS[kind], driver)
    assert type(error) is RateLimitError
    assert isinstance(error, RateLimitReachedError)
    assert error.http_code == 429
    assert requests_mock.call_count == tries


@pytest.mark.parametrize("body", [refusal(503), "<html>busy</html>", ""])
@pytest.mark.parametrize(
    ("kind", "tries", "ours"),
    [("read", TRIES, MCSError), ("change", TRIES, MCSError), ("billed", 1, OutcomeUnknownError)],
)
def test_503_is_retried_unless_billed(requests_mock, driver, kind, tries, ours, body):
    requests_mock.post(URL, status_code=503, text=body)
    error = fails(CALLS[kind], driver)
    assert type(error) is ours
    assert error.http_code == 503
    assert requests_mock.call_count == tries


@pytest.mark.parametrize("body", [refusal(500), "<html>oops</html>", ""])
@pytest.mark.parametrize("status", [500, 502, 504, 520])
@pytest.mark.parametrize(
    ("kind", "tries", "ours"),
    [
        ("read", TRIES, MCSError),
        ("change", 1, OutcomeUnknownError),
        ("billed", 1, OutcomeUnknownError),
    ],
)
def test_other_5xx_is_retried_only_for_reads(
    requests_mock, driver, kind, tries, ours, status, body
):
    requests_mock.post(URL, status_code=status, text=body)
    error = fails(CALLS[kind], driver)
    assert type(error) is ours
    assert error.http_code == status
    assert requests_mock.call_count == tries


@pytest.mark.parametrize("body", ["", "<html/>", "<GetBalance", GOOD["read"].replace("Get", "Put")])
@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        ("read", MalformedAnswerError),
        ("change", OutcomeUnknownError),
        ("billed", OutcomeUnknownError),
    ],
)
def test_unreadable_200_is_not_retried(requests_mock, driver, kind, ours, body):
    requests_mock.post(URL, text=body)
    error = fails(CALLS[kind], driver)
    assert type(error) is ours
    assert error.http_code == 200
    assert requests_mock.call_count == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_refused_and_error_names_its_target(requests_mock, driver, kind, status):
    where = f"https://me:{SECRET}@other.example/x?Signature=abc"
    requests_mock.post(URL, status_code=status, headers={"Location": where})
    error = fails(CALLS[kind], driver)
    assert type(error) is MCSError
    assert error.http_code == status
    assert "https://other.example/x" in error.message
    assert "abc" not in error.message
    assert requests_mock.call_count == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("location", ["http://[bad", ""])
def test_redirect_with_bad_target_is_refused(requests_mock, driver, kind, location):
    requests_mock.post(URL, status_code=302, headers={"Location": location})
    assert "redirect" in fails(CALLS[kind], driver).message


@pytest.mark.parametrize("kind", KINDS)
def test_failed_connection_is_retried_until_it_works(requests_mock, driver, kind, waits):
    requests_mock.post(
        URL, [{"exc": requests.exceptions.ConnectTimeout("slow")}] * 2 + [{"text": GOOD[kind]}]
    )
    assert result(kind, driver)
    assert requests_mock.call_count == 3
    assert len(waits) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_endpoint_without_listener_is_retryable_error(kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # No server listens there any more.
    driver = MCSNodeDriver("key", SECRET, url=f"http://127.0.0.1:{port}/", max_tries=TRIES)
    error = fails(CALLS[kind], driver)
    assert type(error) is MCSError
    assert (error.http_code, error.retryable) == (0, True)
    assert "refused" in error.message
    assert f"http://127.0.0.1:{port}/" in error.message


def test_unknown_host_is_error():
    driver = MCSNodeDriver("key", SECRET, url="http://no-such-host.invalid/", max_tries=1)
    error = fails(CALLS["billed"], driver)
    assert type(error) is MCSError
    assert error.http_code == 0


@pytest.mark.parametrize(
    "lost",
    [
        requests.exceptions.ReadTimeout("slow"),
        requests.exceptions.ConnectionError("reset"),
        requests.exceptions.ChunkedEncodingError("cut"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "tries", "ours"),
    [
        ("read", TRIES, MCSError),
        ("change", 1, OutcomeUnknownError),
        ("billed", 1, OutcomeUnknownError),
    ],
)
def test_lost_connection_is_retried_only_for_reads(requests_mock, driver, kind, tries, ours, lost):
    requests_mock.post(URL, exc=lost)
    error = fails(CALLS[kind], driver)
    assert type(error) is ours
    assert error.http_code == 0
    assert requests_mock.call_count == tries
    if kind != "read":
        assert error.find_out == FIND_OUT[kind]
        assert FIND_OUT[kind] in str(error)
        assert error.asked["InstanceId"] == "web"
        assert error.retryable is False


def test_unknown_outcome_of_every_change_names_a_call_that_finds_out(requests_mock, driver):
    requests_mock.post(URL, status_code=500)
    image = NodeImage("i", "image", driver)
    for call in (
        lambda: driver.create_node("it's", "small", image),
        lambda: driver.ex_change_node_size("it's", "small"),
        lambda: driver.stop_node("it's"),
        lambda: driver.reboot_node("it's"),
        lambda: driver.destroy_node("it's"),
        lambda: driver.ex_rebuild_node("it's"),
        lambda: driver.ex_set_metadata("it's", {"a": "b"}),
        lambda: driver.delete_key_pair("it's"),
    ):
        with pytest.raises(OutcomeUnknownError) as caught:
            call()
        source = caught.value.find_out
        assert "it's" in source
        verb = source.split("(")[0].removeprefix("driver.")
        assert callable(getattr(driver, verb))
        compile(source, "find_out", "eval")


def test_each_try_is_signed_again(requests_mock, driver, monkeypatch):
    moments = iter(datetime(2026, 1, 1, 0, 0, n, tzinfo=timezone.utc) for n in range(10))
    monkeypatch.setattr(driver.connection, "_now", lambda: next(moments))
    requests_mock.post(URL, [{"status_code": 503}, {"text": GOOD["read"]}])
    driver.ex_get_balance()
    first, second = (
        dict(p.split("=") for p in r.text.split("&")) for r in requests_mock.request_history
    )
    assert first["Timestamp"] == "2026-01-01T00%3A00%3A00.000Z"
    assert second["Timestamp"] == "2026-01-01T00%3A00%3A01.000Z"
    assert first["Signature"] != second["Signature"]


@pytest.mark.parametrize("http_method", ["POST", "GET"])
@pytest.mark.parametrize("response_format", ["xml", "json"])
@pytest.mark.parametrize("region", ["Beijing", "上海", None])
def test_every_request_has_the_common_parameters(
    requests_mock, http_method, response_format, region
):
    requests_mock.register_uri(http_method, URL, text=GOOD["read"])
    settings = {"http_method": http_method, "response_format": response_format, "region": region}
    MCSNodeDriver("key", SECRET, signature_method="HmacSHA1", **settings).ex_get_balance()
    (request,) = requests_mock.request_history
    form = dict(parse_qsl(request.text if http_method == "POST" else urlsplit(request.url).query))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", form.pop("Timestamp"))
    assert len(base64.b64decode(form.pop("Signature"))) == 20
    assert form == {
        "Action": "GetBalance",
        "AWSAccessKeyId": "key",
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA1",
        "Format": response_format,
        **({"Region": region} if region else {}),
    }
    assert request.headers["Accept-Encoding"] == "gzip, deflate"
    assert "libcloud-mcs/" in request.headers["User-Agent"]
    form_type = {"POST": "application/x-www-form-urlencoded", "GET": None}[http_method]
    assert request.headers.get("Content-Type") == form_type


def test_time_settings_of_none_are_the_defaults():
    connection = MCSNodeDriver(
        "key", SECRET, timeout=None, retry_delay=None, backoff=None
    ).connection
    assert (connection.timeout, connection.retry_delay, connection.backoff) == (60, 0.5, 2)


def test_backoff_delay_grows_up_to_limit(driver, monkeypatch):
    monkeypatch.setattr("libcloud_mcs.connection.random.uniform", lambda least, most: (least, most))
    connection = MCSNodeDriver("key", SECRET).connection
    longest = [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [connection.backoff_delay(tries) for tries in range(1, 9)] == [
        (0, most) for most in longest
    ]


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (404, 503, NotFoundError),
        (400, 404, MCSError),
        (200, 404, NotFoundError),
        (200, "", MCSError),
    ],
)
def test_error_class_follows_status_before_code(requests_mock, driver, status, code, wanted):
    requests_mock.post(URL, status_code=status, text=refusal(code))
    error = fails(CALLS["read"], driver)
    assert (type(error), error.http_code, error.code) == (wanted, status, code or None)
    assert requests_mock.call_count == 1


@pytest.mark.parametrize("code", ["abc", "4 04", "\u0664\u0660\u0664", "-4"])
def test_error_code_that_is_not_a_number_is_ignored(requests_mock, driver, code):
    requests_mock.post(URL, status_code=409, text=refusal(code))
    error = fails(CALLS["read"], driver)
    assert (type(error), error.http_code, error.code, error.message) == (MCSError, 409, None, "no")


@pytest.mark.parametrize(("length", "shown"), [(200, "x" * 200), (201, "x" * 200 + "…")])
def test_long_response_is_cut_in_message(requests_mock, driver, length, shown):
    requests_mock.post(URL, status_code=418, text="x" * length)
    assert fails(CALLS["read"], driver).message == f"not a response of the API: {shown!r}"


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize(
    ("by", "word"), [(timedelta(hours=1), "behind"), (-timedelta(hours=1), "ahead of")]
)
def test_refused_credentials_message_names_wrong_clock(requests_mock, driver, status, by, word):
    date = format_datetime(datetime.now(timezone.utc) + by, usegmt=True)
    requests_mock.post(URL, status_code=status, text=refusal(status), headers={"Date": date})
    words = str(fails(CALLS["read"], driver))
    assert bool(
        re.search(rf"this machine's clock is \d:\d\d:\d\d {word} the endpoint's", words)
    ) is (status != 404)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17),
        ("soon", 0),
        ("-3", 0),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0),
        ("Mon, 01 Jan 2035 08:00:00 +0800", "2035"),
        ("Mon, 01 Jan 2035 00:00:00 -0000", "2035"),
    ],
)
def test_retry_after_is_attribute_of_rate_limit_error(requests_mock, driver, value, seconds):
    requests_mock.post(URL, status_code=429, text=refusal(429), headers={"Retry-After": value})
    told = fails(CALLS["billed"], driver).retry_after
    if seconds == "2035":
        then = datetime(2035, 1, 1, tzinfo=timezone.utc)
        assert abs((then - datetime.now(timezone.utc)).total_seconds() - told) < 5
    else:
        assert told == seconds


def test_backoff_delays_grow_and_are_random(requests_mock, waits):
    requests_mock.post(URL, status_code=503)
    driver = MCSNodeDriver("key", SECRET, max_tries=9, retry_delay=1, backoff=3)
    fails(CALLS["read"], driver)
    assert len(waits) == 8
    longest = [min(30, 3**n) for n in range(8)]
    assert all(0 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert len(set(waits)) > 1


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        (" 7 ", 7, 7),
        ("0", 0, 1),
        ("abc", 0, 1),
        ("-5", 0, 1),
        ("1e3", 0, 1),
        ("", 0, 1),
        ("soon", 0, 1),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 1),
    ],
)
def test_retry_after_is_obeyed_and_invalid_one_ignored(requests_mock, waits, value, least, most):
    requests_mock.post(
        URL, [{"status_code": 429, "headers": {"Retry-After": value}}, {"text": GOOD["read"]}]
    )
    MCSNodeDriver("key", SECRET, retry_delay=1).ex_get_balance()
    assert least <= waits[0] <= most


@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000"])
def test_retry_after_as_date_is_obeyed(requests_mock, waits, zone):
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=50), usegmt=True)
    later = later.replace("GMT", zone)
    requests_mock.post(
        URL, [{"status_code": 429, "headers": {"Retry-After": later}}, {"text": GOOD["read"]}]
    )
    MCSNodeDriver("key", SECRET).ex_get_balance()
    assert 40 < waits[0] <= 50


def test_no_try_begins_after_deadline(requests_mock, waits):
    requests_mock.post(URL, status_code=429, headers={"Retry-After": "60"})
    driver = MCSNodeDriver("key", SECRET, deadline=59)
    error = fails(CALLS["read"], driver)
    assert type(error) is RateLimitError
    assert error.retry_after == 60
    assert waits == []
    assert requests_mock.call_count == 1


def test_retry_of_libcloud_is_not_used(requests_mock, driver, monkeypatch):
    monkeypatch.setenv("LIBCLOUD_RETRY_FAILED_HTTP_REQUESTS", "1")
    monkeypatch.setattr("libcloud.common.base.RETRY_FAILED_HTTP_REQUESTS", True)
    requests_mock.post(URL, exc=requests.exceptions.ReadTimeout("slow"))
    fails(CALLS["billed"], driver)
    assert requests_mock.call_count == 1


# The wire itself


def answer(body, length=None):
    size = length or len(body)
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    return (head + body).encode()


@pytest.mark.parametrize(
    "treat",
    [
        lambda connection: None,
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n"),
        lambda connection: connection.sendall(answer("<Renew", length=1000)),
        lambda connection: connection.sendall(b"garbage\r\n\r\n"),
    ],
    ids=["closed", "cut in the head", "cut in the body", "no HTTP"],
)
def test_billed_request_is_sent_once_when_connection_breaks(server, treat):
    url, seen = server(treat)
    driver = MCSNodeDriver("key", SECRET, url=url)
    assert type(fails(CALLS["billed"], driver)) is OutcomeUnknownError
    assert len(seen) == 1


def test_try_ends_after_its_timeout(server):
    release = threading.Event()
    url, _ = server(lambda connection: release.wait(30))
    driver = MCSNodeDriver("key", SECRET, url=url, timeout=0.05, max_tries=1)
    began = time.monotonic()
    error = fails(CALLS["read"], driver)
    assert time.monotonic() - began < 20
    assert "timed out" in error.message
    release.set()


def test_error_of_get_request_has_no_signature(server):
    url, seen = server(lambda connection: None)
    driver = MCSNodeDriver("key", SECRET, url=url, http_method="GET", max_tries=1)
    error = fails(CALLS["read"], driver)
    assert b"Signature=" in seen[0]
    while error is not None:
        assert "Signature=" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# TLS


def test_certificate_of_unknown_authority_is_refused_at_once(tls, waits, monkeypatch):
    # Not even libcloud's switch for the whole process changes that.
    monkeypatch.setattr("libcloud.security.VERIFY_SSL_CERT", False)
    monkeypatch.setattr("libcloud.security.CA_CERTS_PATH", None)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    error = fails(CALLS["billed"], MCSNodeDriver("key", SECRET, url=tls("127.0.0.1")))
    assert type(error) is MCSError
    assert "certificate was refused" in error.message
    assert (error.retryable, waits) == (False, [])


@pytest.mark.parametrize("how", ["argument", "libcloud", "libcloud's old list"])
def test_certificate_of_configured_authority_is_accepted(
    tls, authority, tmp_path, monkeypatch, how
):
    path = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(path)
    if how != "argument":
        setting = path if how == "libcloud" else [path]
        monkeypatch.setattr("libcloud.security.CA_CERTS_PATH", setting)
    kwargs = {"ca_cert": path} if how == "argument" else {}
    driver = MCSNodeDriver("key", SECRET, url=tls("127.0.0.1"), **kwargs)
    assert CALLS["billed"](driver) == "True"
    wrong = MCSNodeDriver("key", SECRET, url=tls("other.example"), **kwargs)
    assert "certificate was refused" in fails(CALLS["billed"], wrong).message


def test_server_without_tls_receives_no_request(server):
    url, seen = server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    driver = MCSNodeDriver("key", SECRET, url=url.replace("http:", "https:"), max_tries=1)
    error = fails(CALLS["billed"], driver)
    assert type(error) is MCSError
    assert b"".join(seen).startswith(TLS_HANDSHAKE)
    assert b"Renew" not in b"".join(seen)


def test_expired_or_self_signed_certificate_is_refused(tls, authority, tmp_path):
    path = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(path)
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    expired = tls("127.0.0.1", not_after=yesterday)
    assert (
        "expired"
        in fails(CALLS["billed"], MCSNodeDriver("key", SECRET, url=expired, ca_cert=path)).message
    )
    # Only this certificate names its maker.
    own = tls("127.0.0.1", trustme.CA())
    assert (
        "certificate was refused"
        in fails(CALLS["billed"], MCSNodeDriver("key", SECRET, url=own, ca_cert=path)).message
    )


# The exceptions themselves


def test_exceptions_are_mcs_errors_and_libcloud_errors():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), MCSError)
    assert issubclass(MCSError, ProviderError)
    assert issubclass(MalformedAnswerError, MalformedResponseError)
    assert issubclass(KeyPairNotFoundError, KeyPairDoesNotExistError)
    assert issubclass(KeyPairNotFoundError, NotFoundError)


def test_pickled_exception_lacks_the_secret(requests_mock, driver):
    requests_mock.post(URL, status_code=429, text=refusal(429), headers={"Retry-After": "9"})
    error = fails(CALLS["billed"], driver)
    copied = pickle.loads(pickle.dumps(error))
    assert SECRET.encode() not in pickle.dumps(error)
    assert (str(copied), copied.http_code, copied.retry_after) == (str(error), 429, 9)
    assert copied.driver is None
    for name in errors.__all__:
        made = getattr(errors, name)("words", action="GetBalance", http_code=400)
        copied = pickle.loads(pickle.dumps(made))
        assert (str(copied), repr(copied)) == ("GetBalance: words (HTTP 400)", f"<{name}: {made}>")


def test_exception_without_action_prints_message_alone():
    assert str(MCSError("words")) == "words"
    assert str(MCSError("words", action="GetBalance")) == "GetBalance: words"


@pytest.mark.parametrize("refused", ["ID", "ID and name"])
def test_ex_get_node_searches_names_when_id_is_refused(requests_mock, driver, refused):
    def treat(request, context):
        by_name = "InstanceName.1=" in request.text and refused == "ID and name"
        if "InstanceId.1=" in request.text or by_name:
            context.status_code = 400
            return refusal(400, "no such ID")
        row = "<Instance><instanceId>i</instanceId><instanceName>web</instanceName></Instance>"
        set_ = f"<InstanceSet>{row}<Total>1</Total></InstanceSet>"
        return f"<DescribeInstancesResponse>{set_}</DescribeInstancesResponse>"

    requests_mock.post(URL, text=treat)
    assert driver.ex_get_node("web").id == "i"
    assert driver.ex_get_node("i").name == "web"
    with pytest.raises(NotFoundError, match="'other'"):
        driver.ex_get_node("other")
    assert driver.list_nodes(ex_node_ids=["other"]) == []
    assert [node.id for node in driver.list_nodes(ex_node_ids=["other", "i"])] == ["i"]


@pytest.mark.parametrize(("status", "ours"), [(401, InvalidCredentialsError), (500, MCSError)])
def test_ex_get_node_raises_other_errors_unchanged(requests_mock, driver, status, ours):
    requests_mock.post(URL, status_code=status, text=refusal(status))
    assert type(fails(lambda driver: driver.ex_get_node("web"), driver)) is ours


def test_ex_get_node_ignores_rows_of_other_nodes(requests_mock, driver):
    requests_mock.post(
        URL,
        json={"DescribeInstancesResponse": {"InstanceSet": {"Instance": {"instanceId": "other"}}}},
    )
    assert type(fails(lambda driver: driver.ex_get_node("web"), driver)) is NotFoundError


def test_list_volumes_skips_node_that_was_deleted_meanwhile():
    with Emulator(instances=3) as cloud:
        driver = cloud.driver()
        whole = driver.list_nodes()
        with Mocker(real_http=True) as mocker:
            mocker.post(
                cloud.url,
                additional_matcher=lambda request: f"InstanceId={whole[1].id}" in request.text,
                status_code=404,
                text=refusal(404),
            )
            volumes = driver.list_volumes()
    owners = [volume.extra["instanceId"] for volume in volumes]
    assert list(dict.fromkeys(owners)) == [whole[0].id, whole[2].id]


@pytest.mark.parametrize("same", [True, False])
def test_refused_import_returns_registered_pair_of_same_key(requests_mock, driver, same):
    key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ== me"
    fingerprint = public_key_fingerprint(key, "key") if same else "00:11"
    row = f"<keyName>mine</keyName><keyId>k</keyId><keyFingerprint>{fingerprint}</keyFingerprint>"

    def treat(request, context):
        if "Action=ImportKeyPair" in request.text:
            context.status_code = 400
            return refusal(400, "the name is in use")
        set_ = f"<KeyPairSet><KeyPair>{row}</KeyPair><Total>1</Total></KeyPairSet>"
        return f"<DescribeKeyPairsResponse>{set_}</DescribeKeyPairsResponse>"

    requests_mock.post(URL, text=treat)
    if same:
        pair = driver.import_key_pair_from_string("mine", key)
        assert (pair.extra["keyId"], pair.public_key) == ("k", key)
        return
    error = fails(lambda driver: driver.import_key_pair_from_string("mine", key), driver)
    assert "in use" in error.message
