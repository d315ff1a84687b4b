"""
The values that every argument of every verb accepts and refuses, before a request is sent.

The table has an entry for each argument; a verb or an argument without one fails.
"""

import inspect
import math
import re
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import libcloud.compute.base
import pytest
from conftest import AT_ONCE
from libcloud.compute.base import (
    KeyPair,
    Node,
    NodeAuthSSHKey,
    NodeDriver,
    NodeImage,
    NodeLocation,
    NodeSize,
    StorageVolume,
)
from libcloud.compute.deployment import (
    Deployment,
    FileDeployment,
    MultiStepDeployment,
    ScriptDeployment,
)
from libcloud.compute.drivers.ec2 import EC2NodeDriver
from libcloud.compute.types import NodeState
from ssh_keys import new_key, private_text, public_text

from libcloud_mcs.actions import Kind
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator

KEY = new_key()
PUBLIC, PRIVATE = public_text(KEY), private_text(KEY)
IMAGE = "cirros-0.3.0-x86_64.qcow2"
EC2 = EC2NodeDriver("key", "secret")


class Nothing(Deployment):
    """A deployment without steps."""

    def run(self, node, client):
        return node


class World:
    """A cloud with one of each thing that an argument can name."""

    def __init__(self, cloud, folder):
        self.cloud, self.driver = cloud, cloud.driver()
        self.pair = self.driver.import_key_pair_from_string("mine", PUBLIC)
        self.image, self.size = self.driver.get_image(IMAGE), self.driver.list_sizes()[1]
        self.node = self.driver.create_node("web", self.size, self.image, ex_keyname=self.pair)
        self.location = self.driver.list_locations()[0]
        if cloud.edition == 2017:
            self.own_image = self.driver.create_image(self.node, "mine")
        self.public_file, self.private_file = folder / "key.pub", folder / "key"
        self.public_file.write_text(PUBLIC)
        self.private_file.write_text(PRIVATE)


