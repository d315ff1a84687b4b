"""
The emulator's responses have the fields of the specification's tables, nested as in its examples.
So driver and emulator cannot both deviate from the document in the same way.
"""

import itertools
import json

import pytest
from conftest import AT_ONCE, FIXTURES
from lxml import etree
from plain_client import element_tree, texts
from ssh_keys import new_key, public_text

from libcloud_mcs import actions
from libcloud_mcs.emulator import Emulator

#: The actions of the specification.
ACTIONS = {name: each for name, each in actions.ACTIONS.items() if each.edition == 2013}
IMAGE = "d1620e45-c561-42e7-a2a4-53ae0a389bb9"

INSTANCE = {
    "instanceId": str,
    "instanceName": str,
    "instanceType": str,
    "instanceTypeId": str,
    "status": str,
    "cpu": int,
    "memory": int,
    "volume": int,
    "ipAddresses": str,
}
PAGE = {"Total": int, "Limit": int, "Offset": int}
KEY_PAIR = {"keyId": str, "keyName": str, "keyFingerprint": str}
DONE = {"return": str}
OWNER = {"instanceId": str, "instanceName": str}

#: The specification's tables of answers, transcribed: fields and types, nested as the examples
#: nest them; a list stands for a repeated element.
TABLES = {
    "DescribeTemplates": {
        "TemplateSet": {
            "Template": [
                {
                    "templateId": str,
                    "templateName": str,
                    "size": int,
                    "checksum": str,
                    "status": str,
                }
            ]
        }
    },
    "DescribeInstanceTypes": {
        "InstanceTypeSet": {
            **PAGE,
            "InstanceType": [
                {
                    "instanceTypeId": str,
                    "instanceType": str,
                    "cpu": int,
                    "memory": int,
                    "volume": int,
                    "internalBandwidth": int,
                    "externalBandwidth": int,
                }
            ],
        }
    },
    "GetBalance": {"balance": float, "timestamp": str},
    "DescribeKeyPairs": {"KeyPairSet": {**PAGE, "KeyPair": [KEY_PAIR]}},
    "ImportKeyPair": {"KeyPair": KEY_PAIR},
    "DeleteKeyPair": DONE,
    "DescribeInstances": {"InstanceSet": {**PAGE, "Instance": [INSTANCE]}},
    "DescribeInstanceStatus": {"InstanceStatus": {"status": str}},
    "DescribeInstanceVolumes": {
        "InstanceVolumeSet": {
            "InstanceVolume": [
                {
                    **OWNER,
                    "volumeId": str,
                    "volumeName": str,
                    "volumeSize": int,
                    "cacheMode": str,
                    "driver": str,
                    "index": int,
                }
            ]
        }
    },
    "DescribeInstanceNetworkInterfaces": {
        "InstanceNetworkInterfaceSet": {
            "InstanceNetworkInterface": [
                {
                    **OWNER,
                    "networkId": str,
                    "networkName": str,
                    "ipAddress": str,
                    "macAddress": str,
                    "bandwidth": int,
                    "driver": str,
                    "index": int,
                }
            ]
        }
    },
    "GetPasswordData": {
        "timestamp": str,
        "account": str,
        "passwordData": str,
        "keypairId": str,
        "keypairName": str,
    },
    "GetInstanceContractInfo": {"startedAt": str, "expireAt": str, "extendTo": str},
    "StartInstance": DONE,
    "StopInstance": DONE,
    "RebootInstance": DONE,
    "RebuildInstanceRootImage": DONE,
    "CreateInstance": {"Instance": INSTANCE},
    "TerminateInstance": DONE,
    "RenewInstance": DONE,
    "ChangeInstanceType": DONE,
    "GetInstanceMetadata": {
        "InstanceMetadata": {"os_name": str, "os_distribution": str, "os_version": str}
    },
    "PutInstanceMetadata": DONE,
}

#: Actions whose responses are different in the later edition: ``test_later_service.py`` compares
#: them with their fixtures.
DIFFERENT_LATER = {path.stem.partition("-")[0] for path in (FIXTURES / "2017").glob("*.json")}
EACH_EDITION = pytest.mark.parametrize("edition", [2013, 2017])

KEY = public_text(new_key())

