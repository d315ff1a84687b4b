"""
``deploy_node``: libcloud's steps over real SSH, the credentials, and the errors before a node is
paid.
"""

import json
import re
from pathlib import Path
from typing import ClassVar

import libcloud.compute.base
import paramiko
import pytest
from conftest import AT_ONCE
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from libcloud.common.types import LibcloudError
from libcloud.compute.base import NodeAuthPassword, NodeAuthSSHKey, NodeImage
from libcloud.compute.deployment import (
    Deployment,
    FileDeployment,
    MultiStepDeployment,
    ScriptDeployment,
    SSHKeyDeployment,
)
from libcloud.compute.ssh import ParamikoSSHClient
from libcloud.compute.types import DeploymentError
from ssh_keys import new_key, private_text, public_text

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator, cut, drop_after, error, html, too_many

SCRIPT = "#!/bin/sh\necho $USER; pwd; echo $1; exit 3"


@pytest.fixture
def cloud(node_network, port_22):
    with Emulator(node_network=node_network, ssh=True, boot_seconds=0.2) as emulator:
        yield emulator


@pytest.fixture
def driver(cloud):
    return cloud.driver()


@pytest.fixture
def wanted(driver):
    """The arguments of a node whose account is not root."""
    (image,) = (image for image in driver.list_images() if image.name.startswith("cirros"))
    return {"name": "web", "size": min(driver.list_sizes(), key=lambda s: s.ram), "image": image}


@pytest.fixture
def key(driver, tmp_path):
    """A key pair, and the path of its private key."""
    pair, path = driver.create_key_pair("mine"), tmp_path / "key"
    path.write_text(pair.private_key)
    return pair, str(path)


def assert_was_run(script, argument=""):
    account, home, given = script.stdout.splitlines()
    assert (account, given, script.stderr, script.exit_status) == ("cirros", argument, "", 3)
    return Path(home)


def test_deploy_node_logs_in_with_generated_password(cloud, driver, wanted):
    script = ScriptDeployment(SCRIPT, args=["argument"])
    node = driver.deploy_node(deploy=script, **wanted)
    home = assert_was_run(script, "argument")
    assert [path.name for path in home.iterdir()] == [script.name]
    assert (node.name, node.state, len(cloud.ledger)) == ("web", "running", 1)


def test_deploy_node_logs_in_with_key_pair(driver, wanted, key):
    pair, path = key
    script = ScriptDeployment(SCRIPT, delete=True)
    driver.deploy_node(deploy=script, ssh_key=path, ex_keyname=pair, **wanted)
    home = assert_was_run(script)
    assert list(home.iterdir()) == []


def test_deploy_node_registers_public_key(driver, wanted, key):
    pair, path = key
    script = ScriptDeployment(SCRIPT)
    auth = NodeAuthSSHKey(pair.public_key)
    node = driver.deploy_node(deploy=script, ssh_key=path, auth=auth, **wanted)
    assert_was_run(script)
    assert driver.ex_get_password_data(node, pair.private_key).key_pair_name == "mine"


def test_deploy_node_runs_several_steps(driver, wanted, key, tmp_path):
    pair, path = key
    source = tmp_path / "settings"
    source.write_text("a = 1\n")
    script = ScriptDeployment(SCRIPT)
    steps = [FileDeployment(str(source), "settings"), SSHKeyDeployment(pair.public_key), script]
    node = driver.deploy_node(deploy=MultiStepDeployment(steps), **wanted)
    home = assert_was_run(script)
    assert (home / "settings").read_text() == "a = 1\n"
    # The key that was installed lets in.
    client = ParamikoSSHClient(node.public_ips[0], username="cirros", key_files=path)
    client.connect()
    assert client.run("cat settings") == ("a = 1\n", "", 0)
    client.close()


