"""Bad input is a clear error before anything is sent; so is a bad place to send it to."""

import inspect
import os
from datetime import timedelta

import pytest
from libcloud.compute.base import KeyPair, Node, NodeAuthSSHKey, NodeImage, NodeLocation, NodeSize

from libcloud_mcs.driver import MCSNodeDriver

SECRET = "a-very-secret-secret"
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ=="


@pytest.fixture
def driver(requests_mock):
    """A driver whose requests would all fail."""
    yield MCSNodeDriver("key", SECRET)
    assert not requests_mock.called


NODE = Node("id", "name", "running", [], [], None)
SIZE = NodeSize("id", "name", 1, 1, 1, None, None)
IMAGE = NodeImage("id", "name", None)
KEY_PAIR = KeyPair("name", "", "", None)
LOCATION = NodeLocation("id", "name", "CN", None)

NODE_VERBS = [
    ("start_node", ()),
    ("stop_node", ()),
    ("reboot_node", ()),
    ("destroy_node", ()),
    ("ex_rebuild_node", ()),
    ("ex_renew_node", ()),
    ("ex_change_node_size", ("small",)),
    ("ex_get_contract", ()),
    ("ex_get_metadata", ()),
    ("ex_set_metadata", ({"a": "b"},)),
    ("ex_get_password_data", ()),
    ("ex_list_network_interfaces", ()),
    ("ex_get_node_state", ()),
]


@pytest.mark.parametrize(("verb", "arguments"), NODE_VERBS)
@pytest.mark.parametrize("wrong", [SIZE, IMAGE, KEY_PAIR, 5, None, b"id", ["id"]])
def test_a_thing_of_another_kind_is_no_node(driver, verb, arguments, wrong):
    with pytest.raises(TypeError, match="^node: a Node, or its ID or name as text, was expected"):
        getattr(driver, verb)(wrong, *arguments)


