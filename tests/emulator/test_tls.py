"""HTTPS: throw-away certificates, given certificates, and real clients."""

import contextlib
import ipaddress
import logging
import os
import re
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
import trustme
from conftest import AT_ONCE
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from plain_client import Client
from raw_client import RawClient, request

from libcloud_mcs import MCSNodeDriver
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.errors import MCSError


@pytest.fixture
def secure():
    """A cloud that speaks HTTPS, with a throw-away certificate."""
    with Emulator(**AT_ONCE, tls=True) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with valid and invalid certificate files."""
    folder = tmp_path_factory.mktemp("files")
    ca = trustme.CA()
    issued, other = (ca.issue_cert("127.0.0.1", "localhost") for _ in range(2))
    key = issued.private_key_pem.bytes()
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    weak = rsa.generate_private_key(65537, 1024)
    contents = {
        "ca.pem": ca.cert_pem.bytes(),
        "chain.pem": chain,
        "key.pem": key,
        "both.pem": key + chain,
        "other.key": other.private_key_pem.bytes(),
        "locked.key": private_text(load_pem_private_key(key, None), b"passphrase"),
        "weak.pem": self_signed(weak),
        "weak.key": private_text(weak),
        "chain.der": x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER),
        "junk.pem": b"-----BEGIN CERTIFICATE-----\njunk\n-----END CERTIFICATE-----\n",
        "empty.pem": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def private_text(key, passphrase=None):
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def self_signed(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    now = datetime.now(timezone.utc)
    end = now + timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, end)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def trusting(path):
    """Return a context as strict as that of Python 3.13."""
    context = ssl.create_default_context(cafile=path)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def certificate(cloud, name="127.0.0.1", host="127.0.0.1", trusted=None):
    """Connect with strict checks, and return the endpoint's certificate."""
    with (
        socket.create_connection((host, cloud.port), timeout=30) as connection,
        trusting(trusted or cloud.ca_cert).wrap_socket(connection, server_hostname=name) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))


def is_served(cloud):
    return cloud.driver().list_nodes() == []


# Throw-away certificates


def test_driver_of_emulator_trusts_its_certificate(secure, monkeypatch, files):
    assert secure.url == f"https://127.0.0.1:{secure.port}/mcs/v1"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files / "ca.pem"))
    driver = secure.driver()
    node = driver.create_node("web", "small", driver.list_images()[0])
    assert [each.id for each in driver.list_nodes()] == [node.id]


def test_other_driver_refuses_its_certificate(secure, files):
    for trusted in (None, str(files / "ca.pem")):
        driver = MCSNodeDriver(
            secure.access_key, secure.secret, url=secure.url, max_tries=1, ca_cert=trusted
        )
        with pytest.raises(MCSError, match="certificate verify failed"):
            driver.list_nodes()
    assert secure.records == []
    driver = MCSNodeDriver(secure.access_key, secure.secret, url=secure.url, ca_cert=secure.ca_cert)
    assert driver.list_nodes() == []


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_certificate_names_this_machine(secure, name):
    assert certificate(secure, name)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        certificate(secure, "mosapi.meituan.com")


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.5", x509.IPAddress(ipaddress.ip_address("127.0.0.5"))), ("localhost", None)],
)
def test_certificate_names_the_host(host, name):
    with Emulator(host=host, tls=True) as cloud:
        names = certificate(cloud, host, host).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        expected = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
        assert list(names.value) == expected + ([name] if name else [])
        assert is_served(cloud)


def test_tls_works_over_ipv6():
    with Emulator(host="::1", tls=True) as cloud:
        assert cloud.url.startswith("https://[::1]:")
        assert certificate(cloud, "::1", "::1")
        assert is_served(cloud)


