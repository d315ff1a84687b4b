"""The emulated cloud: states, charges, keys and refusals."""

import base64
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from conftest import START
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from plain_client import Client
from ssh_keys import new_key, public_text

from libcloud_mcs.emulator import Clock, Emulator
from libcloud_mcs.emulator._catalog import CATALOG_2013
from libcloud_mcs.emulator._instances import Lease

TURNKEY, CIRROS = CATALOG_2013.templates[0].template_id, CATALOG_2013.templates[1].template_id


KEY = new_key(1024)
OTHER_KEY = new_key(1024)


@pytest.fixture
def ask(held):
    return Client(held.url, held.access_key, held.secret, answer_format="json")


def create(ask, name="system", **params):
    params = {"ImageId": TURNKEY, "InstanceType": "small", "InstanceName": name} | params
    return ask.tree("CreateInstance", **params)["Instance"]


def status(ask, name="system"):
    return ask.tree("DescribeInstanceStatus", InstanceId=name)["InstanceStatus"]["status"]


def names(ask, **params):
    rows = ask.tree("DescribeInstances", **params)["InstanceSet"]["Instance"]
    return [row["instanceName"] for row in rows]


def walk(ask, clock, *, seconds, steps, name="system"):
    """Advance the clock in steps and return the statuses."""
    seen = [status(ask, name)]
    for _ in range(steps):
        clock.advance(timedelta(seconds=seconds / steps))
        seen.append(status(ask, name))
    return list(dict.fromkeys(seen))


def running(ask, clock, name="system", **params):
    instance = create(ask, name, **params)
    clock.advance(timedelta(seconds=1))
    assert status(ask, name) == "running"
    return instance


# States


def test_new_instance_passes_its_states_within_a_second(held, ask):
    assert create(ask)["status"] == "disk"
    assert walk(ask, held.clock, seconds=0.8, steps=16) == [
        "disk",
        "start_deploy",
        "deploying",
        "start_start",
        "running",
    ]


def test_queries_do_not_advance_state(held, ask):
    create(ask)
    assert {status(ask) for _ in range(20)} == {"disk"}


@pytest.mark.parametrize("answer_format", ["json", "xml"])
def test_list_has_the_present_state_whichever_way_the_clock_moves(held, answer_format):
    ask = Client(held.url, held.access_key, held.secret, answer_format=answer_format)
    create(ask, "first", Duration="1H")
    create(ask, "second", Duration="1H")
    seconds = [0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 3599, 3600, 3601]
    times = [START + timedelta(seconds=each) for each in (*seconds, *reversed(seconds), *seconds)]
    seen = []
    for time in times:
        held.clock.set(time)
        rows = ask.tree("DescribeInstances")["InstanceSet"]["Instance"]
        assert [row["status"] for row in rows] == [status(ask, "first"), status(ask, "second")]
        seen.append(rows[0]["status"])
    forward = seen[: len(seconds)]
    assert list(dict.fromkeys(forward)) == [
        *("disk", "start_deploy", "deploying", "start_start", "running", "ready")
    ]
    assert seen == [*forward, *reversed(forward), *forward]


def test_stopped_instance_can_be_started(held, ask):
    running(ask, held.clock)
    ask.tree("StopInstance", InstanceId="system")
    assert walk(ask, held.clock, seconds=1, steps=10) == ["stopping", "ready"]
    ask.tree("StartInstance", InstanceId="system")
    assert walk(ask, held.clock, seconds=1, steps=10) == ["start_start", "running"]


@pytest.mark.parametrize(
    ("force", "then"), [("True", "ready"), ("true", "ready"), ("False", "stopping")]
)
def test_forced_stop_ends_at_once(held, ask, force, then):
    running(ask, held.clock)
    ask.tree("StopInstance", InstanceId="system", Force=force)
    assert status(ask) == then


def test_rebooted_instance_passes_its_states(held, ask):
    running(ask, held.clock)
    ask.tree("RebootInstance", InstanceId="system")
    assert walk(ask, held.clock, seconds=1, steps=10) == ["stopping", "start_start", "running"]


