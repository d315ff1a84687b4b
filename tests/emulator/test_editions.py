"""The editions: what the emulator of 2017 does otherwise than that of the specification."""

import contextlib
import json
import shutil
import sqlite3
from datetime import timedelta
from decimal import Decimal

import pytest
import requests
from conftest import AT_ONCE, START
from plain_client import CREATE, Client
from ssh_keys import new_key, public_text

from libcloud_mcs.emulator import Clock, Emulator, StateError, boot_fail

CIRROS = CREATE["ImageId"]
#: An instance of a type without disk and bandwidth.
BARE = {"ImageId": CIRROS, "InstanceType": "C2_M4", "Duration": "1H"}
DISK = {"ExtraExtDisksize": "100"}
#: The sizes in MB of a system disk of 2017, and of the disk above.
SYSTEM, DATA = 25_600, 102_400
DAY = timedelta(days=1)


@pytest.fixture
def later():
    """A cloud of 2017 whose clock is held."""
    clock = Clock(START)
    clock.freeze()
    with Emulator(edition=2017, clock=clock) as emulator:
        yield emulator


@pytest.fixture
def ask(later, answer_format):
    return client(later, answer_format)


@pytest.fixture
def json_ask(later):
    return client(later)


def client(cloud, answer_format="json"):
    return Client(cloud.url, cloud.access_key, cloud.secret, answer_format=answer_format)


def rows(tree):
    """Return the rows of a set in either format."""
    (content,) = tree.values()
    if content == "":
        return []
    (found,) = [
        value for name, value in content.items() if name not in ("Total", "Limit", "Offset")
    ] or [[]]
    return found if isinstance(found, list) else [found]


def created(cloud, ask, name="web", **params):
    """Create an instance and return its row when it runs."""
    ask.tree("CreateInstance", InstanceName=name, **{**BARE, **DISK, **params})
    cloud.clock.advance(timedelta(seconds=1))
    return instance(ask, name)


def instance(ask, name="web"):
    (row,) = rows(ask.tree("DescribeInstances", InstanceName_1=name))
    return row


def volumes(ask, name="web"):
    return rows(ask.tree("DescribeInstanceVolumes", InstanceId=name))


def sizes(ask, name="web"):
    return [int(volume["volumeSize"]) for volume in volumes(ask, name)]


def zones(ask):
    return [row["availabilityZoneId"] for row in rows(ask.tree("DescribeAvailabilityZones"))]


def template(ask, name="saved"):
    (row,) = [row for row in rows(ask.tree("DescribeTemplates")) if row["templateName"] == name]
    return row


def amounts(cloud):
    return [charge.amount for charge in cloud.ledger]


# The choice of an edition


def test_edition_is_that_of_the_specification_by_default(cloud, later):
    assert (cloud.edition, later.edition) == (2013, 2017)


def test_edition_is_in_the_state_and_on_the_page(later):
    url = f"http://127.0.0.1:{later.port}"
    assert requests.get(f"{url}/_emulator/state").json()["edition"] == 2017
    assert '<dt>Edition</dt><dd id="edition">2017</dd>' in requests.get(url).text


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("DescribeAvailabilityZones", {}),
        ("CreateTemplate", {"InstanceId": "instance-1", "Name": "saved"}),
        ("DeleteTemplate", {"TemplateId": CIRROS}),
    ],
)
def test_action_of_2017_is_unknown_in_2013(cloud, answer_format, action, params):
    code, message = client(cloud, answer_format).refused(action, **params)
    assert (code, message) == (400, f"Action: this API has no action {action!r}")


def test_parameters_of_2017_are_ignored_in_2013(cloud, answer_format):
    ask = client(cloud, answer_format)
    extras = {"ExtraExtDisksize": "x", "ExtraExtBandwidth": "50"}
    params = {"AvailabilityZoneId": "unknown", "GroupId": "", **extras}
    row = ask.tree("CreateInstance", InstanceName="web", **CREATE, **params)["Instance"]
    assert list(row) == [
        *("instanceId", "instanceName", "instanceType", "instanceTypeId", "status", "cpu"),
        *("memory", "volume", "ipAddresses"),
    ]
    assert (int(row["volume"]), sizes(ask)) == (30_720, [10_240, 20_480])
    assert rows(ask.tree("DescribeInstances", AvailabilityZoneId="unknown")) == [row]
    change = {"InstanceId": "web", "InstanceType": "medium", "Duration": "1H"}
    assert ask.tree("ChangeInstanceType", **change, **extras) == {"return": "True"}
    assert amounts(cloud) == [Decimal("0.12"), Decimal("0.35")]