def test_certificate_has_expected_extensions(secure):
    leaf = certificate(secure)
    ca = x509.load_pem_x509_certificate(Path(secure.ca_cert).read_bytes())
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    for each in (leaf, ca):
        # A client whose clock is some days off trusts it too.
        assert naive(each, "before") < now - timedelta(days=5)
        assert now + timedelta(days=20) < naive(each, "after") < now + timedelta(days=40)
    critical = {
        each.oid._name: each.critical
        for certificate in (leaf, ca)
        for each in certificate.extensions
    }
    assert critical == {
        "basicConstraints": True,
        "keyUsage": True,
        "extendedKeyUsage": False,
        "subjectAltName": False,
        "subjectKeyIdentifier": False,
        "authorityKeyIdentifier": False,
    }
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def naive(certificate, which):
    """Return a bound of a certificate's validity, with old and new versions of cryptography."""
    moment = getattr(certificate, f"not_valid_{which}_utc", None)
    return moment.replace(tzinfo=None) if moment else getattr(certificate, f"not_valid_{which}")


def test_client_can_trust_two_emulators(secure, tmp_path):
    with Emulator(tls=True) as other:
        bundle = tmp_path / "bundle.pem"
        bundle.write_text("".join(Path(each.ca_cert).read_text() for each in (secure, other)))
        for cloud in (secure, other):
            assert certificate(cloud, trusted=bundle)
        with pytest.raises(ssl.SSLCertVerificationError):
            certificate(secure, trusted=other.ca_cert)


def test_ca_file_exists_until_close(secure, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cloud = Emulator(tls=True)
    assert os.listdir(tmp_path) == []
    for _ in range(2):
        with cloud:
            path = Path(cloud.ca_cert)
            assert path.parent.parent == tmp_path
            # The private keys are nowhere.
            assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
            assert b"PRIVATE" not in path.read_bytes()
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert is_served(cloud)
        assert os.listdir(tmp_path) == []


def test_emulator_without_tls_has_no_ca_file(cloud):
    assert cloud.ca_cert is None
    assert cloud.url.startswith("http://")


def test_restarted_emulator_has_the_same_certificate(secure):
    driver, url, leaf = secure.driver(), secure.url, certificate(secure)
    for _ in range(3):
        secure.stop()
        secure.start()
        assert driver.list_nodes() == []
    assert (secure.url, certificate(secure)) == (url, leaf)


def test_page_and_control_are_served_over_https(secure):
    root = secure.url.removesuffix("/mcs/v1")
    with requests.Session() as session:
        session.verify, session.trust_env = secure.ca_cert, False
        assert "<html" in session.get(root).text
        assert session.get(f"{root}/_emulator/state").json()["url"] == secure.url


def test_missing_cryptography_is_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.x509", None)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.delitem(sys.modules, "libcloud_mcs.emulator._tls", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'libcloud-mcs\[emulator\]'"):
        Emulator(tls=True)


# The user's own


