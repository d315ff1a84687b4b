"""Every function of the module, in every way in which Salt calls it."""

import json
import re
from decimal import Decimal

import pytest
from salt_master import CIRROS, TURNKEY, needs_salt

from libcloud_mcs.keys import generate_key_pair

pytestmark = needs_salt

#: The functions that only Salt itself calls.
INTERNAL = ("create", "get_configured_provider", "optimize_providers")

#: The functions of a provider, with their arguments on the command line.
FUNCTIONS = {
    "avail_images": [],
    "avail_locations": [],
    "avail_sizes": [],
    "list_nodes": [],
    "list_nodes_full": [],
    "list_nodes_select": [],
    "get_balance": [],
    "list_keypairs": [],
    "list_expiring": ["days=1.5", "hours=2"],
    # A name that YAML takes for a number.
    "import_keypair": ["keyname=123", "file={public_key}"],
    "delete_keypair": ["keyname=123"],
}

#: The actions on a machine, with their arguments on the command line. In this order each succeeds.
ACTIONS = {
    "stop": ["force=yes"],
    "start": [],
    "reboot": [],
    "renew": ["duration=2H"],
    "rebuild": [f"image={TURNKEY}"],
    "change_size": ["size=medium", "duration=3H", "disk_size=100", "bandwidth=5"],
    "set_metadata": ["tier=3", "ratio=1.5", "on=true", "since=2013-01-01", "note=a b"],
    "get_metadata": [],
    "get_contract": [],
    "get_password": [],
    "show_instance": [],
    "destroy": [],
}

#: Calls functions in Salt's ways, and prints the result or error of each call.
#: A call is a way, a function, its provider or its machine, and the words after these.
PROGRAM = """
import functools, json, os, sys
import salt.cli.caller, salt.cloud, salt.config, salt.utils.args

path = sys.argv[1]
client = salt.cloud.CloudClient(path)

def typed(words):
    return dict(word.split("=", 1) for word in words)

def read(words):
    return {name: salt.utils.args.yamlify_arg(text) for name, text in typed(words).items()}

def salt_cloud(function, provider, machine, words):
    # As the command does, for which all arguments are text.
    mapper = salt.cloud.Map(client._opts_defaults(action=function))
    if provider:
        return mapper.do_function(provider, function, typed(words))
    return mapper.do_action([machine], typed(words))

@functools.cache
def caller():
    opts = salt.config.minion_config(os.path.join(os.path.dirname(path), "minion"))
    return salt.cli.caller.Caller.factory({**opts, "fun": "cloud.action", "arg": []})

def salt_call(function, provider, machine, words):
    target = f"provider={provider}" if provider else f"instance={machine}"
    caller().opts["arg"] = [function, target, *words]
    return caller().call()["return"]

def cloud_client(function, provider, machine, words):
    # As a schedule does.
    added = {"__pub_schedule": "nightly", "__pub_jid": "1", "__pub_arg": [], "__kwarg__": True}
    return client.action(
        fun=function,
        provider=provider,
        names=[machine] if machine else None,
        kwargs={**read(words), **added},
    )

def extra_action(function, provider, machine, words):
    return client.extra_action(
        action=function, provider="emulated", names=machine or "any", **read(words)
    )

def extra_action_in_one(function, provider, machine, words):
    return client.extra_action(
        action=function, provider="emulated", names=machine or "any", kwargs=read(words)
    )

results = []
for way, *call in json.loads(sys.argv[2]):
    try:
        results.append(globals()[way](*call))
    except Exception as error:
        results.append({type(error).__name__: str(error)})
print(json.dumps(results))
"""
WAYS = ("salt_cloud", "salt_call", "cloud_client", "extra_action", "extra_action_in_one")

#: Prints the names of all functions.
NAMES = """
import json, sys
import salt.config, salt.loader
clouds = salt.loader.clouds(salt.config.cloud_config(sys.argv[1]))
print(json.dumps([name for name in clouds if name.startswith("mcs.")]))
"""


@pytest.fixture
def called(salt_master, folder):
    """Return a function that calls functions in Salt's ways, in one process."""
    public_key, _ = generate_key_pair("mine")
    (folder / "id.pub").write_text(public_key)
    salt_master.write("cloud.conf.d/select.conf", {"query.selection": ["id"]})

    def call(*calls):
        words = json.dumps(calls).replace("{public_key}", str(folder / "id.pub"))
        return salt_master.python(PROGRAM, words)

    return call


def unwrapped(result):
    """Return a result without the mappings that Salt adds: provider, driver, machine."""
    while isinstance(result, dict) and set(result) & {"emulated", "mcs", "web", "any"}:
        result = next(iter(result.values()))
    return result


