"""The Salt extension with the service of 2017: zones, and sizes whose disk is to be chosen."""

import pytest
from conftest import AT_ONCE
from salt_master import CIRROS, needs_salt, only, profile

from libcloud_mcs.emulator import Emulator

pytestmark = needs_salt


@pytest.fixture
def cloud():
    """The service of 2017, in which nothing takes time."""
    with Emulator(edition=2017, **AT_ONCE) as emulator:
        yield emulator


@pytest.fixture
def zones(cloud):
    """The zones of the service, by status."""
    return {zone.extra["Status"]: zone for zone in cloud.driver().list_locations()}


@pytest.fixture
def sizes(cloud):
    """The sizes without disk and bandwidth, from the smallest memory."""
    sizes = [size for size in cloud.driver().list_sizes() if size.disk == size.bandwidth == 0]
    return sorted(sizes, key=lambda size: size.ram)


def params_of(cloud, action):
    """Return the parameters of the only request for an action."""
    (record,) = [record for record in cloud.records if record.action == action]
    return record.params


def test_list_locations_shows_zones_with_their_status(salt_master, cloud):
    listed = only(salt_master.run("--list-locations", "emulated"))
    zones = cloud.driver().list_locations()
    assert len(zones) > 1
    assert listed == {
        zone.name: {"id": zone.id, "name": zone.name, "country": "CN", "extra": zone.extra}
        for zone in zones
    }


@pytest.mark.parametrize("field", ["id", "name"])
def test_profile_with_zone_disk_bandwidth_and_group_creates_such_a_machine(
    salt_master, cloud, zones, sizes, field
):
    zone = zones["enable"]
    profile(
        salt_master,
        size=sizes[0].name,
        location=getattr(zone, field),
        disk_size=100,
        bandwidth="5",
        security_group="group-1",
    )
    created = salt_master.run("-p", "small", "web").data["web"]
    assert created["extra"]["availabilityZoneId"] == zone.id
    assert {
        "AvailabilityZoneId": zone.id,
        "ExtraExtDisksize": "100",
        "ExtraExtBandwidth": "5",
        "GroupId": "group-1",
    }.items() <= params_of(cloud, "CreateInstance").items()
    volumes = cloud.driver().list_volumes(created["id"])
    assert 100 in [volume.size for volume in volumes]


def test_profile_without_a_choice_of_disk_is_refused_and_nothing_is_paid(
    salt_master, cloud, zones, sizes
):
    machine = {
        "name": "web",
        "profile": None,
        "provider": "emulated:mcs",
        "driver": "emulated:mcs",
        "image": CIRROS,
        "size": sizes[0].name,
    }
    choices = {"disk_size": 10, "bandwidth": 5}
    expected = [
        ({}, "CreateInstance"),
        ({"disk_size": "10 GB"}, "disk_size: expected a whole number of GB from 0, got '10 GB'"),
        ({"bandwidth": -1}, "bandwidth: expected a whole number of Mbps from 0, got -1"),
        (choices | {"location": "nowhere"}, "location: "),
        (choices | {"location": zones["soldout"].id}, "CreateInstance"),
    ]
    results = salt_master.call(*(("create", [machine | settings], {}) for settings, _ in expected))
    for (settings, message), result in zip(expected, results, strict=True):
        assert message in result["SaltCloudSystemExit"], settings
    assert list(cloud.ledger) == []
    assert cloud.driver().list_nodes() == []


def test_change_size_with_disk_size_and_bandwidth_changes_both(salt_master, cloud, sizes):
    driver = cloud.driver()
    node = driver.create_node("web", sizes[0], CIRROS, ex_disk_size=10, ex_bandwidth=1)
    words = [f"size={sizes[1].name}", "disk_size=20", "bandwidth=2"]
    assert only(salt_master.run("-a", "change_size", "web", *words)) == {"web": True}
    assert {
        "InstanceType": sizes[1].name,
        "ExtraExtDisksize": "20",
        "ExtraExtBandwidth": "2",
    }.items() <= params_of(cloud, "ChangeInstanceType").items()
    assert driver.ex_get_node(node).size.name == sizes[1].name
    assert 20 in [volume.size for volume in driver.list_volumes(node)]


def test_change_size_with_disk_size_of_another_form_is_refused_by_name(salt_master, cloud, sizes):
    cloud.driver().create_node("web", sizes[0], CIRROS, ex_disk_size=10)
    paid = len(cloud.ledger)
    arguments = {"size": sizes[1].name, "disk_size": "20GB"}
    (result,) = salt_master.call(("change_size", ["web", arguments], {"call": "action"}))
    assert result["SaltCloudSystemExit"] == (
        "disk_size: expected a whole number of GB from 0, got '20GB'"
    )
    assert len(cloud.ledger) == paid
