"""The library modules of the Salt extension, which do not need Salt."""

import dataclasses
import json
import logging
from collections import OrderedDict
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from libcloud.compute.types import NodeState

from libcloud_mcs.emulator import error, html, meanwhile
from libcloud_mcs.errors import MCSError, NotFoundError
from libcloud_mcs.records import Balance
from libcloud_mcs.salt import _arguments as arguments
from libcloud_mcs.salt import _machines as machines
from libcloud_mcs.salt import _settings as settings

TURNKEY = "turnkey-core-12.0-squeeze-x86.qcow2"


@pytest.fixture
def namesakes(requests_mock):
    """A driver of an endpoint with two machines of one name, which the emulator refuses."""
    rows = [
        {"instanceId": f"i-{number}", "instanceName": name, "status": status}
        for number, (name, status) in enumerate(
            [("web", "running"), ("web", "ready"), ("db", "running"), ("web", "deleting")], 1
        )
    ]
    response = {
        "DescribeInstancesResponse": {"InstanceSet": {"Instance": rows}, "Total": len(rows)}
    }
    requests_mock.post("http://127.0.0.1:1/", text=json.dumps(response))
    return settings.driver_of(
        {"id": "a", "key": "b", "url": "http://127.0.0.1:1/", "response_format": "json"}
    )


def test_entry_point_leads_to_the_package_of_the_driver():
    points = {point.value: point for point in entry_points(group="salt.loader")}
    package = points["libcloud_mcs.salt"].load()
    assert (Path(package.__file__).parent / "clouds" / "mcs.py").is_file()


# Settings


def test_provider_passes_each_setting_to_the_driver(cloud):
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
        ({"id": 123, "key": "b"}, r"id: expected text, got int; put the value in quotes"),
        ({"id": "a", "key": "b", "url": "nowhere"}, r"url: "),
        ({"id": "a", "key": "b", "page_size": 0}, r"page_size: "),
    ],
)
def test_invalid_setting_of_a_provider_is_an_error_with_its_name(provider, message):
    with pytest.raises(ValueError, match=message):
        settings.driver_of(provider)


def test_providers_of_one_account_are_reduced_to_one(cloud):
    one = {"id": "a", "key": "b", "url": "http://example.com/mcs/v1"}
    same = {**one, "url": "http://example.com:80/mcs/v1", "region": "Beijing", "timeout": 5}
    providers = {
        "first": one,
        "same": same,
        "elsewhere": {**one, "region": "Shanghai"},
        "other key": {**one, "id": "c"},
        "wrong secret": {**one, "key": "c"},
        "public": {"id": "a", "key": "b"},
    }
    kept = settings.unique_accounts(providers, ())
    assert list(kept) == ["first", "elsewhere", "other key", "wrong secret", "public"]
    assert kept["first"] is one
    wanted = settings.unique_accounts(providers, {"same"})
    assert list(wanted) == ["same", *list(kept)[1:]]
    assert settings.unique_accounts({}, ()) == {}


def test_profile_has_its_settings_and_the_defaults():
    values = {"image": "i", "size": "s", "keyname": "k", "duration": "1H"}
    profile = settings.Profile.read(values.get)
    assert profile == settings.Profile(
        image="i",
        size="s",
        keyname="k",
        duration="1H",
        ssh_interface="public_ips",
        deploy=True,
        on_failure="keep",
    )


@pytest.mark.parametrize(
    ("values", "needs_login"),
    [
        ({}, True),
        ({"deploy": False}, False),
        ({"deploy": False, "inline_script": []}, False),
        ({"deploy": False, "inline_script": ["date"]}, True),
    ],
)
def test_profile_needs_login_only_to_deploy_or_run_commands(values, needs_login):
    assert (
        settings.Profile.read({"image": "i", "size": "s", **values}.get).needs_login is needs_login
    )