def test_deploy_node_logs_in_with_key_that_is_not_rsa(cloud, driver, wanted, tmp_path):
    key, path = ed25519.Ed25519PrivateKey.generate(), tmp_path / "key"
    path.write_text(private_text(key, "OpenSSH"))
    pair = driver.import_key_pair_from_string("mine", public_text(key))
    script = ScriptDeployment(SCRIPT)
    node = driver.deploy_node(
        deploy=script, ssh_username="cirros", ssh_key=path, ex_keyname=pair, **wanted
    )
    assert_was_run(script)
    assert node.state == "running"
    assert "GetPasswordData" not in [record.action for record in cloud.records]


def test_failed_login_is_error_with_the_node(cloud, driver, wanted, key):
    _, wrong_key = key
    with pytest.raises(DeploymentError) as caught:
        driver.deploy_node(deploy=ScriptDeployment(SCRIPT), ssh_key=wrong_key, timeout=1, **wanted)
    assert (len(cloud.ledger), caught.value.node.state) == (1, "running")
    assert driver.destroy_node(caught.value.node) is True


# What it logs in with


class SSH:
    """A replacement of libcloud's SSH client that keeps its arguments."""

    timeout = 10
    made: ClassVar = []
    #: The accounts that it can log in to.
    accounts: ClassVar = None

    def __init__(self, **kwargs):
        self.kwargs = kwargs
        self.made.append(kwargs)

    def connect(self):
        if self.accounts is not None and self.kwargs["username"] not in self.accounts:
            raise ValueError("this account does not let in")
        return True

    def close(self):
        return True


class Nothing(Deployment):
    """A deployment without steps."""

    def run(self, node, client):
        return node


IMAGE = "cirros-0.3.0-x86_64.qcow2"
RSA = new_key()
ED25519 = ed25519.Ed25519PrivateKey.generate()


@pytest.fixture
def emulated():
    """A cloud without SSH servers."""
    with Emulator(**AT_ONCE) as emulator:
        yield emulator


@pytest.fixture
def ssh(monkeypatch, tmp_path):
    """The arguments of SSH clients, without the keys of the user who runs the tests."""
    monkeypatch.setattr(SSH, "made", [])
    monkeypatch.setattr(SSH, "accounts", None)
    monkeypatch.setattr(libcloud.compute.base, "SSHClient", SSH)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return SSH.made


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(private_text(RSA))
    return str(path)


def deploy(cloud, **kwargs):
    given = {"deploy": Nothing(), "name": "web", "size": "small", "image": IMAGE}
    driver = cloud.driver(retry_delay=0.001)
    return driver, driver.deploy_node(**{**given, "wait_period": 0.01, **kwargs})


def asked(cloud):
    return [record.action for record in cloud.records].count("GetPasswordData")


def test_generated_password_is_used_with_its_account(emulated, ssh):
    driver, node = deploy(emulated)
    (made,) = ssh
    login = driver.ex_get_password_data(node)
    assert (made["hostname"], made["username"]) == (node.public_ips[0], "cirros")
    assert (made["password"], made["key_files"], login.account) == (login.password, None, "cirros")


@pytest.mark.parametrize("name", ["me", "root"])
def test_given_ssh_username_is_used_unchanged(emulated, ssh, key_file, name):
    deploy(emulated, ssh_username=name)
    deploy(emulated, ssh_username=name, ssh_key=key_file, name="db")
    assert [made["username"] for made in ssh] == [name, name]
    # Without a key there is still the password.
    assert [bool(made["password"]) for made in ssh] == [True, False]
    assert asked(emulated) == 1


def test_first_arguments_of_deploy_node_may_be_positional(emulated, ssh, key_file):
    driver = emulated.driver()
    driver.deploy_node(Nothing(), "me", [], 22, 10, key_file, name="web", size="small", image=IMAGE)
    assert (ssh[0]["username"], ssh[0]["key_files"]) == ("me", key_file)


