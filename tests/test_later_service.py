"""
Responses of the later service (``tests/fixtures/2017``) come out as the right objects, and the
emulator's edition of 2017 sends responses of the same shape.
"""

import json
import re
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qsl

import pytest
from conftest import FIXTURES
from libcloud.compute.base import Node, NodeImage, NodeLocation
from libcloud.compute.types import NodeState
from lxml import etree
from plain_client import Client, element_tree, texts

from libcloud_mcs.actions import ACTIONS, Kind
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Clock, Emulator
from libcloud_mcs.errors import MCSError, OutcomeUnknownError
from libcloud_mcs.records import Contract, NetworkInterface

URL = "https://10.168.44.160:8883/"
WEB = "5d9f2c3e-7a41-4b0e-9c68-2f1d8e6b3a90"
ZONE = "9b3f6a52-1c7d-4e80-b2a4-6f0d5c8e7193"
SOLD_OUT = "c47e1d08-52fb-4a96-8d3c-0a9b7e6f2145"
IMAGE = "63d0f8b2-e7a1-4952-8c4d-9f5b0e2a7c16"
GROUP = "e0b5c9a7-3d14-4f62-8e9b-7c2a6d1f0b35"

#: The later fixtures, without the suffix of the format.
NAMES = sorted(path.stem for path in (FIXTURES / "2017").glob("*.xml"))
README = (FIXTURES / "2017" / "README.md").read_text(encoding="utf-8")


class Endpoint:
    """A mocked endpoint: an action is responded to with its fixtures, one after another."""

    def __init__(self, mocker, read, answer_format):
        self._mocker, self._read, self._format = mocker, read, answer_format
        self.driver = MCSNodeDriver(
            "key", "secret", url=URL, response_format=answer_format, max_tries=2, retry_delay=0.001
        )

    def respond(self, *names, status=200, action=None):
        """
        Set the responses of one action. The last response is repeated.

        :param names: The fixtures, without the suffix of the format.
        :param action: The action, where the name of the first fixture does not begin with it.
        """
        action = action or names[0].partition("-")[0]
        self._mocker.post(
            URL,
            [
                {
                    "content": self._read(name, self._format),
                    "status_code": status,
                    "headers": {"Content-Type": f"application/{self._format}"},
                }
                for name in names
            ],
            additional_matcher=lambda request: f"Action={action}&" in request.text,
        )
        return self

    def requests(self, action):
        """Return the parameters of the requests for an action."""
        forms = [dict(parse_qsl(request.text)) for request in self._mocker.request_history]
        return [form for form in forms if form["Action"] == action]


@pytest.fixture
def endpoint(requests_mock, later_example, answer_format):
    return Endpoint(requests_mock, later_example, answer_format)


@pytest.fixture
def driver(endpoint):
    return endpoint.driver


def utc(*args):
    return datetime(*args, tzinfo=timezone.utc)


# The fixtures


def test_each_fixture_has_the_same_content_in_both_formats(later_example):
    assert len(NAMES) > 20
    for name in NAMES:
        ((root, tree),) = json.loads(later_example(name, "json")).items()
        element = etree.fromstring(later_example(name, "xml"))
        assert (element.tag, element_tree(element)) == (root, texts(tree)), name


def test_the_source_of_each_fixture_is_documented():
    assert set(re.findall("`([A-Za-z]+(?:-[a-z]+)*)`", README)) >= set(NAMES)


# Images, sizes, locations


def test_a_type_without_disk_and_bandwidth_is_a_size_of_zero(endpoint, driver):
    endpoint.respond("DescribeInstanceTypes")
    sizes = driver.list_sizes()
    assert [(size.name, size.ram, size.disk, size.bandwidth) for size in sizes] == [
        ("C1_M1", 1024, 0, 0),
        ("C2_M4", 4096, 0, 0),
        ("C4_M16", 16384, 0, 0),
        ("C8_M8_D200_N50", 8192, 200, 50),
        ("C4_M4_D240_N1", 4096, 240, 1),
    ]
    assert [size.extra["volume"] for size in sizes] == [0, 0, 0, 204800, 245760]


def test_is_public_of_a_template_is_in_extra(endpoint, driver):
    endpoint.respond("DescribeTemplates")
    images = driver.list_images()
    assert [(image.name, image.extra["is_public"]) for image in images] == [
        ("CentOS-7.2-x86_64", "True"),
        ("web-01 之前", "False"),
    ]