@pytest.fixture
def new_world(tmp_path):
    """Create a cloud with one of each object."""
    clouds = []

    def make(edition=2013):
        clouds.append(Emulator(edition=edition, **AT_ONCE))
        clouds[-1].start()
        return World(clouds[-1], tmp_path)

    yield make
    for cloud in clouds:
        cloud.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cloud to which no request may be sent."""
    with Emulator(**AT_ONCE) as cloud:
        yield World(cloud, tmp_path_factory.mktemp("keys"))


#: What a user may pass to any argument. It is refused unless the argument is said to take it.
ANYTHING = {
    "None": None,
    "an empty text": "",
    "a blank text": " \t",
    "half a character": "we\ud800",
    "bytes": b"web",
    "a number": 5,
    "a list": ["web"],
    "a mapping": {"web": "b"},
    "an object": object(),
    "a class": Node,
    "a state": NodeState.RUNNING,
    "a node": lambda world: world.node,
    "a size": lambda world: world.size,
    "an image": lambda world: world.image,
    "a key pair": lambda world: world.pair,
    "a location": lambda world: world.location,
    "a node without ID": Node(None, "web", NodeState.RUNNING, [], [], None),
    "a size without ID": NodeSize(None, "small", 1, 1, 1, 1, None),
    "an image without ID": NodeImage(None, "image", None),
    "a key pair without name": KeyPair(None, PUBLIC, "", None),
    "a location without ID": NodeLocation(None, "Beijing", "CN", None),
    "EC2's node": Node("i-1", "web", NodeState.RUNNING, [], [], EC2),
    "EC2's size": NodeSize("t2.micro", "micro", 1, 1, 1, 1, EC2),
    "EC2's image": NodeImage("ami-1", "image", EC2),
    "EC2's key pair": KeyPair("mine", PUBLIC, "", EC2),
    "EC2's location": NodeLocation("Beijing", "Beijing", "CN", EC2),
}


@dataclass
class Argument:
    """The values that an argument accepts."""

    #: Those of ANYTHING that it takes.
    takes: tuple[str, ...] = ()
    #: Gives values that work.
    right: object = lambda world: []
    #: Whether these values all mean the same.
    same: bool = False
    #: More that it does not take.
    wrong: list = field(default_factory=list)

    def optional(self):
        return Argument(("None", *self.takes), self.right, self.same, self.wrong)


def things(thing):
    """The object, its ID and its name."""
    return [thing, thing.id, thing.name]


NODE = Argument(("a node",), lambda world: things(world.node), same=True)
SIZE = Argument(("a size",), lambda world: things(world.size), same=True)
IMAGES = Argument(("an image",), lambda world: things(world.image), same=True)
PAIR = Argument(
    ("a key pair",),
    lambda world: [world.pair, world.pair.extra["keyId"], world.pair.name],
    same=True,
)
LOCATION = Argument(
    ("a location", "None"),
    lambda world: [*things(world.location), None],
    same=True,
    wrong=["Shanghai", NodeLocation("Shanghai", "Shanghai", "CN", None)],
)
NAME = Argument((), lambda world: ["new", "a b+~*/&=%中文😀"])
WRONG_NODES = [
    ["web", None],
    [""],
    [" "],
    ["we\ud800"],
    [b"web"],
    [5],
    [["web"]],
    [NodeState.RUNNING],
    [lambda world: world.size],
    [ANYTHING["a node without ID"]],
    [ANYTHING["EC2's node"]],
    bytearray(b"web"),
]
IDS = Argument(
    ("a list", "a mapping"),
    lambda world: [
        *([each] for each in things(world.node)),
        things(world.node),
        iter(things(world.node)),
        {world.node.name},
        {world.node.id: "of no account"},
        (world.node,),
    ],
    same=True,
    wrong=WRONG_NODES,
)
NAMES = Argument(
    ("None", "a list", "a mapping"),
    lambda world: [[world.node], ["web"], ("web",), iter(["web", "none"]), {"web": 1}],
    same=True,
    wrong=[*WRONG_NODES, [Node("i-1", None, NodeState.RUNNING, [], [], None)]],
)
FILTERS = Argument(
    ("None",),
    lambda world: [{}, {"name": "small"}, {"name": ["small", "web"]}, {"name": {"small"}}],
    wrong=[
        [],
        0,
        "name",
        {"cpu": "1"},
        {5: "1"},
        {"name": []},
        {"name": iter([])},
        {"name": ""},
        {"name": None},
        {"name": 5},
        {"name": b"small"},
        {"name": [b"small"]},
        {"name": {"small": "x"}},
        {"name": ["small", None]},
        {"name": "\ud800"},
        {"name": NodeState.RUNNING},
    ],
)
NODE_FILTERS = Argument(
    FILTERS.takes,
    lambda world: [
        *FILTERS.right(world),
        {"status": "running"},
        {"status": NodeState.RUNNING},
        {"status": [NodeState.RUNNING, "ready", "a word that is in no table"], "name": "web"},
    ],
    wrong=[
        *FILTERS.wrong,
        {"status": NodeState.UNKNOWN},
        {"status": [NodeState.RUNNING, NodeState.REBOOTING]},
        {"status": "stopped"},
        {"status": "RUNNING"},
        {"status": ["running", "unknown"]},
        {"status": None},
        {"status": [""]},
    ],
)
DURATION = Argument(
    ("None",),
    lambda world: [None, "2H", "1m", timedelta(days=3)],
    wrong=["1D", "0H", 1.5, True, timedelta(minutes=90)],
)
AMOUNT = Argument(
    ("None", "a number"),
    lambda world: [None, 0, 1, 500],
    wrong=[-1, 1.5, 10.0, "10", "10GB", True, math.nan],
)
FLAG = Argument((), lambda world: [True, False], wrong=["False", "True", "no", 0, 1])
SECONDS = Argument(
    ("a number",),
    lambda world: [0, 0.01, 5, math.inf],
    wrong=[-1, -0.5, math.nan, "5", True, timedelta(seconds=5)],
)
INTERFACE = Argument(
    (), lambda world: ["public_ips", "private_ips"], wrong=["public", "ips", "PUBLIC_IPS", True]
)
PASSPHRASE = Argument(
    ("None", "an empty text", "a blank text", "bytes", "a state"),
    lambda world: [None, "", b""],
    wrong=[bytearray(b"x")],
)


TABLE = {
    "list_images": {"location": LOCATION},
    "get_image": {"image_id": IMAGES},
    "create_image": {
        "node": NODE,
        "name": NAME,
        "description": Argument(
            ("None", "an empty text"), lambda world: [None, "", "a b+~*/&=%中文😀"], wrong=[True]
        ),
    },
    "delete_image": {"node_image": Argument(("an image",), lambda world: things(world.own_image))},
    "list_sizes": {"location": LOCATION, "ex_filters": FILTERS},
    "list_locations": {},
    "ex_get_balance": {},
    "list_key_pairs": {"ex_filters": FILTERS},
    "get_key_pair": {"name": PAIR},
    "import_key_pair_from_string": {
        "name": NAME,
        "key_material": Argument((), lambda world: [PUBLIC]),
    },
    "import_key_pair_from_file": {
        "name": NAME,
        "key_file_path": Argument(
            # A file of that name is not there, which is an OSError.
            ("a state",),
            lambda world: [world.public_file, str(world.public_file)],
            wrong=[PUBLIC, "nul\0"],
        ),
    },
    "create_key_pair": {"name": NAME},
    "delete_key_pair": {"key_pair": PAIR},
    "list_nodes": {
        "ex_node_ids": Argument(("None", *IDS.takes), IDS.right, True, IDS.wrong),
        "ex_names": NAMES,
        "ex_filters": NODE_FILTERS,
        "ex_location": LOCATION,
    },
    "ex_iterate_nodes": {"ex_filters": NODE_FILTERS, "ex_location": LOCATION},
    "ex_get_node": {"node_id": NODE},
    "ex_get_node_state": {"node": NODE},
    "create_node": {
        "name": NAME,
        "size": SIZE,
        "image": IMAGES,
        "location": LOCATION,
        "auth": Argument(
            ("None",),
            lambda world: [NodeAuthSSHKey(PUBLIC)],
            wrong=[NodeAuthSSHKey(each) for each in (None, "", "x", b"x", PRIVATE)],
        ),
        "ex_keyname": PAIR.optional(),
        "ex_duration": DURATION,
        "ex_disk_size": AMOUNT,
        "ex_bandwidth": AMOUNT,
        "ex_security_group": Argument(("None",), lambda world: [None, "sg-1"], wrong=[["sg-1"]]),
    },
    "deploy_node": {
        "deploy": Argument(
            (),
            lambda world: [Nothing(), MultiStepDeployment([Nothing(), ScriptDeployment("true")])],
            wrong=[
                Nothing,
                MultiStepDeployment([Nothing(), NodeAuthSSHKey(PUBLIC)]),
                MultiStepDeployment([MultiStepDeployment(None), None]),
                FileDeployment(5, "target"),
                FileDeployment(__file__, ""),
                ScriptDeployment("true", args=[1]),
                ScriptDeployment("true", args="one"),
                ScriptDeployment("true", name=""),
                ScriptDeployment("true", timeout="5"),
            ],
        ),
        "ssh_username": Argument(("None",), lambda world: [None, "root", "me"]),
        "ssh_alternate_usernames": Argument(
            ("None", "a list"),
            lambda world: [None, [], ["a", "b"], ("a",)],
            wrong=["me", [""], [None], [5]],
        ),
        "ssh_port": Argument(
            ("a number",), lambda world: [22, 2222], wrong=[0, 65536, "22", True, 22.0]
        ),
        "ssh_timeout": SECONDS.optional(),
        "ssh_key": Argument(
            ("None",),
            lambda world: [
                None,
                [],
                world.private_file,
                str(world.private_file),
                [str(world.private_file)],
                (world.private_file, world.private_file),
            ],
            wrong=[PRIVATE, PUBLIC, "nul\0", "/no/such/file", "/", [None], [""]],
        ),
        "ssh_key_password": PASSPHRASE,
        "auth": Argument(("None",), lambda world: [NodeAuthSSHKey(PUBLIC)]),
        "timeout": SECONDS.optional(),
        "max_tries": Argument(("a number",), lambda world: [1, 3], wrong=[0, -1, "3", True]),
        "ssh_interface": INTERFACE,
        "at_exit_func": Argument(
            ("None", "a class"), lambda world: [None, lambda driver, node: None]
        ),
        "wait_period": SECONDS,
    },
    "start_node": {"node": NODE},
    "stop_node": {"node": NODE, "ex_force": FLAG},
    "reboot_node": {"node": NODE},
    "destroy_node": {"node": NODE},
    "ex_rebuild_node": {"node": NODE, "image": IMAGES.optional()},
    "ex_renew_node": {"node": NODE, "duration": DURATION},
    "ex_change_node_size": {
        "node": NODE,
        "new_size": SIZE,
        "ex_duration": DURATION,
        "ex_disk_size": AMOUNT,
        "ex_bandwidth": AMOUNT,
    },
    "ex_get_contract": {"node": NODE},
    "ex_get_metadata": {"node": NODE},
    "ex_set_metadata": {
        "node": NODE,
        "metadata": Argument(
            ("a mapping",),
            lambda world: [{"a": "b", "c": ""}],
            wrong=[
                {},
                [("a", "b")],
                {"": "b"},
                {5: "b"},
                {"a": 5},
                {"a": None},
                {"a": b"b"},
                {"a": "\ud800"},
                {"\ud800": "b"},
            ],
        ),
    },
    "ex_get_password_data": {
        "node": NODE,
        "private_key": Argument(
            # Whether the node has a key pair, the endpoint alone knows.
            ("None",),
            lambda world: [
                PRIVATE,
                PRIVATE.encode(),
                world.private_file,
                str(world.private_file),
            ],
            same=True,
            wrong=["/no/such/file", "nul\0", "/", PUBLIC, bytearray(PRIVATE.encode())],
        ),
        "passphrase": PASSPHRASE,
    },
    "ex_list_network_interfaces": {"node": NODE},
    "list_volumes": {"node": NODE.optional()},
    "ex_call": {
        "action": Argument(
            (),
            lambda world: ["GetBalance"],
            wrong=["get balance", "Get-Balance", "1Get", "获取", "GetBalance\n", True],
        ),
        "params": Argument(
            ("None", "a mapping"),
            lambda world: [
                None,
                {},
                {"Text": "中文", "Empty": "", "Number": 5, "Ratio": 1.5, "Filter.1.Name": "a-b"},
                {"Price": Decimal("1.50"), "Flag": True, "Many": ["a", 1, False], "Few": (2,)},
            ],
            wrong=[
                [("Name", "web")],
                {5: "web"},
                {b"Name": "web"},
                {"": "web"},
                {"a name": "web"},
                {"名": "web"},
                {"1Name": "web"},
                *({each: "web"} for each in ("Action", "AWSAccessKeyId", "Timestamp", "Region")),
                *({each: "web"} for each in ("Signature", "SignatureVersion", "Format")),
                {"SignatureMethod": "HmacSHA1"},
                {"Name": None},
                {"Name": b"web"},
                {"Name": {"a": "b"}},
                {"Name": {"web"}},
                {"Name": math.nan},
                {"Name": math.inf},
                {"Name": Decimal("sNaN")},
                {"Name": "\ud800"},
                {"Name": []},
                {"Name": [["web"]]},
                {"Name": ["web", None]},
                {"Name": ["web"], "Name.1": "web"},
                {"Name": lambda world: world.node},
            ],
        ),
        "kind": Argument((), lambda world: list(Kind), wrong=["read", "BILLED", True]),
    },
    "wait_until_running": {
        "nodes": IDS,
        "wait_period": SECONDS,
        "timeout": SECONDS,
        "ssh_interface": INTERFACE,
        "force_ipv4": FLAG,
        "ex_list_nodes_kwargs": Argument(
            ("None",),
            lambda world: [None, {}, {"ex_names": ["web"]}, {"ex_filters": {"status": "running"}}],
            wrong=[[], "ex_names", {"ex_name": ["web"]}, {5: 5}],
        ),
    },
}
#: What takes other names, or is the constructor's.
ELSEWHERE = {"from_environment"}
#: What each verb needs beside the argument that is tried.
NEEDED = {
    "get_image": lambda world: {"image_id": IMAGE},
    "get_key_pair": lambda world: {"name": "mine"},
    "import_key_pair_from_string": lambda world: {"name": "new", "key_material": PUBLIC},
    "import_key_pair_from_file": lambda world: {
        "name": "new",
        "key_file_path": world.public_file,
    },
    "create_key_pair": lambda world: {"name": "new"},
    "delete_key_pair": lambda world: {"key_pair": "mine"},
    "ex_get_node": lambda world: {"node_id": "web"},
    "create_image": lambda world: {"name": "new"},
    "ex_call": lambda world: {"action": "GetBalance"},
    "create_node": lambda world: {"name": "new", "size": "small", "image": IMAGE},
    "deploy_node": lambda world: {
        "deploy": Nothing(),
        "name": "new",
        "size": "small",
        "image": IMAGE,
        "wait_period": 0.01,
    },
    "ex_change_node_size": lambda world: {"new_size": "medium"},
    "ex_set_metadata": lambda world: {"metadata": {"a": "b"}},
    "ex_get_password_data": lambda world: {"private_key": PRIVATE},
    "wait_until_running": lambda world: {"nodes": ["web"]},
}


def parameters(verb):
    found = inspect.signature(getattr(MCSNodeDriver, verb)).parameters.values()
    return [each.name for each in found if each.kind is not each.VAR_KEYWORD][1:]


def own_verbs():
    return {
        name
        for name, value in vars(MCSNodeDriver).items()
        if not name.startswith("_") and callable(value) and not isinstance(value, type)
    }


ARGUMENTS = [(verb, argument) for verb, entry in TABLE.items() for argument in entry]
#: Those of create_node() that deploy_node() hands on.
HANDED_ON = [argument for argument in TABLE["create_node"] if argument != "auth"]


def call(world, verb, argument, value):
    """Call a verb with a value for one argument, and with the arguments that it needs besides."""
    kwargs = NEEDED.get(verb, lambda world: {})(world)
    if "node" in TABLE[verb] and verb != "list_volumes":
        kwargs["node"] = "web"
    kwargs[argument] = value
    result = getattr(world.driver, verb)(**kwargs)
    return list(result) if inspect.isgenerator(result) else result


def in_world(value, world):
    """Replace functions of the world in a value by their results."""
    if isinstance(value, list):
        return [in_world(each, world) for each in value]
    return value(world) if inspect.isfunction(value) else value


def plain(result):
    """Return results in a comparable form."""
    if isinstance(result, (list, tuple)):
        return [plain(each) for each in result]
    if isinstance(result, (Node, NodeSize, NodeImage, KeyPair, StorageVolume)):
        return result.name, result.extra
    return result


def test_table_has_every_argument_of_every_verb():
    assert set(TABLE) == {verb for verb in own_verbs() if verb not in ELSEWHERE}
    for verb, entry in TABLE.items():
        assert list(entry) == parameters(verb), verb


def test_verbs_that_mcs_lacks_are_not_implemented(world):
    others = {
        name
        for name, value in vars(NodeDriver).items()
        if inspect.isfunction(value) and not name.startswith("_") and name not in own_verbs()
    }
    assert len(others) > 6
    for verb in others:
        with pytest.raises(NotImplementedError):
            getattr(world.driver, verb)(*[None] * len(required(getattr(NodeDriver, verb))))


def required(function):
    found = inspect.signature(function).parameters.values()
    return [each for each in found if each.default is each.empty][1:]


@pytest.fixture
def no_keys_of_mine(monkeypatch, tmp_path):
    """Hide the keys of the user who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def refused(world, verb, argument, value):
    """Return the error in how a value is refused, ``None`` if there is none."""
    before = len(world.cloud.records)
    try:
        call(world, verb, argument, in_world(value, world))
    except (TypeError, ValueError) as error:
        wrong = []
        if isinstance(error, UnicodeError):
            wrong.append(f"a bare {type(error).__name__}")
        if not re.match(rf"{argument}\b.*: expected .+, got .", str(error), re.DOTALL):
            wrong.append(f"says {error}")
        if any(key in str(error) for key in (PRIVATE[40:80], PUBLIC[40:80])):
            wrong.append("quotes a key")
    else:
        wrong = ["is taken"]
    if len(world.cloud.records) != before:
        wrong.append("after a request")
    return wrong


