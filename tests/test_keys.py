"""``ex_get_password_data``: plain and encrypted passwords, and what can be wrong with the key."""

import base64
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding
from ssh_keys import new_key, public_text

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.errors import (
    MCSError,
    NotFoundError,
    PasswordNotReadyError,
    PrivateKeyRequiredError,
    WrongPrivateKeyError,
)

IMAGE = "d1620e45-c561-42e7-a2a4-53ae0a389bb9"
KEY = new_key(2048)
OTHER_KEY = new_key(2048)
SHORTER_KEY = new_key(1024)


def text(key, form="PKCS8", passphrase=None):
    encryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    form = getattr(serialization.PrivateFormat, form)
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


@pytest.fixture
def keyed(driver):
    driver.import_key_pair_from_string("mine", public_text(KEY))
    return driver.create_node("keyed", "small", IMAGE, ex_keyname="mine")


def test_a_plain_password(driver):
    node = driver.create_node("plain", "small", IMAGE)
    data = driver.ex_get_password_data(node)
    assert (data.account, len(data.password), data.encrypted) == ("cirros", 12, False)
    assert (data.key_pair_id, data.key_pair_name) == (None, None)
    assert abs(data.created_at - driver.ex_get_contract(node).started_at) < timedelta(seconds=5)
    # A private key does no harm where none is needed.
    assert driver.ex_get_password_data("plain", text(KEY)) == data


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL", "OpenSSH"])
@pytest.mark.parametrize("passphrase", [None, b"open \xe4\xb8\xad"])
@pytest.mark.parametrize("how", ["text", "bytes", "path", "text path"])
def test_a_key_of_any_form_decrypts(driver, keyed, tmp_path, form, passphrase, how):
    private_key = text(KEY, form, passphrase)
    path = tmp_path / "key"
    path.write_text(private_key)
    given = {
        "text": private_key,
        "bytes": private_key.encode(),
        "path": path,
        "text path": str(path),
    }[how]
    data = driver.ex_get_password_data(keyed, given, passphrase=passphrase)
    assert (data.account, len(data.password), data.encrypted) == ("cirros", 12, True)
    assert (data.key_pair_name, bool(data.key_pair_id)) == ("mine", True)