@pytest.mark.parametrize("edition", [2013, 2017])
def test_key_pair_of_a_new_instance_is_named_by_its_id_or_its_name(edition, answer_format):
    with Emulator(edition=edition, **AT_ONCE) as cloud:
        ask = client(cloud, answer_format)
        key = {"KeyName": "mine", "PublicKeyMaterial": public_text(new_key())}
        pair = ask.tree("ImportKeyPair", **key)["KeyPair"]
        for name in (pair["keyId"], pair["keyName"]):
            row = ask.tree("CreateInstance", KeyName=name, **CREATE)["Instance"]
            data = ask.tree("GetPasswordData", InstanceId=row["instanceId"])
            assert data["keypairId"] == pair["keyId"]


# Types and zones


def test_types_without_disk_and_bandwidth_are_beside_whole_ones(ask):
    found = rows(ask.tree("DescribeInstanceTypes"))
    numbers = [
        [int(row[name]) for name in ("volume", "internalBandwidth", "externalBandwidth")]
        for row in found
    ]
    assert numbers.count([0, 0, 0]) >= 3
    assert sum(all(each) for each in numbers) >= 3
    assert all(each == [0, 0, 0] or all(each) for each in numbers)


def test_zones_have_the_fields_of_the_service(ask):
    found = rows(ask.tree("DescribeAvailabilityZones"))
    for row in found:
        assert list(row) == [
            *("availabilityZoneId", "availabilityZoneName", "availabilityZoneName_CN", "Status"),
        ]
    assert [row["Status"] for row in found] == ["enable", "enable", "soldout"]


def test_zones_are_filtered_and_paged(ask):
    first, second, third = rows(ask.tree("DescribeAvailabilityZones"))

    def found(**params):
        return rows(ask.tree("DescribeAvailabilityZones", **params))

    by_status = {"Filter_1_Name": "status", "Filter_1_Value_1": "enable"}
    assert found(**by_status) == [first, second]
    name = third["availabilityZoneName"]
    assert found(Filter_1_Name="name", Filter_1_Value_1=name) == [third]
    assert found(**by_status, Filter_2_Name="name", Filter_2_Value_1=name) == []
    assert found(Limit="1", Offset="1") == [second]
    content = ask.tree("DescribeAvailabilityZones", Limit="2")["AvailabilityZoneSet"]
    assert [int(content[name]) for name in ("Total", "Limit", "Offset")] == [3, 2, 0]
    code, message = ask.refused(
        "DescribeAvailabilityZones", Filter_1_Name="Status", Filter_1_Value_1="enable"
    )
    assert (code, message.startswith("Filter.1.Name: expected 'name' or 'status'")) == (422, True)


def test_instance_is_in_the_zone_that_was_asked_for_or_the_first(later, ask):
    first, second, _ = zones(ask)
    assert created(later, ask, "a")["availabilityZoneId"] == first
    assert created(later, ask, "b", AvailabilityZoneId=second)["availabilityZoneId"] == second
    for zone, names in ((first, ["a"]), (second, ["b"]), ("unknown", [])):
        found = rows(ask.tree("DescribeInstances", AvailabilityZoneId=zone))
        assert [row["instanceName"] for row in found] == names
    found = rows(ask.tree("DescribeInstances", AvailabilityZoneId=first, InstanceName_1="b"))
    assert found == []