def test_profile_setting_that_yaml_reads_as_number_becomes_text():
    values = {
        "image": 1,
        "size": 2,
        "keyname": 3,
        "duration": 72,
        "location": 4,
        "security_group": 5,
    }
    profile = settings.Profile.read(values.get)
    assert {name: getattr(profile, name) for name in values} == {
        name: str(value) for name, value in values.items()
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": None, "size": ""}, r"the settings 'image', 'size' are missing"),
        ({"image": ["i"]}, r"image: expected text, got a list"),
        ({"duration": {"hours": 2}}, r"duration: expected text, got a mapping"),
        (
            {"ssh_interface": "public"},
            r"ssh_interface: expected 'public_ips' or 'private_ips'",
        ),
        ({"salt_interface": "x"}, r"salt_interface: expected 'public_ips' or 'private_ips'"),
        (
            {"on_failure": "retry"},
            r"on_failure: expected 'keep' or 'destroy' or 'expire'",
        ),
        ({"disk_size": "10 GB"}, r"disk_size: expected a whole number of GB from 0, got '10 GB'"),
        ({"disk_size": 1.5}, r"disk_size: expected a whole number of GB from 0, got 1\.5"),
        ({"bandwidth": True}, r"bandwidth: expected a whole number of Mbps from 0, got True"),
        ({"bandwidth": [1]}, r"bandwidth: expected a whole number of Mbps from 0, got \[1\]"),
        ({"security_group": [1]}, r"security_group: expected text, got a list"),
        ({"deploy": "no"}, r"deploy: expected true or false, got 'no'"),
        ({"inline_script": "date"}, r"inline_script: expected a list of commands"),
        ({"inline_script": [["date"]]}, r"inline_script: expected a list of commands"),
        (
            {"inline_script": ["date"], "ssh_gateway": "bastion"},
            r"inline_script: Salt ignores 'ssh_gateway'",
        ),
        ({"wait_for_ip_timeout": "10"}, r"wait_for_ip_timeout: expected whole seconds above 0"),
        ({"wait_for_ip_interval": 0}, r"wait_for_ip_interval: expected whole seconds above 0"),
    ],
)
def test_invalid_setting_of_a_profile_is_an_error_with_its_name(values, message):
    with pytest.raises(ValueError, match=message):
        settings.Profile.read({"image": "i", "size": "s", **values}.get)


@pytest.mark.parametrize(
    ("disk_size", "bandwidth", "expected"),
    [(100, 5, (100, 5)), ("100", "5", (100, 5)), (0, "0", (0, 0)), (None, None, (None, None))],
)
def test_profile_with_disk_size_and_bandwidth_passes_numbers_to_create_node(
    disk_size, bandwidth, expected
):
    values = {"image": "i", "size": "s", "disk_size": disk_size, "bandwidth": bandwidth}
    args = settings.Profile.read(values.get).create_node_args("web")
    assert (args["ex_disk_size"], args["ex_bandwidth"]) == expected


def test_profile_with_location_and_security_group_passes_both_to_create_node():
    values = {"image": "i", "size": "s", "location": "zone", "security_group": "group"}
    args = settings.Profile.read(values.get).create_node_args("web")
    assert (args["location"], args["ex_security_group"]) == ("zone", "group")


def test_unused_returns_settings_that_nothing_reads():
    machine = {
        "name": "web",
        "image": "i",
        "duraton": "2H",
        "securitygroup": "default",
        "ssh_gateway": "bastion",
        "concurrency": 2,
        "minion": {},
        "root_dir": "/",
        "__pub_fun": "cloud.create",
        7: "seven",
    }
    assert settings.unused(machine, {"root_dir"}) == ["7", "duraton", "securitygroup"]


# Arguments of commands


def test_read_checks_for_missing_and_unknown_arguments():
    assert arguments.read({"size": "small"}, ["size"], ["duration"]) == {
        "size": "small",
        "duration": None,
    }
    assert arguments.read({}) == {}
    with pytest.raises(ValueError, match="the argument 'size' is missing"):
        arguments.read({}, ["size"])
    with pytest.raises(ValueError, match="unknown argument 'a', 'b'; known: size"):
        arguments.read({"size": "x", "a": "1", "b": "2"}, ["size"])
    with pytest.raises(ValueError, match="unknown argument 'sise'; known: size"):
        arguments.read({"sise": "x"}, ["size"])