#: A life cycle in which each action is requested once and succeeds.
LIFE_CYCLE = [
    ("DescribeTemplates", {}),
    ("DescribeInstanceTypes", {}),
    ("GetBalance", {}),
    ("ImportKeyPair", {"KeyName": "mine", "PublicKeyMaterial": KEY}),
    ("DescribeKeyPairs", {}),
    (
        "CreateInstance",
        {
            "ImageId": IMAGE,
            "InstanceType": "small",
            "Duration": "72H",
            "InstanceName": "system",
            "KeyName": "mine",
        },
    ),
    ("DescribeInstances", {}),
    ("DescribeInstanceStatus", {"InstanceId": "system"}),
    ("DescribeInstanceVolumes", {"InstanceId": "system"}),
    ("DescribeInstanceNetworkInterfaces", {"InstanceId": "system"}),
    ("GetPasswordData", {"InstanceId": "system"}),
    ("GetInstanceContractInfo", {"InstanceId": "system"}),
    ("StopInstance", {"InstanceId": "system", "Force": "True"}),
    ("StartInstance", {"InstanceId": "system"}),
    ("RebootInstance", {"InstanceId": "system"}),
    ("RebuildInstanceRootImage", {"InstanceId": "system", "ImageId": IMAGE}),
    ("RenewInstance", {"InstanceId": "system", "Duration": "1M"}),
    ("ChangeInstanceType", {"InstanceId": "system", "InstanceType": "medium", "Duration": "1M"}),
    ("PutInstanceMetadata", {"InstanceId": "system", "Name_1": "os_name", "Value_1": "BSD"}),
    ("GetInstanceMetadata", {"InstanceId": "system"}),
    ("TerminateInstance", {"InstanceId": "system"}),
    ("DeleteKeyPair", {"KeyName": "mine"}),
]


@pytest.fixture
def edition():
    return 2013


@pytest.fixture
def cloud(edition):
    with Emulator(edition=edition, **AT_ONCE) as emulator:
        yield emulator


def shape(tree, table):
    """Assert that a JSON response has exactly the fields and types of a table."""
    if isinstance(table, list):
        assert isinstance(tree, list)
        assert tree
        for item in tree:
            shape(item, table[0])
    elif isinstance(table, dict):
        assert set(tree) == set(table)
        for name, inner in table.items():
            shape(tree[name], inner)
    else:
        assert type(tree) is table


def test_actions_are_those_of_the_specification():
    assert list(TABLES) == list(ACTIONS)
    assert {action for action, _ in LIFE_CYCLE} == set(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("answer_format", ["xml", "json"])
def test_tables_of_fields_agree_with_the_examples(example, action, answer_format):
    # Each field of an example is in the table, nested in the same way.
    body = example(action, answer_format)
    if answer_format == "json":
        ((root, tree),) = json.loads(body).items()
    else:
        element = etree.fromstring(body)
        root, tree = element.tag, element_tree(element)
    assert root == f"{action}Response"

    def within(tree, table):
        if isinstance(table, list):
            for item in tree if isinstance(tree, list) else [tree]:
                within(item, table[0])
        elif isinstance(table, dict):
            assert set(tree) <= set(table)
            for name, value in tree.items():
                within(value, table[name])
        else:
            assert not isinstance(tree, (dict, list))

    within(tree, TABLES[action])


@EACH_EDITION
@pytest.mark.parametrize(
    ("method", "hashed"), list(itertools.product(["GET", "POST"], ["SHA1", "SHA256"]))
)
def test_json_responses_have_the_fields_of_the_tables(make_client, edition, method, hashed):
    client = make_client(method=method, answer_format="json", hashed=hashed)
    for action, params in LIFE_CYCLE:
        tree = client.tree(action, **params)
        if edition == 2013 or action not in DIFFERENT_LATER:
            shape(tree, TABLES[action])


@EACH_EDITION
@pytest.mark.parametrize(
    ("method", "hashed", "named"),
    list(itertools.product(["GET", "POST"], ["SHA1", "SHA256"], [True, False])),
)
def test_xml_responses_equal_json_responses(make_client, method, hashed, named):
    # "xml" is also what comes when no format is named.
    in_xml = make_client(method=method, answer_format="xml" if named else None, hashed=hashed)
    in_json = make_client(method=method, answer_format="json", hashed=hashed)
    for action, params in LIFE_CYCLE:
        if ACTIONS[action].kind.value == "read" and action != "GetPasswordData":
            expected = texts(in_json.tree(action, **params))
            if action == "GetBalance":
                expected["balance"] = f"{float(expected['balance']):.2f}"
            assert in_xml.tree(action, **params) == expected
        else:
            in_xml.tree(action, **params)


def test_body_is_utf_8_without_charset_in_content_type(make_client):
    client = make_client()
    client.tree("CreateInstance", ImageId=IMAGE, InstanceType="small", InstanceName="中文 <&> 😀")
    response = client("DescribeInstances")
    assert response.content.startswith(b'<?xml version="1.0" encoding="utf-8"?>')
    assert response.headers["Content-Type"] == "application/xml"
    assert "中文 &lt;&amp;&gt; 😀".encode() in response.content
    client.answer_format = "json"
    response = client("DescribeInstances")
    assert response.headers["Content-Type"] == "application/json"
    assert "中文 <&> 😀".encode() in response.content


def test_empty_set_has_no_item_element(client):
    assert client.tree("DescribeInstances") == {
        "InstanceSet": {"Total": "0", "Limit": "0", "Offset": "0"}
    }


def test_balance_without_transaction_has_no_timestamp():
    from plain_client import Client

    from libcloud_mcs.emulator import Emulator

    with Emulator(balance=0) as cloud:
        client = Client(cloud.url, cloud.access_key, cloud.secret)
        assert client.tree("GetBalance") == {"balance": "0.00"}