@pytest.mark.parametrize(
    ("zone", "code", "words"),
    [("unknown", 404, "there is no zone"), (2, 409, "is soldout, not enable"), ("", 422, "value")],
)
def test_zone_that_takes_no_instances_is_refused_and_costs_nothing(later, ask, zone, code, words):
    zone = zones(ask)[zone] if isinstance(zone, int) else zone
    status, message = ask.refused("CreateInstance", **BARE, **DISK, AvailabilityZoneId=zone)
    assert status == code
    assert message.startswith("AvailabilityZoneId: ")
    assert words in message
    assert later.ledger == []
    assert rows(ask.tree("DescribeInstances")) == []


# New instances


def test_response_to_create_has_neither_volume_nor_address(ask):
    row = ask.tree("CreateInstance", InstanceName="web", **BARE, **DISK)["Instance"]
    assert list(row) == [
        *("instanceId", "instanceName", "instanceType", "instanceTypeId", "status", "cpu"),
        *("memory", "ipAddresses", "availabilityZoneId"),
    ]
    assert (row["status"], row["ipAddresses"]) == ("schedule", "")


def test_instance_has_addresses_after_it_was_scheduled(later, ask):
    ask.tree("CreateInstance", InstanceName="web", **BARE, **DISK)
    seen = []
    for _ in range(6):
        networks = ask.tree("DescribeInstanceNetworkInterfaces", InstanceId="web")
        addresses = [row["ipAddress"] for row in rows(networks)]
        state = requests.get(f"http://127.0.0.1:{later.port}/_emulator/state").json()
        (shown,) = state["accounts"][0]["instances"]
        row = instance(ask)
        # A list of addresses without any is an empty text.
        assert row["ipAddresses"] == ",".join(filter(None, addresses))
        assert shown["addresses"] == list(filter(None, addresses))
        seen.append((row["status"], len(shown["addresses"])))
        later.clock.advance(timedelta(seconds=0.16))
    assert seen == [
        *(("schedule", 0), ("disk", 2), ("start_deploy", 2), ("deploying", 2)),
        *(("start_start", 2), ("running", 2)),
    ]


def test_row_has_the_sum_of_the_disks_and_the_group(later, json_ask):
    row = created(later, json_ask, GroupId="any-group")
    assert list(row)[-4:] == ["volume", "ipAddresses", "availabilityZoneId", "secGroupId"]
    assert (row["volume"], row["secGroupId"]) == (SYSTEM + DATA, "any-group")
    assert "secGroupId" not in created(later, json_ask, "other")
    code, message = json_ask.refused("CreateInstance", **BARE, **DISK, GroupId="a\x01")
    assert (code, message.startswith("GroupId: ")) == (422, True)


@pytest.mark.parametrize(
    "extras",
    [
        {},
        {"ExtraExtDisksize": "0"},
        {"ExtraExtBandwidth": "0"},
        {"ExtraExtDisksize": "0", "ExtraExtBandwidth": "0"},
    ],
)
def test_type_without_disk_and_bandwidth_is_refused_when_neither_is_chosen(later, ask, extras):
    code, message = ask.refused("CreateInstance", **BARE, **extras)
    assert code == 422
    assert message.startswith("ExtraExtDisksize, ExtraExtBandwidth: expected one of them above 0")
    assert later.ledger == []


@pytest.mark.parametrize(
    ("extras", "disks", "bandwidth"),
    [
        ({"ExtraExtDisksize": "1"}, [SYSTEM, 1024], 0),
        ({"ExtraExtBandwidth": "1"}, [SYSTEM], 1),
        ({"ExtraExtDisksize": "100", "ExtraExtBandwidth": "20"}, [SYSTEM, DATA], 20),
    ],
)
def test_either_of_disk_and_bandwidth_suffices(later, ask, extras, disks, bandwidth):
    created(later, ask, **{"ExtraExtDisksize": "0", **extras})
    assert sizes(ask) == disks
    assert int(instance(ask)["volume"]) == sum(disks)
    found = rows(ask.tree("DescribeInstanceNetworkInterfaces", InstanceId="web"))
    assert [(row["networkName"], int(row["bandwidth"])) for row in found] == [
        ("public", bandwidth),
        ("private", 0),
    ]