def test_zones_are_locations(endpoint, driver):
    endpoint.respond("DescribeAvailabilityZones")
    locations = driver.list_locations()
    assert all(isinstance(location, NodeLocation) for location in locations)
    assert [(each.id, each.name, each.country) for each in locations] == [
        (ZONE, "beijing-a", "CN"),
        (SOLD_OUT, "beijing-b", "CN"),
    ]
    assert locations[0].driver is driver
    assert [each.extra["Status"] for each in locations] == ["enable", "soldout"]
    assert locations[0].extra["availabilityZoneName_CN"] == "北京甲区"


# Nodes


def test_the_fields_of_a_later_instance_are_in_the_node(endpoint, driver):
    endpoint.respond("DescribeInstances")
    (node,) = driver.list_nodes()
    assert isinstance(node, Node)
    assert (node.id, node.name, node.state) == (WEB, "web-01", NodeState.RUNNING)
    assert (node.public_ips, node.private_ips) == (["203.0.113.24"], ["10.4.16.23"])
    assert node.created_at == utc(2016, 11, 3, 2, 15, 40)
    assert (node.size.name, node.size.ram, node.size.extra) == ("C2_M4", 4096, {"cpu": 2})
    assert node.extra == {
        "instanceId": WEB,
        "instanceName": "web-01",
        "instanceType": "C2_M4",
        "instanceTypeId": "2e8c7b64-90ad-4f13-a5d7-3b6f1c0e9d82",
        "status": "running",
        "cpu": 2,
        "memory": 4096,
        "volume": 132096,
        "ipAddresses": "10.4.16.23",
        "availabilityZoneId": ZONE,
        "secGroupId": GROUP,
        "secGroupName": "default",
        "keypairName": "deploy",
        "eips": "203.0.113.24",
        "createdAt": "2016-11-03T02:15:40Z",
        "billingType": "1",
    }


@pytest.mark.parametrize("name", ["DescribeInstances-empty", "DescribeInstances-past-end"])
def test_a_list_without_items_is_empty(endpoint, driver, name):
    endpoint.respond(name)
    assert driver.list_nodes() == []


def test_a_list_that_ends_with_a_page_past_the_end_is_whole(endpoint, driver):
    endpoint.respond("DescribeInstances", "DescribeInstances-past-end")
    assert [node.id for node in driver.list_nodes()] == [WEB]


def test_an_empty_set_of_key_pairs_is_an_empty_list(endpoint, driver):
    endpoint.respond("DescribeKeyPairs")
    assert driver.list_key_pairs() == []


def test_a_list_of_nodes_can_be_limited_to_a_zone(endpoint, driver):
    endpoint.respond("DescribeAvailabilityZones").respond("DescribeInstances")
    assert [node.id for node in driver.list_nodes(ex_location="beijing-a")] == [WEB]
    assert {form["AvailabilityZoneId"] for form in endpoint.requests("DescribeInstances")} == {ZONE}


def test_a_created_node_is_pending_without_an_address(endpoint, driver):
    endpoint.respond("DescribeInstances-empty").respond("CreateInstance")
    node = driver.create_node("web-01", "C2_M4", IMAGE, ex_disk_size=100, ex_bandwidth=0)
    assert (node.id, node.name, node.state) == (WEB, "web-01", NodeState.PENDING)
    assert (node.public_ips, node.private_ips) == ([], [])
    assert "volume" not in node.extra
    assert node.extra["availabilityZoneId"] == ZONE


def test_disk_bandwidth_group_and_zone_are_sent_as_the_later_parameters(endpoint, driver):
    endpoint.respond("DescribeInstances-empty").respond("CreateInstance")
    endpoint.respond("DescribeAvailabilityZones")
    driver.create_node(
        "web-01",
        "C2_M4",
        IMAGE,
        location="beijing-a",
        ex_keyname="a8d23f71-4b6c-4e0a-95f8-1c7e9b3d6054",
        ex_disk_size=100,
        ex_bandwidth=0,
        ex_security_group=GROUP,
    )
    (form,) = endpoint.requests("CreateInstance")
    assert {
        "ImageId": IMAGE,
        "KeyName": "a8d23f71-4b6c-4e0a-95f8-1c7e9b3d6054",
        "ExtraExtDisksize": "100",
        "ExtraExtBandwidth": "0",
        "GroupId": GROUP,
        "AvailabilityZoneId": ZONE,
    }.items() <= form.items()


def test_what_is_not_chosen_is_not_sent(endpoint, driver):
    endpoint.respond("DescribeInstances-empty").respond("CreateInstance")
    driver.create_node("web-01", "C2_M4", IMAGE)
    (form,) = endpoint.requests("CreateInstance")
    later = {"ExtraExtDisksize", "ExtraExtBandwidth", "GroupId", "AvailabilityZoneId", "KeyName"}
    assert later.isdisjoint(form)