@pytest.mark.parametrize("state", ["running", "ready"])
@pytest.mark.parametrize(
    ("action", "params", "word"),
    [
        ("RebuildInstanceRootImage", {}, "rebuild_root"),
        ("ChangeInstanceType", {"InstanceType": "medium"}, "change_flavor"),
    ],
)
def test_rebuild_and_change_of_type_end_in_the_former_state(held, ask, state, action, params, word):
    running(ask, held.clock)
    if state == "ready":
        ask.tree("StopInstance", InstanceId="system", Force="True")
    ask.tree(action, InstanceId="system", **params)
    assert walk(ask, held.clock, seconds=1, steps=10) == [word, state]


def test_terminated_instance_is_removed_and_its_name_free(held, ask):
    running(ask, held.clock)
    ask.tree("TerminateInstance", InstanceId="system")
    assert status(ask) == "deleting"
    ask.tree("TerminateInstance", InstanceId="system")
    held.clock.advance(timedelta(seconds=1))
    assert ask.refused("DescribeInstanceStatus", InstanceId="system")[0] == 404
    assert names(ask) == []
    create(ask)
    assert names(ask) == ["system"]


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("StartInstance", ["ready"]),
        ("StopInstance", ["running"]),
        ("RebootInstance", ["running"]),
        ("RebuildInstanceRootImage", ["running", "ready"]),
        ("ChangeInstanceType", ["running", "ready"]),
        ("RenewInstance", ["running", "ready", "disk", "stopping"]),
    ],
)
def test_action_is_allowed_in_its_states_alone(held, ask, action, allowed):
    params = {"InstanceType": "medium"} if action == "ChangeInstanceType" else {}
    for number, state in enumerate(["disk", "running", "stopping", "ready", "deleting"]):
        name = f"vm{number}"
        create(ask, name)
        if state != "disk":
            held.clock.advance(timedelta(seconds=1))
        if state in ("stopping", "ready"):
            ask.tree("StopInstance", InstanceId=name, Force=str(state == "ready"))
        if state == "deleting":
            ask.tree("TerminateInstance", InstanceId=name)
        assert status(ask, name) == state
        response = ask(action, InstanceId=name, **params)
        assert response.status_code == (200 if state in allowed else 409), state


# Leases and money


def lease(ask):
    tree = ask.tree("GetInstanceContractInfo", InstanceId="system")
    return tree["startedAt"], tree["expireAt"], tree["extendTo"]


def balance(ask):
    return Decimal(str(ask.tree("GetBalance")["balance"]))


@pytest.mark.parametrize(
    ("duration", "price", "expire_at"),
    [
        ("1H", "0.12", "2026-01-31T13:00:00Z"),
        ("72h", "8.64", "2026-02-03T12:00:00Z"),
        ("1M", "59.00", "2026-02-28T12:00:00Z"),
        ("2m", "118.00", "2026-03-31T12:00:00Z"),
        (None, "59.00", "2026-02-28T12:00:00Z"),
    ],
)
def test_creation_charges_the_account(held, ask, duration, price, expire_at):
    held.clock.advance(timedelta(seconds=30))
    held.clock.set(START)
    instance = create(ask, **({"Duration": duration} if duration else {}))
    assert lease(ask)[:2] == ("2026-01-31T12:00:00Z", expire_at)
    assert balance(ask) == 1000 - Decimal(price)
    (charge,) = held.ledger
    assert (charge.action, charge.instance_id) == ("CreateInstance", instance["instanceId"])
    assert (charge.at, charge.amount) == (START, Decimal(price))
    assert charge.balance == 1000 - Decimal(price)
    assert ask.tree("GetBalance")["timestamp"] == "2026-01-31T12:00:00Z"


def test_renewal_extends_the_lease_and_charges(held, ask):
    running(ask, held.clock, Duration="1H")
    ask.tree("RenewInstance", InstanceId="system", Duration="2H")
    assert lease(ask) == ("2026-01-31T12:00:00Z", "2026-01-31T15:00:00Z", "2026-02-01T15:00:00Z")
    assert balance(ask) == Decimal("1000") - 3 * Decimal("0.12")