def test_whole_type_keeps_its_disk_and_bandwidth_and_gets_more(later, ask):
    whole = {"InstanceType": "small"}
    created(later, ask, "whole", **whole, ExtraExtDisksize="0")
    assert sizes(ask, "whole") == [SYSTEM, 5_120]
    created(later, ask, **whole, ExtraExtBandwidth="3")
    assert sizes(ask) == [SYSTEM, 5_120, DATA]
    found = volumes(ask)
    assert [int(volume["index"]) for volume in found] == [0, 1, 2]
    assert len({volume["volumeId"] for volume in found}) == 3
    assert len({volume["volumeName"] for volume in found}) == 3
    networks = rows(ask.tree("DescribeInstanceNetworkInterfaces", InstanceId="web"))
    assert [int(row["bandwidth"]) for row in networks] == [8, 200]


@pytest.mark.parametrize("action", ["CreateInstance", "ChangeInstanceType"])
@pytest.mark.parametrize("name", ["ExtraExtDisksize", "ExtraExtBandwidth"])
@pytest.mark.parametrize("value", ["-1", "1.5", "x", "", " ", "1_0", "10GB", "9999999999"])
def test_extras_that_are_not_whole_numbers_are_refused(later, json_ask, action, name, value):
    if action == "ChangeInstanceType":
        created(later, json_ask)
    params = {**BARE, "InstanceId": "web", name: value}
    before = len(later.ledger)
    code, message = json_ask.refused(action, **params)
    assert (code, message.startswith(f"{name}: expected ")) == (422, True)
    assert len(later.ledger) == before


# Money


def test_extras_are_paid_with_their_instance_in_one_charge(later, json_ask):
    created(later, json_ask, ExtraExtBandwidth="20", Duration="2H")
    json_ask.tree("RenewInstance", InstanceId="web", Duration="1M")
    change = {"InstanceId": "web", "InstanceType": "small", "Duration": "3H"}
    json_ask.tree("ChangeInstanceType", **change, ExtraExtBandwidth="0")
    bare, small = (Decimal("0.16"), Decimal("79.00")), Decimal("0.12")
    disk, bandwidth = (Decimal("1.00"), Decimal("40.00")), (Decimal("0.20"), Decimal("100.00"))
    assert [charge.action for charge in later.ledger] == [
        *("CreateInstance", "RenewInstance", "ChangeInstanceType"),
    ]
    assert amounts(later) == [
        2 * (bare[0] + disk[0] + bandwidth[0]),
        bare[1] + disk[1] + bandwidth[1],
        3 * (small + disk[0]),
    ]
    balance = json_ask.tree("GetBalance")["balance"]
    assert Decimal(str(balance)) == 1000 - sum(amounts(later))


def test_extras_that_the_account_cannot_pay_are_refused():
    with Emulator(edition=2017, balance="1.15", **AT_ONCE) as cloud:
        ask = client(cloud)
        assert ask.refused("CreateInstance", **BARE, **DISK) == (406, "No enough balance")
        ask.tree("CreateInstance", InstanceName="web", **BARE, ExtraExtDisksize="99")
        assert amounts(cloud) == [Decimal("1.15")]
        for action, params in (
            ("RenewInstance", {"Duration": "1H"}),
            ("ChangeInstanceType", {"Duration": "1H", "InstanceType": "C1_M1"}),
        ):
            assert ask.refused(action, InstanceId="web", **params) == (406, "No enough balance")
        assert sizes(ask) == [SYSTEM, 99 * 1024]
        assert instance(ask)["instanceType"] == "C2_M4"


# Changes of type


@pytest.mark.parametrize("state", ["running", "ready"])
def test_change_returns_the_instance_which_comes_back_to_its_state(later, ask, state):
    created(later, ask)
    if state == "ready":
        ask.tree("StopInstance", InstanceId="web", Force="True")
    before = instance(ask)
    tree = ask.tree("ChangeInstanceType", InstanceId="web", InstanceType="C4_M8")
    assert list(tree) == ["Instance"]
    row = tree["Instance"]
    assert (row["status"], row["instanceType"], int(row["memory"])) == ("disk", "C4_M8", 8192)
    assert list(row) == list(before)
    assert row["ipAddresses"] == before["ipAddresses"]
    assert instance(ask) == row
    later.clock.advance(timedelta(seconds=0.3))
    assert instance(ask) == {**row, "status": state}


