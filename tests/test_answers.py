"""What the driver makes of answers: both formats, odd ones, broken ones, hostile ones."""

import json
import math
import re
import time
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import pytest
import requests_mock
from hypothesis import example, given
from hypothesis import strategies as st
from libcloud.common.types import MalformedResponseError
from libcloud.compute.base import NodeImage
from libcloud.compute.types import NodeState

from libcloud_mcs._response import parse_response
from libcloud_mcs.actions import ACTIONS
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.errors import MalformedAnswerError, MCSError, OutcomeUnknownError

URL = "https://mosapi.meituan.com/mcs/v1"


@pytest.fixture
def answer(requests_mock):
    """Return a driver whose endpoint has one answer to everything."""

    def make(body, **kwargs):
        body = json.dumps(body) if isinstance(body, dict) else body
        body = body.encode() if isinstance(body, str) else body
        requests_mock.post(URL, content=body, **kwargs)
        return MCSNodeDriver("key", "secret")

    return make


def instances(*rows, **page):
    return {"DescribeInstancesResponse": {"InstanceSet": {"Instance": list(rows), **page}}}


def xml_instances(inner):
    return (
        f"<DescribeInstancesResponse><InstanceSet>{inner}</InstanceSet></DescribeInstancesResponse>"
    )


# Nodes

WORDS = {
    "init schedule network disk image_caching start_deploy deploying block_stream": (
        NodeState.PENDING
    ),
    "ready": NodeState.STOPPED,
    "start_start starting resuming": NodeState.STARTING,
    "running": NodeState.RUNNING,
    "start_stop stopping": NodeState.STOPPING,
    "start_suspend suspending suspend": NodeState.SUSPENDED,
    "change_flavor rebuild_root renewing sync_config start_save_disk save_disk": (
        NodeState.RECONFIGURING
    ),
    "start_migrate migrating": NodeState.MIGRATING,
    "start_delete deleting": NodeState.TERMINATED,
    "start_fail": NodeState.STOPPED,
    "stop_fail": NodeState.RUNNING,
    "sched_fail net_fail dev_fail create_fail disk_fail deploy_fail suspend_failed resume_failed"
    " delete_fail change_flavor_fail rebuild_root_fail renew_failed": NodeState.ERROR,
    "frozen RUNNING Ready save_disk_failed": NodeState.UNKNOWN,
}


@pytest.mark.parametrize(
    ("word", "state"), [(word, state) for words, state in WORDS.items() for word in words.split()]
)
def test_states(answer, word, state):
    driver = answer(instances({"instanceId": "i", "status": word}))
    (node,) = driver.list_nodes()
    assert node.state is state
    assert node.extra["status"] == word


def test_an_unknown_word_of_describe_instance_status(answer):
    driver = answer({"DescribeInstanceStatusResponse": {"InstanceStatus": {"status": "frozen"}}})
    assert driver.ex_get_node_state("i") is NodeState.UNKNOWN


