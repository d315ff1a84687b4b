"""The login of Salt to a machine, without Salt."""

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
    """The path of a private key in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "key"
    path.touch(0o600)
    return str(path)


def read(agent=False, **settings):
    return Access.read(settings.get, agent)


# Settings


@pytest.mark.parametrize("name", ["private_key", "key_filename", "ssh_keyfile"])
def test_access_with_one_key_path_uses_that_key_for_ssh(key, name):
    access = read(keyname="k", **{name: "~/key"})
    assert (access.key_filename, access.password) == (key, None)


def test_access_with_ssh_key_and_private_key_uses_the_ssh_key_for_ssh(key, tmp_path):
    (tmp_path / "other").touch(0o400)
    access = read(keyname="k", private_key="~/key", ssh_keyfile="~/other")
    assert (access.private_key, access.key_filename) == (key, str(tmp_path / "other"))
    assert read(ssh_keyfile="~/key", key_filename="~/other").key_filename != key


def test_private_key_without_key_pair_is_accepted(key):
    access = read(private_key="~/key")
    assert (access.private_key, access.key_filename) == (key, None)


@pytest.mark.parametrize(
    ("settings", "usernames"),
    [
        ({}, ()),
        ({"ssh_username": "root"}, ("root",)),
        ({"ssh_username": ["a", 1]}, ("a", "1")),
        ({"ssh_username": "root", **WINDOWS}, ()),
        ({"win_username": "Admin", **WINDOWS}, ("Admin",)),
    ],
)
def test_access_takes_the_usernames_of_the_operating_system(settings, usernames):
    assert read(**settings).usernames == usernames


def test_agent_is_used_only_with_a_key_pair_and_without_other_login(key):
    assert read(agent=True, keyname="k").agent
    assert not read(agent=True).agent
    assert not read(agent=True, keyname="k", private_key="~/key").agent
    assert not read(agent=True, keyname="k", password="p").agent


def test_windows_machine_uses_the_private_key_only_for_the_password(key):
    access = read(keyname="k", private_key="~/key", **WINDOWS)
    assert (access.windows, access.private_key, access.key_filename) == (True, key, None)
    assert read(password="a", win_password="b", **WINDOWS).password == "b"
    assert read(password="a", **WINDOWS).password == "a"
    assert not read(agent=True, keyname="k", private_key="~/key", **WINDOWS).agent
    with pytest.raises(ValueError, match="private_key: the path of the private key"):
        read(agent=True, keyname="k", **WINDOWS)


def test_gateway_settings_are_converted_to_the_form_of_salt(key):
    settings = {"ssh_gateway": "bastion", "ssh_gateway_private_key": "~/key"}
    usual = {
        "ssh_gateway": "bastion",
        "ssh_gateway_user": "root",
        "ssh_gateway_key": key,
        "ssh_gateway_command": "nc -q0 %h %p",
    }
    assert read(**settings).gateway == usual
    more = {"ssh_gateway_port": 2222, "ssh_gateway_username": "jump", "ssh_gateway_command": "-W"}
    assert read(**settings, **more).gateway == {
        **usual,
        "ssh_gateway": "bastion:2222",
        "ssh_gateway_user": "jump",
        "ssh_gateway_command": "-W",
    }
    settings["ssh_gateway"] = "bastion:22"
    assert read(**settings, ssh_gateway_port=2222).gateway["ssh_gateway"] == "bastion:22"
    assert read().gateway is None


@pytest.mark.parametrize(
    ("settings", "message"),
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
def test_invalid_login_setting_is_an_error_with_its_name(settings, message):
    with pytest.raises(ValueError, match=message) as raised:
        read(**settings)
    assert "secret" not in str(raised.value)
    assert "123" not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [{"private_key": "~/key"}, {"ssh_gateway": "b", "ssh_gateway_private_key": "~/key"}],
)
def test_key_file_that_others_can_read_is_refused(key, settings, tmp_path):
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(ValueError, match="expected the mode 0400 or 0600"):
        read(**settings)


def test_key_pair_with_password_needs_no_key():
    access = read(keyname="k", password="p", ssh_username="admin")
    assert access.bootstrap_settings() == {
        "ssh_username": "admin",
        "password": "p",
        "gateway": None,
    }


def test_access_lists_the_settings_that_it_reads():
    requested = set()

    def setting(name):
        requested.add(name)

    access = Access.read(setting)
    assert access == Access()
    assert {"password", "key_filename", "ssh_keyfile", "ssh_gateway"} <= requested & set(
        NEVER_GLOBAL
    )
    assert {"private_key", "ssh_gateway"} <= requested & set(SETTINGS)


# The initial account and password


@pytest.fixture
def complete(cloud):
    """Return a function that completes a login, and returns it with the actions requested."""
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
def test_complete_login_sends_no_request(complete, access):
    assert complete(access) == (access, [])


def test_login_without_account_and_password_gets_both_from_the_endpoint(cloud, complete):
    access, requested = complete(Access())
    initial = cloud.driver().ex_get_password_data("web")
    assert access == Access(usernames=("root",), password=initial.password)
    assert requested == ["GetPasswordData"]


def test_account_or_password_of_the_profile_is_kept(cloud, complete):
    access, _ = complete(Access(password="mine"))
    assert access == Access(usernames=("root",), password="mine")
    cloud.driver().destroy_node("web")
    access, _ = complete(Access(usernames=("root", "admin")))
    initial = cloud.driver().ex_get_password_data("web")
    assert access == Access(usernames=("root", "admin"), password=initial.password)


def test_login_with_ssh_key_decrypts_the_password_with_that_key(cloud, complete, tmp_path):
    path = tmp_path / "key"
    path.write_text(cloud.driver().create_key_pair("mine").private_key)
    access, _ = complete(Access(key_filename=str(path)), image=CIRROS, ex_keyname="mine")
    assert access == Access(usernames=("cirros",), key_filename=str(path))


def test_repr_of_access_has_no_password():
    assert "secret" not in repr(Access(password="secret"))


def test_windows_machine_with_key_pair_logs_in_with_the_decrypted_password(
    cloud, complete, tmp_path
):
    path = tmp_path / "key"
    path.write_text(cloud.driver().create_key_pair("mine").private_key)
    wanted = Access(private_key=str(path), windows=True)
    access, _ = complete(wanted, ex_keyname="mine")
    initial = cloud.driver().ex_get_password_data("web", str(path))
    assert access.bootstrap_settings() == {"win_username": "root", "win_password": initial.password}


@pytest.mark.parametrize(
    ("access", "account"),
    [
        (Access(password="p"), "root"),
        (Access(agent=True), "root"),
        (Access(password="p", windows=True), "Administrator"),
    ],
)
def test_refused_request_for_the_account_falls_back_to_the_default_account(
    cloud, complete, caplog, access, account
):
    cloud.inject(error(400, "No such thing"), on="GetPasswordData")
    with caplog.at_level(logging.WARNING):
        access, _ = complete(access)
    assert access.usernames == (account,)
    warning = f"The account of the machine 'web' is unknown, Salt tries '{account}'"
    assert warning in caplog.text
    assert "No such thing" in caplog.text


def test_unreadable_key_falls_back_to_the_default_account_with_a_warning(complete, caplog, key):
    access, requested = complete(Access(key_filename=key))
    assert (access.usernames, requested) == (("root",), [])
    assert "is unknown, Salt tries 'root': private_key: " in caplog.text


def test_refused_request_for_the_password_is_an_error(cloud, complete):
    cloud.inject(error(400, "No such thing"), on="GetPasswordData")
    with pytest.raises(MCSError, match="No such thing"):
        complete(Access(usernames=("root",)))


def test_response_without_account_falls_back_to_root_with_a_warning(cloud, requests_mock, caplog):
    driver = cloud.driver(response_format="json")
    response = {"GetPasswordDataResponse": {"passwordData": "p", "account": ""}}
    requests_mock.post(cloud.url, text=json.dumps(response))
    node = Node("i-1", "web", NodeState.RUNNING, [], [], driver)
    access = Access().complete(driver, node)
    assert access == Access(usernames=("root",), password="p")
    assert "Salt tries 'root': the endpoint returned none" in caplog.text


# Secrets


def test_copy_of_guarded_settings_has_no_secret():
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