def test_change_keeps_extras_that_are_left_out(later, ask):
    created(later, ask, ExtraExtBandwidth="20")
    before = volumes(ask)

    def change(**extras):
        change = {"InstanceId": "web", "InstanceType": "C1_M1", "Duration": "1H"}
        ask.tree("ChangeInstanceType", **change, **extras)
        later.clock.advance(timedelta(seconds=1))
        found = rows(ask.tree("DescribeInstanceNetworkInterfaces", InstanceId="web"))
        return sizes(ask), int(found[0]["bandwidth"])

    assert change() == ([SYSTEM, DATA], 20)
    assert volumes(ask) == before
    assert change(ExtraExtBandwidth="5") == ([SYSTEM, DATA], 5)
    # The new size, and not what is added.
    assert change(ExtraExtDisksize="150") == ([SYSTEM, 153_600], 5)
    assert [each["volumeId"] for each in volumes(ask)] == [each["volumeId"] for each in before]
    assert change(ExtraExtDisksize="0") == ([SYSTEM], 5)
    assert change(ExtraExtDisksize="1", ExtraExtBandwidth="0") == ([SYSTEM, 1024], 0)
    assert int(instance(ask)["volume"]) == SYSTEM + 1024


def test_change_to_an_instance_without_disk_and_bandwidth_is_refused(later, ask):
    created(later, ask)
    params = {"InstanceId": "web", "InstanceType": "C1_M1", "Duration": "1H"}
    code, message = ask.refused("ChangeInstanceType", **params, ExtraExtDisksize="0")
    assert (code, message.startswith("ExtraExtDisksize, ExtraExtBandwidth: ")) == (422, True)
    assert (instance(ask)["instanceType"], len(later.ledger)) == ("C2_M4", 1)
    created(later, ask, "whole", InstanceType="small", ExtraExtDisksize="0")
    code, _ = ask.refused("ChangeInstanceType", **{**params, "InstanceId": "whole"})
    assert code == 422


# Lists

LISTS = {
    "DescribeInstances": ("InstanceSet", "Instance", 3),
    "DescribeKeyPairs": ("KeyPairSet", "KeyPair", 0),
    "DescribeInstanceTypes": ("InstanceTypeSet", "InstanceType", 10),
    "DescribeAvailabilityZones": ("AvailabilityZoneSet", "AvailabilityZone", 3),
}


@pytest.mark.parametrize("action", LISTS)
def test_list_has_counts_exactly_if_it_was_paged(answer_format, action):
    key, item, count = LISTS[action]

    def content(**params):
        return ask.tree(action, **params)[key]

    def counts(content):
        return [int(content[name]) for name in ("Total", "Limit", "Offset")]

    with Emulator(edition=2017, instances=3) as cloud:
        ask = client(cloud, answer_format)
        whole = content()
        assert whole == ("" if count == 0 else {item: whole[item]})
        assert len(rows({key: whole})) == count
        assert counts(content(Limit="100")) == [count, count, 0]
        assert counts(content(Offset="0")) == [count, count, 0]
        last = content(Limit="1", Offset=str(max(0, count - 1)))
        assert counts(last) == [count, min(count, 1), max(0, count - 1)]
        # Past the end there is no item.
        assert content(Offset="100") == type_of(
            answer_format, {"Total": count, "Limit": 0, "Offset": 100}
        )


def type_of(answer_format, numbers):
    """Return numbers as they are in a format."""
    return {name: str(n) if answer_format == "xml" else n for name, n in numbers.items()}


@pytest.mark.parametrize("setting", ["default_limit", "max_limit"])
def test_list_has_counts_if_a_setting_cuts_it(answer_format, setting):
    with Emulator(edition=2017, instances=3, **{setting: 2}) as cloud:
        ask = client(cloud, answer_format)
        content = ask.tree("DescribeInstances")["InstanceSet"]
        assert [int(content[name]) for name in ("Total", "Limit", "Offset")] == [3, 2, 0]
        content = ask.tree("DescribeInstances", InstanceName_1="instance-1")["InstanceSet"]
        assert list(content) == ["Instance"]