def test_tables_of_calls_have_every_function(salt_master):
    names = {name.removeprefix("mcs.") for name in salt_master.python(NAMES)}
    assert names == {*FUNCTIONS, *ACTIONS, *INTERNAL}


@pytest.mark.parametrize("way", WAYS)
def test_function_called_in_each_way_returns_the_same_result(called, cloud, way):
    # Without a machine, Salt's extra actions find no provider.
    driver = cloud.driver()
    driver.create_node("web", "small", CIRROS, ex_duration="1H")
    calls = [(way, name, "emulated", None, words) for name, words in FUNCTIONS.items()]
    results = map(unwrapped, called(*calls))
    done = dict(zip(FUNCTIONS, results, strict=True))
    assert CIRROS in done["avail_images"]
    assert "Beijing" in done["avail_locations"]
    assert "small" in done["avail_sizes"]
    node = driver.ex_get_node("web")
    assert done["list_nodes"]["id"] == node.id
    assert done["list_nodes_full"]["extra"] == node.extra
    assert done["list_nodes_select"] == {"id": node.id}
    assert Decimal(done["get_balance"]["amount"]) == driver.ex_get_balance().amount
    assert done["list_keypairs"] == {}
    assert done["list_expiring"]["id"] == node.id
    assert done["import_keypair"]["name"] == "123"
    assert done["delete_keypair"] is True
    assert driver.list_key_pairs() == []


@pytest.mark.parametrize("way", WAYS)
def test_action_called_in_each_way_sends_its_arguments(called, cloud, way):
    driver = cloud.driver()
    node = driver.create_node("web", "small", CIRROS, ex_duration="1H")
    before = len(cloud.records)
    calls = [(way, name, None, "web", words) for name, words in ACTIONS.items()]
    results = map(unwrapped, called(*calls))
    done = dict(zip(ACTIONS, results, strict=True))
    shown = {name: done.pop(name) for name in list(done) if name.startswith(("get_", "show_"))}
    assert done == dict.fromkeys(done, True)
    assert shown["show_instance"]["id"] == node.id
    assert shown["get_password"]["password"]
    assert set(shown["get_contract"]) == {"started_at", "expire_at", "extend_to"}
    assert {
        "tier": "3",
        "ratio": "1.5",
        "on": "true",
        "since": "2013-01-01",
        "note": "a b",
    }.items() <= shown["get_metadata"].items()
    asked = {record.action: record.params for record in list(cloud.records)[before:]}
    assert asked["StopInstance"]["Force"] == "True"
    assert asked["RenewInstance"]["Duration"] == "2H"
    assert {
        "InstanceType": "medium",
        "Duration": "3H",
        "ExtraExtDisksize": "100",
        "ExtraExtBandwidth": "5",
    }.items() <= asked["ChangeInstanceType"].items()
    assert asked["TerminateInstance"]["InstanceId"] == node.id
    assert driver.list_nodes() == []


@pytest.mark.parametrize("way", WAYS)
def test_unknown_argument_and_internal_function_are_refused_in_each_way(called, cloud, way):
    cloud.driver().create_node("web", "small", CIRROS)
    before = len(cloud.records)
    provider, machine = ("emulated", None), (None, "web")
    calls = [(way, name, *provider, []) for name in INTERNAL]
    if not way.startswith("extra_action"):
        calls += [(way, name, *machine, []) for name in INTERNAL]
    calls += [(way, name, *provider, ["colour=red"]) for name in ("get_balance", "list_expiring")]
    calls += [(way, name, *machine, ["colour=red"]) for name in ("stop", "destroy")]
    for call, result in zip(calls, called(*calls), strict=True):
        (message,) = result.values()
        words = (
            "is internal: only Salt itself can call the function"
            if call[1] in INTERNAL
            else "unknown argument 'colour'; known: "
        )
        assert words in message, call
    assert {record.action for record in list(cloud.records)[before:]} <= {"DescribeInstances"}


def arguments_of(salt_master):
    """Yield each argument of each function, from the message about an unknown argument."""
    functions = {
        name: [["web"], {"call": "action"}] if name in ACTIONS else [[], {"call": "function"}]
        for name in (*FUNCTIONS, *ACTIONS)
        if name != "set_metadata"
    }
    results = salt_master.call(
        *(
            (name, args, {**named, "kwargs": {"colour": "red"}})
            for name, (args, named) in functions.items()
        )
    )
    for (name, (args, named)), result in zip(functions.items(), results, strict=True):
        (message,) = result.values()
        known = re.search(r"unknown argument 'colour'; known: (.*)", message)[1]
        for argument in known.split(", ") if known != "none" else []:
            yield name, args, named, argument, known.split(", ")


