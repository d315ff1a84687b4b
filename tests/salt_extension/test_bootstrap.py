"""Salt's bootstrap of machines, over SSH to the emulator's nodes."""

import asyncio
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import AT_ONCE
from salt_master import (
    CIRROS,
    TURNKEY,
    needs_salt,
    private_key,
    profile,
    provider,
    short_sleeps,
    tags,
)
from ssh_keys import new_ed25519_key, private_text, public_text

from libcloud_mcs.emulator import Emulator
from libcloud_mcs.salt._settings import unused

pytestmark = needs_salt


@pytest.fixture
def cloud(node_network, port_22):
    # Salt tries a password at port 22, whatever "ssh_port" says.
    if not shutil.which("sftp"):
        pytest.skip("Salt's deployment needs ssh and sftp: apt install openssh-client")
    with Emulator(node_network=node_network, ssh=True, **AT_ONCE) as emulator:
        yield emulator


@pytest.fixture
def deployed(salt_master, folder):
    """Return a function that writes a profile, whose script copies a minion's files."""
    salt_master.environment |= short_sleeps(folder)
    # Instead of Salt's own script, which gets Salt from the network.
    salt_master.write("cloud.deploy.d/hello.sh", '#!/bin/sh\ncp -r "$(dirname "$0")"/* "$1"\n')
    (folder / "installed").mkdir()

    def write(**settings):
        usual = {
            "deploy": True,
            "script": "hello",
            "script_args": str(folder / "installed"),
            "tmp_dir": str(folder / "deploy"),
            "display_ssh_output": False,
        }
        profile(salt_master, **(usual | settings))

    return write


@pytest.fixture
def with_key_pair(cloud, folder):
    """Settings of machines with a key pair."""
    path = private_key(folder, cloud.driver().create_key_pair("mine").private_key)
    return {"keyname": "mine", "private_key": path}


def test_deployment_with_the_initial_password_installs_a_minion(
    salt_master, cloud, folder, deployed
):
    deployed(image=TURNKEY)
    result = salt_master.run("-p", "small", "web")
    assert result.data["web"]["deployed"] is True, result.stderr
    import yaml  # comes with Salt

    minion = yaml.safe_load((folder / "installed" / "minion").read_text())
    assert (minion["id"], minion["master"]) == ("web", "salt.example.com")
    accepted = next(folder.glob("**/pki/master/minions/web"))
    installed = (folder / "installed" / "minion.pub").read_text()
    assert accepted.read_text().strip() == installed.strip()
    assert tags(salt_master)[-1] == "salt/cloud/web/created"
    deploying = dict(salt_master.events)["salt/cloud/web/deploying"]["kwargs"]
    (node,) = cloud.driver().list_nodes()
    assert [deploying["host"]] == [deploying["vm_"]["ssh_host"]] == node.public_ips
    assert not {"key", "password", "priv_key"} & set(deploying["vm_"])
    salt_master.run("-d", "web")
    assert not accepted.exists()


def test_deployment_with_a_private_key_installs_a_minion(
    salt_master, folder, deployed, with_key_pair
):
    # An account that is not root, and need not become root for this script.
    deployed(image=CIRROS, sudo=False, **with_key_pair)
    result = salt_master.run("-p", "small", "web")
    assert result.data["web"]["deployed"] is True, result.stderr
    assert (folder / "installed" / "minion").exists()


UNKNOWN_USER = {"ssh_username": "unknown", "wait_for_passwd_maxtries": 1}


def test_machine_that_refuses_the_login_is_destroyed_on_failure(
    salt_master, cloud, deployed, with_key_pair
):
    deployed(image=TURNKEY, on_failure="destroy", **UNKNOWN_USER, **with_key_pair)
    result = salt_master.run("-p", "small", "web")
    assert "; the machine was destroyed. Cause: " in result.stderr
    assert re.search(r"ssh cannot log in to [0-9.]+ as 'unknown'", result.stderr)
    assert result.status == 1
    assert (len(cloud.ledger), cloud.driver().list_nodes()) == (1, [])


def test_machine_with_a_closed_port_is_an_error_after_the_timeout(salt_master, cloud, deployed):
    deployed(image=TURNKEY, ssh_port=1, ssh_connect_timeout=0.01)
    result = salt_master.run("-p", "small", "web")
    (node,) = cloud.driver().list_nodes()
    assert f"port 1 of {node.public_ips[0]} did not open within 0.01 s" in result.stderr
    assert result.status == 1


# inline_script


@pytest.fixture
def inline(deployed, folder):
    """Functions that write a profile with commands, and return the output of the commands."""

    def write(**settings):
        command = f"echo $USER >> {folder}/written"
        deployed(**({"deploy": False, "inline_script": [command, command]} | settings))

    def written():
        return (folder / "written").read_text().split()

    return write, written


