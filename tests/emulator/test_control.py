"""The clock, the records, several accounts, and ``/_emulator/``, in a program and over HTTP."""

from datetime import datetime, timedelta, timezone

import pytest
import requests
from plain_client import CREATE, Client

from libcloud_mcs.emulator import Emulator, overload


@pytest.fixture
def ask(make_client):
    return make_client(answer_format="json")


@pytest.fixture
def control(cloud):
    """Send a request to ``/_emulator/``, and return the response's content."""

    def call(method, name, data=None, status=200, **kwargs):
        url = f"http://127.0.0.1:{cloud.port}/_emulator/{name}"
        if data is not None:
            kwargs["json"] = data
        response = requests.request(method, url, timeout=10, **kwargs)
        assert response.status_code == status, response.text
        return response.json()

    return call


def names(ask):
    rows = ask.tree("DescribeInstances")["InstanceSet"]["Instance"]
    return [row["instanceName"] for row in rows]


# Records


def test_record_of_every_request_has_no_secret(cloud, ask):
    ask.tree("DescribeInstances", Limit="1")
    ask.refused("StartInstance", InstanceId="none")
    ask.refused("ImportKeyPair", KeyName="a", PublicKeyMaterial="ssh-rsa AAAA")
    ask.session.post(ask.url, data=b"%zz")
    first, second, third, fourth = cloud.records
    assert (first.action, first.status, first.message) == ("DescribeInstances", 200, "")
    assert first.params["Limit"] == "1"
    assert first.access_key == cloud.access_key
    assert (second.status, second.message) == (404, "InstanceId: there is no instance 'none'")
    assert "PublicKeyMaterial" not in third.params
    assert (fourth.action, fourth.status) == ("", 400)
    for record in cloud.records:
        assert "Signature" not in record.params
        assert cloud.secret not in repr(record)


def test_request_answered_by_a_fault_is_recorded(cloud, ask):
    cloud.inject(overload(), times=1)
    ask("GetBalance")
    (record,) = cloud.records
    assert (record.status, record.fault) == (503, "overload")


def test_records_are_limited_to_max_records():
    with Emulator(max_records=5) as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret)
        for number in range(8):
            ask.tree("GetBalance", Number=str(number))
        assert [record.params["Number"] for record in cloud.records] == list("34567")


# Over HTTP


def test_ledger_over_http_has_every_charge(cloud, ask, control):
    made = ask.tree("CreateInstance", **CREATE)["Instance"]
    (charge,) = control("GET", "ledger")
    assert charge == {
        "access_key": cloud.access_key,
        "at": charge["at"],
        "action": "CreateInstance",
        "instance_id": made["instanceId"],
        "amount": "0.12",
        "balance": "999.88",
    }


def test_requests_over_http_have_status_and_message(cloud, ask, control):
    ask.refused("StartInstance", InstanceId="none")
    (record,) = control("GET", "requests")
    assert (record["action"], record["status"]) == ("StartInstance", 404)
    assert "'none'" in record["message"]


def test_clock_over_http_is_set_and_advanced(cloud, ask, control):
    ask.tree("CreateInstance", InstanceName="a", **CREATE)
    assert control("POST", "clock", {"frozen": True})["frozen"] is True
    before = control("GET", "clock")
    assert before == control("GET", "clock")
    after = control("POST", "clock", {"advance": 3600})
    assert moment(after) - moment(before) == timedelta(hours=1)
    assert ask.tree("DescribeInstanceStatus", InstanceId="a")["InstanceStatus"]["status"] == "ready"
    for text in ("2030-01-01T00:00:00Z", "2030-01-01T08:00:00+08:00"):
        assert control("POST", "clock", {"set": text})["now"] == "2030-01-01T00:00:00Z"
    assert names(ask) == []
    running = control("POST", "clock", {"frozen": False})
    assert running["frozen"] is False
    assert cloud.clock.now() - moment(running) < timedelta(seconds=5)


