"""Arguments of the constructor, and durations: invalid ones are errors before a request is sent."""

import inspect
import os
from datetime import timedelta

import pytest

from libcloud_mcs.driver import MCSNodeDriver

SECRET = "a-very-secret-secret"


@pytest.fixture
def driver(requests_mock):
    """A driver that must not send a request."""
    yield MCSNodeDriver("key", SECRET)
    assert not requests_mock.called


@pytest.mark.parametrize(
    "duration",
    [
        "",
        "72",
        "H",
        "0H",
        "0M",
        "-1H",
        "1.5H",
        "1 H",
        "1D",
        "1HM",
        " 1H",
        "1H\n",
        "١H",
        "1234567H",
        0,
        72,
        1.5,
        True,
        b"72H",
        timedelta(),
        timedelta(minutes=90),
        timedelta(hours=-1),
        timedelta(hours=1, microseconds=1),
    ],
)
def test_invalid_duration_is_refused(driver, duration):
    with pytest.raises(ValueError, match="^duration: expected '72H' .*, got "):
        driver.ex_renew_node("node", duration)


# Where to


def where(**kwargs):
    return MCSNodeDriver("key", SECRET, **kwargs).connection.endpoint.url


@pytest.mark.parametrize(
    ("kwargs", "url"),
    [
        ({}, "https://mosapi.meituan.com/mcs/v1"),
        ({"url": "https://Example.COM:8883/mcs/v1"}, "https://example.com:8883/mcs/v1"),
        ({"url": "http://example.com"}, "http://example.com/"),
        ({"url": "http://example.com/"}, "http://example.com/"),
        ({"url": "http://example.com/mcs/v1/"}, "http://example.com/mcs/v1/"),
        ({"url": "https://example.com:443/x"}, "https://example.com/x"),
        ({"url": "http://example.com:80/x"}, "http://example.com/x"),
        ({"url": "https://example.com:80/x"}, "https://example.com:80/x"),
        ({"url": "http://example.com:443/x"}, "http://example.com:443/x"),
        ({"url": "http://[::1]:8883/x"}, "http://[::1]:8883/x"),
        ({"url": "https://[2001:DB8::1]"}, "https://[2001:db8::1]/"),
        ({"host": "example.com"}, "https://example.com/mcs/v1"),
        ({"host": "::1", "secure": False, "port": 1}, "http://[::1]:1/mcs/v1"),
        ({"host": "[::1]"}, "https://[::1]/mcs/v1"),
        ({"secure": False}, "http://mosapi.meituan.com/mcs/v1"),
        ({"port": 8883}, "https://mosapi.meituan.com:8883/mcs/v1"),
        ({"path": ""}, "https://mosapi.meituan.com/"),
        ({"path": "/other"}, "https://mosapi.meituan.com/other"),
        ({"url": "http://a.example/", "host": "b.example"}, "http://a.example/"),
    ],
)
def test_endpoint_follows_from_arguments(kwargs, url):
    assert where(**kwargs) == url


def test_endpoint_of_environment_replaces_only_the_default(monkeypatch):
    monkeypatch.setenv("MOS_URL", "http://127.0.0.1:8883/x")
    assert where() == "http://127.0.0.1:8883/x"
    assert where(url="http://a.example/") == "http://a.example/"
    for part in ({"secure": True}, {"host": "mosapi.meituan.com"}, {"port": 443}):
        assert where(**part) == "https://mosapi.meituan.com/mcs/v1"
    assert where(path="/y") == "https://mosapi.meituan.com/y"
    monkeypatch.setenv("MOS_URL", "")
    assert where() == "https://mosapi.meituan.com/mcs/v1"


def test_from_environment_reads_every_variable(monkeypatch):
    monkeypatch.setenv("MOS_URL", "http://127.0.0.1:8883/x")
    with pytest.raises(ValueError, match="MOS_ACCESS"):
        MCSNodeDriver.from_environment()
    monkeypatch.setenv("MOS_ACCESS", "me")
    with pytest.raises(ValueError, match="MOS_SECRET"):
        MCSNodeDriver.from_environment()
    monkeypatch.setenv("MOS_SECRET", "mine")
    driver = MCSNodeDriver.from_environment()
    assert (driver.key, driver.secret, driver.region) == ("me", "mine", "Beijing")
    assert driver.connection.endpoint.url == "http://127.0.0.1:8883/x"
    monkeypatch.setenv("MOS_REGION", "Shanghai")
    assert MCSNodeDriver.from_environment().region == "Shanghai"
    assert MCSNodeDriver.from_environment(region=None, key="you").region is None
    assert MCSNodeDriver.from_environment(key="you").key == "you"


