"""The Salt extension, through the real salt-cloud command."""

import dataclasses
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from salt_master import CIRROS, TURNKEY, needs_salt, only, private_key, profile, provider, tags

from libcloud_mcs.emulator import error
from libcloud_mcs.keys import generate_key_pair

pytestmark = needs_salt


# Lists


def test_list_options_show_images_sizes_and_locations(salt_master):
    options = ("--list-images", "--list-sizes", "--list-locations")
    images, sizes, locations = map(
        only, salt_master.run_all(*([option, "emulated"] for option in options))
    )
    assert images[CIRROS]["extra"]["status"] == "active"
    assert {CIRROS, TURNKEY, "CentOS-6.4-x86_64-中文.qcow2"} <= set(images)
    small = sizes["small"]
    assert (small["ram"], small["disk"], small["price"]) == (1024, 30, None)
    assert sizes["medium"]["extra"]["cpu"] == 2
    assert locations == {
        "Beijing": {"id": "Beijing", "name": "Beijing", "country": "CN", "extra": {}}
    }


def test_queries_list_no_machine_that_is_being_destroyed(salt_master, cloud):
    salt_master.write("cloud.conf.d/select.conf", {"query.selection": ["id", "state"]})
    driver = cloud.driver()
    image = driver.get_image(CIRROS)
    web, off, gone = (driver.create_node(name, "small", image) for name in ("web", "off", "gone"))
    driver.stop_node(off)
    cloud.account.state.timing = dataclasses.replace(
        cloud.account.state.timing, terminate_seconds=600
    )
    driver.destroy_node(gone)
    assert [node.name for node in driver.list_nodes() if node.extra["status"] == "deleting"]
    web, off = driver.ex_get_node(web), driver.ex_get_node(off)

    some, everything, select = map(only, salt_master.run_all(["-Q"], ["-F"], ["-S"]))
    assert set(some) == {"web", "off"}
    assert some["web"] == {
        "id": web.id,
        "name": "web",
        "image": None,
        "size": "small",
        "state": "running",
        "private_ips": web.private_ips,
        "public_ips": web.public_ips,
    }
    assert set(everything) == {"web", "off"}
    assert everything["off"]["extra"] == off.extra
    assert everything["off"]["extra"]["status"] == "ready"
    assert select == {
        "web": {"id": web.id, "state": "running"},
        "off": {"id": off.id, "state": "stopped"},
    }


# Machines


def test_machine_is_created_and_destroyed_once_with_all_events(salt_master, cloud):
    # A filter for all fields does not put the secret into the events either.
    everything = {"creating": {"keys": ["key", "image"]}, "created": {"keys": ["key", "size"]}}
    salt_master.write("cloud.conf.d/events.conf", {"filter_events": everything})
    key_pair = cloud.driver().create_key_pair("mine")
    profile(
        salt_master,
        image=cloud.driver().get_image(CIRROS).id,
        duration="72H",
        keyname="mine",
        ssh_interface="private_ips",
    )
    made = salt_master.run("-p", "small", "web").data["web"]
    (node,) = cloud.driver().list_nodes()
    assert made["id"] == node.id
    assert made["state"] == "running"
    assert made["extra"] == node.extra
    (charge,) = cloud.ledger
    assert charge.amount == Decimal("0.12") * 72
    assert cloud.driver().ex_get_password_data(node, key_pair.private_key).key_pair_name == "mine"
    again = salt_master.run("-p", "small", "web")
    assert "already exists" in again.data["web"]["Error"]
    assert salt_master.run("-d", "web").data == {"emulated": {"mcs": {"web": True}}}
    assert cloud.driver().list_nodes() == []
    assert "No machines were found" in salt_master.run("-d", "web").stdout
    assert len(cloud.ledger) == 1

    assert tags(salt_master) == [
        f"salt/cloud/web/{step}"
        for step in ("creating", "requesting", "querying", "created", "destroying", "destroyed")
    ]
    creating, requesting, _, created, destroying, _ = (data for _, data in salt_master.events)
    named = {"name": "web", "profile": "small", "provider": "emulated:mcs", "driver": "mcs"}
    assert named.items() <= creating.items()
    assert (named | {"id": node.id, "size": "small"}).items() <= created.items()
    assert "image" in creating
    assert "key" not in creating | created
    assert destroying["id"] == node.id
    assert requesting["kwargs"] == {
        "name": "web",
        "image": cloud.driver().get_image(CIRROS).id,
        "size": "small",
        "keyname": "mine",
        "duration": "72H",
        "location": None,
        "disk_size": None,
        "bandwidth": None,
        "security_group": None,
    }