@pytest.mark.parametrize(
    ("fields", "public", "private"),
    [
        ({"ipAddresses": "10.0.0.1,1.2.3.4"}, ["1.2.3.4"], ["10.0.0.1"]),
        ({"ipAddresses": "10.0.0.1; 1.2.3.4"}, ["1.2.3.4"], ["10.0.0.1"]),
        ({"ipAddresses": "10.0.0.1|1.2.3.4"}, ["1.2.3.4"], ["10.0.0.1"]),
        ({"ipAddresses": " 10.0.0.1\n\t1.2.3.4 "}, ["1.2.3.4"], ["10.0.0.1"]),
        ({"ipAddresses": ["10.0.0.1", "1.2.3.4"]}, ["1.2.3.4"], ["10.0.0.1"]),
        (
            {"ipAddresses": "172.16.0.1,172.31.9.9,192.168.1.1"},
            [],
            ["172.16.0.1", "172.31.9.9", "192.168.1.1"],
        ),
        (
            {"ipAddresses": "172.15.0.1,172.32.0.1,192.169.0.1,11.0.0.1"},
            ["172.15.0.1", "172.32.0.1", "192.169.0.1", "11.0.0.1"],
            [],
        ),
        (
            {"ipAddresses": "127.0.0.1,169.254.1.1,100.64.0.1"},
            ["127.0.0.1", "169.254.1.1", "100.64.0.1"],
            [],
        ),
        (
            {"ipAddresses": "fd00::1,fc00::1,2001:db8::1,fe80::1,::1"},
            ["2001:db8::1", "fe80::1", "::1"],
            ["fd00::1", "fc00::1"],
        ),
        ({"ipAddresses": "10.0.0.1,10.0.0.1,1.2.3.4,1.2.3.4"}, ["1.2.3.4"], ["10.0.0.1"]),
        ({"ipAddresses": "none, 10.0.0, 999.1.1.1, 1.2.3.4/24"}, [], []),
        ({"ipAddresses": ""}, [], []),
        ({}, [], []),
        ({"eips": "5.6.7.8", "ipAddresses": "10.0.0.1"}, ["5.6.7.8"], ["10.0.0.1"]),
        (
            {"eips": "5.6.7.8;5.6.7.9", "ipAddresses": "1.2.3.4"},
            ["5.6.7.8", "5.6.7.9", "1.2.3.4"],
            [],
        ),
        ({"eips": ["5.6.7.8", "5.6.7.9"]}, ["5.6.7.8", "5.6.7.9"], []),
        (
            {"eips": [{"ip": "5.6.7.8", "bandwidth": 5}, {"ip": "5.6.7.9"}]},
            ["5.6.7.8", "5.6.7.9"],
            [],
        ),
        ({"eips": {"eip": {"ipAddress": "5.6.7.8"}}}, ["5.6.7.8"], []),
        ({"eips": "10.9.9.9", "ipAddresses": "10.9.9.9,10.0.0.1"}, ["10.9.9.9"], ["10.0.0.1"]),
        ({"eips": None}, [], []),
    ],
)
def test_addresses(answer, fields, public, private):
    (node,) = answer(instances({"instanceId": "i"} | fields)).list_nodes()
    assert (node.public_ips, node.private_ips) == (public, private)


def test_addresses_in_xml(answer):
    (node,) = answer(
        xml_instances(
            "<Instance><instanceId>i</instanceId><ipAddresses>10.0.0.1</ipAddresses>"
            "<eips><eip><ip>5.6.7.8</ip></eip><eip><ip>5.6.7.9</ip></eip></eips></Instance>"
        )
    ).list_nodes()
    assert (node.public_ips, node.private_ips) == (["5.6.7.8", "5.6.7.9"], ["10.0.0.1"])


def test_what_later_answers_carried(answer):
    fields = {
        "instanceId": "i",
        "instanceName": "名",
        "secGroupId": "g",
        "keypairName": "k",
        "createdAt": "2016-05-06T07:08:09Z",
        "billingType": 2,
        "price": 1.50,
        "big": 12345678901234567890,
        "flag": True,
        "nothing": None,
        "nested": {"a": [1, {"b": False}]},
        "imageId": "m",
        "imageName": "image",
        "cpu": "4",
        "memory": 2048,
    }
    (node,) = answer(instances(fields)).list_nodes()
    assert node.created_at == datetime(2016, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
    assert (node.image.id, node.image.name, node.name) == ("m", "image", "名")
    assert node.size is None
    expected = fields | {
        "billingType": "2",
        "price": "1.5",
        "big": "12345678901234567890",
        "flag": "True",
        "nested": {"a": ["1", {"b": "False"}]},
        "cpu": 4,
    }
    del expected["nothing"]
    assert node.extra == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013-07-22T03:00:00Z", (2013, 7, 22, 3)),
        ("2013-07-22T03:00:00.123Z", (2013, 7, 22, 3, 0, 0, 123000)),
        ("2013-07-22T03:00:00.1234567Z", (2013, 7, 22, 3, 0, 0, 123456)),
        ("2013-07-22T11:00:00+08:00", (2013, 7, 22, 3)),
        ("2013-07-22T03:00:00", (2013, 7, 22, 3)),
        ("2013-07-22 03:00:00", (2013, 7, 22, 3)),
        ("yesterday", None),
        ("2013-13-45T03:00:00Z", None),
        ("0001-01-01T00:00:00+08:00", None),
        ("", None),
        (["2013-07-22T03:00:00Z"], None),
    ],
)
def test_times(answer, text, expected):
    moment = datetime(*expected, tzinfo=timezone.utc) if expected else None
    (node,) = answer(instances({"instanceId": "i", "createdAt": text})).list_nodes()
    assert node.created_at == moment
    contract = dict.fromkeys(("startedAt", "expireAt", "extendTo"), text)
    driver = answer({"GetInstanceContractInfoResponse": contract})
    if moment:
        assert driver.ex_get_contract("i").expire_at == moment
    else:
        with pytest.raises(MalformedAnswerError, match="startedAt: expected a time, got"):
            driver.ex_get_contract("i")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        (" 7 ", 7),
        (7, 7),
        (7.0, 7),
        ("7.5", 7.5),
        ("many", "many"),
        ("NaN", "NaN"),
        ("", ""),
    ],
)
def test_numbers(answer, text, number):
    (node,) = answer(instances({"instanceId": "i", "instanceType": "t", "cpu": text})).list_nodes()
    assert node.extra["cpu"] == number
    row = {"instanceTypeId": "t", "instanceType": "t", "memory": text}
    body = {"InstanceTypeSet": {"InstanceType": row}}
    (size,) = answer({"DescribeInstanceTypesResponse": body}).list_sizes()
    assert size.ram == (number if isinstance(number, int) else None)
    assert (size.disk, size.bandwidth) == (None, None)