@pytest.mark.parametrize(
    "url",
    [
        f"https://me:{SECRET}@example.com/",
        f"https://{SECRET}@example.com/",
        f"https://:{SECRET}@example.com/",
        f"ftp://example.com/{SECRET}",
        f"{SECRET}",
        f"//example.com/{SECRET}",
        f"example.com:8883/{SECRET}",
        f"https://example.com/?{SECRET}",
        f"https://example.com/#{SECRET}",
        f"https://example.com/mcs?{SECRET}=1",
        f"https:///{SECRET}",
        f"https://example.com:port/{SECRET}",
        f"https://example.com:99999/{SECRET}",
        f"https://example.com:0/{SECRET}",
        f"https://[::1/{SECRET}",
        f"https://exa mple.com/{SECRET}",
        f"https://example.com//{SECRET}",
        f"https://example.com/a b{SECRET}",
        "",
        "https://",
        "https://*.example.com/",
    ],
)
def test_invalid_url_is_refused_without_quoting_it(monkeypatch, url):
    with pytest.raises(ValueError, match="^url: ") as caught:
        where(url=url)
    assert SECRET not in str(caught.value)
    if url:
        monkeypatch.setenv("MOS_URL", url)
        with pytest.raises(ValueError, match="^MOS_URL: ") as caught:
            where()
        assert SECRET not in str(caught.value)