def test_argument_that_is_a_yaml_scalar_is_read_as_text(salt_master, cloud):
    salt_master.write("cloud.conf.d/select.conf", {"query.selection": ["id"]})
    cloud.driver().create_node("web", "small", CIRROS)
    asked = [*arguments_of(salt_master)]
    names = {argument for *_, argument, _ in asked}
    assert names >= {"force", "duration", "size", "image", "keyname", "file", "hours", "days"}
    values = {
        "a list": [1],
        "a mapping": {"a": 1},
        "a number": 123,
        "a fraction": 1.5,
        "a switch": True,
    }
    calls, expected = [], []
    for name, args, named, argument, known in asked:
        for what, value in values.items():
            kwargs = {**dict.fromkeys(known, "1"), argument: value}
            calls.append((name, args, {**named, "kwargs": kwargs}))
            expected.append((name, argument, what))
    before = len(cloud.ledger)
    for (name, argument, what), result in zip(expected, salt_master.call(*calls), strict=True):
        if isinstance(values[what], (list, dict)):
            refused = f"{argument}: expected text, got {what}; "
            assert result["SaltCloudSystemExit"].startswith(refused), (name, argument)
        elif isinstance(result, dict) and "SaltCloudSystemExit" in result:
            # There is no such image, size, ...: the value was read as text.
            message = result["SaltCloudSystemExit"]
            about_types = re.search(
                r"expected text|text was expected|\b(int|float|bool)\b", message
            )
            assert not about_types, (name, argument, message)
    assert len(cloud.ledger) == before


def test_metadata_value_that_is_not_scalar_is_refused_by_name(salt_master, cloud):
    driver = cloud.driver()
    driver.create_node("web", "small", CIRROS)
    before = driver.ex_get_metadata("web")
    values = {"null": None, "a list": ["a"], "a mapping": {"a": "b"}}
    results = salt_master.call(
        *(
            ("set_metadata", ["web", {"role": "db", "note": value}], {"call": "action"})
            for value in values.values()
        ),
        ("set_metadata", ["web", {"__pub_fun": "cloud.action"}], {"call": "action"}),
    )
    messages = [result["SaltCloudSystemExit"] for result in results]
    for what, message in zip(values, messages, strict=False):
        assert f"note: expected text, got {what}; " in message
    assert "the entries to set are missing" in messages[-1]
    assert driver.ex_get_metadata("web") == before


def test_argument_that_is_null_is_not_sent(salt_master, cloud):
    driver = cloud.driver()
    driver.create_node("web", "small", CIRROS, ex_duration="1H")
    null = {"call": "action", "kwargs": {"duration": None}}
    assert salt_master.call(("renew", ["web"], null)) == [True]
    (renewed,) = [record for record in cloud.records if record.action == "RenewInstance"]
    assert "Duration" not in renewed.params


def test_salt_call_returns_results_and_reports_errors(salt_master, cloud):
    result = salt_master.salt_call("cloud.action", "get_balance", "provider=emulated")
    assert result.status == 0, result.stderr
    balance = result.data["local"]["emulated"]["mcs"]
    assert Decimal(balance["amount"]) == cloud.driver().ex_get_balance().amount
    result = salt_master.salt_call("cloud.action", "list_expiring", "provider=emulated", "week=1")
    assert "unknown argument 'week'; known: hours, days" in result.stderr
    assert result.status != 0


STATES = f"""
made:
  cloud.present:
    - name: web
    - cloud_provider: emulated
    - image: {CIRROS}
    - size: small
    - duration: 2H
    - deploy: False
made already:
  cloud.profile:
    - name: web
    - profile: small
made of a profile:
  cloud.profile:
    - name: db
    - profile: small
destroyed:
  cloud.absent:
    - name: web
destroyed already:
  cloud.absent:
    - name: web
"""


def test_states_create_and_destroy_machines(salt_master, cloud, folder):
    (folder / "srv").mkdir()
    (folder / "srv" / "machines.sls").write_text(STATES)
    roots = f"--file-root={folder / 'srv'}"
    result = salt_master.salt_call(roots, "state.apply", "machines", "concurrent=True")
    states = {state["__id__"]: state for state in result.data["local"].values()}
    assert [state["result"] for state in states.values()] == [True] * 5, states
    assert "Created instance web" in states["made"]["comment"]
    assert states["made already"]["comment"] == "Already present instance web"
    assert states["made of a profile"]["comment"] == "Created instance db using profile small"
    assert states["destroyed"]["comment"] == "Destroyed instance web"
    assert states["destroyed already"]["comment"] == "Already absent instance web"
    assert [node.name for node in cloud.driver().list_nodes()] == ["db"]
    assert cloud.ledger[0].amount == Decimal("0.12") * 2
    assert len(cloud.ledger) == 2