#: What may become of GetPasswordData, though nothing from it is needed.
ANSWERS = {
    "refused": error(409),
    "not there": error(404),
    "forbidden": error(403),
    "broken": error(500),
    "lost": drop_after(),
    "cut": cut(10),
    "malformed": html(200),
    "busy": too_many(0),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_deployment_with_key_continues_when_password_is_refused(
    emulated, ssh, key_file, what, caplog
):
    emulated.inject(ANSWERS[what], on="GetPasswordData")
    deploy(emulated, ssh_key=key_file, auth=NodeAuthSSHKey(public_text(RSA)))
    assert (ssh[0]["username"], ssh[0]["key_files"]) == ("root", key_file)
    assert "logging in to the node 'web' without GetPasswordData, which failed: " in caplog.text
    assert asked(emulated)
    emulated.faults.clear()
    deploy(emulated, ssh_key=key_file, name="db")
    assert ssh[1]["username"] == "cirros"
    assert [made["password"] for made in ssh] == [None, None]


def deploy_elsewhere(requests_mock, row=(), login=(), **kwargs):
    """Deploy to an endpoint with given responses."""
    instance = {"instanceId": "i-1", "instanceName": "web", "status": "running"}
    instance |= {"ipAddresses": "198.18.0.1", **dict(row)}
    answers = {
        "DescribeInstances": {"InstanceSet": {"Instance": instance}},
        "CreateInstance": {"Instance": instance},
        "GetPasswordData": dict(login),
    }

    def answer(request, context):
        action = request.text.partition("Action=")[2].partition("&")[0]
        return json.dumps({f"{action}Response": answers[action]})

    requests_mock.post("https://mosapi.meituan.com/mcs/v1", text=answer)
    driver = MCSNodeDriver("key", "secret", response_format="json")
    image = NodeImage("t", "image", driver)
    driver.deploy_node(Nothing(), name="web", size="s", image=image, **kwargs)


def test_account_is_used_when_password_is_not_ready(requests_mock, ssh, key_file):
    login = {"account": "admin", "passwordData": ""}
    deploy_elsewhere(requests_mock, login=login, ssh_key=key_file)
    assert ssh[0]["username"] == "admin"
    with pytest.raises(DeploymentError, match="i-1.*no password yet"):
        deploy_elsewhere(requests_mock, login=login)


def test_account_defaults_to_root(requests_mock, ssh):
    deploy_elsewhere(requests_mock, login={"passwordData": "secret"})
    assert (ssh[0]["username"], ssh[0]["password"]) == ("root", "secret")


def test_ssh_key_password_without_key_is_the_password(emulated, ssh):
    deploy(emulated, ssh_key_password="mine", ssh_username="me")
    assert (ssh[0]["username"], ssh[0]["password"]) == ("me", "mine")
    assert asked(emulated) == 0


def test_alternate_usernames_are_tried_unchanged(emulated, ssh, key_file, monkeypatch):
    monkeypatch.setattr(SSH, "accounts", ["me"])
    deploy(emulated, ssh_alternate_usernames=("root", "me"), ssh_key=key_file)
    assert [made["username"] for made in ssh] == ["cirros", "root", "me"]
    assert asked(emulated) == 1


@pytest.mark.parametrize("private", [RSA, ED25519])
def test_key_of_an_agent_suffices(emulated, ssh, private, monkeypatch):
    driver = emulated.driver()
    driver.import_key_pair_from_string("mine", public_text(private))
    monkeypatch.setattr("paramiko.Agent.get_keys", lambda agent: ("a key",))
    deploy(emulated, ex_keyname="mine")
    # With neither password nor key, paramiko looks where keys may be.
    assert (ssh[0]["password"], ssh[0]["key_files"]) == (None, None)
    assert ssh[0]["username"] == ("cirros" if private is RSA else "root")


def test_key_in_home_folder_suffices(emulated, ssh, tmp_path):
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    (folder / "id_ed25519").write_text(private_text(ED25519, "OpenSSH"))
    deploy(emulated, auth=NodeAuthSSHKey(public_text(ED25519)))
    assert len(ssh) == len(emulated.ledger) == 1


# What is refused before a node is paid

LOCKED = private_text(RSA, passphrase=b"right")
PKCS_8 = private_text(RSA, "PKCS8")


@pytest.fixture
def refused(emulated, ssh, tmp_path):
    """Check that a deployment is refused, and that no request was sent."""

    def check(words, errors=(ValueError, TypeError), **kwargs):
        with pytest.raises(errors, match=words) as caught:
            deploy(emulated, **kwargs)
        assert emulated.records == []
        assert ssh == []
        return caught.value

    return check


@pytest.mark.parametrize(
    ("text", "password", "words"),
    [
        (LOCKED, None, "got an encrypted key and no ssh_key_password"),
        (LOCKED, "", "got an encrypted key and no ssh_key_password"),
        (LOCKED, "wrong", "got a key that cannot be read with this ssh_key_password"),
        (LOCKED, b"wrong", "got a key that cannot be read with this ssh_key_password"),
        (private_text(RSA, "OpenSSH", b"right"), None, "got an encrypted key"),
        (private_text(RSA, "OpenSSH", b"right"), "wrong", "cannot be read with this"),
        (private_text(RSA, "PKCS8", b"right"), "right", "'ssh-keygen -p -f FILE' writes it in"),
        (LOCKED[:-200], "right", "got a key that cannot be read"),
        (public_text(RSA), None, "got a public key; .* without '.pub'"),
        ("PuTTY-User-Key-File-2: ssh-rsa\n", None, "got a key in PuTTY's form"),
        ("", None, "got an empty text"),
        ("hello", None, "got a text in another form"),
    ],
)
def test_key_that_paramiko_cannot_use_is_refused(refused, tmp_path, text, password, words):
    path = tmp_path / "some"
    path.write_text(text)
    for key, argument in ((path, "ssh_key"), ([str(path)], r"ssh_key\[0\]")):
        error = refused(
            rf"^{argument}: expected a private key .*{words}",
            ssh_key=key,
            ssh_key_password=password,
        )
        assert not any(line in str(error) for line in text.splitlines()[1:-1] if line)
        assert str(path) not in str(error)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PKCS_8.encode("utf-16"), "UTF-16"),
        (b"\x30\x82\xff", "not text in UTF-8"),
        (b"x" * 70_000, "more than 65536 bytes"),
    ],
)
def test_key_file_that_is_not_text_is_refused(refused, tmp_path, data, words):
    (tmp_path / "some").write_bytes(data)
    refused(f"^ssh_key: expected a private key .*{words}", ssh_key=tmp_path / "some")