# Sets


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (xml_instances(""), 0),
        (xml_instances("\n  "), 0),
        (xml_instances("<Total>0</Total><Limit>0</Limit>"), 0),
        (xml_instances("<Instance><instanceId>i</instanceId></Instance><Total>1</Total>"), 1),
        (xml_instances("<Total>1</Total><Instance><instanceId>i</instanceId></Instance>"), 1),
        (
            xml_instances(
                "<Instance><instanceId>i</instanceId></Instance><Total>2</Total>"
                "<Instance><instanceId>j</instanceId></Instance>"
            ),
            2,
        ),
        (
            xml_instances(
                "<!-- one --><?pi x?><Instance><!-- x --><instanceId>i</instanceId></Instance>"
            ),
            1,
        ),
        ("<DescribeInstancesResponse/>", 0),
        ("<DescribeInstancesResponse><InstanceSet/></DescribeInstancesResponse>", 0),
        ('{"DescribeInstancesResponse": {"InstanceSet": {"Instance": {"instanceId": "i"}}}}', 1),
        ('{"DescribeInstancesResponse": {"InstanceSet": {"Instance": [{"instanceId": "i"}]}}}', 1),
        ('{"DescribeInstancesResponse": {"InstanceSet": {"Instance": null, "Total": 0}}}', 0),
        ('{"DescribeInstancesResponse": {"InstanceSet": {"Total": 0}}}', 0),
        ('{"DescribeInstancesResponse": {"InstanceSet": {"Instance": []}}}', 0),
        ('{"DescribeInstancesResponse": {"InstanceSet": null}}', 0),
        ('{"DescribeInstancesResponse": {}}', 0),
        ('{"DescribeInstancesResponse": null}', 0),
        ('  {"DescribeInstancesResponse": {"InstanceSet": ""}}', 0),
        ('\ufeff{"DescribeInstancesResponse": {"InstanceSet": []}}', 0),
        ("\ufeff\n" + xml_instances(""), 0),
    ],
)
def test_sets_are_lists_whatever_they_hold(answer, body, count):
    nodes = answer(body).list_nodes()
    assert [node.id for node in nodes] == ["i", "j"][:count]


def test_the_bytes_are_utf_8_whatever_anybody_says(answer):
    body = '<?xml version="1.0" encoding="GBK"?>' + xml_instances(
        "<Instance><instanceId>i</instanceId><instanceName>中文😀</instanceName></Instance>"
    )
    for content_type in (
        "application/xml",
        "application/xml; charset=iso-8859-1",
        "text/html; charset=gbk",
        "application/json",
    ):
        driver = answer(body, headers={"Content-Type": content_type})
        assert driver.list_nodes()[0].name == "中文😀"


