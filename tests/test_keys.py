"""Public and private keys, in every form, and passwords that are encrypted with them."""

import base64
import re
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding
from libcloud.compute.base import NodeAuthSSHKey
from ssh_keys import new_key, private_text, public_text

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.errors import (
    MCSError,
    NotFoundError,
    PasswordNotReadyError,
    PrivateKeyRequiredError,
    WrongPrivateKeyError,
)
from libcloud_mcs.keys import generate_key_pair, load_private_key, public_key_fingerprint

IMAGE = "d1620e45-c561-42e7-a2a4-53ae0a389bb9"
KEY = new_key(1152)
OTHER_KEY = new_key(1152)
SHORTER_KEY = new_key(1024)


PRIVATE = private_text(KEY)
TYPE, BLOB = public_text(KEY).split()


@pytest.fixture
def keyed(driver):
    driver.import_key_pair_from_string("mine", public_text(KEY))
    return driver.create_node("keyed", "small", IMAGE, ex_keyname="mine")


def test_plain_password_needs_no_key(driver):
    node = driver.create_node("plain", "small", IMAGE)
    data = driver.ex_get_password_data(node)
    assert (data.account, len(data.password), data.encrypted) == ("cirros", 12, False)
    assert (data.key_pair_id, data.key_pair_name) == (None, None)
    assert abs(data.created_at - driver.ex_get_contract(node).started_at) < timedelta(seconds=5)
    # A private key does no harm where none is needed.
    assert driver.ex_get_password_data("plain", PRIVATE) == data


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL", "OpenSSH"])
@pytest.mark.parametrize("passphrase", [None, b"open \xe4\xb8\xad"])
@pytest.mark.parametrize("how", ["text", "bytes", "path", "text path"])
def test_private_key_of_any_form_decrypts_password(driver, keyed, tmp_path, form, passphrase, how):
    private_key = private_text(KEY, form, passphrase)
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