# Templates


def test_templates_tell_whether_they_are_public(later, json_ask):
    created(later, json_ask)
    json_ask.tree("CreateTemplate", InstanceId="web", Name="saved", Notes="of web")
    *others, saved = rows(json_ask.tree("DescribeTemplates"))
    assert list(saved) == [
        *("templateId", "templateName", "size", "checksum", "status", "is_public"),
    ]
    assert saved["is_public"] is False
    assert [row["is_public"] for row in others] == [True] * len(others)
    assert len({row["checksum"] for row in (*others, saved)}) == len(others) + 1


@pytest.mark.parametrize("state", ["running", "ready"])
def test_template_is_saved_while_its_instance_is_in_another_state(later, ask, state):
    created(later, ask)
    if state == "ready":
        ask.tree("StopInstance", InstanceId="web", Force="True")
    charged = len(later.ledger)
    tree = ask.tree("CreateTemplate", InstanceId="web", Name="saved")
    assert tree == {"return": "True"}
    seen = []
    for _ in range(3):
        seen.append((instance(ask)["status"], template(ask)["status"]))
        later.clock.advance(timedelta(seconds=0.25))
    assert seen == [("start_save_disk", "saving"), ("save_disk", "saving"), (state, "active")]
    assert len(later.ledger) == charged


def test_template_of_the_user_makes_instances_when_it_is_active(later, ask):
    created(later, ask)
    ask.tree("CreateTemplate", InstanceId="web", Name="saved")
    image = {"ImageId": template(ask)["templateId"]}
    code, message = ask.refused("CreateInstance", **{**BARE, **DISK, **image})
    assert (code, message) == (
        409,
        f"ImageId: the template {image['ImageId']!r} is saving, not active",
    )
    later.clock.advance(timedelta(seconds=1))
    created(later, ask, "copy", **image)
    assert ask.tree("GetPasswordData", InstanceId="copy")["account"] == "cirros"
    ask.tree("RebuildInstanceRootImage", InstanceId="web", **image)


def test_template_cannot_be_made_in_another_state(later, ask):
    ask.tree("CreateInstance", InstanceName="web", **BARE, **DISK)
    code, message = ask.refused("CreateTemplate", InstanceId="web", Name="saved")
    assert code == 409
    assert "needs 'web' to be running or ready, it is schedule" in message
    later.clock.advance(timedelta(seconds=1))
    ask.tree("CreateTemplate", InstanceId="web", Name="saved")
    assert ask.refused("CreateTemplate", InstanceId="web", Name="saved")[0] == 409


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"Name": "saved"}, 400, "InstanceId: this parameter is required"),
        ({"InstanceId": "web"}, 400, "Name: this parameter is required"),
        ({"InstanceId": "web", "Name": "n" * 129}, 422, "Name: expected at most 128"),
        ({"InstanceId": "web", "Name": " "}, 422, "Name: expected a value"),
        ({"InstanceId": "other", "Name": "saved"}, 404, "InstanceId: there is no instance"),
    ],
)
def test_template_request_with_a_wrong_parameter_is_refused(later, ask, params, code, words):
    created(later, ask)
    status, message = ask.refused("CreateTemplate", **params)
    assert (status, message.startswith(words)) == (code, True)
    assert instance(ask)["status"] == "running"


def test_two_templates_of_one_name_are_two(later, ask):
    created(later, ask)
    for _ in range(2):
        ask.tree("CreateTemplate", InstanceId="web", Name="saved")
        later.clock.advance(timedelta(seconds=1))
    found = [row for row in rows(ask.tree("DescribeTemplates")) if row["templateName"] == "saved"]
    assert len({row["templateId"] for row in found}) == 2