# Broken and hostile answers

BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>"
)


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "nonsense",
        "<html><body>502</body></html>",
        "<!DOCTYPE html><html></html>",
        "<DescribeInstancesResponse><InstanceSet>",
        "<DescribeTemplatesResponse><TemplateSet/></DescribeTemplatesResponse>",
        "<describeinstancesresponse/>",
        "<DescribeInstancesResponse><Other>1</Other></DescribeInstancesResponse>",
        "<DescribeInstancesResponse>text</DescribeInstancesResponse>",
        "<DescribeInstancesResponse><InstanceSet>text</InstanceSet></DescribeInstancesResponse>",
        xml_instances("<Instance>text</Instance>"),
        xml_instances("<Instance><instanceId>i</instanceId></Instance><Instance/>"),
        xml_instances("<Instance><instanceName>no ID</instanceName></Instance>"),
        xml_instances("<Instance><instanceId/></Instance>"),
        xml_instances("<Instance><instanceId>i</instanceId><instanceId>j</instanceId></Instance>"),
        xml_instances(
            "<Instance><instanceId>i</instanceId><instanceName>a</instanceName>"
            "<instanceName>b</instanceName></Instance>"
        ),
        xml_instances("<Instance><instanceId>&undefined;</instanceId></Instance>"),
        BOMB + xml_instances("<Instance><instanceId>&i;</instanceId></Instance>"),
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
        + xml_instances("<Instance><instanceId>&a;</instanceId></Instance>"),
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">' + xml_instances(""),
        "<a>" * 100_000,
        "<DescribeInstancesResponse>" + "<a>" * 300 + "</a>" * 300 + "</DescribeInstancesResponse>",
        '{"DescribeInstancesResponse": ' + '{"a":' * 100_000,
        '{"DescribeInstancesResponse": ' + "[" * 50_000 + "]" * 50_000 + "}",
        "{",
        "{}",
        "[]",
        "null",
        '"DescribeInstancesResponse"',
        '{"DescribeInstancesResponse": {}, "Other": {}}',
        '{"DescribeInstancesResponse": 5}',
        '{"DescribeInstancesResponse": {"InstanceSet": "text"}}',
        '{"DescribeInstancesResponse": {"InstanceSet": [1]}}',
        '{"DescribeInstancesResponse": {"InstanceSet": {"Instance": 5}}}',
        '{"DescribeInstancesResponse": {"InstanceSet": {"Instance": ["i"]}}}',
        '{"DescribeInstancesResponse": {"InstanceSet": {"Instance": [{"instanceId": ["i"]}]}}}',
        '{"DescribeInstancesResponse": {"InstanceSet": {"Instance": [{"instanceId": null}]}}}',
        '{"DescribeInstancesResponse": {"InstanceSet": {"Total": ' + "1" * 5000 + "e}}}",
        b"\xff\xfe<\x00",
        b'{"DescribeInstancesResponse": "\xff"}',
        b"<DescribeInstancesResponse>\xff</DescribeInstancesResponse>",
        b"\x00" * 100,
        xml_instances("<Instance><instanceId>中</instanceId></Instance>").encode("gbk"),
        xml_instances("<Instance><instanceId>i</instanceId></Instance>").encode("utf-16"),
        '{"ErrorResponse": {}}',
        '{"ErrorResponse": {"Error": {"code": {}, "message": "m"}}}',
        "<ErrorResponse/>",
        "<ErrorResponse><Error>text</Error></ErrorResponse>",
    ],
)
def test_an_answer_that_cannot_be_read(answer, body):
    with pytest.raises(MalformedAnswerError) as caught:
        answer(body).list_nodes()
    error = caught.value
    assert isinstance(error, MalformedResponseError)
    assert (error.action, error.http_code) == ("DescribeInstances", 200)
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (lambda d: d.ex_get_balance(), {"GetBalanceResponse": {}}),
        (lambda d: d.ex_get_balance(), {"GetBalanceResponse": {"balance": "much"}}),
        (lambda d: d.ex_get_balance(), {"GetBalanceResponse": {"balance": "Infinity"}}),
        (lambda d: d.ex_get_balance(), {"GetBalanceResponse": {"balance": ["1"]}}),
        (lambda d: d.ex_get_balance(), {"GetBalanceResponse": {"balance": 1, "timestamp": "x"}}),
        (lambda d: d.ex_get_contract("i"), {"GetInstanceContractInfoResponse": {}}),
        (lambda d: d.ex_get_node_state("i"), {"DescribeInstanceStatusResponse": {}}),
        (lambda d: d.ex_get_metadata("i"), {"GetInstanceMetadataResponse": {}}),
        (
            lambda d: d.ex_get_metadata("i"),
            {"GetInstanceMetadataResponse": {"InstanceMetadata": {"a": {"b": "c"}}}},
        ),
        (
            lambda d: d.list_images(),
            {"DescribeTemplatesResponse": {"TemplateSet": {"Template": [{}]}}},
        ),
        (
            lambda d: d.list_volumes("i"),
            {
                "DescribeInstanceVolumesResponse": {
                    "InstanceVolumeSet": {"InstanceVolume": {"index": 1}}
                }
            },
        ),
        (
            lambda d: d.ex_get_password_data("i"),
            {"GetPasswordDataResponse": {"passwordData": ["x"], "account": "a"}},
        ),
    ],
)
def test_answers_that_lack_what_is_needed(answer, call, body):
    with pytest.raises(MalformedAnswerError) as caught:
        call(answer(body))
    assert caught.value.action in ACTIONS
    assert caught.value.http_code == 200


