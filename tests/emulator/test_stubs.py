"""Stubs: responses of the user to actions that the emulator does not have."""

import json
import logging
import math
import threading
from enum import Enum, IntEnum
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from plain_client import CREATE, Client, element_tree
from raw_client import RawClient

from libcloud_mcs.actions import ACTIONS
from libcloud_mcs.emulator import (
    Emulator,
    content_type,
    cut,
    delay,
    drop_after,
    drop_before,
    error,
    meanwhile,
)

#: The tree of a list, of a record, and of every kind of value.
ADDRESSES = {
    "AddressSet": {
        "Address": [
            {"allocationId": "a-1", "publicIp": "198.51.100.7", "bandwidth": 5},
            {"allocationId": "a-2", "publicIp": "198.51.100.8", "bandwidth": 10},
        ],
        "Total": 2,
    }
}


@pytest.fixture
def client(make_client, answer_format):
    return make_client(answer_format=answer_format)


@pytest.fixture
def in_both(make_client):
    """Carries an action out in XML and in JSON; returns both contents."""

    def carry_out(action):
        return tuple(make_client(answer_format=each).tree(action) for each in ("xml", "json"))

    return carry_out


@pytest.fixture
def control(cloud):
    def call(method, data=None, status=200, name="stubs"):
        url = f"http://127.0.0.1:{cloud.port}/_emulator/{name}"
        response = requests.request(method, url, json=data, timeout=10)
        assert response.status_code == status, response.text
        return response.json()

    return call


# Trees


def test_stubbed_action_is_answered_with_its_tree(cloud, in_both):
    cloud.stub("DescribeAddresses", ADDRESSES)
    xml, js = in_both("DescribeAddresses")
    assert js == ADDRESSES
    assert [row["publicIp"] for row in xml["AddressSet"]["Address"]] == [
        "198.51.100.7",
        "198.51.100.8",
    ]
    assert xml["AddressSet"]["Total"] == "2"


@pytest.mark.parametrize(
    ("value", "in_xml", "in_json"),
    [
        ("text", "text", "text"),
        ("", "", ""),
        (" <中 & 文>\t\r\n😀 ", " <中 & 文>\t\r\n😀 ", " <中 & 文>\t\r\n😀 "),
        (7, "7", 7),
        (-(10**999), str(-(10**999)), -(10**999)),
        (0.1, "0.1", 0.1),
        (1e-7, "1e-07", 1e-7),
        (True, "True", "True"),
        (False, "False", "False"),
        ({}, "", {}),
        ({"a": {"b": 1}}, {"a": {"b": "1"}}, {"a": {"b": 1}}),
        (["a", 1, True, {"b": 2}], ["a", "1", "True", {"b": "2"}], ["a", 1, "True", {"b": 2}]),
        (("a", "b"), ["a", "b"], ["a", "b"]),
        (IntEnum("Size", "SMALL").SMALL, "1", 1),
        (Enum("Status", {"UP": "up"}, type=str).UP, "up", "up"),
    ],
)
def test_value_is_sent_in_the_way_of_each_format(cloud, in_both, value, in_xml, in_json):
    cloud.stub("DescribeThing", {"value": value})
    assert in_both("DescribeThing") == ({"value": in_xml}, {"value": in_json})


def test_empty_list_has_no_element_in_xml_and_is_a_list_in_json(cloud, make_client):
    cloud.stub("DescribeAddresses", {"AddressSet": {"Address": []}})
    assert b"<AddressSet></AddressSet>" in make_client()("DescribeAddresses").content
    tree = make_client(answer_format="json").tree("DescribeAddresses")
    assert tree == {"AddressSet": {"Address": []}}


def test_empty_tree_is_an_empty_response(cloud, in_both):
    cloud.stub("ReleaseAddress", {})
    assert in_both("ReleaseAddress") == ("", {})