def test_thousands_of_renewals_add_up():
    with Emulator(instances=1, balance=10_000) as cloud:
        for _ in range(2500):
            cloud.account.state.renew("instance-1", Lease(1, "H"))
        (instance,) = cloud.account.state.instances()
        cloud.clock.advance(instance.extend_to - cloud.clock.now() - timedelta(seconds=1))
        assert cloud.account.state.instances() == (instance,)
        cloud.clock.advance(timedelta(seconds=2))
        assert cloud.account.state.instances() == ()


def test_change_of_type_begins_a_new_lease_and_charges(held, ask):
    running(ask, held.clock, Duration="1M")
    ask.tree("ChangeInstanceType", InstanceId="system", InstanceType="medium", Duration="10H")
    assert lease(ask)[:2] == ("2026-01-31T12:00:01Z", "2026-01-31T22:00:01Z")
    assert balance(ask) == Decimal("1000") - Decimal("59.00") - Decimal("3.50")
    (row,) = ask.tree("DescribeInstances")["InstanceSet"]["Instance"]
    assert (row["instanceType"], row["cpu"], row["memory"]) == ("medium", 2, 4096)
    volumes = ask.tree("DescribeInstanceVolumes", InstanceId="system")["InstanceVolumeSet"]
    assert sum(volume["volumeSize"] for volume in volumes["InstanceVolume"]) == row["volume"]


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("CreateInstance", {"ImageId": TURNKEY, "InstanceType": "xlarge", "InstanceName": "b"}),
        ("RenewInstance", {"InstanceId": "system", "Duration": "120M"}),
        ("ChangeInstanceType", {"InstanceId": "system", "InstanceType": "xlarge"}),
    ],
)
def test_action_without_balance_is_406_and_changes_nothing(action, params):
    with Emulator(balance="60") as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")
        create(ask)
        cloud.clock.advance(timedelta(seconds=1))
        before = (ask.tree("DescribeInstances"), lease(ask), balance(ask))
        assert ask.refused(action, **params) == (406, "No enough balance")
        assert (ask.tree("DescribeInstances"), lease(ask), balance(ask)) == before
        assert len(cloud.ledger) == 1


def test_instance_is_stopped_after_lease_and_removed_a_day_later(held, ask):
    running(ask, held.clock, Duration="2H")
    held.clock.set(START + timedelta(hours=2) - timedelta(seconds=1))
    assert status(ask) == "running"
    held.clock.set(START + timedelta(hours=2))
    assert status(ask) == "ready"
    code, message = ask.refused("StartInstance", InstanceId="system")
    assert (code, "renew" in message) == (409, True)
    held.clock.set(START + timedelta(hours=26) - timedelta(seconds=1))
    assert names(ask) == ["system"]
    held.clock.set(START + timedelta(hours=26))
    create(ask)
    assert len(names(ask)) == 1
    held.clock.set(START + timedelta(days=60))
    assert names(ask) == []
    assert ask.refused("RenewInstance", InstanceId="system")[0] == 404


def test_renewal_of_ended_lease_leaves_instance_stopped(held, ask):
    running(ask, held.clock, Duration="1H")
    held.clock.set(START + timedelta(hours=3))
    ask.tree("RenewInstance", InstanceId="system", Duration="2H")
    assert lease(ask)[1] == "2026-01-31T17:00:00Z"
    assert status(ask) == "ready"
    ask.tree("StartInstance", InstanceId="system")
    held.clock.advance(timedelta(seconds=1))
    assert status(ask) == "running"


# Names and arguments


def test_id_or_name_is_accepted_by_every_action(held, ask):
    instance_id = running(ask, held.clock)["instanceId"]
    for action in (
        "DescribeInstanceStatus",
        "DescribeInstanceVolumes",
        "DescribeInstanceNetworkInterfaces",
        "GetPasswordData",
        "GetInstanceContractInfo",
        "GetInstanceMetadata",
    ):
        assert ask.tree(action, InstanceId=instance_id) == ask.tree(action, InstanceId="system")
        assert ask.refused(action, InstanceId="other")[0] == 404
        assert ask.refused(action)[0] == 400
    for name in (CATALOG_2013.types[2].type_id, CATALOG_2013.types[2].name):
        create(ask, f"of {name}", InstanceType=name)
    assert len({row["instanceType"] for row in rows(ask)}) == 2