def test_arguments_that_salt_adds_are_removed():
    added = {"__pub_fun": "cloud.action", "__pub_arg": [{"__kwarg__": True}], "__kwarg__": True}
    assert arguments.read(arguments.merge({"size": "small"}, added), ["size"]) == {"size": "small"}
    assert arguments.entries(arguments.merge({**added, "role": "db"}, {})) == {"role": "db"}
    with pytest.raises(ValueError, match="the entries to set are missing"):
        arguments.entries(arguments.merge(added, {}))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("a b", "a b"),
        (3, "3"),
        (-1, "-1"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (date(2013, 1, 2), "2013-01-02"),
        (datetime(2013, 1, 2, 3, 4), "2013-01-02 03:04:00"),
    ],
)
def test_text_of_a_yaml_scalar_is_its_text(value, text):
    assert arguments.text(value, "note") == text


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (None, "null"),
        ([1], "a list"),
        ((1,), "a list"),
        ({"a": 1}, "a mapping"),
        (OrderedDict(a=1), "a mapping"),
        (b"x", "bytes"),
    ],
)
def test_text_of_a_value_that_is_not_scalar_is_an_error_with_its_name(value, got):
    with pytest.raises(ValueError, match=f"note: expected text, got {got}; "):
        arguments.text(value, "note")


def test_flag_accepts_the_words_of_yaml():
    for value in ("true", "True", "YES", "on", "1"):
        assert arguments.flag(value, "force") is True
    for value in ("false", "No", "OFF", "0", None):
        assert arguments.flag(value, "force") is False
    for value in ("", "maybe", "2"):
        with pytest.raises(ValueError, match=f"force: expected true or false, got '{value}'"):
            arguments.flag(value, "force")


@pytest.mark.parametrize(
    ("value", "number"), [("100", 100), (100, 100), ("0", 0), (0, 0), ("007", 7), (None, None)]
)
def test_whole_number_of_a_number_or_its_text_is_an_integer(value, number):
    assert arguments.whole_number(value, "disk_size", "GB") == number


@pytest.mark.parametrize(
    "value", ["", " 1", "-1", "+1", "1.0", "1e3", "1_000", "ten", "١", -1, 1.0]
)
def test_whole_number_of_another_value_is_an_error_with_its_name(value):
    with pytest.raises(ValueError, match="disk_size: expected a whole number of GB from 0, got "):
        arguments.whole_number(value, "disk_size", "GB")


def test_timespan_adds_hours_and_days():
    assert arguments.timespan("1.5", None) == timedelta(hours=1.5)
    assert arguments.timespan("12", "2") == timedelta(days=2, hours=12)
    with pytest.raises(ValueError, match="the argument 'hours' or 'days' is missing"):
        arguments.timespan(None, None)
    for wrong in ("soon", "0", "-1", "nan", "1e99", "true", ""):
        with pytest.raises(ValueError, match="hours: expected a number above 0"):
            arguments.timespan(wrong, None)
    for hours in ("1", "48"):
        with pytest.raises(ValueError, match="days: expected a number above 0"):
            arguments.timespan(hours, "-1")


# Machines


def test_list_with_equal_names_has_every_machine_that_is_not_being_destroyed(namesakes):
    listed = machines.list_machines(namesakes)
    assert {name: node.id for name, node in listed.items()} == {
        "web": "i-1",
        "i-2": "i-2",
        "db": "i-3",
    }


def test_find_accepts_a_unique_name_or_an_id(namesakes):
    assert machines.find(namesakes, "db").id == "i-3"
    assert machines.find(namesakes, "i-2").name == "web"
    with pytest.raises(
        NotFoundError, match="2 machines have the name 'web'; name one by its ID: i-1, i-2"
    ):
        machines.find(namesakes, "web")
    for gone in ("i-4", "nothing"):
        with pytest.raises(NotFoundError, match=f"no machine has the name or ID '{gone}'"):
            machines.find(namesakes, gone)


def test_find_if_any_ignores_a_machine_that_is_being_destroyed(cloud):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    assert machines.find_if_any(driver, "web").id == node.id
    assert machines.exists(driver, node)
    state = cloud.account.state
    state.timing = dataclasses.replace(state.timing, terminate_seconds=600)
    driver.destroy_node(node)
    assert machines.find_if_any(driver, "web") is None
    assert not machines.exists(driver, node)
    assert machines.find_if_any(driver, "nothing") is None


def test_destroy_accepts_a_machine_that_no_longer_exists(cloud):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    driver.destroy_node(node)
    machines.destroy(driver, node)


def test_destroy_with_a_lost_response_checks_that_the_machine_is_gone(cloud):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    cloud.inject(html(502, after=True), on="TerminateInstance")
    machines.destroy(driver, node)
    assert driver.list_nodes() == []


def test_destroy_raises_the_error_if_the_machine_still_exists(cloud):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    cloud.inject(error(400, "No destroying"), on="TerminateInstance")
    with pytest.raises(MCSError, match="No destroying"):
        machines.destroy(driver, node)
    cloud.inject(error(400, "No looking"), on="DescribeInstances")
    with pytest.raises(MCSError, match="No destroying"):
        machines.destroy(driver, node)