@pytest.mark.usefixtures("no_keys_of_mine")
@pytest.mark.parametrize(("verb", "argument"), ARGUMENTS)
def test_invalid_argument_is_refused_before_a_request_is_sent(world, verb, argument):
    entry = TABLE[verb][argument]
    tried = {what: value for what, value in ANYTHING.items() if what not in entry.takes}
    assert set(entry.takes) <= set(ANYTHING)
    tried |= {f"wrong[{place}]": value for place, value in enumerate(entry.wrong)}
    faults = {what: refused(world, verb, argument, value) for what, value in tried.items()}
    assert {what: fault for what, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("argument", HANDED_ON)
def test_deploy_node_refuses_invalid_arguments_of_create_node(world, argument):
    entry = TABLE["create_node"][argument]
    tried = {what: value for what, value in ANYTHING.items() if what not in entry.takes}
    for value in (*tried.values(), *entry.wrong):
        # Where there is no key at all, that is another error.
        kwargs = {**NEEDED["deploy_node"](world), "ssh_key": world.private_file}
        kwargs[argument] = in_world(value, world)
        before = len(world.cloud.records)
        with pytest.raises((TypeError, ValueError), match=rf"^{argument}\b.*: expected "):
            world.driver.deploy_node(**kwargs)
        assert len(world.cloud.records) == before


class SSH:
    """A replacement of libcloud's SSH client."""

    timeout = 10

    def __init__(self, **kwargs):
        pass

    def connect(self):
        return True

    def put(self, path, contents, chmod):
        return f"/root/{path}"

    def run(self, command, timeout):
        return "", "", 0

    def close(self):
        return True


#: What changes nothing can be called again.
READS = ("list_", "get_", "ex_get_", "ex_list_", "ex_iterate_", "wait_", "ex_call")
#: The editions that verbs need.
EDITIONS = {"create_image": 2017, "delete_image": 2017}


@pytest.mark.usefixtures("no_keys_of_mine")
@pytest.mark.parametrize(("verb", "argument"), ARGUMENTS)
def test_every_valid_form_of_an_argument_works(new_world, monkeypatch, verb, argument):
    monkeypatch.setattr(libcloud.compute.base, "SSHClient", SSH)
    entry = TABLE[verb][argument]
    edition = EDITIONS.get(verb, 2013)
    world = new_world(edition)
    results = []
    count = len(entry.right(world))
    assert count
    for number in range(count):
        if number and not verb.startswith(READS):
            world = new_world(edition)
        value = entry.right(world)[number]
        if verb == "start_node":
            world.driver.stop_node("web")
        if (verb, argument) == ("deploy_node", "auth"):
            monkeypatch.setitem(NEEDED, "deploy_node", with_key(NEEDED["deploy_node"]))
        results.append(plain(call(world, verb, argument, value)))
    if entry.same and verb.startswith(READS):
        assert results == results[:1] * count
        assert results[0]


def with_key(needed):
    return lambda world: needed(world) | {"ssh_key": world.private_file}


def test_connection_refuses_parameter_with_half_a_character(world):
    before = len(world.cloud.records)
    with pytest.raises(ValueError, match="^InstanceId: expected text that UTF-8 can encode"):
        world.driver.connection.call("GetInstanceContractInfo", {"InstanceId": "\ud800"})
    assert len(world.cloud.records) == before