def test_tree_that_is_changed_later_does_not_change_the_response(cloud, make_client):
    tree = {"AddressSet": {"Address": [{"name": "a"}]}}
    cloud.stub("DescribeAddresses", tree)
    tree["AddressSet"]["Address"][0]["name"] = "b"
    tree["more"] = "c"
    ask = make_client(answer_format="json")
    assert ask.tree("DescribeAddresses") == {"AddressSet": {"Address": [{"name": "a"}]}}


def nested(depth):
    tree = {}
    for _ in range(depth - 1):
        tree = {"a": tree}
    return tree


def test_deepest_tree_is_read_by_parsers_of_both_formats(cloud, in_both):
    cloud.stub("DescribeThing", nested(100))
    for tree in in_both("DescribeThing"):
        for _ in range(99):
            tree = tree["a"]
        assert not tree


CYCLE = {}
CYCLE["a"] = [CYCLE]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (None, "answer: expected a mapping, or a function that returns one, got None"),
        ([], "answer: expected a mapping, or a function that returns one, got []"),
        ("a", "answer: expected a mapping, or a function that returns one, got 'a'"),
        (5, "answer: expected a mapping, or a function that returns one, got 5"),
        ({"a b": 1}, "answer, a name: expected the name of an XML element, got 'a b'"),
        ({"": 1}, "answer, a name: expected the name of an XML element, got ''"),
        ({1: 1}, "answer, a name: expected the name of an XML element, got 1"),
        ({None: 1}, "answer, a name: expected the name of an XML element, got None"),
        ({"x:a": 1}, "answer, a name: expected the name of an XML element, got 'x:a'"),
        ({"{x}a": 1}, "answer, a name: expected the name of an XML element, got '{x}a'"),
        ({"\ud800": 1}, "answer, a name: expected the name of an XML element, got '\\ud800'"),
        (
            {"AddressSet": {"Address": [{"<": 1}]}},
            "answer: AddressSet.Address[0], a name: expected the name of an XML element, got '<'",
        ),
        (
            {"AddressSet": {"Address": [{}, {"name": "a\x00"}]}},
            "answer: AddressSet.Address[1].name: expected text of characters that XML allows, got"
            " 'a\\x00'",
        ),
        ({"a": "\ud800"}, "answer: a: expected text of characters that XML allows, got '\\ud800'"),
        ({"a": "\uffff"}, "answer: a: expected text of characters that XML allows, got '\\uffff'"),
        (
            {"a": [["b"]]},
            "answer: a[0]: expected text, a finite number of at most 1000 digits, True, False or a"
            " mapping, got ['b']",
        ),
        (
            {"a": [None]},
            "answer: a[0]: expected text, a finite number of at most 1000 digits, True, False or a"
            " mapping, got None",
        ),
        (
            {"a": {"b": None}},
            "answer: a.b: expected text, a finite number of at most 1000 digits, True, False or a"
            " mapping, or a list of these, got None",
        ),
        (nested(101), "answer: a" + ".a" * 99 + ": expected at most 100 nested mappings, got more"),
        (CYCLE, "answer: a[0]" + ".a[0]" * 99 + ": expected at most 100 nested mappings, got more"),
    ],
)
def test_tree_that_a_format_cannot_hold_is_refused_with_its_path(cloud, tree, message):
    with pytest.raises(ValueError, match="expected") as caught:
        cloud.stub("DescribeAddresses", tree)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**1000, b"a", {1}, object()])
def test_value_that_is_not_of_a_tree_is_refused(cloud, value):
    with pytest.raises(ValueError, match=r"^answer: a\.b: expected text, a finite number"):
        cloud.stub("DescribeAddresses", {"a": {"b": value}})


LEAVES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
NAMES = st.sampled_from(["A", "ASet", "ASetSet", "Set"]) | st.from_regex(
    "[A-Za-z_中][A-Za-z0-9_.中-]{0,9}", fullmatch=True
)
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=3),
    lambda trees: st.dictionaries(
        NAMES, trees | LEAVES | st.lists(trees | LEAVES, max_size=3), max_size=3
    ),
)


