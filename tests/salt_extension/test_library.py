"""What the Salt extension stands on beside the driver; none of it needs Salt."""

import copy
import json
import logging
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from libcloud.compute.types import NodeState

from libcloud_mcs.emulator import meanwhile
from libcloud_mcs.errors import MCSError, NotFoundError
from libcloud_mcs.records import Balance
from libcloud_mcs.salt import _machines as machines
from libcloud_mcs.salt import _settings as settings

TURNKEY = "turnkey-core-12.0-squeeze-x86.qcow2"


@pytest.fixture
def namesakes(requests_mock):
    """A driver of an endpoint where two machines have one name, which the emulator refuses."""
    rows = [
        {"instanceId": f"i-{number}", "instanceName": name, "status": status}
        for number, (name, status) in enumerate(
            [("web", "running"), ("web", "ready"), ("db", "running"), ("web", "deleting")], 1
        )
    ]
    answer = {"DescribeInstancesResponse": {"InstanceSet": {"Instance": rows}, "Total": len(rows)}}
    requests_mock.post("http://127.0.0.1:1/", text=json.dumps(answer))
    return settings.driver_of(
        {"id": "a", "key": "b", "url": "http://127.0.0.1:1/", "response_format": "json"}
    )


def test_salts_loader_is_led_to_the_driver():
    points = {point.value: point for point in entry_points(group="salt.loader")}
    package = points["libcloud_mcs.salt"].load()
    assert (Path(package.__file__).parent / "clouds" / "mcs.py").is_file()


# Settings


def test_a_provider_takes_every_argument_of_the_driver(cloud):
    driver = settings.driver_of(
        {
            "driver": "mcs",
            "profiles": {},
            "minion": {"master": "salt"},
            "id": cloud.access_key,
            "key": cloud.secret,
            "url": cloud.url,
            "region": "Shanghai",
            "timeout": 7,
            "concurrency": 2,
        }
    )
    assert driver.list_locations()[0].id == "Shanghai"
    assert (driver.connection.timeout, driver.concurrency) == (7, 2)
    assert driver.ex_get_balance().amount == 1000


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        ({}, r"the settings 'id', 'key' are missing"),
        ({"id": "a", "key": ""}, r"the setting 'key' is missing"),
        ({"id": 123, "key": "b"}, r"id: text was expected, not a number; put it in quotes"),
        ({"id": "a", "key": "b", "url": "nowhere"}, r"url: "),
        ({"id": "a", "key": "b", "page_size": 0}, r"page_size: "),
    ],
)
def test_a_provider_setting_that_is_wrong_is_named(provider, message):
    with pytest.raises(ValueError, match=message):
        settings.driver_of(provider)


def test_a_profile_has_what_it_says_and_what_is_usual(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").touch()
    said = {"image": "i", "size": "s", "keyname": "k", "private_key": "~/key", "duration": "1H"}
    profile = settings.Profile.read(said.get)
    assert profile == settings.Profile(
        image="i",
        size="s",
        keyname="k",
        private_key=str(tmp_path / "key"),
        duration="1H",
        ssh_interface="public_ips",
        deploy=True,
        on_failure="keep",
    )
    # Without Salt on it nobody needs to come in.
    assert not settings.Profile.read({**said, "private_key": None, "deploy": False}.get).deploy


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"image": None, "size": ""}, r"the settings 'image', 'size' are missing"),
        ({"ssh_interface": "public"}, r"ssh_interface: 'public_ips', 'private_ips' were expected"),
        ({"on_failure": "retry"}, r"on_failure: 'keep', 'destroy', 'expire' were expected"),
        ({"keyname": "k"}, r"private_key: the path of the private key of 'keyname' is needed"),
        ({"private_key": "/nowhere"}, r"private_key: there is no file '/nowhere'"),
        ({"wait_for_ip_timeout": "10"}, r"wait_for_ip_timeout: whole seconds above 0"),
        ({"wait_for_ip_interval": 0}, r"wait_for_ip_interval: whole seconds above 0"),
    ],
)
def test_a_profile_setting_that_is_wrong_is_named(said, message):
    with pytest.raises(ValueError, match=message):
        settings.Profile.read({"image": "i", "size": "s", **said}.get)


def test_arguments_of_a_command():
    assert settings.arguments({"size": "small"}, ["size"], ["duration"]) == {
        "size": "small",
        "duration": None,
    }
    assert settings.arguments(None) == {}
    with pytest.raises(ValueError, match="the argument 'size' is missing"):
        settings.arguments({}, ["size"])
    with pytest.raises(ValueError, match="unknown argument 'a', 'b'; known: size"):
        settings.arguments({"size": "x", "a": "1", "b": "2"}, ["size"])


def test_a_span_of_hours_and_days():
    assert settings.span("1.5", None) == timedelta(hours=1.5)
    assert settings.span(12, "2") == timedelta(days=2, hours=12)
    with pytest.raises(ValueError, match="the argument 'hours' or 'days' is missing"):
        settings.span(None, None)
    for wrong in ("soon", "0", "-1", "nan", "1e99"):
        with pytest.raises(ValueError, match="hours: a number above 0 was expected"):
            settings.span(wrong, None)
    with pytest.raises(ValueError, match="days: a number above 0 was expected"):
        settings.span("1", "-1")