def test_only_elements_are_fields(answer):
    row = "<!-- x --><instanceId>i</instanceId><?pi x?><status>running</status><!-- y -->"
    (node,) = answer(xml_instances(f"<Instance>{row}</Instance>")).list_nodes()
    assert node.extra == {"instanceId": "i", "status": "running"}


def test_each_node_has_the_size_that_its_own_row_tells(answer):
    usual = {"instanceTypeId": "t", "instanceType": "small", "cpu": "1", "memory": "1024"}
    unlike = {"instanceTypeId": "u", "instanceType": "big", "cpu": "2", "memory": "2048"}
    rows = [usual, *({**usual, name: value} for name, value in unlike.items())]
    rows = [{"instanceId": str(number), **row} for number, row in enumerate(rows)]
    sizes = [node.size for node in answer(instances(*rows)).list_nodes()]
    assert [(size.id, size.name, size.extra["cpu"], size.ram) for size in sizes] == [
        ("t", "small", 1, 1024),
        ("u", "small", 1, 1024),
        ("t", "big", 1, 1024),
        ("t", "small", 2, 1024),
        ("t", "small", 1, 2048),
    ]


def test_an_image_that_a_row_names_is_the_nodes(answer):
    rows = [
        {"templateId": "t", "templateName": "debian"},
        {"imageId": "i", "imageName": "cirros"},
        {"imageId": "only-an-id"},
        {},
    ]
    rows = [{"instanceId": str(number), **row} for number, row in enumerate(rows)]
    images = [node.image for node in answer(instances(*rows)).list_nodes()]
    assert [image and (image.id, image.name) for image in images] == [
        ("t", "debian"),
        ("i", "cirros"),
        ("only-an-id", "only-an-id"),
        None,
    ]


def test_a_size_without_an_id_has_its_name_for_one(answer):
    row = {"instanceType": "small", "memory": 1024}
    body = {"DescribeInstanceTypesResponse": {"InstanceTypeSet": {"InstanceType": row}}}
    (size,) = answer(body).list_sizes()
    assert (size.id, size.name) == ("small", "small")


@pytest.mark.parametrize("word", [["running"], {"a": "running"}, None, "", "Running"])
def test_a_state_in_no_table_is_unknown(answer, word):
    driver = answer(instances({"instanceId": "i", "status": word}))
    assert driver.list_nodes()[0].state is NodeState.UNKNOWN
    driver = answer({"DescribeInstanceStatusResponse": {"InstanceStatus": {"status": word}}})
    assert driver.ex_get_node_state("i") is NodeState.UNKNOWN