def test_template_can_be_deleted_while_it_is_saved(later, ask):
    created(later, ask)
    ask.tree("CreateTemplate", InstanceId="web", Name="saved")
    before = len(rows(ask.tree("DescribeTemplates")))
    tree = ask.tree("DeleteTemplate", TemplateId=template(ask)["templateId"])
    assert tree == {"return": "True"}
    assert len(rows(ask.tree("DescribeTemplates"))) == before - 1
    later.clock.advance(timedelta(seconds=1))
    assert instance(ask)["status"] == "running"


def test_instances_stay_when_their_template_is_deleted(later, ask):
    created(later, ask)
    ask.tree("CreateTemplate", InstanceId="web", Name="saved")
    later.clock.advance(timedelta(seconds=1))
    image = template(ask)["templateId"]
    row = created(later, ask, "copy", ImageId=image)
    ask.tree("DeleteTemplate", TemplateId=image)
    assert instance(ask, "copy") == row
    assert ask.tree("GetInstanceMetadata", InstanceId="copy")["InstanceMetadata"]
    for refused, params in (
        ("DeleteTemplate", {"TemplateId": image}),
        ("CreateInstance", {**BARE, **DISK, "ImageId": image}),
    ):
        code, message = ask.refused(refused, **params)
        assert (code, f"there is no template {image!r}" in message) == (404, True)


def test_template_of_the_service_cannot_be_deleted(ask):
    code, message = ask.refused("DeleteTemplate", TemplateId=CIRROS)
    assert (code, message) == (409, f"TemplateId: {CIRROS!r} belongs to the service")
    assert [row for row in rows(ask.tree("DescribeTemplates")) if row["templateId"] == CIRROS]


def test_templates_of_an_account_are_its_alone(later, json_ask):
    created(later, json_ask)
    json_ask.tree("CreateTemplate", InstanceId="web", Name="saved")
    second = later.add_account()
    other = Client(later.url, second.access_key, second.secret, answer_format="json")
    names = [row["templateName"] for row in rows(other.tree("DescribeTemplates"))]
    assert "saved" not in names
    image = template(json_ask)["templateId"]
    assert other.refused("DeleteTemplate", TemplateId=image)[0] == 404
    later.reset()
    assert [row["templateName"] for row in rows(json_ask.tree("DescribeTemplates"))] == names


# Leases, metadata, and what is the same in both editions


def test_instance_is_kept_for_a_week_after_its_lease(later, ask):
    created(later, ask)
    lease = ask.tree("GetInstanceContractInfo", InstanceId="web")
    assert lease["expireAt"] == "2026-01-31T13:00:00Z"
    assert lease["extendTo"] == "2026-02-07T13:00:00Z"
    later.clock.advance(7 * DAY)
    assert instance(ask)["status"] == "ready"
    later.clock.advance(timedelta(hours=1))
    assert rows(ask.tree("DescribeInstances")) == []


def test_metadata_has_more_entries(later, json_ask):
    created(later, json_ask)
    found = json_ask.tree("GetInstanceMetadata", InstanceId="web")["InstanceMetadata"]
    assert set(found) == {
        *("os_name", "os_distribution", "os_version", "kvm", "app_tags", "storage_type")
    }


@pytest.mark.parametrize("edition", [2013, 2017])
def test_instances_of_the_start_are_of_a_whole_type(edition):
    with Emulator(edition=edition, instances=2, churn=1, seed=1) as cloud:
        ask = client(cloud)
        assert {row["instanceType"] for row in rows(ask.tree("DescribeInstances"))} == {"small"}
        (row,) = rows(ask.tree("DescribeInstances", Limit="1"))
        assert row["instanceName"] == "other-1"
        ask.tree("DescribeInstances", Limit="1", Offset="1")
        names = {row["instanceName"] for row in rows(ask.tree("DescribeInstances"))}
        assert {"instance-1", "instance-2"} < names
        assert "other-1" not in names


@pytest.mark.parametrize(("edition", "code"), [(2013, 400), (2017, 409)])
def test_instance_that_fails_to_boot_can_only_be_terminated(edition, code, answer_format):
    with Emulator(edition=edition, **AT_ONCE) as cloud:
        ask = client(cloud, answer_format)
        with cloud.inject(boot_fail()):
            ask.tree("CreateInstance", InstanceName="web", **CREATE)
        assert instance(ask)["status"] == "deploy_fail"
        assert ask.refused("CreateTemplate", InstanceId="web", Name="saved")[0] == code
        ask.tree("TerminateInstance", InstanceId="web")
        assert len(cloud.ledger) == 1