@pytest.mark.parametrize(
    "settings",
    [
        {"tls_cert": "chain.pem", "tls_key": "key.pem"},
        {"tls_cert": "both.pem"},
        {"tls_cert": "both.pem", "tls_key": "both.pem", "tls": True},
    ],
)
def test_given_certificate_is_used(files, settings, monkeypatch, tmp_path):
    # Relative paths are read at once: neither another folder nor a loss changes anything later.
    for name in ("chain.pem", "key.pem", "both.pem"):
        shutil.copy(files / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    cloud = Emulator(**settings)
    monkeypatch.chdir("/")
    shutil.rmtree(tmp_path)
    with cloud:
        assert cloud.url.startswith("https://")
        assert cloud.ca_cert is None
        assert cloud.driver(ca_cert=str(files / "ca.pem")).list_nodes() == []
        with pytest.raises(MCSError, match="certificate verify failed"):
            cloud.driver(max_tries=1).list_nodes()
        cloud.stop()
        cloud.start()
        assert certificate(cloud, trusted=files / "ca.pem")


BAD = [
    ("missing.pem", "key.pem", "tls_cert: '.*missing.pem' cannot be read: No such file"),
    ("", "key.pem", "tls_cert: '.*' cannot be read: Is a directory"),
    ("junk.pem", "key.pem", "tls_cert: '.*junk.pem' holds no readable certificate; expected a PEM"),
    ("empty.pem", "key.pem", "tls_cert: '.*empty.pem' holds no readable certificate"),
    ("chain.der", "key.pem", "tls_cert: '.*chain.der' holds no readable certificate"),
    ("key.pem", "key.pem", "tls_cert: '.*key.pem' holds no readable certificate"),
    ("chain.pem", "missing.pem", "tls_key: '.*missing.pem' cannot be read: No such file"),
    ("chain.pem", "empty.pem", "tls_key: '.*empty.pem' holds no readable private key"),
    ("chain.pem", "chain.pem", "tls_key: '.*chain.pem' holds no readable private key"),
    ("chain.pem", "locked.key", "tls_key: '.*locked.key' is encrypted; expected a key without a"),
    ("chain.pem", "other.key", "tls_key: '.*other.key' is not the key of the certificate in '.*ch"),
    ("weak.pem", "weak.key", "tls_cert: '.*weak.pem' cannot be used: EE_KEY_TOO_SMALL"),
]


@pytest.mark.parametrize(("cert", "key", "words"), BAD)
def test_unusable_certificate_file_is_refused(files, cert, key, words):
    with pytest.raises(ValueError, match=words) as caught:
        Emulator(tls_cert=files / cert, tls_key=str(files / key))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tls_key": "key.pem"}, "tls_key: it needs tls_cert"),
        ({"tls_key": "key.pem", "tls": True}, "tls_key: it needs tls_cert"),
        ({"tls": "no"}, "tls: expected true or false, got 'no'"),
        ({"tls_cert": 5}, "tls_cert: expected the path of a file or None, got 5"),
        ({"tls_cert": "a\0b"}, "tls_cert: expected the path of a file or None, got "),
    ],
)
def test_invalid_combination_of_settings_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Emulator(**settings)


# What clients do


@pytest.mark.parametrize(
    ("header", "signed_host"),
    [
        ("mosapi.meituan.com", "mosapi.meituan.com"),
        ("MOSAPI.Meituan.com:443", "mosapi.meituan.com"),
        ("mosapi.meituan.com:80", "mosapi.meituan.com:80"),
        ("mosapi.meituan.com:8443", "mosapi.meituan.com:8443"),
        ("[::1]:443", "[::1]"),
    ],
)
def test_default_port_of_the_scheme_is_not_signed(secure, header, signed_host):
    client = Client(secure.url, secure.access_key, secure.secret)
    form = client.parameters("GetBalance", {})
    form |= {"Signature": client.sign(form, host=signed_host)}
    body = urlencode(form).encode()
    context = trusting(secure.ca_cert)
    wrap = lambda plain: context.wrap_socket(plain, server_hostname="localhost")  # noqa: E731
    with RawClient(secure.port, wrap) as raw:
        kind = "Content-Type: application/x-www-form-urlencoded"
        size = f"Content-Length: {len(body)}"
        assert raw.ask("POST", "/mcs/v1", kind, size, body=body, host=header).status == 200


@pytest.mark.skipif(not shutil.which("curl"), reason="the tests of curl need curl")
def test_curl_verifies_the_certificate(secure):
    command = [
        "curl",
        "--silent",
        "--noproxy",
        "*",
        secure.url.replace("/mcs/v1", "/_emulator/clock"),
    ]
    done = subprocess.run([*command, "--cacert", secure.ca_cert], capture_output=True)
    assert (done.returncode, b'"frozen": false' in done.stdout) == (0, True)
    assert subprocess.run(command, capture_output=True).returncode == 60


@pytest.mark.skipif(not shutil.which("openssl"), reason="the tests of openssl need openssl")
def test_openssl_verifies_the_certificate(secure):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", "-x509_strict"]
    command += ["-CAfile", secure.ca_cert, "-verify_return_error", "-verify_ip", "127.0.0.1"]
    done = subprocess.run(command, input=b"", capture_output=True)
    assert b"Verify return code: 0 (ok)" in done.stdout
    assert done.returncode == 0


HELLO = bytes.fromhex("16030100c8010000c40303") + b"\0" * 40