def test_missing_key_file_is_refused(refused, key_file):
    for key in ("/no/such/file", [key_file, "/no/such/file"]):
        refused(r"^ssh_key(\[1\])?: .*file that cannot be read .No such file", ssh_key=key)
    refused("^ssh_key: .*file that cannot be read .Is a directory", ssh_key="/")


def test_one_usable_key_of_several_suffices(emulated, ssh, tmp_path, key_file):
    (tmp_path / "locked").write_text(LOCKED)
    paths = [tmp_path / "locked", key_file]
    deploy(emulated, ssh_key=paths)
    assert ssh[0]["key_files"] == [str(path) for path in paths]


@pytest.mark.parametrize(
    ("private", "form", "passphrase"),
    [
        (RSA, "TraditionalOpenSSL", None),
        (RSA, "TraditionalOpenSSL", b"right"),
        (RSA, "OpenSSH", None),
        (RSA, "OpenSSH", b"right"),
        (ED25519, "OpenSSH", None),
        (ED25519, "OpenSSH", b"right"),
        (ec.generate_private_key(ec.SECP256R1()), "TraditionalOpenSSL", None),
    ],
)
@pytest.mark.parametrize("password", ["text", "bytes"])
def test_key_that_paramiko_can_use_is_accepted(
    emulated, ssh, tmp_path, monkeypatch, private, form, passphrase, password
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text(private_text(private, form, passphrase))
    if password == "text" and passphrase:
        passphrase = passphrase.decode()
    deploy(emulated, ssh_key="~/key", ssh_key_password=passphrase)
    assert (ssh[0]["key_files"], ssh[0]["password"]) == (str(tmp_path / "key"), passphrase)


def test_key_form_that_only_libcloud_reads_is_accepted_alone(emulated, ssh, tmp_path, monkeypatch):
    # With paramiko before 4 it converts PKCS #8.
    (tmp_path / "key").write_text(PKCS_8)
    monkeypatch.setattr(paramiko, "DSSKey", paramiko.RSAKey, raising=False)
    deploy(emulated, ssh_key=tmp_path / "key")
    with pytest.raises(ValueError, match=r"^ssh_key\[0\]: .*'ssh-keygen -p -f FILE' writes"):
        deploy(emulated, ssh_key=[tmp_path / "key"], name="db")
    assert len(emulated.ledger) == 1


@pytest.mark.parametrize("how", ["auth", "ex_keyname"])
def test_key_pair_without_private_key_is_refused(refused, how):
    given = {"auth": NodeAuthSSHKey(public_text(RSA)), "ex_keyname": "mine"}
    refused("^ssh_key: expected the private key of .* got none", **{how: given[how]})


def test_public_key_with_key_pair_is_refused(refused, key_file):
    auth = NodeAuthSSHKey(public_text(RSA))
    refused("^auth, ex_keyname: ", auth=auth, ex_keyname="mine", ssh_key=key_file)


def test_missing_paramiko_is_error_that_names_the_extra(refused, monkeypatch, key_file):
    monkeypatch.setattr("libcloud.compute.ssh.have_paramiko", False)
    refused(r"pip install 'libcloud-mcs\[deploy\]'", RuntimeError, ssh_key=key_file)


def test_password_given_as_auth_is_refused(refused):
    refused("password", LibcloudError, auth=NodeAuthPassword("secret"))


@pytest.mark.parametrize("source", ["/no/such/file", "/"])
def test_unreadable_file_to_deploy_is_refused(refused, source):
    steps = MultiStepDeployment([Nothing(), FileDeployment(source, "target")])
    error = refused(repr(source), OSError, deploy=steps)
    assert error.filename == source


def test_unknown_argument_of_deploy_node_is_refused(refused):
    refused("ssh_user", ssh_user="me")
    refused("ex_size", ex_size="small")


# What fails when the node was paid


def test_later_failure_of_deployment_names_the_node(emulated, ssh):
    emulated.inject(error(409, "no password here"), on="GetPasswordData")
    with pytest.raises(DeploymentError, match="no password here") as caught:
        deploy(emulated)
    (instance,) = emulated.account.state.instances()
    assert caught.value.node.id == instance.instance_id
    assert instance.instance_id in str(caught.value)
    assert (ssh, len(emulated.ledger)) == ([], 1)


def test_node_without_address_of_ssh_interface_is_error(requests_mock, ssh, key_file):
    words = "i-1.*'web' runs but has no public IPv4 address .ssh_interface='public_ips'., only"
    with pytest.raises(DeploymentError, match=words):
        deploy_elsewhere(requests_mock, {"ipAddresses": "10.0.0.1"}, timeout=0.01, ssh_key=key_file)
    assert ssh == []


class Interrupted(Deployment):
    def __init__(self, error):
        self.error = error

    def run(self, node, client):
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupted_deployment_logs_the_node(emulated, ssh, caplog, error):
    with pytest.raises(error):
        deploy(emulated, deploy=Interrupted(error))
    (node,) = eval(
        re.search(r"; (driver\.list_nodes\(.*\)) shows whether", caplog.text)[1],
        {"driver": emulated.driver()},
    )
    assert node.name == "web"
