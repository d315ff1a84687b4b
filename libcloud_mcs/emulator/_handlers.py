"""One function for each action: parameters and account state to the content of the response."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from libcloud_mcs.actions import ACTIONS, Action
from libcloud_mcs.emulator._account import AccountState
from libcloud_mcs.emulator._catalog import Extras, InstanceType, Zone
from libcloud_mcs.emulator._checks import PROSE, XML_NAME
from libcloud_mcs.emulator._clock import utc_text
from libcloud_mcs.emulator._errors import APIError, ErrorCode
from libcloud_mcs.emulator._instances import Instance, KeyPair, Order
from libcloud_mcs.emulator._params import Params
from libcloud_mcs.emulator._wire import Rows

__all__ = ["HANDLERS", "Handler", "Listing", "create_instance", "page"]

Tree = dict[str, Any]

_MAX_NAME = 128


class Listing(NamedTuple):
    """
    The whole result of an action that answers in pages.

    :ivar items: The objects.
    :ivar to_rows: Returns the rows of some of them.
    """

    items: Sequence[Any]
    to_rows: Callable[[Sequence[Any]], list[Tree] | Rows]


def page(
    listing: Listing,
    action: Action,
    params: Params,
    *,
    default_limit: int | None,
    max_limit: int | None,
    always_counted: bool,
) -> Tree:
    """
    Return one page of a list.

    :param params: The parameters of the request, with ``Limit`` and ``Offset``.
    :param default_limit: The length of a page without ``Limit``; ``None``: the whole list.
    :param max_limit: The greatest length of a page, whatever ``Limit`` is; ``None``: any.
    :param always_counted: Whether the page has ``Total``, ``Limit`` and ``Offset`` also if it is
        the whole list and the request has neither ``Limit`` nor ``Offset``.
    """
    asked, start = params.count("Limit"), params.count("Offset")
    limit, offset = default_limit if asked is None else asked, start or 0
    if max_limit is not None:
        limit = max_limit if limit is None else min(limit, max_limit)
    items = listing.items[offset:] if limit is None else listing.items[offset : offset + limit]
    content: Tree = {}
    if items or always_counted:
        content[action.item_key] = listing.to_rows(items)
    is_asked = asked is not None or start is not None
    if always_counted or is_asked or len(items) < len(listing.items):
        content["Total"] = len(listing.items)
        content["Limit"] = len(items)  # "the number of instances that are in fact returned"
        content["Offset"] = offset
    return {action.result_keys[0]: content or ""}


def describe_templates(account: AccountState, _: Params) -> Tree:
    now, rows = account.clock.now(), []
    for template in account.templates():
        row = {
            "templateId": template.template_id,
            "templateName": template.name,
            "size": template.size,
            "checksum": template.checksum,
            "status": template.status_at(now),
        }
        if account.edition.has_public_templates:
            row["is_public"] = template.is_public
        rows.append(row)
    return {"TemplateSet": {"Template": rows}}


def describe_instance_types(account: AccountState, params: Params) -> Listing:
    names = params.filters(ACTIONS["DescribeInstanceTypes"]).get("name")
    types = [each for each in account.edition.catalog.types if names is None or each.name in names]
    return Listing(types, lambda items: [_type_row(each) for each in items])


def get_balance(account: AccountState, _: Params) -> Tree:
    tree: Tree = {"balance": account.balance}
    if account.balance_at is not None:
        tree["timestamp"] = utc_text(account.balance_at)
    return tree


def describe_key_pairs(account: AccountState, params: Params) -> Listing:
    names = params.filters(ACTIONS["DescribeKeyPairs"]).get("name")
    pairs = [each for each in account.key_pairs() if names is None or each.name in names]
    return Listing(pairs, lambda items: [_key_pair_row(each) for each in items])


def import_key_pair(account: AccountState, params: Params) -> Tree:
    name = _name(params.required("KeyName"), "KeyName")
    key_pair = account.import_key_pair(name, params.required("PublicKeyMaterial"))
    return {"KeyPair": _key_pair_row(key_pair)}


def delete_key_pair(account: AccountState, params: Params) -> Tree:
    account.delete_key_pair(params.required("KeyName"))
    return _done()


def describe_instances(account: AccountState, params: Params) -> Listing:
    ids, names = params.several("InstanceId"), params.several("InstanceName")
    filters = params.filters(ACTIONS["DescribeInstances"])
    now = account.clock.now()
    zone = params.optional("AvailabilityZoneId")
    found = account.find(ids, names) if ids or names else account.instances()
    if zone is not None:
        found = [each for each in found if each.zone == zone]
    if "name" in filters:
        found = [each for each in found if each.name in filters["name"]]
    if "status" in filters:
        found = [each for each in found if each.status(now) in filters["status"]]
    return Listing(found, lambda items: Rows(items, now, _instance_row, Instance.status_period))


def describe_instance_status(account: AccountState, params: Params) -> Tree:
    _, status = account.instance(params.required("InstanceId"))
    return {"InstanceStatus": {"status": status}}


def describe_instance_volumes(account: AccountState, params: Params) -> Tree:
    instance, _ = account.instance(params.required("InstanceId"))
    rows = [
        {
            "instanceId": instance.instance_id,
            "instanceName": instance.name,
            "volumeId": volume.volume_id,
            "volumeName": volume.name,
            "volumeSize": volume.size,
            "cacheMode": "none",
            "driver": "virtio",
            "index": volume.index,
        }
        for volume in instance.volumes()
    ]
    return {"InstanceVolumeSet": {"InstanceVolume": rows}}


def describe_instance_network_interfaces(account: AccountState, params: Params) -> Tree:
    instance, status = account.instance(params.required("InstanceId"))
    networks = (
        ("40480c6f-2c7e-4ba8-b040-92a64a948c90", "public", instance.external_bandwidth),
        ("7a1c9f0e-3b52-4d0c-9d5b-0e6a2f4c8b11", "private", instance.type.internal_bandwidth),
    )
    addresses = instance.addresses(status) or ("", "")
    rows = [
        {
            "instanceId": instance.instance_id,
            "instanceName": instance.name,
            "networkId": network_id,
            "networkName": network_name,
            "ipAddress": addresses[index],
            "macAddress": instance.mac_address(index),
            "bandwidth": bandwidth,
            "driver": "virtio",
            "index": index,
        }
        for index, (network_id, network_name, bandwidth) in enumerate(networks)
    ]
    return {"InstanceNetworkInterfaceSet": {"InstanceNetworkInterface": rows}}


def get_password_data(account: AccountState, params: Params) -> Tree:
    instance, password = account.password_data(params.required("InstanceId"))
    tree: Tree = {
        "timestamp": utc_text(instance.password_at),
        "account": instance.template.account,
        "passwordData": password,
    }
    if instance.key_pair is not None:
        tree["keypairId"] = instance.key_pair.key_id
        tree["keypairName"] = instance.key_pair.name
    return tree


def get_instance_contract_info(account: AccountState, params: Params) -> Tree:
    instance, _ = account.instance(params.required("InstanceId"))
    return {
        "startedAt": utc_text(instance.started_at),
        "expireAt": utc_text(instance.expire_at),
        "extendTo": utc_text(instance.extend_to),
    }


def start_instance(account: AccountState, params: Params) -> Tree:
    account.start(params.required("InstanceId"))
    return _done()


def stop_instance(account: AccountState, params: Params) -> Tree:
    account.stop(params.required("InstanceId"), force=params.flag("Force"))
    return _done()


def reboot_instance(account: AccountState, params: Params) -> Tree:
    account.reboot(params.required("InstanceId"))
    return _done()


def rebuild_instance_root_image(account: AccountState, params: Params) -> Tree:
    name, image = params.required("InstanceId"), params.optional("ImageId")
    account.rebuild(name, None if image is None else account.template(image))
    return _done()


def create_instance(account: AccountState, params: Params, *, boots: bool = True) -> Tree:
    catalog = account.edition.catalog
    template = account.template(params.required("ImageId"))
    instance_type = catalog.instance_type(params.required("InstanceType"))
    lease = params.lease()
    name, key = params.optional("InstanceName"), params.optional("KeyName")
    zone, group = params.optional("AvailabilityZoneId"), params.optional("GroupId")
    order = Order(
        template=template,
        type=instance_type,
        lease=lease,
        name=None if name is None else _name(name, "InstanceName"),
        key_pair=None if key is None else account.key_pair(key),
        zone=catalog.zone_for(zone),
        group=None if group is None else _name(group, "GroupId"),
        extras=Extras(
            disk=params.count("ExtraExtDisksize") or 0,
            bandwidth=params.count("ExtraExtBandwidth") or 0,
        ),
    )
    instance = account.create(order, boots=boots)
    row = _instance_row(instance, account.clock.now())
    if not account.edition.has_volume_when_created:
        del row["volume"]
    return {"Instance": row}


def terminate_instance(account: AccountState, params: Params) -> Tree:
    account.terminate(params.required("InstanceId"))
    return _done()


def renew_instance(account: AccountState, params: Params) -> Tree:
    account.renew(params.required("InstanceId"), params.lease())
    return _done()


def change_instance_type(account: AccountState, params: Params) -> Tree:
    name = params.required("InstanceId")
    instance = account.change_type(
        name,
        account.edition.catalog.instance_type(params.required("InstanceType")),
        params.lease(),
        disk=params.count("ExtraExtDisksize"),
        bandwidth=params.count("ExtraExtBandwidth"),
    )
    if account.edition.returns_changed_instance:
        return {"Instance": _instance_row(instance, account.clock.now())}
    return _done()


def get_instance_metadata(account: AccountState, params: Params) -> Tree:
    return {"InstanceMetadata": account.metadata(params.required("InstanceId"))}


def put_instance_metadata(account: AccountState, params: Params) -> Tree:
    name = params.required("InstanceId")
    entries = params.pairs("Name", "Value")
    for key, value in entries.items():
        # Names become elements of an XML document, values their text.
        try:
            XML_NAME.take(key)
            PROSE.take(value)
        except ValueError:
            raise APIError(
                ErrorCode.UNUSABLE,
                f"Name.n, Value.n: expected the name and the text of an XML element, got {key!r}"
                " and its value",
            ) from None
    account.set_metadata(name, entries)
    return _done()


def describe_availability_zones(account: AccountState, params: Params) -> Listing:
    filters = params.filters(ACTIONS["DescribeAvailabilityZones"])
    found = account.edition.catalog.zones
    if "name" in filters:
        found = tuple(each for each in found if each.name in filters["name"])
    if "status" in filters:
        found = tuple(each for each in found if each.status in filters["status"])
    return Listing(found, lambda items: [_zone_row(each) for each in items])


def create_template(account: AccountState, params: Params) -> Tree:
    # Notes is accepted: no response has a field for it.
    instance_name, name = params.required("InstanceId"), params.required("Name")
    account.save_template(instance_name, _name(name, "Name"))
    return _done()


def delete_template(account: AccountState, params: Params) -> Tree:
    account.delete_template(params.required("TemplateId"))
    return _done()


Handler = Callable[[AccountState, Params], "Tree | Listing"]

#: The handler of each action of the table.
HANDLERS: dict[str, Handler] = {
    "DescribeTemplates": describe_templates,
    "DescribeInstanceTypes": describe_instance_types,
    "GetBalance": get_balance,
    "DescribeKeyPairs": describe_key_pairs,
    "ImportKeyPair": import_key_pair,
    "DeleteKeyPair": delete_key_pair,
    "DescribeInstances": describe_instances,
    "DescribeInstanceStatus": describe_instance_status,
    "DescribeInstanceVolumes": describe_instance_volumes,
    "DescribeInstanceNetworkInterfaces": describe_instance_network_interfaces,
    "GetPasswordData": get_password_data,
    "GetInstanceContractInfo": get_instance_contract_info,
    "StartInstance": start_instance,
    "StopInstance": stop_instance,
    "RebootInstance": reboot_instance,
    "RebuildInstanceRootImage": rebuild_instance_root_image,
    "CreateInstance": create_instance,
    "TerminateInstance": terminate_instance,
    "RenewInstance": renew_instance,
    "ChangeInstanceType": change_instance_type,
    "GetInstanceMetadata": get_instance_metadata,
    "PutInstanceMetadata": put_instance_metadata,
    "DescribeAvailabilityZones": describe_availability_zones,
    "CreateTemplate": create_template,
    "DeleteTemplate": delete_template,
}


def _zone_row(zone: Zone) -> Tree:
    return {
        "availabilityZoneId": zone.zone_id,
        "availabilityZoneName": zone.name,
        "availabilityZoneName_CN": zone.chinese_name,
        "Status": zone.status,
    }


def _type_row(instance_type: InstanceType) -> Tree:
    return {
        "instanceTypeId": instance_type.type_id,
        "instanceType": instance_type.name,
        "cpu": instance_type.cpu,
        "memory": instance_type.memory,
        "volume": instance_type.volume,
        "internalBandwidth": instance_type.internal_bandwidth,
        "externalBandwidth": instance_type.external_bandwidth,
    }


def _key_pair_row(key_pair: KeyPair) -> Tree:
    return {
        "keyId": key_pair.key_id,
        "keyName": key_pair.name,
        "keyFingerprint": key_pair.fingerprint,
    }


def _instance_row(instance: Instance, now: datetime) -> Tree:
    status = instance.status(now)
    row = {
        "instanceId": instance.instance_id,
        "instanceName": instance.name,
        "instanceType": instance.type.name,
        "instanceTypeId": instance.type.type_id,
        "status": status,
        "cpu": instance.type.cpu,
        "memory": instance.type.memory,
        "volume": sum(volume.size for volume in instance.volumes()),
        "ipAddresses": ",".join(instance.addresses(status)),
    }
    if instance.zone is not None:
        row["availabilityZoneId"] = instance.zone
    if instance.group is not None:
        row["secGroupId"] = instance.group
    return row


def _done() -> Tree:
    return {"return": "True"}


def _name(value: str, parameter: str) -> str:
    if len(value) > _MAX_NAME or any(unicodedata.category(c)[0] == "C" for c in value):
        raise APIError(
            ErrorCode.UNUSABLE,
            f"{parameter}: expected at most {_MAX_NAME} printable characters, got"
            f" {value[:_MAX_NAME]!r}",
        )
    return value
