"""How Salt gets into a machine; none of it needs Salt."""

import copy
import json
import logging

import pytest
from libcloud.compute.base import Node
from libcloud.compute.types import NodeState

from libcloud_mcs.emulator import error
from libcloud_mcs.errors import MCSError
from libcloud_mcs.salt._access import NEVER_GLOBAL, SETTINGS, Access
from libcloud_mcs.salt._bootstrap import Guarded

CIRROS = "cirros-0.3.0-x86_64.qcow2"
TURNKEY = "turnkey-core-12.0-squeeze-x86.qcow2"
WINDOWS = {"win_installer": "salt.exe"}


@pytest.fixture
def key(tmp_path, monkeypatch):
    """The path of a private key, which is in a folder that is home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "key"
    path.touch(0o600)
    return str(path)


def read(agent=False, **said):
    return Access.read(said.get, agent)


# What is said


@pytest.mark.parametrize("name", ["private_key", "key_filename", "ssh_keyfile"])
def test_a_key_of_the_key_pair(key, name):
    access = read(keyname="k", **{name: "~/key"})
    assert (access.key_filename, access.password) == (key, None)


def test_what_names_a_key_for_ssh_goes_before_what_decrypts_passwords(key, tmp_path):
    (tmp_path / "other").touch(0o400)
    access = read(keyname="k", private_key="~/key", ssh_keyfile="~/other")
    assert (access.private_key, access.key_filename) == (key, str(tmp_path / "other"))
    assert read(ssh_keyfile="~/key", key_filename="~/other").key_filename != key


def test_provider_key_without_key_pair_is_accepted(key):
    access = read(private_key="~/key")
    assert (access.private_key, access.key_filename) == (key, None)


@pytest.mark.parametrize(
    ("said", "usernames"),
    [
        ({}, ()),
        ({"ssh_username": "root"}, ("root",)),
        ({"ssh_username": ["a", 1]}, ("a", "1")),
        ({"ssh_username": "root", **WINDOWS}, ()),
        ({"win_username": "Admin", **WINDOWS}, ("Admin",)),
    ],
)
def test_accounts(said, usernames):
    assert read(**said).usernames == usernames


def test_an_agent_has_the_key_of_a_key_pair_alone(key):
    assert read(agent=True, keyname="k").agent
    assert not read(agent=True).agent
    assert not read(agent=True, keyname="k", private_key="~/key").agent
    assert not read(agent=True, keyname="k", password="p").agent


def test_windows_needs_no_key_for_ssh(key):
    access = read(keyname="k", private_key="~/key", **WINDOWS)
    assert (access.windows, access.private_key, access.key_filename) == (True, key, None)
    assert read(password="a", win_password="b", **WINDOWS).password == "b"
    assert read(password="a", **WINDOWS).password == "a"
    assert not read(agent=True, keyname="k", private_key="~/key", **WINDOWS).agent
    with pytest.raises(ValueError, match="private_key: the path of the private key"):
        read(agent=True, keyname="k", **WINDOWS)


def test_a_gateway_as_salt_takes_it(key):
    said = {"ssh_gateway": "bastion", "ssh_gateway_private_key": "~/key"}
    usual = {
        "ssh_gateway": "bastion",
        "ssh_gateway_user": "root",
        "ssh_gateway_key": key,
        "ssh_gateway_command": "nc -q0 %h %p",
    }
    assert read(**said).gateway == usual
    more = {"ssh_gateway_port": 2222, "ssh_gateway_username": "jump", "ssh_gateway_command": "-W"}
    assert read(**said, **more).gateway == {
        **usual,
        "ssh_gateway": "bastion:2222",
        "ssh_gateway_user": "jump",
        "ssh_gateway_command": "-W",
    }
    said["ssh_gateway"] = "bastion:22"
    assert read(**said, ssh_gateway_port=2222).gateway["ssh_gateway"] == "bastion:22"
    assert read().gateway is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"keyname": "k"}, "private_key: the path of the private key of 'keyname' is required"),
        ({"keyname": "k", "ssh_username": "root"}, "private_key: the path of the private key"),
        ({"private_key": "/nowhere"}, "private_key: there is no file '/nowhere'"),
        ({"key_filename": "/nowhere"}, "key_filename: there is no file '/nowhere'"),
        ({"ssh_keyfile": ["/nowhere"]}, "ssh_keyfile: expected text, got a list"),
        ({"password": 123}, "password: expected text, got int; put the value in quotes"),
        ({"sudo_password": 123}, "sudo_password: expected text, got int"),
        ({"win_password": 123}, "win_password: expected text, got int"),
        ({"ssh_username": {"a": 1}}, "ssh_username: expected text, got a mapping"),
        ({"ssh_username": [["a"]]}, "ssh_username: expected text, got a list"),
        ({"ssh_gateway": "b"}, "ssh_gateway_private_key: a key is required with 'ssh_gateway'"),
        (
            {"ssh_gateway": "b", "ssh_gateway_password": "secret"},
            "ssh_gateway_password: Salt can log in to a gateway only with a key",
        ),
    ],
)
def test_a_setting_that_is_wrong_is_named(said, message):
    with pytest.raises(ValueError, match=message) as raised:
        read(**said)
    assert "secret" not in str(raised.value)
    assert "123" not in str(raised.value)


@pytest.mark.parametrize(
    "said",
    [{"private_key": "~/key"}, {"ssh_gateway": "b", "ssh_gateway_private_key": "~/key"}],
)
def test_a_key_that_others_may_read_is_refused(key, said, tmp_path):
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(ValueError, match="expected the mode 0400 or 0600"):
        read(**said)


def test_a_password_will_do_with_a_key_pair_too():
    access = read(keyname="k", password="p", ssh_username="admin")
    assert access.bootstrap_settings() == {
        "ssh_username": "admin",
        "password": "p",
        "gateway": None,
    }


def test_the_settings_that_are_read_here_are_listed():
    asked = set()

    def setting(name):
        asked.add(name)

    read_them = Access.read(setting)
    assert read_them == Access()
    assert {"password", "key_filename", "ssh_keyfile", "ssh_gateway"} <= asked & set(NEVER_GLOBAL)
    assert {"private_key", "ssh_gateway"} <= asked & set(SETTINGS)


# What a machine tells


@pytest.fixture
def ask(cloud):
    """Completes what a profile says with what a machine tells; gives what was asked for too."""
    driver = cloud.driver()

    def completed(access, image=TURNKEY, **made_with):
        node = driver.create_node("web", "small", image, **made_with)
        before = len(cloud.records)
        access = access.complete(driver, node)
        return access, [record.action for record in cloud.records][before:]

    return completed


@pytest.mark.parametrize(
    "access",
    [
        Access(usernames=("root",), password="p"),
        Access(usernames=("root",), key_filename="/key"),
        Access(usernames=("root",), agent=True),
        Access(usernames=("Administrator",), password="p", windows=True),
    ],
)
def test_nothing_is_asked_for_where_nothing_is_missing(ask, access):
    assert ask(access) == (access, [])


def test_what_is_missing_is_asked_for(cloud, ask):
    access, asked = ask(Access())
    told = cloud.driver().ex_get_password_data("web")
    assert access == Access(usernames=("root",), password=told.password)
    assert asked == ["GetPasswordData"]


def test_what_the_profile_says_stays(cloud, ask):
    access, _ = ask(Access(password="mine"))
    assert access == Access(usernames=("root",), password="mine")
    cloud.driver().destroy_node("web")
    access, _ = ask(Access(usernames=("root", "admin")))
    told = cloud.driver().ex_get_password_data("web")
    assert access == Access(usernames=("root", "admin"), password=told.password)


def test_a_key_for_ssh_decrypts_the_password_too(cloud, ask, tmp_path):
    path = tmp_path / "key"
    path.write_text(cloud.driver().create_key_pair("mine").private_key)
    access, _ = ask(Access(key_filename=str(path)), image=CIRROS, ex_keyname="mine")
    assert access == Access(usernames=("cirros",), key_filename=str(path))


def test_a_password_is_not_shown():
    assert "secret" not in repr(Access(password="secret"))


def test_windows_is_told_its_decrypted_password(cloud, ask, tmp_path):
    path = tmp_path / "key"
    path.write_text(cloud.driver().create_key_pair("mine").private_key)
    wanted = Access(private_key=str(path), windows=True)
    access, _ = ask(wanted, ex_keyname="mine")
    told = cloud.driver().ex_get_password_data("web", str(path))
    assert access.bootstrap_settings() == {"win_username": "root", "win_password": told.password}


@pytest.mark.parametrize(
    ("access", "account"),
    [
        (Access(password="p"), "root"),
        (Access(agent=True), "root"),
        (Access(password="p", windows=True), "Administrator"),
    ],
)
def test_where_only_the_account_is_missing_it_goes_on_whatever_comes(
    cloud, ask, caplog, access, account
):
    cloud.inject(error(400, "No such thing"), on="GetPasswordData")
    with caplog.at_level(logging.WARNING):
        access, _ = ask(access)
    assert access.usernames == (account,)
    said = f"The account of the machine 'web' is unknown, Salt tries '{account}'"
    assert said in caplog.text
    assert "No such thing" in caplog.text


def test_unreadable_key_is_logged(ask, caplog, key):
    access, asked = ask(Access(key_filename=key))
    assert (access.usernames, asked) == (("root",), [])
    assert "is unknown, Salt tries 'root': private_key: " in caplog.text


def test_without_a_password_it_does_not(cloud, ask):
    cloud.inject(error(400, "No such thing"), on="GetPasswordData")
    with pytest.raises(MCSError, match="No such thing"):
        ask(Access(usernames=("root",)))


def test_a_machine_without_an_account(cloud, requests_mock, caplog):
    driver = cloud.driver(response_format="json")
    answer = {"GetPasswordDataResponse": {"passwordData": "p", "account": ""}}
    requests_mock.post(cloud.url, text=json.dumps(answer))
    node = Node("i-1", "web", NodeState.RUNNING, [], [], driver)
    access = Access().complete(driver, node)
    assert access == Access(usernames=("root",), password="p")
    assert "Salt tries 'root': the endpoint returned none" in caplog.text


# What others may see


def test_a_copy_of_guarded_settings_has_no_secret():
    secret = "-----BEGIN PRIVATE KEY-----"
    machine = {
        "name": "web",
        "id": "access key",
        "key": "secret",
        "password": "secret",
        "sudo_password": "secret",
        "priv_key": "secret",
        "master_pem": secret,
        "gateway": {"ssh_gateway": "bastion", "ssh_gateway_password": "secret"},
        "minion": {"id": "web.example.com", "master": "salt"},
    }
    guarded = Guarded(machine)
    assert guarded == machine
    assert guarded["gateway"]["ssh_gateway_password"] == "secret"
    copied = copy.deepcopy(
        {"vm_": guarded, "gateway": guarded["gateway"], "master_pem": guarded["master_pem"]}
    )
    assert copied == {
        "vm_": {
            "name": "web",
            "gateway": {"ssh_gateway": "bastion"},
            "minion": {"id": "web.example.com", "master": "salt"},
        },
        "gateway": {"ssh_gateway": "bastion"},
        "master_pem": "",
    }
