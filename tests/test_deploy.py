"""libcloud's own ``deploy_node`` over real SSH, with its own steps and default arguments."""

from pathlib import Path

import pytest
from libcloud.compute.base import NodeAuthSSHKey
from libcloud.compute.deployment import (
    FileDeployment,
    MultiStepDeployment,
    ScriptDeployment,
    SSHKeyDeployment,
)
from libcloud.compute.ssh import ParamikoSSHClient
from libcloud.compute.types import DeploymentError

from libcloud_mcs.emulator import Emulator

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
    """What a node is made of; its account is not root."""
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


def test_with_the_generated_password(cloud, driver, wanted):
    script = ScriptDeployment(SCRIPT, args=["argument"])
    node = driver.deploy_node(deploy=script, **wanted)
    home = assert_was_run(script, "argument")
    assert [path.name for path in home.iterdir()] == [script.name]
    assert (node.name, node.state, len(cloud.ledger)) == ("web", "running", 1)


def test_with_a_key_pair(driver, wanted, key):
    pair, path = key
    script = ScriptDeployment(SCRIPT, delete=True)
    driver.deploy_node(deploy=script, ssh_key=path, ex_keyname=pair, **wanted)
    home = assert_was_run(script)
    assert list(home.iterdir()) == []


def test_with_a_public_key(driver, wanted, key):
    pair, path = key
    script = ScriptDeployment(SCRIPT)
    auth = NodeAuthSSHKey(pair.public_key)
    node = driver.deploy_node(deploy=script, ssh_key=path, auth=auth, **wanted)
    assert_was_run(script)
    assert driver.ex_get_password_data(node, pair.private_key).key_pair_name == "mine"


def test_several_steps(driver, wanted, key, tmp_path):
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


def test_a_node_that_does_not_let_in_is_not_lost(cloud, driver, wanted, key):
    _, wrong_key = key
    with pytest.raises(DeploymentError) as caught:
        driver.deploy_node(deploy=ScriptDeployment(SCRIPT), ssh_key=wrong_key, timeout=1, **wanted)
    assert (len(cloud.ledger), caught.value.node.state) == (1, "running")
    assert driver.destroy_node(caught.value.node) is True