def test_caches_of_salt_follow_the_machine(salt_master, cloud, folder):
    salt_master.write("cloud.conf.d/caches.conf", {"update_cachedir": True, "delete_sshkeys": True})
    driver = cloud.driver()
    node = driver.ex_get_node(driver.create_node("web", "small", CIRROS).id)
    # Instead of the command that would change the known hosts of this machine.
    keygen = folder / "bin" / "ssh-keygen"
    keygen.parent.mkdir()
    keygen.write_text(f'#!/bin/sh\necho "$@" >> {folder / "forgotten"}\n')
    keygen.chmod(0o755)
    salt_master.environment["PATH"] = f"{folder / 'bin'}:{salt_master.environment['PATH']}"
    cached = folder / "cache" / "active" / "mcs" / "emulated" / "web.p"

    (listed,) = salt_master.call(("list_nodes_full", [], {}))
    assert listed["web"]["extra"] == node.extra
    assert cached.exists()
    cached.unlink()
    (shown,) = salt_master.call(("show_instance", ["web"], {"call": "action"}))
    assert shown == listed["web"]
    assert cached.exists()
    assert salt_master.call(("destroy", ["web"], {})) == [True]
    assert not cached.exists()
    forgotten = [f"-R {address}" for address in (*node.public_ips, *node.private_ips)]
    assert (folder / "forgotten").read_text().splitlines() == forgotten


def test_map_in_parallel_creates_each_machine_once(salt_master, cloud):
    salt_master.write(
        "cloud.profiles.d/more.conf",
        {"large": {"provider": "emulated", "image": TURNKEY, "size": "large"}},
    )
    salt_master.write(
        "web.map", {"small": ["web1", {"web2": {"duration": "2H"}}], "large": [{"db": None}]}
    )
    path = str(salt_master.folder / "web.map")
    made = salt_master.run("-m", path, "-P").data
    nodes = {node.name: node for node in cloud.driver().list_nodes()}
    assert set(made) == set(nodes) == {"web1", "web2", "db"}
    assert {name: each["id"] for name, each in made.items()} == {
        name: node.id for name, node in nodes.items()
    }
    assert nodes["db"].size.name == "large"
    assert len(cloud.ledger) == 3
    assert sorted(tags(salt_master))[0::4] == [
        f"salt/cloud/{name}/created" for name in ("db", "web1", "web2")
    ]
    again = salt_master.run("-m", path, "-P").data
    assert again == {name: {"Message": "Already running."} for name in nodes}
    assert len(cloud.ledger) == 3
    assert set(only(salt_master.run("-m", path, "-d", "-P"))) == set(nodes)
    assert cloud.driver().list_nodes() == []


