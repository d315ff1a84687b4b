"""Several providers: two names for one account, and accounts whose machines have the same names."""

import dataclasses

import pytest
from salt_master import CIRROS, needs_salt, of, tags

from libcloud_mcs.emulator import error, meanwhile

pytestmark = needs_salt


@pytest.fixture
def providers(salt_master):
    """Return a function that writes providers, and a profile of the same name for each."""

    def write(**settings):
        salt_master.write("cloud.providers", settings)
        common = {"image": CIRROS, "size": "small", "duration": "2H"}
        salt_master.write(
            "cloud.profiles", {name: {"provider": name, **common} for name in settings}
        )

    return write


@pytest.fixture
def twice(providers, cloud):
    """Two names for one account."""
    providers(first=of(cloud), second=of(cloud, timeout=50))


@pytest.fixture
def unlike(providers, cloud):
    """Two names for one account, which the driver cannot recognize as one."""
    providers(first=of(cloud), second=of(cloud, region="Shanghai"))


@pytest.fixture
def other(providers, cloud):
    """A driver of a second account, which also has a machine "web"."""
    account = cloud.add_account()
    providers(first=of(cloud), second=of(cloud, account))
    driver = cloud.driver(account)
    driver.create_node("web", "small", CIRROS)
    return driver


def names(driver):
    return sorted(node.name for node in driver.list_nodes())


def create(cloud, *wanted):
    driver = cloud.driver()
    return [driver.create_node(name, "small", CIRROS) for name in wanted]


def count(cloud, action):
    return [record.action for record in cloud.records].count(action)


def accepted_key(salt_master, name):
    """Write the key of a minion, as Salt does after an installation."""
    path = salt_master.folder / "etc/salt/pki/master/minions" / name
    path.write_text("key")
    return path


# One account


@pytest.mark.usefixtures("twice")
def test_account_of_two_providers_is_listed_once(salt_master, cloud):
    create(cloud, "web")
    before = count(cloud, "DescribeInstances")
    some, everything = salt_master.run_all(["-Q"], ["-F"])
    assert {alias: list(found["mcs"]) for alias, found in some.data.items()} == {"first": ["web"]}
    assert list(everything.data) == ["first"]
    assert count(cloud, "DescribeInstances") == before + 2


@pytest.mark.parametrize("options", [[], ["-P"]])
@pytest.mark.usefixtures("twice")
def test_machine_of_two_equal_providers_is_destroyed_and_reported_once(salt_master, cloud, options):
    create(cloud, "web", "db")
    key = accepted_key(salt_master, "web")
    result = salt_master.run("-d", "web", *options)
    assert (result.status, result.data) == (0, {"first": {"mcs": {"web": True}}})
    assert count(cloud, "TerminateInstance") == 1
    assert tags(salt_master) == ["salt/cloud/web/destroying", "salt/cloud/web/destroyed"]
    assert not key.exists()
    assert names(cloud.driver()) == ["db"]


@pytest.mark.usefixtures("unlike")
def test_machine_of_two_unlike_providers_is_destroyed_once_and_reported_twice(salt_master, cloud):
    create(cloud, "web", "db")
    key = accepted_key(salt_master, "web")
    result = salt_master.run("-d", "web")
    assert result.data == {alias: {"mcs": {"web": True}} for alias in ("first", "second")}
    assert result.status == 0
    assert ":mcs' is gone already" in result.stderr
    assert "Error" not in result.stderr
    assert count(cloud, "TerminateInstance") == 1
    assert not key.exists()
    assert names(cloud.driver()) == ["db"]


@pytest.mark.usefixtures("unlike")
def test_machine_of_two_unlike_providers_is_destroyed_in_parallel(salt_master, cloud):
    create(cloud, "web", "db")
    result = salt_master.run("-d", "web", "-P")
    assert result.data == {alias: {"mcs": {"web": True}} for alias in ("first", "second")}
    assert result.status == 0
    assert names(cloud.driver()) == ["db"]


@pytest.mark.parametrize(("action", "fixture"), [("stop", "twice"), ("reboot", "unlike")])
def test_action_on_a_machine_of_two_providers_is_done_once(
    salt_master, cloud, request, action, fixture
):
    request.getfixturevalue(fixture)
    create(cloud, "web")
    result = salt_master.run("-a", action, "web", "nothing")
    assert result.data.pop("first") == {"mcs": {"web": True}}
    assert result.data["Not Found"] == ["nothing"]
    assert result.status == 0
    assert count(cloud, f"{action.title()}Instance") == 1


