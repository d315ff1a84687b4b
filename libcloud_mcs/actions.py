"""
The table of the API's actions.

The connection reads from this table which actions may be retried, the parser which elements are
lists, the emulator which actions to serve, and the documentation the table of verbs.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["ACTIONS", "Action", "Kind"]


class Kind(Enum):
    """The effect of an action, which decides whether a request may be retried."""

    #: The action only reads.
    READ = "read"
    #: The action changes a key pair, an instance or a template, but costs nothing.
    CHANGE = "change"
    #: The account is charged each time.
    BILLED = "billed"


class Action(NamedTuple):
    """One action of the API."""

    #: The name on the wire.
    name: str
    #: The effect.
    kind: Kind
    #: The method of :class:`~libcloud_mcs.driver.MCSNodeDriver` that sends the action.
    verb: str
    #: The elements of the response one of which holds the result, that of the specification first.
    #: Without any, the root holds the result.
    result_keys: tuple[str, ...] = ()
    #: The element of a set that is repeated in the result, once for each thing.
    item_key: str = ""
    #: The values of ``Filter.n.Name``.
    filters: tuple[str, ...] = ()
    #: The call of the driver that shows whether the action was carried out, with the wire
    #: parameters of the request in braces.
    find_out: str = ""
    #: Whether the response holds a secret that no message may quote.
    secret: bool = False
    #: The year of the first edition of the service that is known to have the action: 2013 (the
    #: specification's) or 2017.
    edition: int = 2013
    #: Whether the result may have any shape. The result is then the unchanged content of the root.
    any_result: bool = False


_ALL = (
    Action("DescribeTemplates", Kind.READ, "list_images", ("TemplateSet",), "Template"),
    Action(
        "DescribeInstanceTypes",
        Kind.READ,
        "list_sizes",
        ("InstanceTypeSet",),
        "InstanceType",
        filters=("name",),
    ),
    Action("GetBalance", Kind.READ, "ex_get_balance"),
    Action(
        "DescribeKeyPairs",
        Kind.READ,
        "list_key_pairs",
        ("KeyPairSet",),
        "KeyPair",
        filters=("name",),
    ),
    Action(
        "ImportKeyPair",
        Kind.CHANGE,
        "import_key_pair_from_string",
        ("KeyPair",),
        find_out="driver.get_key_pair({KeyName!r})",
    ),
    Action(
        "DeleteKeyPair",
        Kind.CHANGE,
        "delete_key_pair",
        ("return",),
        find_out="driver.get_key_pair({KeyName!r})",
    ),
    Action(
        "DescribeInstances",
        Kind.READ,
        "list_nodes",
        ("InstanceSet",),
        "Instance",
        filters=("name", "status"),
    ),
    Action("DescribeInstanceStatus", Kind.READ, "ex_get_node_state", ("InstanceStatus",)),
    Action(
        "DescribeInstanceVolumes",
        Kind.READ,
        "list_volumes",
        ("InstanceVolumeSet",),
        "InstanceVolume",
    ),
    Action(
        "DescribeInstanceNetworkInterfaces",
        Kind.READ,
        "ex_list_network_interfaces",
        ("InstanceNetworkInterfaceSet",),
        "InstanceNetworkInterface",
    ),
    Action("GetPasswordData", Kind.READ, "ex_get_password_data", secret=True),
    Action("GetInstanceContractInfo", Kind.READ, "ex_get_contract"),
    Action(
        "StartInstance",
        Kind.CHANGE,
        "start_node",
        ("return",),
        find_out="driver.ex_get_node_state({InstanceId!r})",
    ),
    Action(
        "StopInstance",
        Kind.CHANGE,
        "stop_node",
        ("return",),
        find_out="driver.ex_get_node_state({InstanceId!r})",
    ),
    Action(
        "RebootInstance",
        Kind.CHANGE,
        "reboot_node",
        ("return",),
        find_out="driver.ex_get_node_state({InstanceId!r})",
    ),
    Action(
        "RebuildInstanceRootImage",
        Kind.CHANGE,
        "ex_rebuild_node",
        ("return",),
        find_out="driver.ex_get_node_state({InstanceId!r})",
    ),
    Action(
        "CreateInstance",
        Kind.BILLED,
        "create_node",
        ("Instance",),
        find_out="driver.list_nodes(ex_names=[{InstanceName!r}])",
    ),
    Action(
        "TerminateInstance",
        Kind.CHANGE,
        "destroy_node",
        ("return",),
        find_out="driver.ex_get_node({InstanceId!r})",
    ),
    Action(
        "RenewInstance",
        Kind.BILLED,
        "ex_renew_node",
        ("return",),
        find_out="driver.ex_get_contract({InstanceId!r})",
    ),
    Action(
        "ChangeInstanceType",
        Kind.BILLED,
        "ex_change_node_size",
        ("return", "Instance"),
        find_out="driver.ex_get_node({InstanceId!r})",
    ),
    Action("GetInstanceMetadata", Kind.READ, "ex_get_metadata", ("InstanceMetadata",)),
    Action(
        "PutInstanceMetadata",
        Kind.CHANGE,
        "ex_set_metadata",
        ("return",),
        find_out="driver.ex_get_metadata({InstanceId!r})",
    ),
    Action(
        "DescribeAvailabilityZones",
        Kind.READ,
        "list_locations",
        ("AvailabilityZoneSet",),
        "AvailabilityZone",
        filters=("name", "status"),
        edition=2017,
    ),
    Action(
        "CreateTemplate",
        Kind.CHANGE,
        "create_image",
        ("return",),
        find_out="driver.get_image({Name!r})",
        edition=2017,
    ),
    Action(
        "DeleteTemplate",
        Kind.CHANGE,
        "delete_image",
        ("return",),
        find_out="driver.get_image({TemplateId!r})",
        edition=2017,
    ),
)

#: Every action by its name: those of the specification in its order, then those of later editions.
ACTIONS: dict[str, Action] = {action.name: action for action in _ALL}