def test_address_of_a_missing_interface_is_an_error(cloud):
    driver = cloud.driver()
    node = driver.ex_get_node(driver.create_node("web", "small", TURNKEY).id)
    for interface in ("public_ips", "private_ips"):
        assert [machines.address(node, interface)] == getattr(node, interface)
    node.private_ips = []
    with pytest.raises(ValueError, match="salt_interface: the machine has no address in"):
        machines.address(node, "private_ips")


def test_expiring_returns_leases_that_end_within_the_time(cloud):
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


def test_expiring_leaves_out_a_machine_destroyed_meanwhile(cloud):
    # One after another, so that it goes before it is asked about.
    driver = cloud.driver(concurrency=1)
    for name in ("first", "second"):
        driver.create_node(name, "small", TURNKEY, ex_duration="1H")
    go = meanwhile(lambda: cloud.account.state.terminate("second"))
    cloud.inject(go, on="GetInstanceContractInfo", times=1)
    assert machines.expiring(driver, timedelta(days=1)).keys() == {"first"}


def test_wait_returns_the_address_of_the_profiles_interface(cloud):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    for interface in ("public_ips", "private_ips"):
        profile = settings.Profile(image=TURNKEY, size="small", ssh_interface=interface)
        running, address = machines.wait(driver, node, profile)
        assert [address] == getattr(running, interface)
        assert running.state is NodeState.RUNNING


def test_interrupted_setup_logs_the_machine_and_keeps_it(cloud, caplog):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(KeyboardInterrupt),
        machines.clean_up_on_error(driver, node, "destroy"),
    ):
        raise KeyboardInterrupt
    assert f"the machine 'web' (ID {node.id})" in caplog.text
    assert driver.ex_get_node(node).state is NodeState.RUNNING


def test_failed_setup_is_cleaned_up_as_on_failure_says(cloud):
    driver = cloud.driver()
    for on_failure, status in (("keep", "running"), ("expire", "ready")):
        node = driver.create_node(on_failure, "small", TURNKEY)
        with (
            pytest.raises(machines.IncompleteMachineError),
            machines.clean_up_on_error(driver, node, on_failure),
        ):
            raise ValueError("no way")
        assert driver.ex_get_node(node).extra["status"] == status


@pytest.mark.parametrize("on_failure", ["expire", "destroy"])
def test_failed_cleanup_is_in_the_message_of_the_error(cloud, on_failure):
    driver = cloud.driver()
    node = driver.create_node("web", "small", TURNKEY)
    driver.destroy_node(node)
    with (
        pytest.raises(machines.IncompleteMachineError) as failed,
        machines.clean_up_on_error(driver, node, on_failure),
    ):
        raise ValueError("no way")
    assert f"; the machine still exists, because {on_failure!r} failed (" in str(failed.value)
    assert str(failed.value).endswith("Cause: no way")


def test_plain_converts_values_to_types_of_json():
    at = datetime(2030, 1, 2, tzinfo=timezone.utc)
    assert machines.plain(Balance(Decimal("9.90"), at)) == {
        "amount": "9.90",
        "updated_at": "2030-01-02T00:00:00+00:00",
    }
    shown = machines.plain({"state": NodeState.RUNNING, 1: (True, None, 2.5)})
    assert shown == {"state": "running", "1": [True, None, 2.5]}
    assert type(shown["state"]) is str


def test_wait_for_a_missing_address_is_an_error_that_names_the_setting(requests_mock):
    row = {"instanceId": "i-1", "instanceName": "web", "status": "running"}
    row["ipAddresses"] = "10.0.0.1"
    response = {"DescribeInstancesResponse": {"InstanceSet": {"Instance": [row]}}}
    requests_mock.post("http://127.0.0.1:1/", json=response)
    driver = settings.driver_of(
        {"id": "a", "key": "b", "url": "http://127.0.0.1:1/", "response_format": "json"}
    )
    profile = settings.Profile("image", "size", wait_for_ip_timeout=0.01, wait_for_ip_interval=0.01)
    node = driver.ex_get_node("web")
    with pytest.raises(
        MCSError, match="'web' runs but has no public .*ssh_interface='private_ips'"
    ):
        machines.wait(driver, node, profile)