def test_inline_script_without_deployment_runs_each_command(salt_master, cloud, inline):
    write, written = inline
    write(image=TURNKEY)
    result = salt_master.run("-p", "small", "web")
    assert result.data["web"]["deployed"] is False
    assert result.status == 0
    assert written() == ["root", "root"]
    (node,) = cloud.driver().list_nodes()
    assert result.data["web"]["id"] == node.id
    assert tags(salt_master)[-2:] == ["salt/cloud/web/deploying", "salt/cloud/web/created"]
    # Without a minion there is no key of a minion.
    assert not list(salt_master.folder.glob("**/pki/master/minions/web"))


def test_inline_script_with_private_key_and_without_sudo_runs_as_the_account(
    salt_master, inline, with_key_pair
):
    write, written = inline
    write(image=CIRROS, sudo=False, **with_key_pair)
    result = salt_master.run("-p", "small", "web")
    assert result.data["web"]["deployed"] is False, result.stderr
    assert written() == ["cirros", "cirros"]


def test_inline_script_with_deployment_runs_after_the_installation(salt_master, folder, inline):
    write, written = inline
    write(image=TURNKEY, deploy=True)
    result = salt_master.run("-p", "small", "web")
    assert result.data["web"]["deployed"] is True, result.stderr
    assert written() == ["root", "root"]
    assert (folder / "installed" / "minion").exists()


def test_inline_script_with_a_map_runs_on_each_machine(salt_master, inline):
    write, written = inline
    write(image=TURNKEY)
    salt_master.write("web.map", {"small": ["web1", "web2"]})
    made = salt_master.run("-m", str(salt_master.folder / "web.map"), "-P").data
    assert {name: each["deployed"] for name, each in made.items()} == {"web1": False, "web2": False}
    assert written() == ["root"] * 4


def test_inline_script_from_salt_call_runs(salt_master, folder, inline):
    _, written = inline
    result = salt_master.salt_call(
        "cloud.create",
        "emulated",
        "web",
        f"image={TURNKEY}",
        "size=small",
        "deploy=False",
        f"inline_script=['echo $USER > {folder}/written']",
        "display_ssh_output=False",
    )
    assert result.data["local"]["web"]["deployed"] is False
    assert written() == ["root"]


def test_inline_script_without_login_is_an_error(salt_master, cloud, inline):
    write, _ = inline
    write(image=TURNKEY, **UNKNOWN_USER)
    result = salt_master.run("-p", "small", "web")
    # Salt itself reports no error.
    assert re.search(r"ssh cannot log in to [0-9.]+ as 'unknown'", result.stderr)
    assert result.status == 1


def test_inline_script_with_invalid_settings_is_refused_before_any_charge(
    salt_master, cloud, inline
):
    write, _ = inline
    cloud.driver().create_key_pair("mine")
    for settings, message in [
        ({"keyname": "mine"}, "private_key: the path of the private key of 'keyname' is required"),
        ({"inline_script": "date"}, "inline_script: expected a list of commands"),
    ]:
        write(image=TURNKEY, **settings)
        result = salt_master.run("-p", "small", "web")
        assert message in result.stderr
        assert result.status == 1
    assert list(cloud.ledger) == []


# Accounts, keys and gateways


@pytest.fixture
def ed25519(cloud, folder):
    """Settings of machines with a key pair that cannot encrypt passwords."""
    key = new_ed25519_key()
    public_key, text = public_text(key), private_text(key, "OpenSSH")
    cloud.driver().import_key_pair_from_string("modern", public_key)
    return {"keyname": "modern", "private_key": private_key(folder, text)}


def test_ed25519_key_with_an_account_requests_no_password(salt_master, cloud, inline, ed25519):
    write, written = inline
    write(image=CIRROS, ssh_username="cirros", sudo=False, **ed25519)
    result = salt_master.run("-p", "small", "web")
    assert result.status == 0, result.stderr
    assert written() == ["cirros", "cirros"]
    assert "GetPasswordData" not in [record.action for record in cloud.records]


def test_ed25519_key_without_an_account_logs_in_as_root(salt_master, inline, ed25519):
    write, written = inline
    write(image=TURNKEY, deploy=True, **ed25519)
    result = salt_master.run("-p", "small", "web")
    assert result.data["web"]["deployed"] is True, result.stderr
    assert written() == ["root", "root"]
    warning = "The account of the machine 'web' is unknown, Salt tries 'root': "
    assert warning in result.stderr