def rows(ask, **params):
    return ask.tree("DescribeInstances", **params)["InstanceSet"]["Instance"]


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"ImageId": "none"}, 404, ["ImageId", "'none'"]),
        ({"ImageId": CATALOG_2013.templates[0].name}, 404, ["ImageId"]),
        ({"ImageId": CATALOG_2013.templates[3].template_id}, 409, ["ImageId", "saving"]),
        ({"InstanceType": "huge"}, 404, ["InstanceType", "'huge'"]),
        ({"InstanceType": ""}, 422, ["InstanceType"]),
        ({"Duration": "72"}, 422, ["Duration", "'72'"]),
        ({"Duration": "0H"}, 422, ["Duration", "'0H'"]),
        ({"Duration": "1D"}, 422, ["Duration", "'1D'"]),
        ({"Duration": "-1H"}, 422, ["Duration"]),
        ({"Duration": "999999M"}, 422, ["Duration"]),
        ({"Duration": "\u0661H"}, 422, ["Duration"]),
        ({"InstanceName": "taken"}, 409, ["InstanceName", "'taken'"]),
        ({"InstanceName": " "}, 422, ["InstanceName"]),
        ({"InstanceName": "a\x01b"}, 422, ["InstanceName"]),
        ({"InstanceName": "n" * 129}, 422, ["InstanceName"]),
        ({"KeyName": "none"}, 404, ["KeyName", "'none'"]),
    ],
)
def test_invalid_creation_is_refused(held, ask, params, code, words):
    create(ask, "taken")
    params = {"ImageId": TURNKEY, "InstanceType": "small", "InstanceName": "new"} | params
    got, message = ask.refused("CreateInstance", **params)
    assert got == code
    assert all(word in message for word in words)
    assert names(ask) == ["taken"]
    assert len(held.ledger) == 1


@pytest.mark.parametrize("missing", ["ImageId", "InstanceType"])
def test_creation_without_required_parameter_is_400(ask, missing):
    params = {"ImageId": TURNKEY, "InstanceType": "small"}
    del params[missing]
    assert ask.refused("CreateInstance", **params) == (
        400,
        f"{missing}: this parameter is required",
    )


def test_instance_without_name_gets_unique_name(ask):
    made = [
        ask.tree("CreateInstance", ImageId=TURNKEY, InstanceType="small")["Instance"]
        for _ in range(2)
    ]
    assert len({row["instanceName"] for row in made}) == 2
    assert all(row["instanceName"] for row in made)


# Lists


@pytest.fixture
def many():
    with Emulator(instances=7) as cloud:
        yield Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")


def test_limit_and_offset_select_a_page(many):
    whole = rows(many)
    assert len(whole) == 7
    assert {row["status"] for row in whole} == {"running"}
    for limit, offset in [(3, 0), (3, 3), (3, 6), (3, 7), (100, 2), (0, 0), (None, 5), (2, None)]:
        asked = {"Limit": limit, "Offset": offset}
        asked = {name: str(value) for name, value in asked.items() if value is not None}
        page = many.tree("DescribeInstances", **asked)["InstanceSet"]
        expected = whole[offset or 0 :][: len(whole) if limit is None else limit]
        assert page["Instance"] == expected
        # "The number of instances that are in fact returned."
        assert (page["Total"], page["Limit"], page["Offset"]) == (7, len(expected), offset or 0)


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "", "\u0661"])
def test_limit_that_is_not_a_number_is_refused(many, value):
    for name in ("Limit", "Offset"):
        for action in ("DescribeInstances", "DescribeKeyPairs", "DescribeInstanceTypes"):
            code, message = many.refused(action, **{name: value})
            assert (code, message.startswith(f"{name}:")) == (422, True)


def test_default_limit_and_max_limit_apply():
    with Emulator(instances=7, default_limit=2, max_limit=3) as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")
        assert len(rows(ask)) == 2
        assert len(rows(ask, Limit="1")) == 1
        assert len(rows(ask, Limit="7")) == 3


