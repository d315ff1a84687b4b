"""Every example answer of the specification comes out as the right object, field by field."""

from datetime import datetime, timezone
from decimal import Decimal

import pytest
from libcloud.compute.base import KeyPair, Node, NodeImage, NodeSize, StorageVolume
from libcloud.compute.types import NodeState, StorageVolumeState

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.errors import InsufficientBalanceError
from libcloud_mcs.records import Balance, Contract, NetworkInterface, PasswordData

URL = "https://10.168.44.160:8883/"
TESTTEST = "027ff1d8-e3a0-4e2e-a1e1-03d6ee03c353"


@pytest.fixture
def ask(requests_mock, example, answer_format):
    """Return a driver whose endpoint answers with the examples of the actions that are named."""

    def make(*actions):
        for action in actions:
            requests_mock.post(
                URL,
                additional_matcher=lambda request, action=action: (
                    f"Action={action}&" in request.text
                ),
                content=example(action, answer_format),
                headers={"Content-Type": f"application/{answer_format}"},
            )
        return MCSNodeDriver("key", "secret", url=URL, response_format=answer_format)

    return make


def utc(*args):
    return datetime(*args, tzinfo=timezone.utc)


def attributes(thing, *names):
    return tuple(getattr(thing, name) for name in names)


def test_describe_templates(ask):
    driver = ask("DescribeTemplates")
    (image,) = driver.list_images()
    assert isinstance(image, NodeImage)
    assert image.id == "019c6db6-55fa-443d-ac0c-182e3379d175"
    assert image.name == "turnkey-core-12.0-squeeze-x86.qcow2"
    assert image.driver is driver
    assert image.extra == {
        "status": "active",
        "checksum": "952a921243eecf2f457b82051e880558",
        "templateId": "019c6db6-55fa-443d-ac0c-182e3379d175",
        "templateName": "turnkey-core-12.0-squeeze-x86.qcow2",
        "size": 187367424,
    }


def test_describe_instance_types(ask):
    driver = ask("DescribeInstanceTypes")
    (size,) = driver.list_sizes()
    assert isinstance(size, NodeSize)
    assert attributes(size, "id", "name", "ram", "disk", "bandwidth", "price") == (
        "8e845438-2f6d-4c87-9216-88da6692dc2b",
        "small_net_2",
        128,
        1,
        2,
        None,
    )
    assert size.extra == {
        "instanceTypeId": "8e845438-2f6d-4c87-9216-88da6692dc2b",
        "instanceType": "small_net_2",
        "internalBandwidth": 200,
        "externalBandwidth": 2,
        "cpu": 1,
        "volume": 1024,
        "memory": 128,
    }


def test_get_balance(ask):
    balance = ask("GetBalance").ex_get_balance()
    assert balance == Balance(Decimal("16.66"), utc(2013, 7, 19, 15, 52, 2))


def test_describe_key_pairs(ask):
    pairs = ask("DescribeKeyPairs").list_key_pairs()
    assert all(isinstance(pair, KeyPair) for pair in pairs)
    assert [(pair.name, pair.fingerprint, pair.extra["keyId"]) for pair in pairs] == [
        (
            "testkey",
            "0a:43:d9:7b:17:a1:24:26:9a:0e:ce:dc:f4:0a:03:44",
            "cb97eb8b-de94-4148-849f-2b931cfce97a",
        ),
        (
            "mackey",
            "18:0e:d1:45:82:54:78:be:60:f1:a6:8f:cf:64:88:1e",
            "b7bfd341-e6d1-4971-8c45-d3ed6f97a846",
        ),
    ]


def test_import_key_pair(ask):
    driver = ask("DescribeKeyPairs", "ImportKeyPair")
    key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ== dog"
    pair = driver.import_key_pair_from_string("newkey", key)
    assert attributes(pair, "name", "fingerprint", "public_key", "private_key") == (
        "newkey",
        "0a:43:d9:7b:17:a1:24:26:9a:0e:ce:dc:f4:0a:03:44",
        key,
        None,
    )
    assert pair.extra["keyId"] == "0f4697a4-6439-4ae7-b6fe-be29ace2303c"


def test_describe_instances(ask):
    driver = ask("DescribeInstances")
    (node,) = driver.list_nodes()
    assert isinstance(node, Node)
    assert attributes(node, "id", "name", "state", "public_ips", "private_ips") == (
        TESTTEST,
        "testtest",
        NodeState.STOPPED,
        [],
        ["10.168.44.230"],
    )
    assert attributes(node, "image", "created_at", "driver") == (None, None, driver)
    assert attributes(node.size, "id", "name", "ram", "disk", "bandwidth", "price", "extra") == (
        "small",
        "small",
        128,
        None,
        None,
        None,
        {"cpu": 1},
    )
    assert node.extra == {
        "status": "ready",
        "instanceId": TESTTEST,
        "instanceName": "testtest",
        "instanceType": "small",
        "volume": 59,
        "memory": 128,
        "cpu": 1,
        "ipAddresses": "10.168.44.230",
    }