@pytest.mark.parametrize(("verb", "arguments"), NODE_VERBS)
@pytest.mark.parametrize("empty", ["", "  ", Node("", "name", "running", [], [], None)])
def test_an_empty_name_is_no_node(driver, verb, arguments, empty):
    with pytest.raises(ValueError, match="^node: it must not be empty"):
        getattr(driver, verb)(empty, *arguments)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda d: d.create_node("", "s", "i"), ValueError, "name: it must not be empty"),
        (lambda d: d.create_node(" ", "s", "i"), ValueError, "name: it must not be empty"),
        (lambda d: d.create_node(None, "s", "i"), TypeError, "name: text was expected"),
        (lambda d: d.create_node("n", IMAGE, "i"), TypeError, "size: a NodeSize"),
        (lambda d: d.create_node("n", "", "i"), ValueError, "size: it must not be empty"),
        (lambda d: d.create_node("n", "s", SIZE), TypeError, "image: a NodeImage"),
        (lambda d: d.create_node("n", "s", ""), ValueError, "image: it must not be empty"),
        (lambda d: d.create_node("n", "s", "i", location=LOCATION), ValueError, "location: "),
        (lambda d: d.create_node("n", "s", "i", location=5), TypeError, "location: "),
        (lambda d: d.create_node("n", "s", "i", auth=RSA), Exception, "auth"),
        (lambda d: d.create_node("n", "s", "i", auth=NodeAuthSSHKey("")), ValueError, "auth: "),
        (lambda d: d.create_node("n", "s", "i", auth=NodeAuthSSHKey("x")), ValueError, "auth: "),
        (lambda d: d.create_node("n", "s", "i", ex_keyname=NODE), TypeError, "ex_keyname: "),
        (lambda d: d.create_node("n", "s", "i", ex_keyname=""), ValueError, "ex_keyname: "),
        (
            lambda d: d.create_node("n", "s", "i", auth=NodeAuthSSHKey(RSA), ex_keyname="k"),
            ValueError,
            "auth, ex_keyname: only one",
        ),
        (lambda d: d.create_node("n", "s", "i", ex_duration="1D"), ValueError, "ex_duration: "),
        (lambda d: d.ex_rebuild_node("n", SIZE), TypeError, "image: a NodeImage"),
        (lambda d: d.ex_rebuild_node("n", ""), ValueError, "image: it must not be empty"),
        (lambda d: d.ex_change_node_size("n", NODE), TypeError, "new_size: a NodeSize"),
        (lambda d: d.ex_change_node_size("n", ""), ValueError, "new_size: it must not"),
        (lambda d: d.ex_change_node_size("n", "s", 5), ValueError, "ex_duration: "),
        (lambda d: d.ex_set_metadata("n", {}), ValueError, "metadata: at least one"),
        (lambda d: d.ex_set_metadata("n", "a=b"), TypeError, "metadata: a mapping"),
        (lambda d: d.ex_set_metadata("n", {"": "b"}), ValueError, "metadata, a name: "),
        (lambda d: d.ex_set_metadata("n", {"a": 1}), TypeError, "metadata\\['a'\\]: text"),
        (lambda d: d.ex_set_metadata("n", {1: "a"}), TypeError, "metadata, a name: text"),
        (lambda d: d.ex_set_metadata("n", {"a": "\ud800"}), ValueError, "Value.1: "),
        (lambda d: d.list_nodes(ex_node_ids="id"), TypeError, "ex_node_ids: a list"),
        (lambda d: d.list_nodes(ex_node_ids=NODE), TypeError, "ex_node_ids: a list"),
        (lambda d: d.list_nodes(ex_node_ids=[SIZE]), TypeError, "ex_node_ids: a Node"),
        (lambda d: d.list_nodes(ex_node_ids=[""]), ValueError, "ex_node_ids: "),
        (lambda d: d.list_nodes(ex_names="name"), TypeError, "ex_names: a list"),
        (lambda d: d.list_nodes(ex_names=[None]), TypeError, "ex_names: text"),
        (lambda d: d.list_nodes(ex_filters={"cpu": "1"}), ValueError, "ex_filters: 'name' or "),
        (lambda d: d.list_nodes(ex_filters={"name": []}), ValueError, "ex_filters: 'name' has no"),
        (lambda d: d.list_nodes(ex_filters={"name": ""}), ValueError, "ex_filters\\['name'\\]: "),
        (lambda d: d.list_sizes(ex_filters={"status": "x"}), ValueError, "ex_filters: 'name' was"),
        (lambda d: d.list_key_pairs(ex_filters={"x": "y"}), ValueError, "ex_filters: "),
        (lambda d: d.ex_get_node(SIZE), TypeError, "node_id: a Node"),
        (lambda d: d.ex_get_node(""), ValueError, "node_id: "),
        (lambda d: d.list_volumes(SIZE), TypeError, "node: a Node"),
        (lambda d: d.list_volumes(""), ValueError, "node: "),
        (lambda d: d.get_image(5), TypeError, "image_id: "),
        (lambda d: d.get_key_pair(""), ValueError, "name: "),
        (lambda d: d.create_key_pair(""), ValueError, "name: "),
        (lambda d: d.delete_key_pair(NODE), TypeError, "key_pair: a KeyPair"),
        (lambda d: d.delete_key_pair(""), ValueError, "key_pair: "),
        (lambda d: d.import_key_pair_from_string("", RSA), ValueError, "name: "),
        (lambda d: d.import_key_pair_from_string("n", ""), ValueError, "key_material: "),
        (lambda d: d.import_key_pair_from_string("n", 5), TypeError, "key_material: "),
    ],
)
def test_arguments_that_make_no_sense(driver, call, error, words):
    with pytest.raises(error, match=words):
        call(driver)


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
def test_durations_that_are_none(driver, duration):
    with pytest.raises(ValueError, match="^duration: '72H' .* was expected, not"):
        driver.ex_renew_node("node", duration)