def as_xml(value):
    """Return a tree as a reader of XML sees it."""
    if isinstance(value, list):
        values = [as_xml(item) for item in value]
        return values[0] if len(values) == 1 else values
    if isinstance(value, dict):
        # In place of a whole set, an empty list is an empty element.
        items = {
            name: "" if item == [] and name[:-3] and name.endswith("Set") else item
            for name, item in value.items()
        }
        return {name: as_xml(item) for name, item in items.items() if item != []} or ""
    return str(value)


@pytest.fixture(scope="module")
def shared():
    with Emulator() as emulator:
        yield emulator


@settings(max_examples=100)
@given(TREES)
def test_every_accepted_tree_is_the_same_in_both_formats(shared, tree):
    shared.stub("DescribeThing", tree)
    ask = Client(shared.url, shared.access_key, shared.secret)
    root = etree.fromstring(ask("DescribeThing").content)
    assert (root.tag, element_tree(root)) == ("DescribeThingResponse", as_xml(tree))
    ask.answer_format = "json"
    assert as_xml(json.loads(ask("DescribeThing").content)["DescribeThingResponse"]) == as_xml(tree)


# Functions


def test_function_returns_the_tree_for_the_parameters_of_the_request(cloud, client):
    seen = []

    def answer(params):
        seen.append(params)
        return {"Address": {"allocationId": "a-1", "name": params["Name"]}}

    cloud.stub("AllocateAddress", answer)
    for name in ("web", "数据库"):
        tree = client.tree("AllocateAddress", Name=name, Filter_1_Name="", Region="Beijing")
        assert tree["Address"]["name"] == name
    assert seen == [{"Name": "web", "Filter.1.Name": ""}, {"Name": "数据库", "Filter.1.Name": ""}]


def test_function_can_use_the_emulator(cloud, client):
    def answer(_):
        cloud.clock.freeze()
        cloud.unstub("AllocateAddress")
        return {"requests": len(cloud.records), "balance": str(cloud.account.state.balance)}

    client.tree("GetBalance")
    cloud.stub("AllocateAddress", answer)
    tree = client.tree("AllocateAddress")
    assert (str(tree["requests"]), tree["balance"]) == ("1", "1000.00")
    assert cloud.clock.frozen
    assert client.refused("AllocateAddress")[0] == 400


def test_function_can_wait_for_a_thread_that_uses_the_emulator(cloud, client):
    def answer(_):
        counts = []
        thread = threading.Thread(target=lambda: counts.append(len(cloud.records)))
        thread.start()
        thread.join(10)
        return {"requests": counts}

    cloud.stub("DescribeThing", answer)
    assert str(client.tree("DescribeThing")["requests"]) in ("0", "[0]")


def test_function_that_stops_the_emulator_sends_no_response(cloud, client):
    cloud.stub("DescribeThing", lambda _: cloud.stop() or {})
    with pytest.raises(requests.ConnectionError):
        client("DescribeThing")
    cloud.stop()
    (record,) = cloud.records
    assert (record.action, record.status) == ("DescribeThing", 0)
    assert record.message == "no response was sent"
    cloud.start()
    cloud.stub("DescribeThing", {})
    assert not client.tree("DescribeThing")


def without_parameters():
    return {}


def fail(message):
    def answer(_):
        raise RuntimeError(message)

    return answer


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fail("not today"), "RuntimeError: not today"),
        (without_parameters, "TypeError: "),
        (lambda params: params["Name"], "KeyError: 'Name'"),
        (
            lambda _: None,
            "ArgumentError: answer: expected a mapping, or a function that returns one, got None",
        ),
        (
            lambda _: {"a": "\x00"},
            "ArgumentError: answer: a: expected text of characters that XML allows, got '\\x00'",
        ),
    ],
)
def test_function_that_fails_is_logged_and_answered_with_500(
    cloud, client, caplog, function, message
):
    cloud.stub("DescribeThing", function)
    status, words = client.refused("DescribeThing")
    assert status == 500
    assert words.startswith(f"the stub of 'DescribeThing' failed: {message}")
    (record,) = cloud.records
    assert (record.status, record.message, record.fault) == (500, words, "")
    (logged,) = caplog.records
    assert (logged.levelname, bool(logged.exc_info)) == ("ERROR", True)
    client.tree("GetBalance")