def test_describe_instance_status(ask):
    assert ask("DescribeInstanceStatus").ex_get_node_state("testtest") is NodeState.STOPPED


def test_describe_instance_volumes(ask):
    (volume,) = ask("DescribeInstanceVolumes").list_volumes("testtest")
    assert isinstance(volume, StorageVolume)
    assert attributes(volume, "id", "name", "size", "state") == (
        "0fccde09-74af-4504-9c89-52016510e9d7",
        "vdisk_testtest_1371493324.491348",
        20,
        StorageVolumeState.INUSE,
    )
    assert volume.extra == {
        "index": 1,
        "instanceId": TESTTEST,
        "volumeName": "vdisk_testtest_1371493324.491348",
        "driver": "virtio",
        "volumeId": "0fccde09-74af-4504-9c89-52016510e9d7",
        "cacheMode": "none",
        "volumeSize": 20,
        "instanceName": "testtest",
    }


def test_describe_instance_network_interfaces(ask):
    fields = {
        "networkId": "40480c6f-2c7e-4ba8-b040-92a64a948c90",
        "index": 0,
        "instanceId": TESTTEST,
        "instanceName": "testtest",
        "driver": "virtio",
        "bandwidth": 10,
        "networkName": "public",
        "ipAddress": "10.168.44.229",
        "macAddress": "00:22:34:84:24:60",
    }
    driver = ask("DescribeInstanceNetworkInterfaces")
    assert driver.ex_list_network_interfaces("testtest") == [
        NetworkInterface(
            network_id="40480c6f-2c7e-4ba8-b040-92a64a948c90",
            network_name="public",
            ip_address="10.168.44.229",
            mac_address="00:22:34:84:24:60",
            bandwidth=10,
            driver="virtio",
            index=0,
            extra=fields,
        )
    ]


def test_get_password_data(ask):
    data = ask("GetPasswordData").ex_get_password_data("system")
    assert data == PasswordData(
        account="cirros",
        password="jwFN2C3Ngmgu",
        created_at=utc(2013, 7, 22, 2, 48, 56),
        key_pair_id=None,
        key_pair_name=None,
        encrypted=False,
    )
    assert "jwFN2C3Ngmgu" not in repr(data)


def test_get_instance_contract_info(ask):
    assert ask("GetInstanceContractInfo").ex_get_contract("system") == Contract(
        started_at=utc(2013, 7, 22, 3),
        expire_at=utc(2013, 7, 25, 3),
        extend_to=utc(2013, 7, 26, 3),
    )


def test_create_instance(ask):
    driver = ask("DescribeTemplates", "DescribeInstances", "CreateInstance")
    node = driver.create_node("system", "small_net", "019c6db6-55fa-443d-ac0c-182e3379d175")
    assert attributes(node, "id", "name", "state", "public_ips", "private_ips") == (
        "022a58da-5cee-4589-9e6a-f54fa1abd269",
        "system",
        NodeState.UNKNOWN,
        [],
        [],
    )
    assert node.size.name == "small_net"
    assert node.extra == {
        "instanceId": "022a58da-5cee-4589-9e6a-f54fa1abd269",
        "instanceName": "system",
        "instanceType": "small_net",
    }


def test_get_instance_metadata(ask):
    assert ask("GetInstanceMetadata").ex_get_metadata("system") == {
        "os_version": "2011.08",
        "os_name": "Linux",
        "os_distribution": "Cirros",
    }


@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("DeleteKeyPair", lambda driver: driver.delete_key_pair("newkey")),
        ("StartInstance", lambda driver: driver.start_node("system")),
        ("StopInstance", lambda driver: driver.stop_node("system")),
        ("RebootInstance", lambda driver: driver.reboot_node("system")),
        ("RebuildInstanceRootImage", lambda driver: driver.ex_rebuild_node("system")),
        ("TerminateInstance", lambda driver: driver.destroy_node("system")),
        ("RenewInstance", lambda driver: driver.ex_renew_node("system", "72H")),
        (
            "ChangeInstanceType",
            lambda driver: driver.ex_change_node_size("system", "small_net", "1M"),
        ),
        ("PutInstanceMetadata", lambda driver: driver.ex_set_metadata("system", {"test7d": "1"})),
    ],
)
def test_answers_of_true(ask, action, call):
    # What costs money is preceded by a look.
    assert call(ask(action, "GetInstanceContractInfo", "DescribeInstances")) is True


def test_the_error_document(requests_mock, example, answer_format):
    requests_mock.post(URL, status_code=406, content=example("ErrorResponse", answer_format))
    driver = MCSNodeDriver("key", "secret", url=URL, response_format=answer_format)
    with pytest.raises(InsufficientBalanceError) as caught:
        driver.ex_renew_node("system")
    assert attributes(caught.value, "action", "http_code", "code", "message") == (
        "RenewInstance",
        406,
        406,
        "No enough balance",
    )
