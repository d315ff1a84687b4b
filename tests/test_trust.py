"""Files of certificate authorities: which one is read, when, and errors that name it."""

import copy
import os
import pickle
import ssl
import subprocess
import sys

import libcloud.security
import pytest
import trustme

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.errors import MCSError

URL = "https://mcs.example/mcs/v1"
AUTHORITY = trustme.CA()
PEM = AUTHORITY.cert_pem.bytes()
PRIVATE_KEY = AUTHORITY.private_key_pem.bytes()

#: How each is named that may say which file it is, and how it is set.
SOURCES = {
    "ca_cert": lambda patch, path: {"ca_cert": path},
    "libcloud.security.CA_CERTS_PATH": lambda patch, path: patch.setattr(
        libcloud.security, "CA_CERTS_PATH", path
    ),
    "REQUESTS_CA_BUNDLE": lambda patch, path: patch.setenv("REQUESTS_CA_BUNDLE", path),
    "CURL_CA_BUNDLE": lambda patch, path: patch.setenv("CURL_CA_BUNDLE", path),
    "certifi": lambda patch, path: patch.setattr(
        "libcloud_mcs._trust.DEFAULT_CA_BUNDLE_PATH", path
    ),
}


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch):
    monkeypatch.setattr(libcloud.security, "CA_CERTS_PATH", None)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=SOURCES)
def source(request):
    return request.param


@pytest.fixture
def make(monkeypatch, source):
    """Create a driver whose file is named by a source."""

    def make(path, url=URL):
        kwargs = SOURCES[source](monkeypatch, os.fspath(path)) or {}
        return MCSNodeDriver("key", "secret", url=url, **kwargs)

    return make


UNUSABLE = {
    "gone": (None, "there is no file"),
    "empty": (b"", "an empty file"),
    "blank": (b"\n \n", "an empty file"),
    "junk": (b"junk" * 100, "a file without certificates"),
    "DER": (ssl.PEM_cert_to_DER_cert(PEM.decode()), "openssl x509 -inform der"),
    "a private key": (PRIVATE_KEY, "a private key"),
    "cut": (PEM[:200], "a file without certificates"),
}


@pytest.mark.parametrize(("content", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_file_of_authorities_is_refused_by_the_constructor(
    make, source, tmp_path, content, words
):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{source}: .*{words}") as caught:
        make(path)
    assert str(path) in str(caught.value)
    assert PRIVATE_KEY.decode().splitlines()[1] not in str(caught.value)


def test_file_without_read_permission_is_refused(make, source, tmp_path, monkeypatch):
    path = tmp_path / "ca.pem"
    path.write_bytes(PEM)

    def load(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("libcloud_mcs._trust._context", load)
    with pytest.raises(ValueError, match=rf"^{source}: .* cannot be read \(Permission denied\)"):
        make(path)


def test_ca_cert_alone_is_read_without_tls(make, source, tmp_path):
    # An endpoint without TLS has no use for it; an argument is checked nevertheless.
    if source == "ca_cert":
        with pytest.raises(ValueError, match="^ca_cert: there is no file"):
            make(tmp_path / "gone.pem", url="http://mcs.example/")
    else:
        make(tmp_path / "gone.pem", url="http://mcs.example/")


def test_proxy_with_tls_needs_file_of_authorities(monkeypatch, tmp_path):
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "gone.pem"))
    with pytest.raises(ValueError, match="^CURL_CA_BUNDLE: there is no file"):
        MCSNodeDriver("k", "s", url="http://mcs.example/", proxy_url="https://proxy.example:1")
    driver = MCSNodeDriver("k", "s", url="http://mcs.example/")
    with pytest.raises(ValueError, match="^CURL_CA_BUNDLE: there is no file"):
        driver.connection.set_http_proxy("https://proxy.example:1")


@pytest.mark.parametrize("path", ["", "a\0b", b"ca.pem"])
def test_ca_cert_that_is_not_a_path_is_refused(path):
    with pytest.raises(ValueError, match="^ca_cert: expected the path of a file"):
        MCSNodeDriver("key", "secret", ca_cert=os.fsdecode(path) if path == "" else _Path(path))


class _Path:
    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return self._path


def test_ca_cert_of_another_type_is_type_error():
    with pytest.raises(TypeError, match="^ca_cert: expected a path, got int"):
        MCSNodeDriver("key", "secret", ca_cert=5)


@pytest.fixture
def endpoint(tls):
    return tls("127.0.0.1", AUTHORITY)


def renew(driver):
    return driver.connection.call("RenewInstance", {"InstanceId": "web"})


def test_driver_works_after_file_of_authorities_is_removed(make, endpoint, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(PEM)
    driver = make(path, url=endpoint)
    path.unlink()
    assert renew(driver) == "True"
    assert renew(copy.deepcopy(driver)) == "True"


def test_relative_path_of_authorities_is_kept_when_directory_changes(
    make, endpoint, tmp_path, monkeypatch
):
    (tmp_path / "ca.pem").write_bytes(PEM)
    monkeypatch.chdir(tmp_path)
    driver = make("ca.pem", url=endpoint)
    monkeypatch.chdir("/")
    assert renew(driver) == "True"
    assert renew(pickle.loads(pickle.dumps(driver))) == "True"


def test_unpickled_driver_reads_file_of_authorities_again(make, source, endpoint, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(PEM)
    pickled = pickle.dumps(make(path, url=endpoint))
    assert renew(pickle.loads(pickled)) == "True"
    path.unlink()
    with pytest.raises(ValueError, match=f"^{source}: there is no file"):
        pickle.loads(pickled)


def test_changed_file_of_authorities_is_read_again(endpoint, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(trustme.CA().cert_pem.bytes() + b"\n# another authority\n")
    driver = MCSNodeDriver("key", "secret", url=endpoint, ca_cert=path, max_tries=1)
    with pytest.raises(MCSError, match="certificate was refused"):
        renew(driver)
    path.write_bytes(PEM)
    assert renew(MCSNodeDriver("key", "secret", url=endpoint, ca_cert=path)) == "True"


def test_empty_folder_of_authorities_trusts_no_certificate(make, endpoint, tmp_path):
    # There is nothing in it. What "openssl rehash" makes would be found.
    driver = make(tmp_path, url=endpoint)
    with pytest.raises(MCSError, match="certificate was refused"):
        renew(driver)


def test_ca_cert_precedes_libcloud_setting_and_variables(monkeypatch, tmp_path):
    order = list(SOURCES)
    for name in order:
        SOURCES[name](monkeypatch, str(tmp_path / name))
    for position, name in enumerate(order):
        kwargs = {"ca_cert": tmp_path / name} if name == "ca_cert" else {}
        with pytest.raises(ValueError, match=f"^{name}: "):
            MCSNodeDriver("key", "secret", url=URL, **kwargs)
        if name.startswith("libcloud"):
            monkeypatch.setattr(libcloud.security, "CA_CERTS_PATH", [])
        elif position:
            monkeypatch.delenv(name, raising=False)


def test_file_of_authorities_is_read_once_for_all_drivers(monkeypatch, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(PEM)
    contexts = {
        id(MCSNodeDriver("key", "secret", ca_cert=path).connection._trust.context) for _ in range(3)
    }
    assert len(contexts) == 1


def test_file_of_authorities_is_not_read_on_import(tmp_path):
    code = (
        "import libcloud_mcs.driver, ssl, sys\n"
        "ssl.SSLContext.load_verify_locations = None\n"
        "libcloud_mcs.MCSNodeDriver('key', 'secret', url='http://127.0.0.1:1/')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