def test_ids_names_and_filters_select_instances(many):
    whole = rows(many)
    ids = [row["instanceId"] for row in whole]
    assert rows(many, InstanceId_1=ids[4], InstanceId_2=ids[1]) == [whole[1], whole[4]]
    assert rows(many, InstanceName_1="instance-2", InstanceName_7="instance-1") == whole[:2]
    assert rows(many, InstanceId_1=ids[4], InstanceName_1="instance-1") == [whole[0], whole[4]]
    assert rows(many, InstanceId_1="instance-2", InstanceId_2=ids[0]) == whole[:2]
    assert rows(many, InstanceName_1=ids[0]) == []
    assert rows(many, InstanceId_1="none") == []
    many.tree("StopInstance", InstanceId=ids[0], Force="True")
    by_status = {"Filter_1_Name": "status", "Filter_1_Value_1": "running"}
    by_name = {"Filter_2_Name": "name", "Filter_2_Value_1": "instance-1"}
    by_name["Filter_2_Value_2"] = "instance-2"
    assert rows(many, **by_status) == whole[1:]
    assert rows(many, **by_status, **by_name) == [whole[1]]
    assert rows(many, **by_status, Filter_1_Value_2="ready") == [
        whole[0] | {"status": "ready"},
        *whole[1:],
    ]
    assert rows(many, InstanceId_1=ids[0], **by_status) == []


def test_filters_select_types_and_key_pairs(many):
    only = {"Filter_1_Name": "name", "Filter_1_Value_1": "small"}
    types = many.tree("DescribeInstanceTypes", **only)["InstanceTypeSet"]
    assert [row["instanceType"] for row in types["InstanceType"]] == ["small"]
    assert types["Total"] == 1
    for name in ("small", "other"):
        many.tree("ImportKeyPair", KeyName=name, PublicKeyMaterial=public_text(KEY))
    pairs = many.tree("DescribeKeyPairs", **only)["KeyPairSet"]
    assert [row["keyName"] for row in pairs["KeyPair"]] == ["small"]


@pytest.mark.parametrize(
    ("action", "params", "code", "words"),
    [
        ("DescribeInstances", {"Filter_1_Name": "cpu", "Filter_1_Value_1": "1"}, 422, "'cpu'"),
        ("DescribeKeyPairs", {"Filter_1_Name": "status", "Filter_1_Value_1": "1"}, 422, "'status'"),
        ("DescribeInstanceTypes", {"Filter_1_Name": "cpu", "Filter_1_Value_1": "1"}, 422, "'cpu'"),
        ("DescribeInstances", {"Filter_1_Name": "name"}, 400, "Filter.1.Value.1"),
        ("DescribeInstances", {"Filter_1_Value_1": "x"}, 400, "Filter.1.Name"),
        ("DescribeInstances", {"Filter_0_Name": "name"}, 422, "Filter.0.Name"),
        ("DescribeInstances", {"Filter_x": "name"}, 422, "Filter.x"),
        ("DescribeInstances", {"InstanceId_0": "a"}, 422, "InstanceId.0"),
        ("DescribeInstances", {"InstanceId_1_2": "a"}, 422, "InstanceId.1.2"),
        ("DescribeInstances", {"InstanceName_1": ""}, 422, "InstanceName.1"),
        ("StopInstance", {"InstanceId": "instance-1", "Force": "maybe"}, 422, "'maybe'"),
        ("PutInstanceMetadata", {"InstanceId": "instance-1"}, 400, "Name.1"),
        ("PutInstanceMetadata", {"InstanceId": "instance-1", "Name_1": "a"}, 400, "Value.1"),
        ("PutInstanceMetadata", {"InstanceId": "instance-1", "Value_2": "a"}, 400, "Name.2"),
        (
            "PutInstanceMetadata",
            {"InstanceId": "instance-1", "Name_1": "no name", "Value_1": "a"},
            422,
            "'no name'",
        ),
        (
            "PutInstanceMetadata",
            {
                "InstanceId": "instance-1",
                "Name_1": "a",
                "Value_1": "b",
                "Name_2": "a",
                "Value_2": "c",
            },
            422,
            "Name.2",
        ),
        ("RebuildInstanceRootImage", {"InstanceId": "instance-1", "ImageId": "x"}, 404, "'x'"),
        ("ChangeInstanceType", {"InstanceId": "instance-1", "InstanceType": "x"}, 404, "'x'"),
        ("DeleteKeyPair", {"KeyName": "x"}, 404, "'x'"),
        ("ImportKeyPair", {"KeyName": "x", "PublicKeyMaterial": "ssh-rsa x"}, 422, "PublicKeyM"),
        ("ImportKeyPair", {"KeyName": "x"}, 400, "PublicKeyMaterial"),
    ],
)
def test_invalid_parameter_is_refused(many, action, params, code, words):
    got, message = many.refused(action, **params)
    assert got == code
    assert words in message