def moment(clock):
    return datetime.fromisoformat(clock["now"].replace("Z", "+00:00"))


def test_faults_over_http_are_injected_and_removed(cloud, ask, control):
    made = control(
        "POST", "faults", {"on": "GetBalance", "effect": "error", "argument": 507, "times": 1}
    )
    assert made == {
        "action": "GetBalance",
        "effect": "error",
        "nth": 1,
        "times": 1,
        "probability": 1.0,
        "fired": 0,
    }
    assert [ask("GetBalance").status_code for _ in range(2)] == [507, 200]
    assert control("GET", "faults") == [made | {"fired": 1}]
    assert control("DELETE", "faults") == []
    assert list(cloud.faults) == []
    # The emulator's own paths are never hit.
    control("POST", "faults", {"effect": "overload"})
    assert len(control("GET", "faults")) == 1


def test_reset_over_http_restores_the_initial_state(cloud, ask, control):
    ask.tree("CreateInstance", InstanceName="a", **CREATE)
    state = control("GET", "state")
    assert state["url"] == cloud.url
    (account,) = state["accounts"]
    assert (account["access_key"], account["balance"]) == (cloud.access_key, "999.88")
    assert [each["name"] for each in account["instances"]] == ["a"]
    assert cloud.secret not in str(state)
    state = control("POST", "reset", {})
    (account,) = state["accounts"]
    assert (account["balance"], account["instances"], account["ledger"]) == ("1000.00", [], [])
    assert names(ask) == []


@pytest.mark.parametrize(
    ("method", "name", "kwargs", "status"),
    [
        ("GET", "nothing", {}, 404),
        ("PUT", "clock", {}, 405),
        ("POST", "clock", {"data": {}}, 400),
        ("POST", "clock", {"data": "{}", "headers": {"Content-Type": "text/plain"}}, 400),
        ("POST", "reset", {}, 400),
        ("POST", "clock", {"json": {}}, 400),
        ("POST", "clock", {"json": []}, 400),
        ("POST", "clock", {"json": {"speed": 2}}, 400),
        ("POST", "clock", {"json": {"advance": "an hour"}}, 400),
        ("POST", "clock", {"json": {"advance": 1e300}}, 400),
        ("POST", "clock", {"json": {"set": "tomorrow"}}, 400),
        ("POST", "clock", {"json": {"set": "2030-01-01T00:00:00"}}, 400),
        ("POST", "faults", {"json": {}}, 400),
        ("POST", "faults", {"json": {"effect": "explode"}}, 400),
        ("POST", "faults", {"json": {"effect": "error"}}, 400),
        ("POST", "faults", {"json": {"effect": "cut", "nth": "x"}}, 400),
        ("POST", "faults", {"json": {"effect": "cut", "sometimes": 1}}, 400),
        ("POST", "faults", {"data": "{", "headers": {"Content-Type": "application/json"}}, 400),
    ],
)
def test_invalid_control_request_is_refused(control, method, name, kwargs, status):
    assert control(method, name, status=status, **kwargs)["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8883", "10.0.0.1", "[::2]", "[::"])
def test_request_with_foreign_host_header_is_refused(cloud, control, host):
    for path in ("_emulator/state", ""):
        response = requests.get(f"http://127.0.0.1:{cloud.port}/{path}", headers={"Host": host})
        assert response.status_code == 403
        assert cloud.access_key not in response.text
    for host in ("localhost:1", "127.0.0.9", "[::1]:5"):
        control("GET", "state", headers={"Host": host})


# Accounts