def test_path_of_private_key_may_begin_with_tilde(driver, keyed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(tmp_path, "key").write_text(PRIVATE)
    assert driver.ex_get_password_data(keyed, "~/key").encrypted


def test_generated_key_has_2048_bits():
    _, private = generate_key_pair("new")
    assert load_private_key(private).key_size == 2048


def test_created_key_pair_decrypts_password(driver):
    pair = driver.create_key_pair("made")
    node = driver.create_node("node", "small", IMAGE, ex_keyname=pair)
    assert len(driver.ex_get_password_data(node, pair.private_key).password) == 12


def test_password_errors_differ_by_cause(answer_format):
    with Emulator() as cloud:
        cloud.clock.freeze()
        driver = cloud.driver(response_format=answer_format)
        driver.import_key_pair_from_string("mine", public_text(KEY))
        node = driver.create_node("keyed", "small", IMAGE, ex_keyname="mine")
        with pytest.raises(PasswordNotReadyError, match="no password yet"):
            driver.ex_get_password_data(node, PRIVATE)
        cloud.clock.advance(timedelta(seconds=1))
        with pytest.raises(PrivateKeyRequiredError, match="key pair 'mine'"):
            driver.ex_get_password_data(node)
        for wrong in (OTHER_KEY, SHORTER_KEY):
            with pytest.raises(WrongPrivateKeyError, match="another key pair"):
                driver.ex_get_password_data(node, private_text(wrong))
        with pytest.raises(NotFoundError):
            driver.ex_get_password_data("none", PRIVATE)


def test_other_refusal_of_password_is_plain_error(driver):
    key = ed25519.Ed25519PrivateKey.generate()
    driver.import_key_pair_from_string("mine", public_text(key))
    node = driver.create_node("keyed", "small", IMAGE, ex_keyname="mine")
    with pytest.raises(MCSError, match="not an RSA key") as caught:
        driver.ex_get_password_data(node)
    assert not isinstance(caught.value, PasswordNotReadyError)


@pytest.fixture
def unused(requests_mock):
    """A driver that must not send a request."""
    yield MCSNodeDriver("key", "secret")
    assert not requests_mock.called


PUTTY = f"""PuTTY-User-Key-File-3: ssh-rsa
Encryption: none
Comment: me
Public-Lines: 1
{BLOB}
Private-Lines: 1
{base64.b64encode(b"secret" * 30).decode()}
Private-MAC: 00
"""
RFC_4716 = f"""---- BEGIN SSH2 PUBLIC KEY ----
Comment: "me"
{BLOB[:70]}
{BLOB[70:]}
---- END SSH2 PUBLIC KEY ----
"""
SSH2 = RFC_4716.replace("PUBLIC KEY", "ENCRYPTED PRIVATE KEY")
PEM, PKCS_1 = (
    KEY.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    for form in (
        serialization.PublicFormat.SubjectPublicKeyInfo,
        serialization.PublicFormat.PKCS1,
    )
)
CERTIFICATE = (
    serialization.SSHCertificateBuilder()
    .public_key(KEY.public_key())
    .serial(1)
    .type(serialization.SSHCertificateType.USER)
    .key_id(b"me")
    .valid_principals([b"me"])
    .valid_after(0)
    .valid_before(2**63)
    .sign(OTHER_KEY)
    .public_bytes()
    .decode()
)
X_509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ED25519 = public_text(ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    "given",
    [
        f"{TYPE} {BLOB}",
        f"{TYPE} {BLOB} me@here",
        f"{TYPE} {BLOB} 我\u2028\x85 \x1c",
        f"{TYPE}\t{BLOB}\tme",
        f"\ufeff{TYPE} {BLOB} 我",
        f"\r\n\r\n  {TYPE} {BLOB} me  \r\n\r\n",
        f"\r{TYPE} {BLOB} me\r",
        f"# from home\n\n{TYPE} {BLOB} me\n# that was it\n",
    ],
)
@pytest.mark.parametrize("how", ["text", "file", "path", "auth"])
def test_public_key_is_found_between_blank_lines_and_comments(cloud, tmp_path, given, how):
    driver, path = cloud.driver(), tmp_path / "key.pub"
    path.write_bytes(given.encode())
    if how == "auth":
        driver.create_node("web", "small", IMAGE, auth=NodeAuthSSHKey(given))
        (pair,) = driver.list_key_pairs()
    elif how == "text":
        pair = driver.import_key_pair_from_string("mine", given)
    else:
        pair = driver.import_key_pair_from_file("mine", path if how == "path" else str(path))
    assert pair.fingerprint == public_key_fingerprint(f"{TYPE} {BLOB}", "key")
    # Nothing but the key's line was sent.
    (sent,) = cloud.account.state.key_pairs()
    line = next(line for line in re.split("[\r\n]", given) if BLOB in line)
    assert sent.public_key == line.removeprefix("\ufeff").strip()


#: What is not a public key in OpenSSH's form, and what is said of it.
NOT_PUBLIC = {
    "empty": ("", "got an? (empty|blank)"),
    "blank": (" \n", "got an? (empty|blank)"),
    "a mark alone": ("\ufeff\n", "got an empty text"),
    "comments": ("# a\n# b\n", "got comments alone"),
    "a blob alone": (BLOB, "got a single word"),
    "a type alone": (TYPE, "got a single word"),
    "no base64": (f"{TYPE} !!!!", "not base64"),
    "cut off": (f"{TYPE} {BLOB[:-40]}", "not a whole key"),
    "cut off in a length": (f"{TYPE} {BLOB[:-4]}", "not a whole key"),
    "a type and no more": (f"{TYPE} AAAAB3NzaC1yc2E=", "not a whole key"),
    "a bit of a length": (f"{TYPE} AAAAB3NzaC1yc2EAAA==", "not a whole key"),
    "longer": (f"{TYPE} {base64.b64encode(base64.b64decode(BLOB) + b'x').decode()}", "not a whole"),
    "another type": (f"ssh-dss {BLOB}", "not a whole key of the type"),
    "two keys": (f"{TYPE} {BLOB} one\n{ED25519} two\n", "got 2 lines"),
    "a key on two lines": (f"{TYPE} {BLOB[:70]}\n{BLOB[70:]}", "got 2 lines"),
    "options": (f'from="10.0.0.1",no-pty {TYPE} {BLOB} me', "options in front .*leave them out"),
    "PuTTY": (PUTTY, "got a key in PuTTY's form; 'puttygen FILE -L' shows"),
    "RFC 4716": (RFC_4716, "RFC 4716; 'ssh-keygen -i -f FILE' converts it"),
    "SSH2": (SSH2, "a private key in the form of SSH2; 'ssh-keygen -i -f FILE' converts it"),
    "PEM": (PEM, "a public key in PEM; 'ssh-keygen -i -m PKCS8 -f FILE' converts it"),
    "PKCS #1": (PKCS_1, "a public key in PEM; 'ssh-keygen -i -m PEM -f FILE' converts it"),
    "a certificate": (CERTIFICATE, "got a certificate; .* without '-cert'"),
    "X.509": (X_509, "got a certificate"),
    "a private key": (PRIVATE, "got a private key; 'ssh-keygen -y -f FILE' shows"),
    "OpenSSH's private key": (private_text(KEY, "OpenSSH"), "got a private key"),
    "an encrypted key": (private_text(KEY, "PKCS8", b"x"), "got a private key"),
    "something else": ("Dear all,", "second word that is not base64"),
    "NULs": (f"{TYPE} {BLOB}".encode("utf-16-le").decode("latin-1"), "UTF-16"),
    "huge": (f"{TYPE} {BLOB} " + "x" * 70_000, "more than 65536 bytes|a text of 70"),
}


@pytest.mark.parametrize("what", NOT_PUBLIC)
def test_public_key_in_another_form_is_refused_and_form_named(unused, tmp_path, what):
    given, words = NOT_PUBLIC[what]
    path = tmp_path / "key"
    path.write_bytes(given.encode())
    for argument, call in (
        ("key_material", lambda: unused.import_key_pair_from_string("n", given)),
        ("key_file_path", lambda: unused.import_key_pair_from_file("n", path)),
        ("auth", lambda: unused.create_node("n", "s", "i", auth=NodeAuthSSHKey(given))),
    ):
        with pytest.raises(ValueError, match=rf"^{argument}: expected .*({words})") as caught:
            call()
        assert not isinstance(caught.value, UnicodeError)
        assert not any(secret in str(caught.value) for secret in (BLOB[40:60], PRIVATE[40:60]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (f"{TYPE} {BLOB} 我".encode("utf-16"), "UTF-16"),
        (f"\ufeff{TYPE} {BLOB} me".encode("utf-16-be"), "UTF-16"),
        (f"{TYPE} {BLOB} me".encode("utf-16-le"), "UTF-16"),
        (f"{TYPE} {BLOB} 我的钥匙".encode("gbk"), "not text in UTF-8"),
        (f"{TYPE} {BLOB} é".encode("latin-1"), "not text in UTF-8"),
        (base64.b64decode(BLOB), "not text in UTF-8"),
        (b"\0" * 100_000, "more than 65536 bytes"),
    ],
)
def test_public_key_file_in_another_encoding_is_refused(unused, tmp_path, data, words):
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^key_file_path: expected one public key .*{words}") as e:
        unused.import_key_pair_from_file("n", str(path))
    assert not isinstance(e.value, UnicodeError)


@pytest.mark.parametrize("path", ["/no/such/file", "/"])
def test_unreadable_public_key_file_is_error_that_names_it(unused, path):
    with pytest.raises(OSError, match=repr(path)):
        unused.import_key_pair_from_file("n", path)


def test_path_of_public_key_may_begin_with_tilde(cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key.pub").write_text(public_text(KEY))
    assert cloud.driver().import_key_pair_from_file("mine", "~/key.pub").name == "mine"


@pytest.mark.parametrize("empty", ["", b""])
@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL", "OpenSSH"])
def test_empty_passphrase_is_ignored(driver, keyed, form, empty):
    assert driver.ex_get_password_data(keyed, private_text(KEY, form), empty).encrypted
    with pytest.raises(ValueError, match="^passphrase: expected the .* encrypted key, got none"):
        driver.ex_get_password_data(keyed, private_text(KEY, form, b"right"), empty)


@pytest.mark.parametrize("around", ["\ufeff{}", "\r\n \r\n{}\r\n\r\n"])
@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL", "OpenSSH"])
def test_private_key_is_found_in_surrounding_text(driver, keyed, tmp_path, form, around):
    given = around.format(private_text(KEY, form).replace("\n", "\r\n"))
    path = tmp_path / "key"
    path.write_bytes(given.encode())
    for private_key in (given, given.encode(), path):
        assert driver.ex_get_password_data(keyed, private_key).encrypted


WRONG_PRIVATE = "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("private_key", "passphrase", "words"),
    [
        ("/no/such/file", None, "neither a key's text nor a file that can be read .No such file"),
        ("/", None, "nor a file that can be read .Is a directory"),
        ("", None, "got a blank text"),
        (b"", None, "got an empty text"),
        (b" \n", None, "got an empty text"),
        (WRONG_PRIVATE, None, "got a key that cannot be read$"),
        (WRONG_PRIVATE, "some", "got a key that cannot be read$"),
        (private_text(KEY, passphrase=b"right"), "wrong", "cannot be read with this passphrase"),
        (private_text(KEY, "OpenSSH", b"right"), "wrong", "cannot be read with this passphrase"),
        (private_text(ed25519.Ed25519PrivateKey.generate(), "PKCS8"), None, "of another kind"),
        (public_text(KEY), None, "got a public key; .* without '.pub'"),
        (public_text(KEY).encode(), None, "got a public key"),
        (PUTTY, None, "got a key in PuTTY's form; 'puttygen FILE -O private-openssh"),
        (PUTTY.encode(), None, "got a key in PuTTY's form"),
        (SSH2, None, "form of SSH2; 'ssh-keygen -i -f FILE' converts it"),
        (RFC_4716, None, "got a public key in the form of RFC 4716"),
        (PEM, None, "got a public key in PEM"),
        (CERTIFICATE, None, "got a certificate"),
        (X_509, None, "got a certificate"),
        ("Dear\nall", None, "got a text in another form"),
        (PRIVATE.encode("utf-16"), None, "UTF-16"),
        (PRIVATE.encode("utf-16-le"), None, "UTF-16"),
        (b"\x30\x82\x04\xa4", None, "not text in UTF-8"),
        (b"-" * 70_000, None, "more than 65536 bytes"),
        ("-----BEGIN" + "-" * 70_000, None, "a text of 70010 characters"),
        ("\ud800\n", None, "half a character"),
    ],
)
def test_unusable_private_key_is_error_before_a_request_is_sent(
    unused, tmp_path, private_key, passphrase, words
):
    tried = [private_key]
    if isinstance(private_key, bytes):
        tried.append(tmp_path / "key")
        tried[1].write_bytes(private_key)
    for given in tried:
        with pytest.raises(ValueError, match=f"^private_key: .*({words})") as caught:
            unused.ex_get_password_data("node", given, passphrase)
        assert not isinstance(caught.value, UnicodeError)
        assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL", "OpenSSH"])
def test_missing_or_needless_passphrase_is_named(unused, form):
    locked = private_text(KEY, form, b"right")
    with pytest.raises(ValueError, match="^passphrase: expected the .* encrypted key, got none"):
        unused.ex_get_password_data("node", locked)
    with pytest.raises(ValueError, match="^passphrase: expected none, .* not encrypted, got one"):
        unused.ex_get_password_data("node", private_text(KEY, form), "needless")


def test_passphrase_with_half_a_character_is_refused_and_not_shown(unused):
    passphrase = "open sesame\ud800"
    with pytest.raises(ValueError, match="^passphrase: expected text that UTF-8") as caught:
        unused.ex_get_password_data("node", PRIVATE, passphrase)
    assert "sesame" not in "".join(traceback.format_exception(caught.value))


def answer(requests_mock, data):
    requests_mock.post(
        "https://mosapi.meituan.com/mcs/v1",
        json={"GetPasswordDataResponse": {"account": "root", "keypairName": "mine"} | data},
    )
    return MCSNodeDriver("key", "secret", response_format="json")


def test_password_with_pkcs_1_v1_5_padding_is_decrypted(requests_mock):
    secret = KEY.public_key().encrypt("pass 中".encode(), padding.PKCS1v15())
    driver = answer(requests_mock, {"passwordData": base64.b64encode(secret).decode()})
    assert driver.ex_get_password_data("node", PRIVATE).password == "pass 中"
    with pytest.raises(WrongPrivateKeyError):
        driver.ex_get_password_data("node", private_text(OTHER_KEY))


def test_wrapped_base64_of_password_is_decrypted(requests_mock):
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    secret = KEY.public_key().encrypt(b"password", oaep)
    driver = answer(requests_mock, {"passwordData": base64.encodebytes(secret).decode()})
    assert driver.ex_get_password_data("node", PRIVATE).password == "password"


def test_decrypted_password_that_is_not_text_is_wrong_key(requests_mock):
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    secret = KEY.public_key().encrypt(b"\xff\xfe", oaep)
    driver = answer(requests_mock, {"passwordData": base64.b64encode(secret).decode()})
    with pytest.raises(WrongPrivateKeyError):
        driver.ex_get_password_data("node", PRIVATE)


@pytest.mark.parametrize("data", ["plain text", "AAAA", "====", "密码"])
def test_password_that_is_not_encrypted_is_wrong_key(requests_mock, data):
    driver = answer(requests_mock, {"passwordData": data})
    with pytest.raises(WrongPrivateKeyError):
        driver.ex_get_password_data("node", PRIVATE)


@pytest.mark.parametrize("data", [{}, {"passwordData": ""}, {"passwordData": None}])
def test_response_without_password_is_password_not_ready(requests_mock, data):
    with pytest.raises(PasswordNotReadyError):
        answer(requests_mock, data).ex_get_password_data("node")


def test_missing_cryptography_is_error_that_names_the_extra(requests_mock, monkeypatch):
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
def test_password_with_invalid_time_is_returned(requests_mock, timestamp):
    requests_mock.post(
        "https://mosapi.meituan.com/mcs/v1",
        json={"GetPasswordDataResponse": {"passwordData": "x", "timestamp": timestamp}},
    )
    data = MCSNodeDriver("key", "secret").ex_get_password_data("node")
    assert (data.password, data.created_at) == ("x", None)