def test_ssh_username_root_replaces_the_account_of_the_image(
    salt_master, cloud, inline, with_key_pair
):
    write, _ = inline
    # The account of this image is "cirros".
    write(image=CIRROS, ssh_username="root", wait_for_passwd_maxtries=1, **with_key_pair)
    result = salt_master.run("-p", "small", "web")
    assert re.search(r"ssh cannot log in to [0-9.]+ as 'root'", result.stderr)


def test_several_accounts_are_tried_in_order(salt_master, inline):
    write, written = inline
    # As in Salt's bootstrap, the settings for all clouds are not used for a login.
    everywhere = {"password": "wrong", "key_filename": "/nowhere", "ssh_gateway": "nowhere"}
    salt_master.write("cloud.conf.d/everywhere.conf", everywhere)
    write(image=TURNKEY, ssh_username=["nobody", "root"], wait_for_passwd_maxtries=1)
    result = salt_master.run("-p", "small", "web")
    assert result.status == 0, result.stderr
    assert written() == ["root", "root"]


def test_account_of_the_provider_without_a_profile_is_used(
    salt_master, cloud, folder, inline, with_key_pair
):
    # Without a profile, Salt does not merge the provider's settings into those of a machine.
    _, written = inline
    known = {"ssh_username": "cirros", "sudo": False, "display_ssh_output": False}
    provider(salt_master, cloud, **known, **with_key_pair)
    result = salt_master.salt_call(
        "cloud.create",
        "emulated",
        "web",
        f"image={CIRROS}",
        "size=small",
        f"inline_script=['echo $USER > {folder}/written']",
    )
    assert result.status == 0, result.stderr
    assert written() == ["cirros"]
    assert "GetPasswordData" not in [record.action for record in cloud.records]


@pytest.fixture
def gateway():
    """The port of an SSH server that serves as a gateway, and the commands that it received."""
    import asyncssh

    class JumpHost(asyncssh.SSHServer):
        def public_key_auth_supported(self):
            return True

        def validate_public_key(self, username, key):
            return username == "jump"

    async def carry(source, to):
        while data := await source.read(65536):
            to.write(data)
        to.write_eof()

    async def run(process):
        commands.append(process.command)
        words = commands[-1].split()
        if words[:2] == ["nc", "-q0"]:
            from_machine, to_machine = await asyncio.open_connection(*words[2:])
            await asyncio.gather(
                carry(process.stdin, to_machine), carry(from_machine, process.stdout)
            )
            to_machine.close()
        process.exit(0)

    async def serve():
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=JumpHost,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            process_factory=run,
            encoding=None,
        )
        return server.get_port(), server

    async def stop(server):
        server.close()
        await server.wait_closed()

    commands, loop = [], asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    port, server = asyncio.run_coroutine_threadsafe(serve(), loop).result(60)
    yield port, commands
    asyncio.run_coroutine_threadsafe(stop(server), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_deployment_through_a_gateway_installs_a_minion(
    salt_master, cloud, folder, deployed, with_key_pair, gateway
):
    port, commands = gateway
    deployed(
        image=TURNKEY,
        ssh_gateway="127.0.0.1",
        ssh_gateway_port=port,
        ssh_gateway_username="jump",
        ssh_gateway_private_key=with_key_pair["private_key"],
        **with_key_pair,
    )
    result = salt_master.run("-p", "small", "web")
    assert result.data["web"]["deployed"] is True, result.stderr
    assert (folder / "installed" / "minion").exists()
    (node,) = cloud.driver().list_nodes()
    (address,) = node.public_ips
    assert set(commands) == {"date", f"nc -z -w5 -q0 {address} 22", f"nc -q0 {address} 22"}


def test_key_in_an_agent_logs_in(salt_master, folder, inline, with_key_pair):
    if not shutil.which("ssh-agent"):
        pytest.skip("there is no ssh-agent: apt install openssh-client")
    environment = {**os.environ, "SSH_AUTH_SOCK": str(folder / "agent")}
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", folder / "agent"], stdout=subprocess.PIPE, text=True
    )
    try:
        # The agent prints its socket as soon as it listens.
        assert agent.stdout.readline()
        key = ["ssh-add", "-q", with_key_pair["private_key"]]
        subprocess.run(key, env=environment, check=True)
        salt_master.environment |= environment
        salt_master.write("cloud.conf.d/agent.conf", {"ssh_agent": True})
        write, written = inline
        write(image=CIRROS, keyname="mine", ssh_username="cirros", sudo=False)
        result = salt_master.run("-p", "small", "web")
    finally:
        agent.terminate()
        agent.communicate()
    assert result.status == 0, result.stderr
    assert written() == ["cirros", "cirros"]