def test_a_time_without_a_zone_is_in_utc_wherever_one_is(answer, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        driver = answer(
            {"GetBalanceResponse": {"balance": 1, "timestamp": "2026-01-02T03:04:05.678"}}
        )
        expected = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
        assert driver.ex_get_balance().updated_at == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_filters_are_counted_from_one(answer, requests_mock):
    answer(instances()).list_nodes(ex_filters={"name": ["web", "db"], "status": "running"})
    form = dict(parse_qsl(requests_mock.last_request.text))
    assert {name: value for name, value in form.items() if name.startswith("Filter")} == {
        "Filter.1.Name": "name",
        "Filter.1.Value.1": "web",
        "Filter.1.Value.2": "db",
        "Filter.2.Name": "status",
        "Filter.2.Value.1": "running",
    }


@pytest.mark.parametrize(
    ("duration", "sent"),
    [("1h", "1H"), ("07M", "7M"), (timedelta(hours=1), "1H"), (timedelta(days=3), "72H")],
)
def test_durations_as_they_are_sent(requests_mock, duration, sent):
    contract = dict.fromkeys(("startedAt", "expireAt", "extendTo"), "2026-01-01T00:00:00Z")
    answers = (
        {"GetInstanceContractInfoResponse": contract},
        {"RenewInstanceResponse": {"return": "True"}},
    )
    requests_mock.post(URL, [{"json": each} for each in answers])
    assert MCSNodeDriver("key", "secret").ex_renew_node("web", duration) is True
    assert dict(parse_qsl(requests_mock.last_request.text))["Duration"] == sent


def test_what_is_not_as_usual_in_a_nodes_size_is_in_its_extra(answer):
    row = {"instanceId": "i", "instanceName": "web", "instanceType": "small", "cpu": [1, {"a": 2}]}
    (node,) = answer({"DescribeInstancesResponse": {"InstanceSet": {"Instance": row}}}).list_nodes()
    assert (node.id, node.size.name) == ("i", "small")
    assert node.extra["cpu"] == node.size.extra["cpu"] == ["1", {"a": "2"}]


@pytest.mark.parametrize("returned", ["False", "", None, "None", ["True"], {"a": "True"}, "0"])
def test_a_change_that_does_not_say_true_may_have_been_made(answer, returned):
    with pytest.raises(OutcomeUnknownError) as caught:
        answer({"StartInstanceResponse": {"return": returned}}).start_node("web")
    assert caught.value.find_out == "driver.ex_get_node_state('web')"


@pytest.mark.parametrize("returned", ["True", "true", True, " True\n"])
def test_the_ways_to_say_true(answer, returned):
    assert answer({"StartInstanceResponse": {"return": returned}}).start_node("web") is True


def test_a_created_node_without_an_id_may_have_been_made(answer, requests_mock):
    driver = answer({"CreateInstanceResponse": {"Instance": {"instanceName": "web"}}})
    with pytest.raises(OutcomeUnknownError, match="instanceId is missing") as caught:
        driver.create_node("web", "small", NodeImage("i", "image", driver))
    assert caught.value.asked["InstanceName"] == "web"


def test_metadata_may_be_empty(answer):
    for body in (
        "<GetInstanceMetadataResponse><InstanceMetadata/></GetInstanceMetadataResponse>",
        {"GetInstanceMetadataResponse": {"InstanceMetadata": {}}},
    ):
        assert answer(body).ex_get_metadata("i") == {}


def test_a_message_never_quotes_a_password(answer):
    for body in (
        "<GetPasswordDataResponse><passwordData>hunter2</passwordData>",
        '{"GetPasswordDataResponse": {"passwordData": "hunter2"',
        '{"Other": {"passwordData": "hunter2"}}',
    ):
        with pytest.raises(MCSError) as caught:
            answer(body).ex_get_password_data("i")
        assert "hunter2" not in str(caught.value)


def test_a_message_never_quotes_a_signature(answer):
    with pytest.raises(MCSError) as caught:
        answer("<html>GET /?a=b&Signature=c2VjcmV0%3D&x=y").list_nodes()
    assert "c2VjcmV0" not in str(caught.value)
    assert "Signature=***&x=y" in str(caught.value)


# The same tree from both formats

XML_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
TEXTS = st.text(XML_CHARACTERS, max_size=20)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,10}", fullmatch=True)