def test_actions_change_the_machine_and_fire_events(salt_master, cloud):
    driver = cloud.driver()
    actions = {
        "start": [],
        "stop": ["force=True"],
        "reboot": [],
        "renew": ["duration=2H"],
        "rebuild": [f"image={TURNKEY}"],
        "change_size": ["size=medium", "duration=3H"],
        "set_metadata": ["role=db", "note=a b=c"],
    }
    # A machine for each, of that name.
    nodes = {name: driver.create_node(name, "small", CIRROS, ex_duration="1H") for name in actions}
    driver.stop_node(nodes["start"])
    ends = driver.ex_get_contract("renew").expire_at
    before = len(cloud.records)

    results = salt_master.run_all(
        *(["-a", action, action, *words] for action, words in actions.items())
    )
    done = dict(zip(actions, map(only, results), strict=True))

    def is_(name):
        return driver.ex_get_node(nodes[name]).extra["status"]

    assert done == {name: {name: True} for name in done}
    assert driver.ex_get_contract("renew").expire_at == ends + timedelta(hours=2)
    assert (is_("start"), is_("stop"), is_("reboot")) == ("running", "ready", "running")
    asked = {record.action: record.params for record in cloud.records[before:]}
    assert asked["StopInstance"]["Force"] == "True"
    assert asked["RebootInstance"]["InstanceId"] == nodes["reboot"].id
    assert asked["RebuildInstanceRootImage"]["ImageId"] == driver.get_image(TURNKEY).id
    assert driver.ex_get_node("change_size").size.name == "medium"
    assert {"role": "db", "note": "a b=c"}.items() <= driver.ex_get_metadata("set_metadata").items()
    charges = [(charge.action, charge.amount) for charge in cloud.ledger[len(nodes) :]]
    assert sorted(charges) == [
        ("ChangeInstanceType", Decimal("0.35") * 3),
        ("RenewInstance", Decimal("0.12") * 2),
    ]
    assert sorted(tags(salt_master)) == sorted(
        f"salt/cloud/{name}/{step}"
        for name, steps in {
            "start": ("starting", "started"),
            "stop": ("stopping", "stopped"),
            "reboot": ("rebooting", "rebooted"),
            "renew": ("renewing", "renewed"),
            "rebuild": ("rebuilding", "rebuilt"),
            "change_size": ("resizing", "resized"),
        }.items()
        for step in steps
    )


def test_actions_without_effect_show_data_and_fire_no_event(salt_master, cloud):
    driver = cloud.driver()
    node = driver.create_node("web", "small", CIRROS, ex_duration="1H")
    results = salt_master.run_all(
        ["-a", "show_instance", node.id],
        ["-a", "get_contract", "web"],
        ["-a", "get_metadata", "web"],
        # At the level "trace", Salt logs all that it prints.
        ["-a", "get_password", "web", "--log-file-level=debug"],
    )
    shown, contract, metadata, password = map(only, results)
    assert shown[node.id]["extra"] == driver.ex_get_node(node).extra
    lease = driver.ex_get_contract(node)
    assert contract["web"] == {
        "started_at": lease.started_at.isoformat(),
        "expire_at": lease.expire_at.isoformat(),
        "extend_to": lease.extend_to.isoformat(),
    }
    assert metadata["web"] == driver.ex_get_metadata(node)
    assert password["web"] == {
        "account": "cirros",
        "password": driver.ex_get_password_data(node).password,
    }
    assert tags(salt_master) == []


def test_get_password_of_a_machine_with_key_pair_needs_the_private_key(salt_master, cloud, folder):
    driver = cloud.driver()
    pair = driver.create_key_pair("mine")
    node = driver.create_node("web", "small", TURNKEY, ex_keyname="mine")
    path = private_key(folder, pair.private_key)
    ask = ("get_password", ["web"], {"call": "action"})
    missing, shown = salt_master.call(ask, ("get_password", ["web", {"private_key": path}], ask[2]))
    assert "expected the private key of the key pair 'mine'" in missing["SaltCloudSystemExit"]
    password = driver.ex_get_password_data(node, pair.private_key).password
    assert shown == {"account": "root", "password": password}
    provider(salt_master, cloud, private_key=path)
    assert salt_master.call(ask) == [shown]