@pytest.mark.parametrize(
    "key_material",
    [
        "AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==",
        "ssh-rsa",
        "ssh-rsa !!!!",
        "ssh-rsa AAAA",
        "ssh-rsa AAAAB3NzaC1yc2E=",
        "ssh-dss AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==",
        "ssh-rsa c2VjcmV0c2VjcmV0c2VjcmV0",
        f"{RSA} one\n{RSA} two",
        "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_public_keys_that_are_unusable(driver, tmp_path, key_material):
    path = tmp_path / "key"
    path.write_text(key_material)
    for argument, call in (
        ("key_material", lambda: driver.import_key_pair_from_string("n", key_material)),
        ("key_material", lambda: driver.import_key_pair_from_file("n", str(path))),
        ("auth", lambda: driver.create_node("n", "s", "i", auth=NodeAuthSSHKey(key_material))),
    ):
        with pytest.raises(ValueError, match=f"^{argument}: a public key") as caught:
            call()
        assert "c2VjcmV0" not in str(caught.value)


def test_a_file_that_is_not_there(driver):
    with pytest.raises(FileNotFoundError):
        driver.import_key_pair_from_file("n", "/no/such/file")


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
def test_where_to(kwargs, url):
    assert where(**kwargs) == url


def test_the_variable_of_the_environment_goes_before_the_default_alone(monkeypatch):
    monkeypatch.setenv("MOS_URL", "http://127.0.0.1:8883/x")
    assert where() == "http://127.0.0.1:8883/x"
    assert where(url="http://a.example/") == "http://a.example/"
    for part in ({"secure": True}, {"host": "mosapi.meituan.com"}, {"port": 443}):
        assert where(**part) == "https://mosapi.meituan.com/mcs/v1"
    assert where(path="/y") == "https://mosapi.meituan.com/y"
    monkeypatch.setenv("MOS_URL", "")
    assert where() == "https://mosapi.meituan.com/mcs/v1"


def test_everything_from_the_environment(monkeypatch):
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
def test_urls_that_are_refused(monkeypatch, url):
    with pytest.raises(ValueError, match="^url: ") as caught:
        where(url=url)
    assert SECRET not in str(caught.value)
    if url:
        monkeypatch.setenv("MOS_URL", url)
        with pytest.raises(ValueError, match="^MOS_URL: ") as caught:
            where()
        assert SECRET not in str(caught.value)


def test_a_url_that_is_no_text():
    with pytest.raises(TypeError, match="^url: text was expected"):
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
        ({"http_method": "PUT"}, "http_method: 'POST' or 'GET' was expected, not 'PUT'"),
        ({"response_format": "yaml"}, "response_format: 'xml' or 'json'"),
        ({"signature_method": "MD5"}, "signature_method: 'HmacSHA256' or 'HmacSHA1'"),
        ({"ca_cert": "/no/such/file"}, "ca_cert: there is no file"),
    ],
)
def test_settings_that_are_refused(kwargs, words):
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
def test_credentials_that_are_none(key, secret, error, words):
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


def test_the_table_has_every_argument():
    assert set(REFUSED) == set(inspect.signature(MCSNodeDriver).parameters)


@pytest.mark.parametrize(
    ("argument", "value"),
    [(argument, value) for argument, values in REFUSED.items() for value in values],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else repr(value)[:20],
)
def test_an_argument_that_makes_no_sense_is_refused_by_name(argument, value):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: ") as caught:
        MCSNodeDriver(**{"key": "key", "secret": SECRET, argument: value})
    assert SECRET not in str(caught.value)


def test_large_numbers_are_no_reason_to_fail(cloud):
    settings = dict.fromkeys(
        ("timeout", "connect_timeout", "deadline", "retry_delay", "backoff"), float("inf")
    )
    driver = cloud.driver(**settings, max_tries=10**30, page_size=10**6, concurrency=10**6)
    assert driver.list_nodes() == []
    assert 0 <= driver.connection.pause(10**30) <= 30


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
def test_a_credential_that_cannot_be_right_is_named_and_not_shown(
    monkeypatch, argument, variable, value
):
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


def test_a_secret_may_have_any_letters(cloud):
    account = cloud.add_account("ключ", "秘密 with spaces")
    assert cloud.driver(account).ex_get_balance().amount == 1000