def test_machine_without_key_pair_uses_the_password_instead_of_the_agent(
    salt_master, folder, inline
):
    salt_master.environment["SSH_AUTH_SOCK"] = str(folder / "agent")
    salt_master.write("cloud.conf.d/agent.conf", {"ssh_agent": True})
    write, written = inline
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(folder / "agent"))
        write(image=TURNKEY)
        result = salt_master.run("-p", "small", "web")
    assert result.status == 0, result.stderr
    assert written() == ["root", "root"]


@pytest.mark.skipif(importlib.util.find_spec("winrm"), reason="it would wait for Windows")
def test_windows_machine_gets_the_initial_account(salt_master, cloud, deployed):
    deployed(image=TURNKEY, win_installer="salt.exe", use_winrm=True)
    result = salt_master.run("-p", "small", "web")
    # Salt needs a package for WinRM.
    assert "Failed to start Salt on host web" in result.stderr
    assert "WinRM" in result.stderr
    deploying = dict(salt_master.events)["salt/cloud/web/deploying"]["kwargs"]
    assert deploying["username"] == "root"
    assert deploying["win_installer"] == "salt.exe"


def test_map_with_a_new_master_connects_the_minion_to_the_master(
    salt_master, cloud, folder, deployed
):
    deployed(image=TURNKEY)
    own = {"script_args": str(folder / "installed2")}
    (folder / "installed2").mkdir()
    salt_master.write("web.map", {"small": [{"salt": {"make_master": True}}, {"web": own}]})
    provider(salt_master, cloud, minion={})
    result = salt_master.run("-m", str(salt_master.folder / "web.map"))
    assert {name: made["deployed"] for name, made in result.data.items()} == {
        "salt": True,
        "web": True,
    }, result.stderr
    # The key is on the master and nowhere else: the fixture checks the rest.
    assert "PRIVATE KEY" in (folder / "installed" / "master.pem").read_text()
    assert "PRIVATE KEY" not in result.stdout
    import yaml  # comes with Salt

    minion = yaml.safe_load((folder / "installed2" / "minion").read_text())
    (address,) = cloud.driver().ex_get_node("salt").public_ips
    assert minion["master"] == address


def test_deployment_with_salts_own_settings_uses_each(
    salt_master, cloud, folder, deployed, with_key_pair
):
    deployed(
        image=TURNKEY,
        script_env={"COLOUR": "red"},
        preflight_cmds=[f"touch {folder}/before"],
        file_map={str(folder / "master"): str(folder / "copied")},
        minion={"master": "elsewhere.example.com", "id": "known"},
        grains={"role": "db"},
        salt_interface="private_ips",
        wait_for_passwd_timeout=77,
        hard_timeout=99,
        **with_key_pair,
    )
    script = f'#!/bin/sh\ntest -e {folder}/before && echo $COLOUR > "$1"/env\n'
    salt_master.write("cloud.deploy.d/hello.sh", script)
    result = salt_master.run("-p", "small", "web")
    assert result.data["web"]["deployed"] is True, result.stderr
    assert "settings that neither" not in result.stderr
    assert (folder / "installed" / "env").read_text() == "red\n"
    assert (folder / "copied").read_text() == (folder / "master").read_text()
    (accepted,) = salt_master.folder.glob("**/pki/master/minions/*")
    assert accepted.name == "known"
    log = salt_master.log.read_text()
    # Before Salt's bootstrap, and in it.
    assert log.count("SSH command: 'timeout 99 ssh ") == 2
    assert "-oConnectTimeout=77" in log
    deploying = dict(salt_master.events)["salt/cloud/web/deploying"]["kwargs"]
    (node,) = cloud.driver().list_nodes()
    assert [deploying["salt_host"]] == node.private_ips
    assert [deploying["host"]] == node.public_ips


def test_unused_settings_are_logged(salt_master, cloud):
    profile(salt_master, duraton="2H", userdata_file="/etc/hosts", minion={"id": "x"}, tag={})
    result = salt_master.run("-p", "small", "web")
    assert result.status == 0
    assert (
        "The machine 'web' has settings that neither Salt nor the mcs driver reads: duraton, tag,"
        " userdata_file"
    ) in result.stderr


def test_settings_that_salt_reads_are_not_reported_as_unused():
    (salt,) = importlib.util.find_spec("salt").submodule_search_locations
    source = "".join(
        (Path(salt) / file).read_text() for file in ("cloud/__init__.py", "utils/cloud.py")
    )
    names = set(re.findall(r'get_cloud_config_value\(\s*"(\w+)"', source))
    names |= set(re.findall(r'\bvm_(?:\[|\.get\()"(\w+)"', source))
    assert {"deploy", "minion", "ssh_username", "salt_host", "preseed_minion_keys"} <= names
    # The driver makes the first from other settings; MCS does not have the second.
    names -= {"gateway", "userdata_template"}
    assert unused(dict.fromkeys(names), ()) == []