@given(
    rows=st.lists(
        st.dictionaries(NAMES, TEXTS | st.integers(), max_size=6).map(
            lambda row: row | {"instanceId": "i"}
        ),
        max_size=4,
    ),
    total=st.none() | st.integers(0, 10),
)
def test_xml_and_json_give_the_same_tree(rows, total):
    page = {} if total is None else {"Total": total}
    in_json = json.dumps(instances(*rows, **page)).encode()
    inner = "".join(
        "<Instance>"
        + "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in row.items())
        + "</Instance>"
        for row in rows
    )
    inner += f"<Total>{total}</Total>" if total is not None else ""
    action = ACTIONS["DescribeInstances"]
    tree = parse_response(action, in_json)
    assert tree == parse_response(action, xml_instances(inner).encode())
    assert tree["Instance"] == [{k: str(v) for k, v in row.items()} for row in rows]


@given(
    body=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_bytes_of_any_kind_are_an_answer_or_malformed(body):
    for action in ACTIONS.values():
        with pytest.raises(MalformedAnswerError):
            parse_response(action, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "instanceId",
    "instanceName",
    "status",
    "cpu",
    "memory",
    "ipAddresses",
    "eips",
    "createdAt",
]
FIELDS += ["instanceType", "imageId", "instanceTypeId"]


@example(row={"instanceId": math.inf}, page={})
@given(
    row=st.dictionaries(st.sampled_from(FIELDS) | NAMES, JSON, max_size=6),
    page=st.dictionaries(st.sampled_from(["Total", "Limit", "Offset"]), JSON),
)
def test_fields_of_any_kind_make_a_node_or_are_malformed(row, page):
    with requests_mock.Mocker() as mocker:
        mocker.post(URL, content=json.dumps(instances(row, **page)).encode())
        try:
            nodes = MCSNodeDriver("key", "secret").list_nodes()
        except MalformedAnswerError:
            return
    sent = row["instanceId"]
    # A number stays as it was sent; infinity is another text in Python.
    text = json.dumps(sent) if isinstance(sent, float) else str(sent)
    assert [node.id for node in nodes] == [text]


# Namespaces

ENVELOPES = {
    "default": lambda body: body.replace("Response>", 'Response xmlns="urn:mcs">', 1),
    "prefix": lambda body: re.sub(r"<(/?)(?=\w)", r"<\1m:", body).replace(
        "Response>", 'Response xmlns:m="http://mcs.example/doc/2013">', 1
    ),
    "on a child": lambda body: body.replace("Set>", 'Set xmlns="urn:a">', 1),
    "unused": lambda body: body.replace("Response>", 'Response xmlns:x="urn:x">', 1),
    "attributes": lambda body: body.replace(
        "Response>", 'Response xmlns:x="urn:x" x:id="1" requestId="2">', 1
    ),
}


@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=ENVELOPES)
@pytest.mark.parametrize("action", [each for each in ACTIONS if ACTIONS[each].edition == 2013])
def test_a_namespace_changes_nothing(example, action, envelope):
    plain = example(action, "xml").decode().partition("?>")[2].strip()
    assert parse_response(ACTIONS[action], envelope(plain).encode()) == parse_response(
        ACTIONS[action], plain.encode()
    )


def test_a_refusal_in_a_namespace_is_one(answer):
    body = '<ErrorResponse xmlns="urn:mcs"><Error><code>404</code></Error></ErrorResponse>'
    with pytest.raises(MCSError) as caught:
        answer(body, status_code=404).ex_get_balance()
    assert caught.value.code == 404


def test_a_prefix_that_stands_for_nothing_is_refused(answer):
    body = "<m:GetBalanceResponse><m:balance>1</m:balance></m:GetBalanceResponse>"
    with pytest.raises(MalformedAnswerError):
        answer(body).ex_get_balance()


def test_the_word_in_a_value_is_left_alone(answer):
    row = "<Instance><instanceId>i</instanceId><instanceName>xmlns=a</instanceName></Instance>"
    assert answer(xml_instances(row)).list_nodes()[0].name == "xmlns=a"