@pytest.mark.usefixtures("twice")
def test_profile_of_the_second_provider_finds_the_machine(salt_master, cloud):
    made = salt_master.run("-p", "second", "web")
    assert made.data["web"]["state"] == "running"
    again = salt_master.run("-p", "first", "web")
    assert again.data["web"]["Error"] == "web already exists under first:mcs"
    result = salt_master.run("-p", "second", "-d", "web")
    assert (result.status, result.data) == (0, {"second": {"mcs": {"web": True}}})
    assert len(cloud.ledger) == 1


def test_unknown_machine_is_not_destroyed_and_reported(salt_master, cloud, twice):
    create(cloud, "web")
    result = salt_master.run("-d", "web", "nothing")
    assert (result.status, result.data) == (0, {"first": {"mcs": {"web": True}}})
    result = salt_master.run("-d", "nothing")
    assert (result.status, result.stdout) == (0, "No machines were found to be destroyed\n")
    result = salt_master.salt_call("cloud.destroy", "nothing")
    assert "were not found: nothing" in result.stderr
    assert result.status != 0


@pytest.mark.usefixtures("twice")
def test_map_of_the_second_provider_is_created_listed_and_destroyed(salt_master, cloud):
    create(cloud, "db")
    salt_master.write("web.map", {"second": ["web1", "web2"]})
    path = str(salt_master.folder / "web.map")
    assert set(salt_master.run("-m", path, "-P").data) == {"web1", "web2"}
    listed = salt_master.run("-m", path, "-Q").data["first"]["mcs"]
    assert set(listed) == {"web1", "web2"}
    result = salt_master.run("-m", path, "-d", "-P")
    assert result.data == {"first": {"mcs": {"web1": True, "web2": True}}}
    assert names(cloud.driver()) == ["db"]


# Hard maps


@pytest.fixture
def hard(salt_master):
    """Return a function that runs a map with ``-H``: other machines are destroyed."""
    salt_master.write("cloud.conf.d/hard.conf", {"enable_hard_maps": True})

    def run(**named):
        salt_master.write("web.map", named)
        # Salt's result has keys that are not text, which JSON cannot represent.
        path = str(salt_master.folder / "web.map")
        return salt_master.run("-m", path, "-H", "--out", "pprint")

    return run


@pytest.mark.parametrize("alias", ["first", "second"])
@pytest.mark.usefixtures("twice")
def test_hard_map_destroys_machines_that_the_map_does_not_name(hard, cloud, alias):
    create(cloud, "web", "old")
    result = hard(**{alias: ["web", "new"]})
    assert result.status == 0, result.stderr
    assert names(cloud.driver()) == ["new", "web"]
    assert "is kept" not in result.stderr
    assert count(cloud, "TerminateInstance") == 1


@pytest.mark.usefixtures("twice")
def test_hard_map_of_both_providers_keeps_the_machines_of_both(hard, cloud):
    create(cloud, "web", "db", "old")
    result = hard(first=["web"], second=["db"])
    assert result.status == 0, result.stderr
    assert "The machine 'db' (ID " in result.stderr
    assert "of 'first:mcs' is kept: the map names the machine" in result.stderr
    assert names(cloud.driver()) == ["db", "web"]


def test_hard_map_destroys_a_machine_of_that_name_in_another_account(hard, cloud, other):
    create(cloud, "web")
    result = hard(first=["web"])
    assert result.status == 0, result.stderr
    assert names(cloud.driver()) == ["web"]
    assert names(other) == []


@pytest.mark.usefixtures("twice")
def test_hard_map_keeps_a_machine_named_like_a_provider(hard, cloud):
    # Salt also destroys machines named like the provider or driver of a machine it destroys.
    create(cloud, "first", "mcs", "old")
    result = hard(first=["first", "mcs"])
    assert result.status == 0, result.stderr
    assert names(cloud.driver()) == ["first", "mcs"]


# Other accounts


def test_destroy_by_a_name_of_two_accounts_destroys_both_machines(salt_master, cloud, other):
    create(cloud, "web")
    # Salt shows both, asks, and destroys both.
    result = salt_master.run("-d", "web")
    assert result.data == {alias: {"mcs": {"web": True}} for alias in ("first", "second")}
    assert names(cloud.driver()) == names(other) == []