def test_a_copy_of_guarded_settings_has_no_secret():
    machine = {
        "name": "web",
        "id": "access key",
        "key": "secret",
        "password": "secret",
        "sudo_password": "secret",
        "priv_key": "secret",
        "master_pem": "secret",
        "gateway": {"ssh_gateway": "bastion", "ssh_gateway_password": "secret"},
        "minion": {"id": "web.example.com", "master": "salt"},
    }
    guarded = settings.Guarded(machine)
    assert guarded == machine
    assert guarded["gateway"]["ssh_gateway_password"] == "secret"
    copied = copy.deepcopy({"vm_": guarded, "gateway": guarded["gateway"]})
    assert copied == {
        "vm_": {
            "name": "web",
            "gateway": {"ssh_gateway": "bastion"},
            "minion": {"id": "web.example.com", "master": "salt"},
        },
        "gateway": {"ssh_gateway": "bastion"},
    }


# Machines


def test_no_machine_is_lost_from_a_list_and_none_on_its_way_out_is_in_it(namesakes):
    listed = machines.list_machines(namesakes)
    assert {name: node.id for name, node in listed.items()} == {
        "web": "i-1",
        "i-2": "i-2",
        "db": "i-3",
    }


def test_a_machine_is_found_by_its_name_or_its_id(namesakes):
    assert machines.find(namesakes, "db").id == "i-3"
    assert machines.find(namesakes, "i-2").name == "web"
    with pytest.raises(
        NotFoundError, match="2 machines have the name 'web'; name one by its ID: i-1, i-2"
    ):
        machines.find(namesakes, "web")
    for gone in ("i-4", "nothing"):
        with pytest.raises(NotFoundError, match=f"no machine has the name or ID '{gone}'"):
            machines.find(namesakes, gone)


def test_the_leases_that_end_soon(cloud):
    driver = cloud.driver()
    for hours in (5, 1, 3, 300):
        driver.create_node(f"for{hours}", "small", TURNKEY, ex_duration=f"{hours}H")
    asked = len(cloud.records)
    assert machines.expiring(driver, timedelta(hours=4)).keys() == {"for1", "for3"}
    assert [record.action for record in cloud.records][asked:] == [
        "DescribeInstances",
        *["GetInstanceContractInfo"] * 4,
    ]
    assert machines.expiring(driver, timedelta(days=1)).keys() == {"for1", "for3", "for5"}


def test_a_machine_that_goes_away_while_leases_are_asked_for_is_left_out(cloud):
    # One after another, so that it goes before it is asked about.
    driver = cloud.driver(concurrency=1)
    for name in ("first", "second"):
        driver.create_node(name, "small", TURNKEY, ex_duration="1H")
    go = meanwhile(lambda: cloud.cloud.terminate("second"))
    cloud.inject(go, on="GetInstanceContractInfo", times=1)
    assert machines.expiring(driver, timedelta(days=1)).keys() == {"first"}


def test_where_a_machine_is_reached_the_profile_says(cloud):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    for interface in ("public_ips", "private_ips"):
        profile = settings.Profile(image=TURNKEY, size="small", ssh_interface=interface)
        running, address = machines.wait(driver, node, profile)
        assert [address] == getattr(running, interface)
        assert running.state is NodeState.RUNNING


def test_somebody_in_a_hurry_is_told_what_was_made(cloud, caplog):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(KeyboardInterrupt),
        machines.half_made(driver, node, "destroy"),
    ):
        raise KeyboardInterrupt
    assert f"the machine 'web' (ID {node.id})" in caplog.text
    assert driver.ex_get_node(node).state is NodeState.RUNNING


def test_a_machine_is_given_up_as_its_profile_says(cloud):
    driver = cloud.driver()
    for on_failure, status in (("keep", "running"), ("expire", "ready")):
        node = driver.create_node(on_failure, "small", TURNKEY)
        with pytest.raises(machines.HalfMadeError), machines.half_made(driver, node, on_failure):
            raise ValueError("no way")
        assert driver.ex_get_node(node).extra["status"] == status


@pytest.mark.parametrize("on_failure", ["expire", "destroy"])
def test_a_machine_that_cannot_be_given_up_is_told(cloud, on_failure):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    driver.destroy_node(node)
    with (
        pytest.raises(machines.HalfMadeError) as failed,
        machines.half_made(driver, node, on_failure),
    ):
        raise ValueError("no way")
    assert f"(ID {node.id}) was made, and is still there: it could not be given up" in str(
        failed.value
    )
    assert str(failed.value).endswith("What failed: no way")


def test_values_become_such_that_salt_can_show_them():
    at = datetime(2030, 1, 2, tzinfo=timezone.utc)
    assert machines.plain(Balance(Decimal("9.90"), at)) == {
        "amount": "9.90",
        "updated_at": "2030-01-02T00:00:00+00:00",
    }
    shown = machines.plain({"state": NodeState.RUNNING, 1: (True, None, 2.5)})
    assert shown == {"state": "running", "1": [True, None, 2.5]}
    assert type(shown["state"]) is str


def test_a_machine_without_an_address_where_it_is_waited_for_says_what_to_set(requests_mock):
    row = {"instanceId": "i-1", "instanceName": "web", "status": "running"}
    row["ipAddresses"] = "10.0.0.1"
    answer = {"DescribeInstancesResponse": {"InstanceSet": {"Instance": [row]}}}
    requests_mock.post("http://127.0.0.1:1/", json=answer)
    driver = settings.driver_of(
        {"id": "a", "key": "b", "url": "http://127.0.0.1:1/", "response_format": "json"}
    )
    profile = settings.Profile("image", "size", wait_for_ip_timeout=0.01, wait_for_ip_interval=0.01)
    node = driver.ex_get_node("web")
    with pytest.raises(
        MCSError, match="'web' runs but has no public .*ssh_interface='private_ips'"
    ):
        machines.wait(driver, node, profile)