def test_accounts_share_only_the_clock(cloud, ask):
    other = cloud.add_account("other", "its secret", balance=5, instances=2)
    stranger = Client(cloud.url, "other", "its secret", answer_format="json")
    ask.tree("CreateInstance", InstanceName="instance-1", **CREATE)
    assert names(ask) == ["instance-1"]
    assert names(stranger) == ["instance-1", "instance-2"]
    assert stranger.tree("GetBalance")["balance"] == 5
    assert (
        stranger.refused("CreateInstance", **CREATE | {"InstanceType": "xlarge", "Duration": "9H"})[
            0
        ]
        == 406
    )
    assert (len(cloud.ledger), len(other.ledger)) == (1, 0)
    assert len(cloud.driver(other).list_nodes()) == 2
    assert Client(cloud.url, "other", cloud.secret).refused("GetBalance")[0] == 403
    addresses = {
        row["ipAddresses"]
        for client in (ask, stranger)
        for row in client.tree("DescribeInstances")["InstanceSet"]["Instance"]
    }
    assert len(addresses) == 3
    cloud.clock.advance(timedelta(days=90))
    assert names(ask) == names(stranger) == []
    with pytest.raises(ValueError, match="one that is not in use, got 'other'"):
        cloud.add_account("other")
    assert "its secret" not in repr(other)
    assert cloud.accounts == [cloud.account, other]


def test_accounts_over_http_are_added_and_listed(cloud, control):
    first = {"access_key": cloud.access_key, "balance": "1000.00", "instances": 0}
    assert control("GET", "accounts") == [first]
    given = {"access_key": "second", "secret": "of mine", "balance": 5.5, "instances": 2}
    made = control("POST", "accounts", given)
    assert made == given | {"balance": "5.50"}
    random = control("POST", "accounts", {})
    assert set(random) == set(given)
    assert (random["balance"], random["instances"]) == ("1000.00", 0)
    # Who has it made can sign for it; others are not told the secret.
    for each in (made, random):
        ask = Client(cloud.url, each["access_key"], each["secret"], answer_format="json")
        assert ask.tree("DescribeInstances")["InstanceSet"]["Total"] == each["instances"]
        del each["secret"]
    assert control("GET", "accounts") == [first, made, random]
    listed = str(control("GET", "accounts")) + str(control("GET", "state"))
    assert not any(account.secret in listed for account in cloud.accounts)
    message = control("POST", "accounts", {"access_key": "second"}, status=400)["error"]
    assert message.startswith("access_key: expected one that is not in use, got 'second'")
    assert len(cloud.accounts) == 3
    control("POST", "reset", {})
    assert control("GET", "accounts") == [first]


def test_accounts_of_the_constructor_are_added():
    given = [{"access_key": "second", "balance": 5, "instances": 1}, {"secret": "of mine"}]
    settings = {"access_key": "first", "balance": 9, "accounts": given}
    with Emulator(**settings) as cloud:
        first, second, third = cloud.accounts
        assert [first.access_key, second.access_key] == ["first", "second"]
        assert third.secret == "of mine"
        assert [str(each.state.balance) for each in cloud.accounts] == ["9.00", "5.00", "1000.00"]
        assert len(cloud.driver(second).list_nodes()) == 1
        keys = [(each.access_key, each.secret) for each in cloud.accounts]
        assert len({secret for _, secret in keys}) == 3
        # Those that were added later are gone after a reset; these are there, as they were.
        cloud.add_account("later")
        Client(cloud.url, *keys[2]).tree("CreateInstance", **CREATE)
        cloud.driver(second).create_key_pair("mine")
        for _ in range(2):
            cloud.reset()
            assert [(each.access_key, each.secret) for each in cloud.accounts] == keys
            assert cloud.accounts[2].ledger == []
            assert cloud.driver(cloud.accounts[1]).list_key_pairs() == []
            assert len(cloud.driver(cloud.accounts[1]).list_nodes()) == 1