def test_destroy_by_id_destroys_one_machine(salt_master, cloud, other):
    create(cloud, "web")
    (node,) = other.list_nodes()
    result = salt_master.run("-a", "destroy", node.id)
    assert (result.status, result.data) == (0, {"second": {"mcs": {node.id: True}}})
    assert (names(cloud.driver()), names(other)) == (["web"], [])


@pytest.mark.parametrize("options", [[], ["-P"]])
def test_destroy_with_a_profile_destroys_the_machine_of_its_account(
    salt_master, cloud, other, options
):
    create(cloud, "web")
    result = salt_master.run("-p", "second", "-d", "web", *options)
    assert result.status == 0
    assert "of 'first:mcs' is kept: 'second' is for another account" in result.stderr
    if not options:
        # With -P, Salt returns one result for all machines of a name.
        assert result.data == {"first": {"mcs": {"web": False}}, "second": {"mcs": {"web": True}}}
    assert (names(cloud.driver()), names(other)) == (["web"], [])


def test_destroy_with_a_map_destroys_the_machine_of_its_account(salt_master, cloud, other):
    create(cloud, "web")
    salt_master.write("web.map", {"first": ["web"], "unknown": ["web"]})
    result = salt_master.run("-m", str(salt_master.folder / "web.map"), "-d")
    assert result.status == 0
    assert "of 'second:mcs' is kept: the map does not name the machine" in result.stderr
    assert (names(cloud.driver()), names(other)) == ([], ["web"])


def test_destroy_with_a_provider_in_the_map_destroys_the_machine_of_that_account(
    salt_master, cloud, other
):
    create(cloud, "web")
    salt_master.write("web.map", {"first": [{"web": {"provider": "second:mcs"}}]})
    result = salt_master.run("-m", str(salt_master.folder / "web.map"), "-d")
    assert result.status == 0
    assert (names(cloud.driver()), names(other)) == (["web"], [])


def test_hard_map_from_a_program_destroys_the_machines_of_other_accounts(salt_master, cloud, other):
    salt_master.write("cloud.conf.d/hard.conf", {"enable_hard_maps": True})
    create(cloud, "web", "old")
    result = salt_master.salt_call("cloud.map_run", "hard=True", "map_data={first: [web]}")
    assert result.status == 0, result.stderr
    assert (names(cloud.driver()), names(other)) == (["web"], [])


# Errors and other clients


def test_destroy_accepts_a_machine_that_is_being_destroyed(salt_master, cloud):
    create(cloud, "web")
    state = cloud.account.state
    state.timing = dataclasses.replace(state.timing, terminate_seconds=600)
    # Another client destroys the machine after Salt has listed it.
    go = meanwhile(lambda: cloud.account.state.terminate("web"))
    cloud.inject(go, on="DescribeInstances", nth=2, times=1)
    result = salt_master.run("-d", "web")
    assert (result.status, result.data) == (0, {"emulated": {"mcs": {"web": True}}})
    assert "The machine 'web' of 'emulated:mcs' is gone already" in result.stderr
    assert count(cloud, "TerminateInstance") == 0
    result = salt_master.run("-d", "web")
    assert (result.status, result.stdout) == (0, "No machines were found to be destroyed\n")


#: Destroys machines as two commands of one minion do, and prints the results.
TWO_COMMANDS = """
import json, sys
import salt.cloud
results = []
for name in ("one", "two"):
    try:
        results.append(salt.cloud.CloudClient(sys.argv[1]).destroy(name))
    except Exception as error:
        results.append(str(error))
print(json.dumps(results))
"""


def test_failed_destruction_is_an_error_with_the_machines_destroyed_before(salt_master, cloud):
    create(cloud, "web", "db", "one", "two")
    cloud.inject(error(400), on="TerminateInstance", nth=2, times=1)
    # Other commands are unaffected.
    destroyed, failed = salt_master.python(TWO_COMMANDS)
    assert destroyed == {"emulated": {"mcs": {"one": True}}}
    assert failed == "TerminateInstance: Injected fault (HTTP 400)"
    cloud.account.state.terminate("two")
    cloud.inject(error(400), on="TerminateInstance", nth=2, times=1)
    result = salt_master.run("-d", "web", "db")
    (left,) = names(cloud.driver())
    (gone,) = {"web", "db"} - {left}
    assert "TerminateInstance: Injected fault" in result.stderr
    assert f"(destroyed before it: '{gone}')" in result.stderr
    assert result.status == 1