@pytest.mark.parametrize("run", ["stub", "fault"])
def test_failure_whose_message_xml_does_not_allow_is_answered_and_recorded(
    cloud, client, caplog, run
):
    caplog.set_level(logging.CRITICAL, "libcloud_mcs.emulator")  # reports cannot hold a surrogate
    function = fail("\x00 \ud800 \uffff")
    if run == "stub":
        cloud.stub("DescribeThing", function)
    else:
        cloud.inject(meanwhile(lambda: function({})))
    status, message = client.refused("DescribeThing")
    assert (status, message[-5:]) == (500, "\ufffd \ufffd \ufffd")
    assert [record.message for record in cloud.records] == [message]


# Requests


def test_action_without_a_stub_is_refused(cloud, client):
    cloud.stub("DescribeAddresses", {})
    for action in ("DescribeAddress", "describeaddresses", "DescribeAddressesX"):
        assert client.refused(action) == (400, f"Action: this API has no action {action!r}")


def test_signature_of_a_stubbed_action_is_checked(cloud, make_client):
    called = []
    cloud.stub("DescribeThing", lambda params: called.append(params) or {})
    assert make_client(secret="wrong").refused("DescribeThing")[0] == 403
    assert make_client(access_key="unknown").refused("DescribeThing")[0] == 401
    assert make_client().refused("DescribeThing", Timestamp="yesterday")[0] == 422
    assert called == []


def test_request_of_a_stubbed_action_is_recorded(cloud, client):
    cloud.stub("AllocateAddress", {"return": True})
    client.tree("AllocateAddress", Name="web")
    (record,) = cloud.records
    assert (record.action, record.status, record.message) == ("AllocateAddress", 200, "")
    assert record.params["Name"] == "web"
    assert "Signature" not in record.params


def test_stub_applies_to_all_accounts(cloud, make_client):
    other = cloud.add_account()
    cloud.stub("DescribeThing", {"a": "b"})
    ask = make_client(access_key=other.access_key, secret=other.secret)
    assert ask.tree("DescribeThing") == {"a": "b"}
    assert cloud.records[0].access_key == other.access_key


def test_head_of_a_stubbed_action_is_refused_like_that_of_a_change(cloud, make_client):
    called = []
    cloud.stub("DescribeThing", lambda params: called.append(params) or {})
    client = make_client(method="GET")
    form = client.parameters("DescribeThing", {})
    query = urlencode(form | {"Signature": client.sign(form, host="127.0.0.1")})
    with RawClient(cloud.port) as raw:
        path = urlsplit(cloud.url).path
        assert raw.ask("HEAD", f"{path}?{query}").status == 405
        assert raw.ask("GET", f"{path}?{query}").status == 200
    assert cloud.records[0].message == (
        "method: expected GET or POST for DescribeThing, which has a stub, got 'HEAD'"
    )
    assert len(called) == 1


