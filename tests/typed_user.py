"""
Code as users write it, with types. mypy checks it strictly against the package (``make check``) and
against the wheel (``.ci/run``); ``test_public.py`` runs it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from libcloud.compute.base import (
    KeyPair,
    Node,
    NodeDriver,
    NodeImage,
    NodeLocation,
    NodeSize,
    StorageVolume,
)
from libcloud.compute.types import NodeState
from typing_extensions import assert_type

from libcloud_mcs import MCSNodeDriver, __version__
from libcloud_mcs.emulator import Clock, Emulator, error
from libcloud_mcs.errors import InsufficientBalanceError, MCSError, OutcomeUnknownError
from libcloud_mcs.records import Balance, Contract, NetworkInterface, PasswordData


def any_clouds_nodes(driver: NodeDriver) -> list[str]:
    """Use the driver as one of any provider."""
    return [node.name for node in driver.list_nodes()]


def what_there_is(driver: MCSNodeDriver) -> None:
    assert_type(driver.list_images(), list[NodeImage])
    assert_type(driver.get_image("cirros-0.3.0-x86_64.qcow2"), NodeImage)
    assert_type(driver.list_sizes(ex_filters={"name": ["small", "medium"]}), list[NodeSize])
    assert_type(driver.list_locations(), list[NodeLocation])
    assert_type(driver.ex_get_balance(), Balance)
    assert_type(driver.ex_get_balance().amount, Decimal)


def key_pair(driver: MCSNodeDriver) -> KeyPair:
    pair = driver.create_key_pair("mine")
    assert_type(pair, KeyPair)
    assert_type(driver.list_key_pairs(), list[KeyPair])
    return driver.get_key_pair(pair.name)


def life(driver: MCSNodeDriver, pair: KeyPair) -> None:
    size = min(driver.list_sizes(), key=lambda size: size.ram)
    image = driver.list_images()[0]
    node = driver.create_node("web", size, image, ex_keyname=pair, ex_duration=timedelta(hours=2))
    ((node, addresses),) = driver.wait_until_running([node], wait_period=0.1)
    assert_type(node, Node)
    assert_type(addresses, list[str])
    assert driver.wait_until_running(["web", node], force_ipv4=False)
    assert_type(driver.list_nodes(ex_node_ids=[node, "web"], ex_names=[node]), list[Node])
    assert driver.list_nodes(ex_filters={"status": [NodeState.RUNNING, "ready"]})
    assert_type(driver.ex_get_node_state(node), NodeState)
    assert_type(driver.ex_get_contract(node), Contract)
    expire_at: datetime = driver.ex_get_contract("web").expire_at
    assert_type(driver.ex_renew_node(node, "72H"), bool)
    assert driver.ex_get_contract(node).expire_at - expire_at == timedelta(hours=72)
    assert_type(driver.ex_set_metadata(node, {"role": "db"}), bool)
    assert_type(driver.ex_get_metadata(node), dict[str, str])
    assert_type(driver.ex_list_network_interfaces(node), list[NetworkInterface])
    assert_type(driver.list_volumes(node), list[StorageVolume])
    login = driver.ex_get_password_data(node, pair.private_key)
    assert_type(login, PasswordData)
    for each in driver.ex_iterate_nodes(ex_filters={"status": "running"}):
        assert_type(each, Node)
    assert driver.stop_node(node, ex_force=True)
    assert driver.ex_change_node_size(node, "medium", ex_duration="1M")
    assert driver.destroy_node(node)


def failures(driver: MCSNodeDriver, cloud: Emulator) -> str:
    cloud.inject(error(500), on="CreateInstance", times=1)
    try:
        driver.create_node("web", "large", "cirros-0.3.0-x86_64.qcow2")
    except InsufficientBalanceError as refused:
        return refused.message
    except OutcomeUnknownError as unknown:
        assert_type(unknown.asked, dict[str, str])
        assert_type(unknown.private_key, str | None)
        return unknown.find_out
    except MCSError as other:
        assert_type(other.http_code, int)
    return ""


def main() -> None:
    with Emulator(balance=Decimal(500), boot_seconds=0) as cloud:
        driver = cloud.driver(region="Beijing", response_format="json")
        assert_type(cloud.clock, Clock)
        what_there_is(driver)
        pair = driver.create_key_pair("mine")
        life(driver, pair)
        assert failures(driver, cloud)
        assert any_clouds_nodes(driver) == []
        assert_type(__version__, str)


if __name__ == "__main__":
    main()