# The state file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def everything(cloud):
    """Return all that a client can see of instances and templates."""
    ask = client(cloud)
    seen = [ask.tree("DescribeTemplates"), ask.tree("DescribeInstances"), cloud.ledger]
    for row in rows(ask.tree("DescribeInstances")):
        for action in (
            *("DescribeInstanceVolumes", "DescribeInstanceNetworkInterfaces"),
            *("GetInstanceContractInfo", "GetInstanceMetadata"),
        ):
            seen.append(ask.tree(action, InstanceId=row["instanceId"]))
    return seen


def test_later_edition_is_restored_from_the_state_file(path):
    with Emulator(edition=2017, state=path, instances=1) as cloud:
        cloud.clock.freeze()
        ask = client(cloud)
        second = zones(ask)[1]
        choices = {"AvailabilityZoneId": second, "GroupId": "group", "ExtraExtBandwidth": "7"}
        created(cloud, ask, **choices)
        ask.tree("CreateTemplate", InstanceId="web", Name="gone")
        cloud.clock.advance(timedelta(seconds=1))
        created(cloud, ask, "copy", ImageId=template(ask, "gone")["templateId"])
        ask.tree("DeleteTemplate", TemplateId=template(ask, "gone")["templateId"])
        ask.tree("CreateTemplate", InstanceId="web", Name="saved")
        before = everything(cloud)
    with Emulator(edition=2017, state=path) as cloud:
        assert everything(cloud) == before
        ask = client(cloud)
        assert (template(ask)["status"], instance(ask)["status"]) == ("saving", "start_save_disk")
        cloud.clock.advance(timedelta(seconds=1))
        assert (template(ask)["status"], instance(ask)["status"]) == ("active", "running")
        ask.tree("DeleteTemplate", TemplateId=template(ask)["templateId"])
    with Emulator(edition=2017, state=path) as cloud:
        names = [row["templateName"] for row in rows(client(cloud).tree("DescribeTemplates"))]
        assert {"saved", "gone"}.isdisjoint(names)


@pytest.mark.parametrize(("edition", "other"), [(2013, 2017), (2017, 2013)])
def test_state_file_of_another_edition_is_refused_and_left_as_it_was(path, edition, other):
    Emulator(edition=edition, state=path, instances=1).close()
    before = path.read_bytes()
    words = f"it is of edition {edition}, expected {other}; use edition={edition}, or another file"
    with pytest.raises(StateError, match=words) as caught:
        Emulator(edition=other, state=path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    Emulator(edition=edition, state=path).close()


@pytest.mark.parametrize("version", [1, 2])
def test_state_file_of_an_older_version_is_of_2013(path, version, request):
    shutil.copy(request.path.parent / f"state_version_{version}.db", path)
    before = path.read_bytes()
    with pytest.raises(StateError, match="it is of edition 2013, expected 2017"):
        Emulator(edition=2017, state=path)
    assert path.read_bytes() == before
    with Emulator(state=path) as cloud:
        assert cloud.account.state.instances()


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("instance", "disk", "x"),
        ("instance", "disk", 0),
        ("instance", "bandwidth", None),
        ("instance", "zone", 5),
        ("instance", "group", []),
        ("instance", "volume_ids", ["a", "b"]),
        ("instance", "volume_ids", ["a"]),
        ("instance", "template", "an-id"),
        ("template", "saved_at", "2026-01-01T00:00:00"),
        ("template", "saved_at", 5),
    ],
)
def test_state_file_with_a_damaged_field_of_2017_is_an_error(path, table, field, value):
    with Emulator(edition=2017, state=path) as cloud:
        created(cloud, client(cloud))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            f"UPDATE {table} SET document = json_set(document, '$.{field}', json(?))",
            [json.dumps(value)],
        )
    with pytest.raises(StateError, match="it is damaged"):
        Emulator(edition=2017, state=path)