def test_requests_of_several_threads_are_each_answered(cloud, make_client):
    cloud.stub("DescribeThing", lambda params: {"name": params["Name"]})
    seen = {}

    def ask(name):
        seen[name] = make_client().tree("DescribeThing", Name=name)

    threads = [threading.Thread(target=ask, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == {str(number): {"name": str(number)} for number in range(8)}


# Faults


@pytest.mark.parametrize(
    ("effect", "seen", "calls"),
    [
        (error(500), 500, 0),
        (error(500, after=True), 500, 1),
        (drop_before(), "dropped", 0),
        (drop_after(), "dropped", 1),
        (cut(0), "dropped", 1),
        (delay(0.001), 200, 1),
        (meanwhile(lambda: None), 200, 1),
        (content_type("text/csv"), 200, 1),
    ],
)
@pytest.mark.parametrize("on", ["*", "DescribeThing"])
def test_fault_on_a_stubbed_action_decides_whether_it_is_called(
    cloud, make_client, effect, seen, calls, on
):
    called = []
    cloud.stub("DescribeThing", lambda params: called.append(params) or {})
    with cloud.inject(effect, on=on, times=1) as fault:
        try:
            outcome = make_client()("DescribeThing").status_code
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            outcome = "dropped"
        assert (outcome, len(called), fault.fired) == (seen, calls, 1)
    assert cloud.records[-1].fault == effect.name
    assert make_client()("DescribeThing").status_code == 200


def test_fault_on_a_stubbed_action_leaves_other_actions_alone(cloud, client):
    cloud.stub("DescribeThing", {})
    cloud.stub("DescribeOther", {})
    with cloud.inject(error(500), on="DescribeThing") as fault:
        assert client("DescribeOther").status_code == client("GetBalance").status_code == 200
        assert fault.seen == 0


def test_fault_on_an_action_without_a_stub_is_refused(cloud, control):
    for on in ("DescribeThing", "describeThing", "", None):
        with pytest.raises(ValueError, match="^on: expected .* or an action, of the API or with"):
            cloud.inject(error(500), on=on)
    fault = {"on": "DescribeThing", "effect": "overload"}
    message = control("POST", fault, 400, name="faults")["error"]
    assert message == (
        "on: expected * or an action, of the API or with a stub, got 'DescribeThing'"
    )
    cloud.stub("DescribeThing", {})
    assert control("POST", fault, name="faults")["action"] == "DescribeThing"


# Adding and removing


@pytest.mark.parametrize("edition", [2013, 2017])
def test_action_of_the_edition_is_refused_and_a_later_one_is_not(edition):
    with Emulator(edition=edition) as cloud:
        for name, action in ACTIONS.items():
            expected = f"^action: expected an action that the emulator does not have, got '{name}'$"
            if action.edition <= edition:
                with pytest.raises(ValueError, match=expected):
                    cloud.stub(name, {})
        if edition == 2013:
            zone = {"availabilityZoneId": "z-1", "availabilityZoneName": "one"}
            cloud.stub(
                "DescribeAvailabilityZones", {"AvailabilityZoneSet": {"AvailabilityZone": [zone]}}
            )
            assert [each.id for each in cloud.driver().list_locations()] == ["z-1"]


@pytest.mark.parametrize("action", ["", "a b", "中文", "1A", "A-B", "A" * 65, "A\n", None, 5, []])
def test_name_that_is_not_an_actions_is_refused(cloud, action):
    for change in (lambda: cloud.stub(action, {}), lambda: cloud.unstub(action)):
        with pytest.raises(ValueError, match="^action: expected the name of an action: a letter"):
            change()


def test_second_stub_of_an_action_replaces_the_first(cloud, client):
    cloud.stub("DescribeThing", {"a": "1"})
    cloud.stub("DescribeThing", {"a": "2"})
    assert client.tree("DescribeThing") == {"a": "2"}
    cloud.unstub("DescribeThing")
    assert client.refused("DescribeThing")[0] == 400


def test_removed_stub_leaves_others(cloud, client):
    cloud.stub("DescribeThing", {"a": "1"})
    cloud.stub("DescribeOther", {"a": "2"})
    cloud.unstub("DescribeThing")
    assert client.refused("DescribeThing")[0] == 400
    assert client.tree("DescribeOther") == {"a": "2"}
    with pytest.raises(ValueError, match="^action: expected an action with a stub, got 'Describe"):
        cloud.unstub("DescribeThing")


def test_reset_removes_stubs(cloud, client, control):
    cloud.stub("DescribeThing", {})
    cloud.reset()
    assert client.refused("DescribeThing")[0] == 400
    assert control("GET") == []


def test_stub_is_not_kept_in_the_state_file(tmp_path):
    path = tmp_path / "state.db"
    with Emulator(state=path) as cloud:
        cloud.stub("DescribeThing", {"a": "b"})
        ask = Client(cloud.url, cloud.access_key, cloud.secret)
        ask.tree("CreateInstance", **CREATE)
        assert ask.tree("DescribeThing") == {"a": "b"}
    assert b"DescribeThing" not in Path(path).read_bytes()
    with Emulator(state=path) as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret)
        assert ask.refused("DescribeThing")[0] == 400
        assert len(cloud.ledger) == 1


def test_stub_is_kept_when_the_emulator_is_stopped_and_started(cloud, client):
    cloud.stub("DescribeThing", {"a": "b"})
    cloud.stop()
    cloud.start()
    assert client.tree("DescribeThing") == {"a": "b"}


# Over HTTP


def test_stubs_over_http(cloud, client, control):
    assert control("GET") == []
    answer = {"AddressSet": {"Address": [{"name": "a", "isDefault": True}], "Total": 1}}
    added = control("POST", {"action": "DescribeAddresses", "answer": answer})
    assert added == ["DescribeAddresses"]
    assert control("POST", {"action": "DescribeThing", "answer": {}}) == [*added, "DescribeThing"]
    rows = client.tree("DescribeAddresses")["AddressSet"]["Address"]
    assert rows in ({"name": "a", "isDefault": "True"}, [{"name": "a", "isDefault": "True"}])
    assert control("DELETE", {"action": "DescribeThing"}) == control("GET") == added
    assert client.refused("DescribeThing")[0] == 400
    control("POST", {"action": "DescribeThing", "answer": {}})
    assert control("DELETE") == control("GET") == []
    assert client.refused("DescribeAddresses")[0] == 400


def test_state_over_http_names_stubbed_actions_and_no_content(cloud, control):
    cloud.stub("DescribeThing", {"password": "of mine"})
    state = control("GET", name="state")
    assert state["stubs"] == ["DescribeThing"]
    assert "of mine" not in str(state)


def test_page_names_stubbed_actions(cloud):
    page = f"http://127.0.0.1:{cloud.port}/"
    assert 'id="stubs"' not in requests.get(page, timeout=10).text
    cloud.stub("DescribeThing", {"password": "of mine"})
    text = requests.get(page, timeout=10).text
    assert "DescribeThing" in text[text.index('id="stubs"') :]
    assert "of mine" not in text


@pytest.mark.parametrize(
    ("method", "data", "message"),
    [
        ("POST", {}, "action: expected the name of an action"),
        ("POST", {"action": "DescribeThing"}, "answer: expected a mapping"),
        ("POST", {"action": "DescribeThing", "answer": None}, "answer: expected a mapping"),
        ("POST", {"action": "DescribeThing", "answer": [1]}, "answer: expected a mapping"),
        ("POST", {"action": "DescribeThing", "answer": {"a": [None]}}, "answer: a[0]: expected"),
        ("POST", {"action": "DescribeThing", "answer": {"a": "\ud800"}}, "answer: a: expected"),
        ("POST", {"action": "a b", "answer": {}}, "action: expected the name of an action"),
        ("POST", {"action": "GetBalance", "answer": {}}, "action: expected an action that"),
        ("POST", {"action": "DescribeThing", "answer": {}, "on": "*"}, "body: expected one of"),
        ("DELETE", {"action": None}, "action: expected the name of an action"),
        ("DELETE", {"action": "DescribeThing"}, "action: expected an action with a stub"),
        ("DELETE", {"answer": {}}, "body: expected one of action"),
    ],
)
def test_invalid_stub_over_http_is_refused_and_changes_nothing(control, method, data, message):
    control("POST", {"action": "DescribeOther", "answer": {}})
    assert control(method, data, 400)["error"].startswith(message)
    assert control("GET") == ["DescribeOther"]