def test_functions_with_arguments_return_results(salt_master, cloud, folder):
    driver = cloud.driver()
    nodes = {
        hours: driver.create_node(f"for{hours}", "small", TURNKEY, ex_duration=f"{hours}H")
        for hours in (30, 1, 100)
    }
    for name in ("old", "older"):
        driver.create_key_pair(name)
    public, _ = generate_key_pair("mine")
    (folder / "id.pub").write_text(public)
    words = (
        ["keyname=mine", f"file={folder / 'id.pub'}"],
        ["keyname=old"],
        [],
        ["days=1", "hours=12"],
    )
    functions = ("import_keypair", "delete_keypair", "get_balance", "list_expiring")
    imported, deleted, balance, soon = map(
        only,
        salt_master.run_all(
            *(["-f", name, "emulated", *each] for name, each in zip(functions, words, strict=True))
        ),
    )
    assert (imported["name"], imported["fingerprint"]) == (
        "mine",
        driver.get_key_pair("mine").fingerprint,
    )
    assert deleted is True
    assert Decimal(balance["amount"]) == driver.ex_get_balance().amount
    assert datetime.fromisoformat(balance["updated_at"]) == driver.ex_get_balance().updated_at
    assert set(soon) == {"for1", "for30"}
    lease = driver.ex_get_contract(nodes[1])
    assert soon["for1"] == {
        "id": nodes[1].id,
        "started_at": lease.started_at.isoformat(),
        "expire_at": lease.expire_at.isoformat(),
        "extend_to": lease.extend_to.isoformat(),
    }
    listed = only(salt_master.run("-f", "list_keypairs", "emulated"))
    assert listed["mine"] == imported
    assert set(listed) == {"mine", "older"}


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"key": None}, "The required 'key' configuration setting is missing from the 'emulated:"),
        ({"url": "nowhere"}, "The cloud provider 'emulated:mcs' is not set up properly: url: "),
    ],
)
def test_invalid_provider_setting_is_an_error_with_its_name(salt_master, cloud, settings, message):
    provider(salt_master, cloud, **settings)
    result = salt_master.run("--list-sizes", "emulated")
    assert message in result.stderr
    assert "could not be loaded" not in result.stderr
    assert result.status != 0
    (failed,) = salt_master.call(("list_nodes", [], {}))
    assert "'emulated:mcs' is not set up" in failed["SaltCloudSystemExit"]
    assert cloud.records == []


def test_missing_package_is_an_error_with_its_name(salt_master, folder):
    (folder / "lxml.py").write_text("raise ModuleNotFoundError('gone', name='lxml')")
    salt_master.environment["PYTHONPATH"] = str(folder)
    salt_master.new_processes = True
    result = salt_master.run("--list-sizes", "emulated")
    assert "The mcs driver requires 'lxml' to be installed" in result.stderr
    assert "could not be loaded" not in result.stderr
    assert result.status != 0
    results = salt_master.call(
        ("list_nodes", [], {}),
        ("stop", ["web"], {"call": "action"}),
        ("destroy", ["web"], {}),
        ("create", [{"name": "web"}], {}),
    )
    for failed in results:
        assert "'emulated:mcs' is not set up" in failed["SaltCloudSystemExit"]


def test_invalid_profile_setting_is_an_error_and_creates_no_machine(salt_master, cloud, folder):
    path = private_key(folder, cloud.driver().create_key_pair("mine").private_key)
    Path(path).chmod(0o644)
    profile(salt_master, image=None, size=None)
    result = salt_master.run("-p", "small", "web")
    assert "the settings 'image', 'size' are missing" in result.stderr
    assert result.status == 1

    machine = {
        "name": "web",
        "profile": None,
        "provider": "emulated:mcs",
        "driver": "emulated:mcs",
        "image": TURNKEY,
        "size": "small",
    }
    expected = [
        ({"image": "nothing"}, "no image has the ID or name 'nothing'"),
        ({"size": "nothing"}, "'nothing'"),
        ({"duration": "3 days"}, "duration: "),
        ({"keyname": "nobody"}, "there is no key pair 'nobody'"),
        ({"deploy": True, "keyname": "mine"}, "private_key: the path of the private key"),
        ({"deploy": True, "private_key": path}, "expected the mode 0400 or 0600"),
    ]
    results = salt_master.call(*(("create", [machine | settings], {}) for settings, _ in expected))
    for (settings, message), result in zip(expected, results, strict=True):
        assert message in result["SaltCloudSystemExit"], settings
    assert list(cloud.ledger) == []


def test_refused_list_request_is_logged(salt_master, cloud):
    provider(salt_master, cloud, key="wrong")
    assert "could not be listed: DescribeInstances: " in salt_master.run("-Q").stderr
    (failed,) = salt_master.call(("list_nodes", [], {}))
    assert "DescribeInstances: " in failed["SaltCloudSystemExit"]