def test_url_that_is_not_text_is_type_error():
    with pytest.raises(TypeError, match="^url: expected text, got"):
        where(url=5)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"host": ""}, "host: "),
        ({"host": "a/b"}, "host: "),
        ({"host": "me@example.com"}, "host: "),
        ({"host": "example.com?x"}, "host: "),
        ({"host": "example.com:80"}, "host: "),
        ({"port": 0}, "port: "),
        ({"port": 65536}, "port: "),
        ({"port": "80"}, "port: "),
        ({"port": True}, "port: "),
        ({"path": "mcs"}, "path: "),
        ({"path": "/mcs?x"}, "path: "),
        ({"path": "//mcs"}, "path: "),
        ({"region": ""}, "region: "),
        ({"timeout": 0}, "timeout: "),
        ({"timeout": "1"}, "timeout: "),
        ({"connect_timeout": -1}, "connect_timeout: "),
        ({"deadline": 0}, "deadline: "),
        ({"max_tries": 0}, "max_tries: "),
        ({"retry_delay": -1}, "retry_delay: "),
        ({"backoff": 0}, "backoff: "),
        ({"page_size": 0}, "page_size: "),
        ({"page_size": "10"}, "page_size: "),
        ({"concurrency": 0}, "concurrency: "),
        ({"http_method": "PUT"}, "http_method: expected 'POST' or 'GET', got 'PUT'"),
        ({"response_format": "yaml"}, "response_format: expected 'xml' or 'json'"),
        ({"signature_method": "MD5"}, "signature_method: expected 'HmacSHA256' or 'HmacSHA1'"),
        ({"ca_cert": "/no/such/file"}, "ca_cert: there is no file"),
    ],
)
def test_invalid_setting_is_refused_by_name(kwargs, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        MCSNodeDriver("key", SECRET, **kwargs)


@pytest.mark.parametrize(
    ("key", "secret", "error", "words"),
    [
        ("", SECRET, ValueError, "key: "),
        (None, SECRET, TypeError, "key: "),
        ("key", "", ValueError, "secret: "),
        ("key", None, TypeError, "secret: "),
    ],
)
def test_invalid_credential_is_refused_by_name(key, secret, error, words):
    with pytest.raises(error, match=f"^{words}") as caught:
        MCSNodeDriver(key, secret)
    assert SECRET not in str(caught.value)


# The constructor, argument by argument

NUMBERS = [0, -1, "1", "", True, False, [], {}, b"1", object(), float("nan"), 10**400]
TEXTS = [5, b"text", [], {}, True, object(), "", " ", "\udc80", "a\0b", "a\n"]
#: For each argument what it refuses.
REFUSED = {
    "key": [None, *TEXTS, " key", "key ", "key\n", "\tkey", "a\rb", "a\x7fb"],
    "secret": [None, *TEXTS, " key", "key ", "key\n", "\tkey", "a\rb", "a\x7fb"],
    "secure": ["no", "", 2, [], b"", float("nan"), object()],
    "host": [*TEXTS, "a/b", "a b"],
    "port": [0, -1, 65536, "80", "", True, [], 80.0, object()],
    "region": [*TEXTS, " Beijing", "Beijing\n"],
    "url": [*TEXTS, "ftp://example.com/", "example.com"],
    "path": [5, b"/", [], {}, True, "mcs", " ", "/a b", "/\n"],
    "timeout": NUMBERS,
    "connect_timeout": [None, *NUMBERS],
    "deadline": [None, *NUMBERS],
    "max_tries": [None, *NUMBERS[:-1], 2.5, float("inf")],
    "retry_delay": NUMBERS,
    "backoff": NUMBERS,
    "proxy_url": TEXTS,
    "ca_cert": [5, b"ca.pem", [], {}, True, object(), "", "/no/such/file", "a\0b"],
    "http_method": [None, *TEXTS, "PUT", "get"],
    "response_format": [None, *TEXTS, "yaml", "XML"],
    "signature_method": [None, *TEXTS, "MD5"],
    "page_size": [None, *NUMBERS[:-1], 2.5],
    "concurrency": [None, *NUMBERS[:-1], 2.5],
}


def test_table_has_every_argument_of_the_constructor():
    assert set(REFUSED) == set(inspect.signature(MCSNodeDriver).parameters)


@pytest.mark.parametrize(
    ("argument", "value"),
    [(argument, value) for argument, values in REFUSED.items() for value in values],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else repr(value)[:20],
)
def test_invalid_argument_is_refused_by_name(argument, value):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: ") as caught:
        MCSNodeDriver(**{"key": "key", "secret": SECRET, argument: value})
    assert SECRET not in str(caught.value)


def test_large_numbers_are_accepted(cloud):
    settings = dict.fromkeys(
        ("timeout", "connect_timeout", "deadline", "retry_delay", "backoff"), float("inf")
    )
    driver = cloud.driver(**settings, max_tries=10**30, page_size=10**6, concurrency=10**6)
    assert driver.list_nodes() == []
    assert 0 <= driver.connection.backoff_delay(10**30) <= 30
    assert 0 <= cloud.driver().connection.backoff_delay(10**30) <= 30


# Keys and secrets as people paste them

#: What they may end up with; none of it could ever sign a request.
ODD = {
    "a byte that is not UTF-8": b"caf\xe9" + SECRET.encode(),
    "a line end": SECRET.encode() + b"\n",
    "a carriage return": SECRET.encode() + b"\r\n",
    "a space": b" " + SECRET.encode(),
    "a no-break space": SECRET.encode() + "\u00a0".encode(),
    "a control character": SECRET.encode() + b"\x01x",
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    ("argument", "variable"),
    [("key", "MOS_ACCESS"), ("secret", "MOS_SECRET"), ("region", "MOS_REGION")],
)
def test_invalid_credential_is_named_and_not_shown(monkeypatch, argument, variable, value):
    monkeypatch.setenv("MOS_ACCESS", "key")
    monkeypatch.setenv("MOS_SECRET", "secret")
    monkeypatch.setitem(os.environb, variable.encode(), value)
    for make, name in (
        (MCSNodeDriver.from_environment, variable),
        (
            lambda: MCSNodeDriver(**{"key": "k", "secret": "s", argument: os.fsdecode(value)}),
            argument,
        ),
    ):
        with pytest.raises(ValueError, match=f"^{name}: ") as caught:
            make()
        shown = f"{caught.value} {caught.value!r}"
        error = caught.value
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        assert SECRET not in shown


def test_secret_may_contain_any_letters(cloud):
    account = cloud.add_account("ключ", "秘密 with spaces")
    assert cloud.driver(account).ex_get_balance().amount == 1000
