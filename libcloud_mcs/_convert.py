"""
Conversion of response trees to libcloud's objects and to records.

The records are imported when one is created: their dataclasses take a third of the driver's import
time, and most programs need none.

A required field that is missing or invalid raises
:class:`~libcloud_mcs.errors.MalformedAnswerError`. Any other field is kept unchanged in ``extra``.
"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from libcloud.compute.base import (
    KeyPair,
    Node,
    NodeImage,
    NodeLocation,
    NodeSize,
    StorageVolume,
)
from libcloud.compute.types import NodeState, StorageVolumeState

from libcloud_mcs.errors import MalformedAnswerError

if TYPE_CHECKING:
    from libcloud.compute.base import NodeDriver

    from libcloud_mcs.records import Balance, Contract, NetworkInterface, PasswordData

__all__ = [
    "COUNTRY",
    "NODE_STATES",
    "Sizes",
    "integer",
    "row_id",
    "time",
    "time_if_any",
    "to_balance",
    "to_contract",
    "to_image",
    "to_key_pair",
    "to_location",
    "to_metadata",
    "to_network_interface",
    "to_nodes",
    "to_password_data",
    "to_size",
    "to_state",
    "to_true",
    "to_volume",
]

Row = dict[str, Any]
#: The sizes of nodes, by the fields of a node.
Sizes = dict[tuple[Any, ...], "NodeSize | None"]

_STATE_WORDS = {
    NodeState.PENDING: (
        "init schedule network disk image_caching start_deploy deploying block_stream"
    ),
    NodeState.STOPPED: "ready start_fail",
    NodeState.STARTING: "start_start starting resuming",
    NodeState.RUNNING: "running stop_fail",
    NodeState.STOPPING: "start_stop stopping",
    NodeState.SUSPENDED: "start_suspend suspending suspend",
    NodeState.RECONFIGURING: (
        "change_flavor rebuild_root renewing sync_config start_save_disk save_disk"
    ),
    NodeState.MIGRATING: "start_migrate migrating",
    NodeState.TERMINATED: "start_delete deleting",
    NodeState.ERROR: (
        "sched_fail net_fail dev_fail create_fail disk_fail deploy_fail suspend_failed"
        " resume_failed delete_fail change_flavor_fail rebuild_root_fail renew_failed"
    ),
}
#: The state for each word of the field ``status``. Any other word is ``UNKNOWN``, as is
#: ``save_disk_failed``: such an instance is intact, although its disk was not saved as a template.
NODE_STATES: dict[str, NodeState] = {
    word: state for state, words in _STATE_WORDS.items() for word in words.split()
}

#: The country of every region.
COUNTRY = "CN"

_MB_PER_GB = 1024
_FRACTION = re.compile(r"\.([0-9]+)")
# Each access to a member of an enumeration takes longer than the call that needs the member.
_AF_INET, _AF_INET6, _inet_pton = socket.AF_INET, socket.AF_INET6, socket.inet_pton
_UNKNOWN = NodeState.UNKNOWN
_SEPARATORS = re.compile(r"[,;|\s]+")


def integer(value: object) -> int | None:
    """Return a number on the wire, ``None`` where it is not valid."""
    number = _number(value) if isinstance(value, str) else value
    return number if isinstance(number, int) else None


def time(value: object, field: str) -> datetime:
    """
    Return a time on the wire (ISO 8601) in UTC, the default where the text has no time zone.

    :raises MalformedAnswerError: If the value is not such a time.
    """
    try:
        if not isinstance(value, str):
            raise ValueError
        # Python 3.10 reads neither "Z" nor fractions of any length.
        value = re.sub("[zZ]$", "+00:00", value.strip())
        value = _FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), value)
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            return moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise MalformedAnswerError(f"{field}: expected a time, got {str(value)[:80]!r}") from None


def to_true(result: object) -> bool:
    """
    Read the result of an action that was carried out.

    :param result: The ``True`` of ``return``, or the element of the instance.
    :raises MalformedAnswerError: If the result is neither.
    """
    if isinstance(result, dict):
        return bool(row_id(result, "instanceId"))
    if isinstance(result, str) and result.strip().lower() == "true":
        return True
    raise MalformedAnswerError(f"return: expected 'True', got {str(result)[:80]!r}")


def to_state(word: object) -> NodeState:
    """Return the state for a word of ``status``."""
    return NODE_STATES.get(word, _UNKNOWN) if isinstance(word, str) else _UNKNOWN


def to_nodes(rows: Iterable[Row], driver: NodeDriver, sizes: Sizes) -> list[Node]:
    """
    Create the nodes of ``Instance`` elements.

    :param sizes: The sizes that were created before. Nodes of one type share one
        :class:`~libcloud.compute.base.NodeSize`. It has no ``disk`` and no ``bandwidth``, since
        their units in an ``Instance`` element are uncertain.
    """
    return [_to_node(row, driver, sizes) for row in rows]


def _to_node(row: Row, driver: NodeDriver, sizes: Sizes) -> Node:
    extra = _with_numbers(row, "cpu", "memory", "volume")
    public, private = _public_and_private(row.get("ipAddresses"))
    if "eips" in row:
        bound = list(dict.fromkeys(_addresses(row["eips"])))
        public = bound + [each for each in public if each not in bound]
        private = [each for each in private if each not in bound]
    return Node(
        id=row_id(row, "instanceId"),
        name=_text(row, "instanceName"),
        state=to_state(row.get("status")),
        public_ips=public,
        private_ips=private,
        driver=driver,
        size=_node_size(extra, driver, sizes),
        image=_node_image(row, driver),
        extra=extra,
        created_at=time_if_any(row.get("createdAt")),
    )


def _node_size(row: Row, driver: NodeDriver, sizes: Sizes) -> NodeSize | None:
    get = row.get
    key = (get("instanceTypeId"), get("instanceType"), get("cpu"), get("memory"))
    try:
        return sizes[key]
    except KeyError:
        size = sizes[key] = _create_node_size(row, driver)
        return size
    except TypeError:  # an element of the key is a list or a record
        return _create_node_size(row, driver)


def _create_node_size(row: Row, driver: NodeDriver) -> NodeSize | None:
    name = _text(row, "instanceType")
    size_id = _text(row, "instanceTypeId") or name
    if not size_id:
        return None
    return NodeSize(
        id=size_id,
        name=name or size_id,
        ram=cast("int", integer(row.get("memory"))),
        disk=cast("int", None),
        bandwidth=None,
        price=cast("float", None),
        driver=driver,
        extra={"cpu": row["cpu"]} if "cpu" in row else {},
    )


def _node_image(row: Row, driver: NodeDriver) -> NodeImage | None:
    # Not in the specification. CreateInstance has "image", other actions have "template".
    for image_field, name_field in (("templateId", "templateName"), ("imageId", "imageName")):
        if image_field in row and (image_id := _text(row, image_field)):
            return NodeImage(id=image_id, name=_text(row, name_field) or image_id, driver=driver)
    return None


def to_size(row: Row, driver: NodeDriver) -> NodeSize:
    """Create the size of an ``InstanceType`` element."""
    extra = _with_numbers(row, "cpu", "memory", "volume", "internalBandwidth", "externalBandwidth")
    volume = integer(extra.get("volume"))
    return NodeSize(
        id=row_id(row, "instanceTypeId", "instanceType"),
        name=_text(row, "instanceType"),
        ram=cast("int", integer(extra.get("memory"))),
        disk=cast("int", None if volume is None else volume // _MB_PER_GB),
        bandwidth=integer(extra.get("externalBandwidth")),
        price=cast("float", None),  # the API has none
        driver=driver,
        extra=extra,
    )


def to_image(row: Row, driver: NodeDriver) -> NodeImage:
    """Create the image of a ``Template`` element."""
    return NodeImage(
        id=row_id(row, "templateId"),
        name=_text(row, "templateName"),
        driver=driver,
        extra=_with_numbers(row, "size"),
    )


def to_location(row: Row, driver: NodeDriver) -> NodeLocation:
    """Create the location of an ``AvailabilityZone`` element."""
    zone_id = row_id(row, "availabilityZoneId")
    return NodeLocation(
        id=zone_id,
        name=_text(row, "availabilityZoneName") or zone_id,
        country=COUNTRY,
        driver=driver,
        extra=dict(row),
    )


def to_key_pair(row: Row, driver: NodeDriver) -> KeyPair:
    """Create the key pair of a ``KeyPair`` element, which has no public key."""
    return KeyPair(
        name=row_id(row, "keyName"),
        public_key="",
        fingerprint=_text(row, "keyFingerprint"),
        driver=driver,
        extra=dict(row),
    )


def to_volume(row: Row, driver: NodeDriver) -> StorageVolume:
    """
    Create the volume of an ``InstanceVolume`` element.

    The service returned sizes in MB, while the specification's examples can only be in GB. No disk
    is smaller than 1 GB, so that the number implies the unit.
    """
    extra = _with_numbers(row, "volumeSize", "index")
    size = integer(extra.get("volumeSize"))
    if size is not None and size >= _MB_PER_GB:
        size //= _MB_PER_GB
    return StorageVolume(
        id=row_id(row, "volumeId"),
        name=_text(row, "volumeName"),
        size=cast("int", size),
        driver=driver,
        state=StorageVolumeState.INUSE,
        extra=extra,
    )


def to_network_interface(row: Row) -> NetworkInterface:
    """Create the record of an ``InstanceNetworkInterface`` element."""
    from libcloud_mcs.records import NetworkInterface

    extra = _with_numbers(row, "bandwidth", "index")
    return NetworkInterface(
        network_id=_text(row, "networkId"),
        network_name=_text(row, "networkName"),
        ip_address=_text(row, "ipAddress"),
        mac_address=_text(row, "macAddress"),
        bandwidth=integer(extra.get("bandwidth")),
        driver=_text(row, "driver"),
        index=integer(extra.get("index")),
        extra=extra,
    )


def to_balance(response: Row) -> Balance:
    """Create the record of ``GetBalance``."""
    from libcloud_mcs.records import Balance

    amount = _text(response, "balance")
    try:
        balance = Decimal(amount.strip())
        if not balance.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise MalformedAnswerError(f"balance: expected an amount, got {amount[:80]!r}") from None
    moment = response.get("timestamp")
    return Balance(balance, time(moment, "timestamp") if moment else None)


def to_contract(response: Row) -> Contract:
    """Create the record of ``GetInstanceContractInfo``."""
    from libcloud_mcs.records import Contract

    return Contract(
        started_at=time(response.get("startedAt"), "startedAt"),
        expire_at=time(response.get("expireAt"), "expireAt"),
        extend_to=time(response.get("extendTo"), "extendTo"),
    )


def to_password_data(response: Row, password: str, encrypted: bool) -> PasswordData:
    """
    Create the record of ``GetPasswordData``.

    :param password: The password in clear.
    :param encrypted: Whether the endpoint encrypted the password.
    """
    from libcloud_mcs.records import PasswordData

    return PasswordData(
        account=_text(response, "account"),
        password=password,
        created_at=time_if_any(response.get("timestamp")),
        key_pair_id=_text(response, "keypairId") or None,
        key_pair_name=_text(response, "keypairName") or None,
        encrypted=encrypted,
    )


def to_metadata(response: Row) -> dict[str, str]:
    """Read the content of ``GetInstanceMetadata``."""
    return {name: _text(response, name) for name in response}


def row_id(row: Row, *fields: str) -> str:
    """
    Return the ID of a row: the value of the first of several fields that the row has.

    :raises MalformedAnswerError: If the row has none of the fields.
    """
    for field in fields:
        if value := _text(row, field):
            return value
    raise MalformedAnswerError(f"{fields[0]} is missing")


def _text(row: Row, field: str) -> str:
    value = row.get(field, "")
    if not isinstance(value, str):
        raise MalformedAnswerError(f"{field}: expected text, got a list or a record")
    return value


def _with_numbers(row: Row, *fields: str) -> Row:
    """Convert fields of a row to numbers, in place: the row is not shared."""
    for field in fields:
        try:
            row[field] = _number(row[field])
        except (KeyError, TypeError):
            continue  # missing, or a list or a record
    return row


@lru_cache(maxsize=1024)
def _number(value: str) -> int | float | str:
    """Convert a text to a number. Return other text unchanged."""
    try:
        return int(value)
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        return value
    if number.is_integer():
        return int(number)
    return number if math.isfinite(number) else value


def time_if_any(value: object) -> datetime | None:
    """Return a time on the wire, ``None`` if the value is missing or not a time."""
    try:
        return time(value, "") if value else None
    except MalformedAnswerError:
        return None


def _public_and_private(value: object) -> tuple[list[str], list[str]]:
    """Return the public and the private addresses of a field of any form, each once."""
    try:
        # The form of the specification is read much faster.
        return _by_range(value.split(",") if isinstance(value, str) else _addresses(value))
    except (OSError, ValueError):
        return _by_range(_addresses(value))


def _by_range(addresses: Iterable[str]) -> tuple[list[str], list[str]]:
    public: list[str] = []
    private: list[str] = []
    for address in dict.fromkeys(addresses):
        (private if _is_private(address) else public).append(address)
    return public, private


def _addresses(value: object) -> Iterator[str]:
    """Yield the addresses of a field of any form."""
    if isinstance(value, str):
        yield from filter(_is_address, _SEPARATORS.split(value))
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _addresses(item)


def _is_address(text: str) -> bool:
    try:
        _is_private(text)
    except (OSError, ValueError):
        return False
    return True


def _is_private(address: str) -> bool:
    """
    Check whether an address is in a private range.

    :raises OSError: If the text is not an address.
    :raises ValueError: If the text is not an address.
    """
    if ":" in address:
        return _inet_pton(_AF_INET6, address)[0] & 0xFE == 0xFC
    octets = _inet_pton(_AF_INET, address)
    first = octets[0]
    return (
        first == 10
        or (first == 172 and octets[1] & 0xF0 == 16)
        or (first == 192 and octets[1] == 168)
    )