def test_wrong_call_is_an_error_that_says_the_right_call(salt_master, cloud):
    cloud.driver().create_node("web", "small", TURNKEY)
    result = salt_master.run("-a", "stop", "web", "hard=True")
    assert "unknown argument 'hard'; known: force" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.status == 1

    action, function = {"call": "action"}, {"call": "function"}
    expected = [
        ("get_balance", ["web"], action, "must be called with -f or --function"),
        ("get_balance", ["web", {"a": "b"}], action, "must be called with -f or --function"),
        ("start", [], function, "must be called with -a or --action"),
        ("destroy", [], function, "must be called with -d, --destroy"),
        ("destroy", [""], {}, "expected text that is not blank"),
        ("change_size", ["web"], action, "the argument 'size' is missing"),
        ("set_metadata", ["web"], action, "the entries to set are missing"),
        ("import_keypair", [], function, "the arguments 'keyname', 'file' are missing"),
        ("list_expiring", [], function, "the argument 'hours' or 'days' is missing"),
        ("list_nodes_select", [], {}, "The setting 'query.selection' is missing"),
        ("start", ["web"], action, "to be ready, it is running"),
    ]
    results = salt_master.call(*(call for *call, _ in expected))
    for (*call, message), result in zip(expected, results, strict=True):
        assert message in result["SaltCloudSystemExit"], call
    assert tags(salt_master) == ["salt/cloud/web/starting"]
    assert len(cloud.driver().list_nodes()) == 1


# Incomplete machines


def test_machine_that_cannot_be_set_up_is_treated_as_on_failure_says(salt_master, cloud):
    policies = {
        "usual": ({}, "is kept", "running"),
        "kept": ({"on_failure": "keep"}, "is kept", "running"),
        "expires": (
            {"on_failure": "expire"},
            "was stopped until its lease ends",
            "ready",
        ),
        "destroyed": ({"on_failure": "destroy"}, "was destroyed", None),
    }
    profile(salt_master, deploy=True)
    machines = {name: settings for name, (settings, _, _) in policies.items()}
    salt_master.write("web.map", {"small": machines})
    cloud.inject(error(400), on="GetPasswordData")
    result = salt_master.run("-m", str(salt_master.folder / "web.map"), "-P")
    made = {
        tag.split("/")[2]: data["id"]
        for tag, data in salt_master.events
        if tag.endswith("/querying")
    }
    left = {node.name: node for node in cloud.driver().list_nodes()}
    for name, (_, outcome, status) in policies.items():
        error_there = result.data[name]["Error"]
        assert (
            f"the machine {name!r} (ID {made[name]}) was created but could not be set up;"
            f" the machine {outcome}. Cause: " in error_there
        )
        assert (left[name].extra["status"] if name in left else None) == status
    assert not [tag for tag in tags(salt_master) if tag.endswith("/created")]
    assert len(cloud.ledger) == len(policies)


def test_error_of_a_machine_that_does_not_start_has_its_id(salt_master, cloud):
    cloud.account.state.timing = dataclasses.replace(cloud.account.state.timing, boot_seconds=600)
    profile(salt_master, wait_for_ip_timeout=1)
    result = salt_master.run("-p", "small", "web")
    (node,) = cloud.driver().list_nodes()
    outcome = "was created but could not be set up; the machine is kept"
    message = f"the machine 'web' (ID {node.id}) {outcome}"
    assert message in result.stderr
    assert "Cause: Timed out after 1 seconds" in result.stderr
    assert result.status == 1


def test_machine_of_a_map_that_fails_leaves_the_others_unaffected(salt_master, cloud):
    cloud.inject(error(400), on="CreateInstance", times=1)
    salt_master.write("web.map", {"small": ["web1", "web2"]})
    made = salt_master.run("-m", str(salt_master.folder / "web.map"), "-P").data
    (node,) = cloud.driver().list_nodes()
    assert made.pop(node.name)["id"] == node.id
    (failed,) = made.values()
    assert "CreateInstance" in failed["Error"]