@pytest.mark.parametrize(
    "data",
    [
        b"",
        request("GET", "/"),
        b"\0" * 100,
        b"\xff" * 100_000,
        HELLO,
        b"\x16\x03\x01\xff\xff" + b"a" * 70_000,
        b"\x15\x03\x01\x00\x02\x02\x28",
    ],
    ids=["nothing", "HTTP", "zeros", "noise", "half a hello", "a long record", "an alert"],
)
@pytest.mark.parametrize("how", ["waits", "closes", "resets"])
def test_failed_handshake_logs_at_most_one_line(secure, caplog, data, how):
    caplog.set_level(logging.INFO)
    with (
        socket.create_connection(("127.0.0.1", secure.port), timeout=30) as connection,
        contextlib.suppress(OSError),  # it was closed meanwhile
    ):
        if how == "resets":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.sendall(data)
        if how == "waits":
            assert is_served(secure)
    assert is_served(secure)
    secure.stop()
    for record in caplog.records:
        assert record.exc_info is None
        assert "Traceback" not in record.getMessage()


def test_https_request_to_http_emulator_is_error(cloud, files, caplog):
    with pytest.raises(ssl.SSLError, match="(?i)wrong.version.number"):
        certificate(cloud, trusted=files / "ca.pem")
    driver = MCSNodeDriver("key", "secret", url=cloud.url.replace("http:", "https:"), max_tries=1)
    with pytest.raises(MCSError, match="(?i)wrong.version.number"):
        driver.list_nodes()
    assert is_served(cloud)
    assert [record for record in caplog.records if record.exc_info] == []


def test_broken_tls_connection_is_closed_without_error(secure, caplog):
    context = trusting(secure.ca_cert)
    with socket.create_connection(("127.0.0.1", secure.port), timeout=30) as plain:
        descriptor = os.dup(plain.fileno())
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            secured.sendall(request("GET", "/"))
            assert secured.recv(12) == b"HTTP/1.1 200"
            # A record that was never encrypted.
            os.write(descriptor, b"\x17\x03\x03\x00\x10" + b"a" * 16)
            with contextlib.suppress(ssl.SSLError):
                while secured.recv(65536):
                    pass
        os.close(descriptor)
    assert is_served(secure)
    assert [record for record in caplog.records if record.exc_info] == []


# From the command line


@pytest.fixture
def command():
    """Start the command, and return the process."""
    processes = []

    def run(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "libcloud_mcs.emulator", "--port", "0", "--secret", "mine"]
            + [str(argument) for argument in arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_command_with_tls_prints_path_of_certificate(command):
    process = command("--tls")
    lines = [process.stdout.readline().strip() for _ in range(4)]
    url, access_key = lines[1].partition("=")[2], lines[2].partition("=")[2]
    assert lines[0] == f"MCS endpoint: {url}"
    assert url.startswith("https://127.0.0.1:")
    path = lines[3].removeprefix("CA certificate: ")
    assert MCSNodeDriver(access_key, "mine", url=url, ca_cert=path).list_nodes() == []
    process.terminate()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    assert not os.path.exists(path)


def test_command_with_certificate_files_serves_https(command, files):
    process = command("--tls-cert", files / "chain.pem", "--tls-key", files / "key.pem")
    lines = [process.stdout.readline().strip() for _ in range(3)]
    url, access_key = lines[1].partition("=")[2], lines[2].partition("=")[2]
    driver = MCSNodeDriver(access_key, "mine", url=url, ca_cert=str(files / "ca.pem"))
    assert driver.list_nodes() == []
    process.terminate()
    assert process.communicate() == ("", "")


@pytest.mark.parametrize(("cert", "key", "words"), BAD)
def test_command_with_unusable_certificate_files_exits_2(command, files, cert, key, words):
    process = command("--tls-cert", files / cert, "--tls-key", files / key)
    printed, error = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "")
    assert re.fullmatch(f"error: {words}.*\n", error)


def test_command_with_tls_does_not_warn_of_missing_encryption(command):
    process = command("--host", "0.0.0.0", "--tls")
    assert process.stdout.readline().startswith("MCS endpoint: https://0.0.0.0:")
    process.terminate()
    warning = process.stderr.read()
    assert "warning: listening on 0.0.0.0" in warning
    assert "not encrypted" not in warning