def test_creating_by_ids_takes_two_requests(endpoint, driver, requests_mock):
    endpoint.respond("DescribeInstances-empty").respond("CreateInstance")
    driver.create_node("web-01", "C2_M4", IMAGE, ex_keyname="a8d23f71-4b6c-4e0a-95f8-1c7e9b3d6054")
    assert len(requests_mock.request_history) == 2


@pytest.mark.parametrize("name", ["CreateInstance-empty", "CreateInstance-without-id"])
class TestCreateInstanceWithoutAnID:
    def test_a_node_that_is_new_under_the_name_is_returned(self, endpoint, driver, name):
        endpoint.respond("DescribeInstances-empty", "DescribeInstances").respond(name)
        assert driver.create_node("web-01", "C2_M4", IMAGE).id == WEB
        assert len(endpoint.requests("CreateInstance")) == 1

    @pytest.mark.parametrize("listed", ["DescribeInstances-empty", "DescribeInstances"])
    def test_a_name_without_a_new_node_may_be_in_use(self, endpoint, driver, name, listed):
        endpoint.respond(listed).respond(name)
        with pytest.raises(OutcomeUnknownError, match="in use"):
            driver.create_node("web-01", "C2_M4", IMAGE)
        assert len(endpoint.requests("CreateInstance")) == 1


def test_a_change_of_type_may_be_answered_with_the_instance(endpoint, driver):
    endpoint.respond("DescribeInstances").respond("ChangeInstanceType")
    changed = driver.ex_change_node_size(WEB, "C4_M16", ex_disk_size=200, ex_bandwidth=10)
    assert changed is True
    (form,) = endpoint.requests("ChangeInstanceType")
    assert (form["ExtraExtDisksize"], form["ExtraExtBandwidth"]) == ("200", "10")


def test_volumes_in_megabytes_have_a_size_in_gigabytes(endpoint, driver):
    endpoint.respond("DescribeInstanceVolumes")
    volumes = driver.list_volumes(WEB)
    assert [(volume.size, volume.extra["volumeSize"]) for volume in volumes] == [
        (25, 25600),
        (4, 4096),
        (100, 102400),
    ]


def test_one_private_interface_is_a_whole_network(endpoint, driver):
    endpoint.respond("DescribeInstanceNetworkInterfaces")
    (interface,) = driver.ex_list_network_interfaces(WEB)
    assert isinstance(interface, NetworkInterface)
    assert (interface.ip_address, interface.bandwidth, interface.index) == ("10.4.16.23", 0, 0)


def test_a_lease_is_kept_for_seven_days(endpoint, driver):
    endpoint.respond("GetInstanceContractInfo")
    contract = driver.ex_get_contract(WEB)
    assert contract == Contract(utc(2016, 11, 3, 3), utc(2016, 12, 3, 3), utc(2016, 12, 10, 3))
    assert (contract.extend_to - contract.expire_at).days == 7


def test_the_later_metadata_are_read(endpoint, driver):
    endpoint.respond("GetInstanceMetadata")
    assert driver.ex_get_metadata(WEB) == {
        "os_name": "Linux",
        "os_distribution": "CentOS",
        "os_version": "7.2",
        "kvm": "enabled",
        "app_tags": "",
        "storage_type": "local",
    }


# Templates


def test_an_image_of_a_node_is_found_by_its_name(endpoint, driver):
    endpoint.respond("DescribeTemplates-before", "DescribeTemplates").respond("CreateTemplate")
    image = driver.create_image(WEB, "web-01 之前", description="before")
    assert isinstance(image, NodeImage)
    assert (image.name, image.extra["status"]) == ("web-01 之前", "saving")
    (form,) = endpoint.requests("CreateTemplate")
    assert (form["InstanceId"], form["Name"], form["Notes"]) == (WEB, "web-01 之前", "before")


def test_an_image_is_deleted_by_its_id(endpoint, driver):
    endpoint.respond("DescribeTemplates").respond("DeleteTemplate")
    assert driver.delete_image(IMAGE) is True
    (form,) = endpoint.requests("DeleteTemplate")
    assert form["TemplateId"] == IMAGE


# Errors


@pytest.mark.parametrize(
    ("name", "message", "code"),
    [
        ("ErrorResponse-message", "虚拟机名称已被使用", 409),
        ("ErrorResponse-details", "The instance is being changed", None),
    ],
)
def test_a_nested_error_has_its_message(endpoint, driver, name, message, code):
    endpoint.respond(name, action="StartInstance", status=409)
    with pytest.raises(MCSError) as caught:
        driver.start_node(WEB)
    error = caught.value
    assert (error.action, error.http_code, error.code) == ("StartInstance", 409, code)
    assert error.message == message