def test_a_path_may_begin_at_home(driver, keyed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(tmp_path, "key").write_text(text(KEY))
    assert driver.ex_get_password_data(keyed, "~/key").encrypted


def test_a_key_pair_made_here_decrypts(driver):
    pair = driver.create_key_pair("made")
    node = driver.create_node("node", "small", IMAGE, ex_keyname=pair)
    assert len(driver.ex_get_password_data(node, pair.private_key).password) == 12


def test_three_different_errors(answer_format):
    with Emulator() as cloud:
        cloud.clock.freeze()
        driver = cloud.driver(response_format=answer_format)
        driver.import_key_pair_from_string("mine", public_text(KEY))
        node = driver.create_node("keyed", "small", IMAGE, ex_keyname="mine")
        with pytest.raises(PasswordNotReadyError, match="no password yet"):
            driver.ex_get_password_data(node, text(KEY))
        cloud.clock.advance(timedelta(seconds=1))
        with pytest.raises(PrivateKeyRequiredError, match="key pair 'mine'"):
            driver.ex_get_password_data(node)
        for wrong in (OTHER_KEY, SHORTER_KEY):
            with pytest.raises(WrongPrivateKeyError, match="another key pair"):
                driver.ex_get_password_data(node, text(wrong))
        with pytest.raises(NotFoundError):
            driver.ex_get_password_data("none", text(KEY))


def test_a_refusal_of_another_kind_stays_what_it_is(driver):
    key = ed25519.Ed25519PrivateKey.generate()
    driver.import_key_pair_from_string("mine", public_text(key))
    node = driver.create_node("keyed", "small", IMAGE, ex_keyname="mine")
    with pytest.raises(MCSError, match="no RSA key") as caught:
        driver.ex_get_password_data(node)
    assert not isinstance(caught.value, PasswordNotReadyError)


@pytest.mark.parametrize(
    ("private_key", "passphrase", "words"),
    [
        ("/no/such/file", None, "nor a file that can be read"),
        ("not a\0path", None, "nor a file"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----",
            None,
            "it cannot be read",
        ),
        (text(KEY, passphrase=b"right"), None, "is encrypted; passphrase: not given"),
        (text(KEY, passphrase=b"right"), "wrong", "it cannot be read.*passphrase: given"),
        (text(KEY, "OpenSSH", b"right"), None, "is encrypted|it cannot be read"),
        (text(KEY), "needless", "is not encrypted"),
        (text(ed25519.Ed25519PrivateKey.generate()), None, "an RSA key was expected"),
        (public_text(KEY).encode(), None, "it cannot be read"),
    ],
)
def test_a_key_that_cannot_be_read_is_an_error_before_anything_is_sent(
    requests_mock, private_key, passphrase, words
):
    driver = MCSNodeDriver("key", "secret")
    with pytest.raises(ValueError, match=f"^private_key: .*({words})") as caught:
        driver.ex_get_password_data("node", private_key, passphrase)
    assert "c2VjcmV0" not in str(caught.value)
    assert not requests_mock.called


def test_a_key_of_another_kind_of_thing(requests_mock):
    with pytest.raises(TypeError, match="private_key"):
        MCSNodeDriver("key", "secret").ex_get_password_data("node", 5)


def answer(requests_mock, data):
    requests_mock.post(
        "https://mosapi.meituan.com/mcs/v1",
        json={"GetPasswordDataResponse": {"account": "root", "keypairName": "mine"} | data},
    )
    return MCSNodeDriver("key", "secret", response_format="json")


def test_other_endpoints_pad_as_pkcs_1_v1_5(requests_mock):
    secret = KEY.public_key().encrypt("pass 中".encode(), padding.PKCS1v15())
    driver = answer(requests_mock, {"passwordData": base64.b64encode(secret).decode()})
    assert driver.ex_get_password_data("node", text(KEY)).password == "pass 中"
    with pytest.raises(WrongPrivateKeyError):
        driver.ex_get_password_data("node", text(OTHER_KEY))


def test_base64_may_be_wrapped(requests_mock):
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    secret = KEY.public_key().encrypt(b"password", oaep)
    driver = answer(requests_mock, {"passwordData": base64.encodebytes(secret).decode()})
    assert driver.ex_get_password_data("node", text(KEY)).password == "password"


def test_what_is_no_text_is_a_wrong_key(requests_mock):
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    secret = KEY.public_key().encrypt(b"\xff\xfe", oaep)
    driver = answer(requests_mock, {"passwordData": base64.b64encode(secret).decode()})
    with pytest.raises(WrongPrivateKeyError):
        driver.ex_get_password_data("node", text(KEY))


@pytest.mark.parametrize("data", ["plain text", "AAAA", "====", "密码"])
def test_what_is_no_encryption_is_a_wrong_key(requests_mock, data):
    driver = answer(requests_mock, {"passwordData": data})
    with pytest.raises(WrongPrivateKeyError):
        driver.ex_get_password_data("node", text(KEY))


@pytest.mark.parametrize("data", [{}, {"passwordData": ""}, {"passwordData": None}])
def test_no_password_is_a_password_that_is_not_ready(requests_mock, data):
    with pytest.raises(PasswordNotReadyError):
        answer(requests_mock, data).ex_get_password_data("node")


def test_without_the_package_cryptography(requests_mock, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    driver = MCSNodeDriver("key", "secret")
    for call in (
        lambda: driver.create_key_pair("mine"),
        lambda: driver.ex_get_password_data("node", "-----BEGIN"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'libcloud-mcs\[crypto\]'"):
            call()
    assert not requests_mock.called


@pytest.mark.parametrize("timestamp", ["soon", None, ""])
def test_a_time_that_is_none_does_not_hide_the_password(requests_mock, timestamp):
    requests_mock.post(
        "https://mosapi.meituan.com/mcs/v1",
        json={"GetPasswordDataResponse": {"passwordData": "x", "timestamp": timestamp}},
    )
    data = MCSNodeDriver("key", "secret").ex_get_password_data("node")
    assert (data.password, data.created_at) == ("x", None)