def test_accounts_in_the_state_file_keep_their_balances(tmp_path):
    path = tmp_path / "state.db"
    given = [{"access_key": "second", "balance": 5, "instances": 1}, {"balance": 7}]
    settings = {"access_key": "first", "state": path}
    with Emulator(**settings, accounts=given) as cloud:
        keys = [(each.access_key, each.secret) for each in cloud.accounts]
        Client(cloud.url, *keys[1]).tree("CreateInstance", **CREATE)
        cloud.add_account("later")
    given[0] |= {"balance": 99, "instances": 5}
    third = {"access_key": "third", "balance": 3}
    with Emulator(**settings, accounts=[*given, third]) as cloud:
        # The one without an access key was made when nothing was kept.
        names = [each.access_key for each in cloud.accounts]
        assert names == [*(key for key, _ in keys), "later", "third"]
        assert [each.secret for each in cloud.accounts[:3]] == [secret for _, secret in keys]
        second = cloud.accounts[1].state
        assert (str(second.balance), len(second.instances())) == ("4.88", 2)
        cloud.reset()
        assert [each.access_key for each in cloud.accounts][:2] == ["first", "second"]
        assert len(cloud.accounts) == 4
        assert str(cloud.accounts[1].state.balance) == "99.00"
    # A secret that is given is the one that holds from now on.
    changed = [{"access_key": "third", "secret": "another"}]
    with Emulator(**settings, accounts=changed) as cloud:
        Client(cloud.url, "third", "another").tree("GetBalance")
    with Emulator(state=path) as cloud:
        assert {each.access_key: each.secret for each in cloud.accounts}["third"] == "another"


def test_reset_restores_the_initial_state(cloud, ask):
    key, secret = cloud.access_key, cloud.secret
    cloud.add_account("other")
    ask.tree("CreateInstance", **CREATE)
    cloud.inject(overload())
    cloud.clock.advance(timedelta(days=1))
    cloud.clock.freeze()
    cloud.reset()
    assert (cloud.access_key, cloud.secret, len(cloud.accounts)) == (key, secret, 1)
    assert (cloud.ledger, cloud.records, list(cloud.faults)) == ([], [], [])
    assert abs(cloud.clock.now() - datetime.now(timezone.utc)) < timedelta(seconds=5)
    assert ask.tree("GetBalance")["balance"] == 1000


def test_reset_restarts_the_seed():
    def life(cloud):
        ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")
        return [ask.tree("CreateInstance", **CREATE) for _ in range(2)]

    with Emulator(seed=3) as cloud:
        first = life(cloud)
        cloud.reset()
        assert life(cloud) == first
        assert (cloud.access_key, cloud.secret) == (Emulator(seed=3).access_key, cloud.secret)
    assert Emulator(seed=3).access_key != Emulator(seed=4).access_key


# Signatures


def test_timestamps_are_checked_by_emulated_clock_when_set():
    with Emulator(signature_clock="emulated") as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret)
        ask.tree("GetBalance")
        cloud.clock.advance(timedelta(minutes=16))
        code, message = ask.refused("GetBalance")
        assert (code, "15 minutes off" in message) == (403, True)
    with pytest.raises(ValueError, match="signature_clock"):
        Emulator(signature_clock="moon")


@pytest.mark.parametrize("debug", [True, False])
def test_debug_shows_the_string_to_sign(debug):
    with Emulator(debug=debug) as cloud:
        ask = Client(cloud.url, cloud.access_key, "wrong")
        message = ask.refused("GetBalance")[1]
        assert ("POST\\n127.0.0.1" in message) is debug
        assert ("&Action=GetBalance&" in message) is debug
        assert cloud.secret not in message


@pytest.mark.parametrize(
    "kwargs",
    [
        {"boot_seconds": -1},
        {"stop_seconds": "1"},
        {"default_limit": 0},
        {"max_limit": "1"},
        {"churn": -1},
        {"instances": -1},
        {"max_records": -1},
    ],
)
def test_invalid_setting_is_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        Emulator(**kwargs)


def test_fixtures_provide_cloud_and_driver(mcs_driver, mcs_emulator):
    assert mcs_driver.key == mcs_emulator.access_key
    assert mcs_driver.list_nodes() == []