# Metadata, keys, passwords


def test_metadata_is_written_and_read(held, ask):
    running(ask, held.clock)
    ask.tree("PutInstanceMetadata", InstanceId="system", Name_1="test7d", Value_1="1")
    ask.tree(
        "PutInstanceMetadata",
        InstanceId="system",
        Name_1="名",
        Value_1="<a & b> ",
        Name_2="e",
        Value_2="",
    )
    expected = {**CATALOG_2013.templates[0].metadata, "test7d": "1", "名": "<a & b> ", "e": ""}
    assert ask.tree("GetInstanceMetadata", InstanceId="system")["InstanceMetadata"] == expected
    ask.answer_format = "xml"
    assert ask.tree("GetInstanceMetadata", InstanceId="system")["InstanceMetadata"] == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("a b", "1"), ("{a}b", "1"), ("{}b", "1"), ("a:b", "1"), ("b", "\x00"), ("b", "\ufffe")],
)
def test_metadata_that_xml_cannot_hold_is_refused(held, ask, name, value):
    running(ask, held.clock)
    before = ask.tree("GetInstanceMetadata", InstanceId="system")
    status, message = ask.refused(
        "PutInstanceMetadata", InstanceId="system", Name_1=name, Value_1=value
    )
    assert (status, "expected the name and the text of an XML element" in message) == (422, True)
    assert ask.tree("GetInstanceMetadata", InstanceId="system") == before


def test_key_pairs_are_registered_listed_and_deleted(ask):
    first = ask.tree("ImportKeyPair", KeyName="one", PublicKeyMaterial=public_text(KEY) + " me\n")
    blob = base64.b64decode(public_text(KEY).split()[1])
    digest = hashes.Hash(hashes.MD5())
    digest.update(blob)
    assert first["KeyPair"]["keyFingerprint"] == digest.finalize().hex(":")
    # A name in use with the same key is that key, with another it is refused.
    assert ask.tree("ImportKeyPair", KeyName="one", PublicKeyMaterial=public_text(KEY)) == first
    got = ask.refused("ImportKeyPair", KeyName="one", PublicKeyMaterial=public_text(OTHER_KEY))
    assert got[0] == 409
    second = ask.tree("ImportKeyPair", KeyName="two", PublicKeyMaterial=public_text(OTHER_KEY))
    pairs = ask.tree("DescribeKeyPairs")["KeyPairSet"]
    assert pairs["KeyPair"] == [first["KeyPair"], second["KeyPair"]]
    ask.tree("DeleteKeyPair", KeyName="one")
    ask.tree("DeleteKeyPair", KeyName=second["KeyPair"]["keyId"])
    assert ask.tree("DescribeKeyPairs")["KeyPairSet"]["KeyPair"] == []


def test_password_without_key_pair_is_plain(held, ask):
    create(ask, ImageId=CIRROS)
    code, message = ask.refused("GetPasswordData", InstanceId="system")
    assert (code, "no password yet" in message) == (409, True)
    held.clock.advance(timedelta(seconds=1))
    data = ask.tree("GetPasswordData", InstanceId="system")
    assert set(data) == {"timestamp", "account", "passwordData"}
    assert data["account"] == "cirros"
    assert len(data["passwordData"]) == 12
    # A new system disk has a new password.
    ask.tree("RebuildInstanceRootImage", InstanceId="system", ImageId=TURNKEY)
    assert ask.refused("GetPasswordData", InstanceId="system")[0] == 409
    held.clock.advance(timedelta(seconds=1))
    again = ask.tree("GetPasswordData", InstanceId="system")
    assert again["passwordData"] != data["passwordData"]
    assert again["account"] == "root"