# Any other action


def test_the_rows_of_another_action_are_a_list(endpoint, driver):
    endpoint.respond("DescribeNatGateway")
    assert driver.ex_call("DescribeNatGateway", {"Limit": 20}, kind=Kind.READ) == {
        "NatGatewaySet": {
            "NatGateway": [
                {
                    "id": "f0a91c3d-7e58-4b26-8d4f-2c6b9e0a5d71",
                    "address": "198.51.100.9",
                    "name": "outbound",
                    "status": "active",
                    "addressId": "6e2d8f5b-c094-4a37-b1e8-d7f3a9c05624",
                    "bandwidth": "20",
                }
            ]
        }
    }
    (form,) = endpoint.requests("DescribeNatGateway")
    assert form["Limit"] == "20"


def test_return_of_another_action_is_text(endpoint, driver):
    endpoint.respond("AssociateNatGateway")
    params = {"NatGatewayID": "n", "InstanceId": WEB, "AvailabilityZoneId": ZONE}
    assert driver.ex_call("AssociateNatGateway", params, kind=Kind.CHANGE) == {"return": "True"}


# The emulator

#: Fixtures of which the emulator has no case.
NOT_EMULATED = {
    "AssociateNatGateway",
    "CreateInstance-empty",
    "CreateInstance-without-id",
    "DescribeNatGateway",
    "DescribeTemplates-before",
    "ErrorResponse-details",
    "ErrorResponse-message",
}
#: Fields of an instance whose values are known too little for the emulator to have them.
NOT_EMULATED_FIELDS = {
    "secGroupId",
    "secGroupName",
    "keypairName",
    "eips",
    "createdAt",
    "billingType",
}


def shape(tree, without=()):
    """Return the names, the nesting and the types of a response; all items of a list have one."""
    if isinstance(tree, dict):
        return {name: shape(value, without) for name, value in tree.items() if name not in without}
    if isinstance(tree, list):
        first, *others = (shape(item, without) for item in tree)
        assert all(other == first for other in others)
        return [first]
    return type(tree)


def test_the_emulators_later_edition_sends_the_fields_of_the_fixtures(later_example):
    compared = set()
    clock = Clock()
    clock.freeze()
    with Emulator(edition=2017, clock=clock) as cloud:
        account = (cloud.url, cloud.access_key, cloud.secret)
        in_json, in_xml = Client(*account, answer_format="json"), Client(*account)

        def compare(name, **params):
            action = name.partition("-")[0]
            tree = in_json.tree(action, **params)
            (fixture,) = json.loads(later_example(name, "json")).values()
            assert shape(tree) == shape(fixture, NOT_EMULATED_FIELDS), name
            if ACTIONS[action].kind is Kind.READ:
                assert in_xml.tree(action, **params) == texts(tree), name
            compared.add(name)
            return tree

        def wait():
            clock.advance(timedelta(minutes=10))

        compare("DescribeInstances-empty")
        compare("DescribeInstances-past-end", Offset="100")
        compare("DescribeKeyPairs")
        compare("DescribeAvailabilityZones")
        compare("DescribeInstanceTypes")
        chosen = {"ExtraExtDisksize": "100", "ExtraExtBandwidth": "5"}
        image = in_json.tree("DescribeTemplates")["TemplateSet"]["Template"][0]["templateId"]
        created = compare(
            "CreateInstance", ImageId=image, InstanceType="C2_M4", InstanceName="web", **chosen
        )
        assert created["Instance"]["status"] == "schedule"
        assert created["Instance"]["ipAddresses"] == ""
        wait()
        compare("DescribeInstances")
        volumes = compare("DescribeInstanceVolumes", InstanceId="web")
        sizes = [row["volumeSize"] for row in volumes["InstanceVolumeSet"]["InstanceVolume"]]
        assert sizes == [25600, 102400]
        compare("DescribeInstanceNetworkInterfaces", InstanceId="web")
        compare("GetInstanceContractInfo", InstanceId="web")
        compare("GetInstanceMetadata", InstanceId="web")
        compare("CreateTemplate", InstanceId="web", Name="saved")
        templates = compare("DescribeTemplates")["TemplateSet"]["Template"]
        (saved,) = (row["templateId"] for row in templates if row["templateName"] == "saved")
        wait()
        compare("DeleteTemplate", TemplateId=saved)
        changed = compare("ChangeInstanceType", InstanceId="web", InstanceType="C4_M8")
        assert changed["Instance"]["status"] == "disk"
    assert compared == set(NAMES) - NOT_EMULATED