def test_password_is_encrypted_with_the_key_pair(held, ask):
    pair = ask.tree("ImportKeyPair", KeyName="one", PublicKeyMaterial=public_text(KEY))["KeyPair"]
    running(ask, held.clock, KeyName="one")
    ask.tree("DeleteKeyPair", KeyName="one")
    data = ask.tree("GetPasswordData", InstanceId="system")
    assert (data["keypairId"], data["keypairName"]) == (pair["keyId"], "one")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    assert len(KEY.decrypt(base64.b64decode(data["passwordData"]), oaep)) == 12


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())]
)
def test_password_of_key_that_is_not_rsa_is_refused(held, ask, key):
    ask.tree("ImportKeyPair", KeyName="one", PublicKeyMaterial=public_text(key))
    running(ask, held.clock, KeyName="one")
    code, message = ask.refused("GetPasswordData", InstanceId="system")
    assert (code, "not an RSA key" in message) == (409, True)


# The emulator in a program


def test_seed_makes_ids_and_secrets_repeatable():
    def life(seed):
        with Emulator(seed=seed) as cloud:
            ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")
            created = ask.tree("CreateInstance", ImageId=TURNKEY, InstanceType="small")
            cloud.clock.advance(timedelta(seconds=1))
            name = created["Instance"]["instanceId"]
            return created, ask.tree("GetPasswordData", InstanceId=name)["passwordData"]

    assert life(1) == life(1)
    assert life(1) != life(2)
    assert life(None) != life(None)


def test_clouds_are_isolated():
    with Emulator() as one, Emulator() as other:
        create(Client(one.url, one.access_key, one.secret, answer_format="json"))
        ask = Client(other.url, other.access_key, other.secret, answer_format="json")
        assert names(ask) == []
        assert ask.tree("GetBalance")["balance"] == 1000
        stranger = Client(other.url, one.access_key, one.secret)
        assert stranger.refused("GetBalance")[0] == 401


def test_taken_port_and_invalid_balance_are_errors(cloud):
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {cloud.port}"):
        Emulator(port=cloud.port).start()
    with pytest.raises(ValueError, match="balance"):
        Emulator(balance=-1)
    with pytest.raises(ValueError, match="balance"):
        Emulator(balance="much")


def test_repr_has_no_secret(cloud):
    assert cloud.access_key in repr(cloud)
    assert cloud.secret not in repr(cloud)


def test_fixture_provides_an_empty_cloud(mcs_emulator):
    mcs_emulator.driver().create_node("a", "small", TURNKEY)
    assert len(mcs_emulator.ledger) == 1


def test_second_start_is_refused(cloud):
    with pytest.raises(RuntimeError, match="started already"):
        cloud.start()


def test_clock_can_be_set_advanced_and_frozen():
    clock = Clock()
    assert abs(clock.now() - datetime.now(timezone.utc)) < timedelta(seconds=5)
    clock.set(START)
    assert timedelta(0) <= clock.now() - START < timedelta(seconds=5)
    clock.advance(timedelta(days=3))
    assert timedelta(days=3) <= clock.now() - START < timedelta(days=3, seconds=5)
    clock.freeze()
    assert clock.now() == clock.now()
    clock.set(START)
    clock.advance(timedelta(hours=1))
    assert clock.now() == START + timedelta(hours=1)
    assert Clock(START).now() - START < timedelta(seconds=5)
    with pytest.raises(ValueError, match="a time with a zone"):
        clock.set(datetime(2026, 1, 1))


def test_missing_tornado_is_error_that_names_the_extra():
    code = "import sys; sys.modules['tornado'] = None; import libcloud_mcs.emulator"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'libcloud-mcs[emulator]'" in done.stderr


def test_start_imports_nothing_that_is_not_used():
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from libcloud_mcs.emulator import Emulator\n"
        "with Emulator(instances=1): print(*set(sys.modules) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    imported = set(done.stdout.split())
    assert {"libcloud_mcs.emulator", "tornado"} <= imported
    assert not imported & {"asyncssh", "ctypes", "cryptography", "lxml", "sqlite3"}
