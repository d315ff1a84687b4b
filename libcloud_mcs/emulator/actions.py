"""The 22 actions: each reads its parameters, has the cloud do it, and gives the answer's tree."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lxml import etree

from libcloud_mcs.actions import ACTIONS, Action
from libcloud_mcs.emulator._catalog import TEMPLATES, TYPES, InstanceType
from libcloud_mcs.emulator._errors import Refusal, RefusedError
from libcloud_mcs.emulator._params import Params
from libcloud_mcs.emulator.cloud import Cloud, Instance, KeyPair
from libcloud_mcs.emulator.wire import Part

__all__ = ["HANDLERS", "Paging"]

Tree = dict[str, Any]

_LONGEST_NAME = 128


@dataclass(frozen=True)
class Paging:
    """What ``Limit`` means: how many rows when it is left out, how many at most."""

    default_limit: int | None = None
    max_limit: int | None = None


def describe_templates(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    rows = [
        {
            "templateId": template.template_id,
            "templateName": template.name,
            "size": template.size,
            "checksum": template.checksum,
            "status": template.status,
        }
        for template in TEMPLATES
    ]
    return {"TemplateSet": {"Template": rows}}


def describe_instance_types(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    names = params.filters(ACTIONS["DescribeInstanceTypes"]).get("name")
    types = [each for each in TYPES if names is None or each.name in names]
    return _page("DescribeInstanceTypes", types, _type_row, params, paging)


def get_balance(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    tree: Tree = {"balance": cloud.balance}
    if cloud.balance_at is not None:
        tree["timestamp"] = _time(cloud.balance_at)
    return tree


def describe_key_pairs(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    names = params.filters(ACTIONS["DescribeKeyPairs"]).get("name")
    pairs = [each for each in cloud.key_pairs() if names is None or each.name in names]
    return _page("DescribeKeyPairs", pairs, _key_pair_row, params, paging)


def import_key_pair(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    name = _name(params.required("KeyName"), "KeyName")
    key_pair = cloud.import_key_pair(name, params.required("PublicKeyMaterial"))
    return {"KeyPair": _key_pair_row(key_pair)}


def delete_key_pair(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    cloud.delete_key_pair(params.required("KeyName"))
    return _done()


def describe_instances(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    ids, names = params.several("InstanceId"), params.several("InstanceName")
    filters = params.filters(ACTIONS["DescribeInstances"])
    now = cloud.clock.now()
    found = cloud.find(ids, names) if ids or names else cloud.instances()
    if "name" in filters:
        found = [each for each in found if each.name in filters["name"]]
    if "status" in filters:
        found = [each for each in found if each.status(now) in filters["status"]]
    return _page(
        "DescribeInstances",
        found,
        lambda each: _instance_row(each, each.status(now)),
        params,
        paging,
    )


def describe_instance_status(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    _, status = cloud.instance(params.required("InstanceId"))
    return {"InstanceStatus": {"status": status}}


def describe_instance_volumes(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    instance, _ = cloud.instance(params.required("InstanceId"))
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


def describe_instance_network_interfaces(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    instance, _ = cloud.instance(params.required("InstanceId"))
    networks = (
        ("40480c6f-2c7e-4ba8-b040-92a64a948c90", "public", instance.public_ip),
        ("7a1c9f0e-3b52-4d0c-9d5b-0e6a2f4c8b11", "private", instance.private_ip),
    )
    bandwidths = (instance.type.external_bandwidth, instance.type.internal_bandwidth)
    rows = [
        {
            "instanceId": instance.instance_id,
            "instanceName": instance.name,
            "networkId": network_id,
            "networkName": network_name,
            "ipAddress": address,
            "macAddress": instance.mac_address(index),
            "bandwidth": bandwidths[index],
            "driver": "virtio",
            "index": index,
        }
        for index, (network_id, network_name, address) in enumerate(networks)
    ]
    return {"InstanceNetworkInterfaceSet": {"InstanceNetworkInterface": rows}}


def get_password_data(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    instance, password = cloud.password_data(params.required("InstanceId"))
    tree: Tree = {
        "timestamp": _time(instance.password_at),
        "account": instance.template.account,
        "passwordData": password,
    }
    if instance.key_pair is not None:
        tree["keypairId"] = instance.key_pair.key_id
        tree["keypairName"] = instance.key_pair.name
    return tree


def get_instance_contract_info(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    instance, _ = cloud.instance(params.required("InstanceId"))
    return {
        "startedAt": _time(instance.started_at),
        "expireAt": _time(instance.expire_at),
        "extendTo": _time(instance.extend_to),
    }


def start_instance(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    cloud.start(params.required("InstanceId"))
    return _done()


def stop_instance(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    cloud.stop(params.required("InstanceId"), force=params.flag("Force"))
    return _done()


def reboot_instance(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    cloud.reboot(params.required("InstanceId"))
    return _done()


def rebuild_instance_root_image(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    name, image = params.required("InstanceId"), params.optional("ImageId")
    cloud.rebuild(name, None if image is None else cloud.template(image))
    return _done()


def create_instance(cloud: Cloud, params: Params, paging: Paging, *, boots: bool = True) -> Tree:
    template = cloud.template(params.required("ImageId"))
    instance_type = cloud.instance_type(params.required("InstanceType"))
    lease = params.lease()
    name, key = params.optional("InstanceName"), params.optional("KeyName")
    instance = cloud.create(
        template,
        instance_type,
        lease,
        None if name is None else _name(name, "InstanceName"),
        None if key is None else cloud.key_pair(key),
        boots=boots,
    )
    return {"Instance": _instance_row(instance, instance.status(cloud.clock.now()))}


def terminate_instance(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    cloud.terminate(params.required("InstanceId"))
    return _done()


def renew_instance(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    cloud.renew(params.required("InstanceId"), params.lease())
    return _done()


def change_instance_type(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    name = params.required("InstanceId")
    instance_type = cloud.instance_type(params.required("InstanceType"))
    cloud.change_type(name, instance_type, params.lease())
    return _done()


def get_instance_metadata(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    return {"InstanceMetadata": cloud.metadata(params.required("InstanceId"))}


def put_instance_metadata(cloud: Cloud, params: Params, paging: Paging) -> Tree:
    name = params.required("InstanceId")
    entries = params.pairs("Name", "Value")
    for key, value in entries.items():
        # The names become elements of an XML document, the values their text.
        try:
            etree.Element(key).text = value
        except ValueError:
            raise RefusedError(
                Refusal.UNUSABLE,
                f"Name.n, Value.n: {key!r} cannot be an XML element's name, or"
                " its value not an element's text",
            ) from None
    cloud.set_metadata(name, entries)
    return _done()


Handler = Callable[[Cloud, Params, Paging], Tree]

#: What carries out each action of the table; a missing one is an error right here.
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
}


def _page(
    action: str, rows: Sequence[Any], to_row: Callable[[Any], Tree], params: Params, paging: Paging
) -> Tree:
    entry: Action = ACTIONS[action]
    limit, offset = params.count("Limit"), params.count("Offset") or 0
    if limit is None:
        limit = paging.default_limit
    if paging.max_limit is not None:
        limit = paging.max_limit if limit is None else min(limit, paging.max_limit)
    page = rows[offset:] if limit is None else rows[offset : offset + limit]
    return {
        entry.result_key: {
            entry.item_key: [to_row(row) for row in page],
            "Total": len(rows),
            "Limit": len(page),  # "the number of instances that are in fact returned"
            "Offset": offset,
        }
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


def _instance_row(instance: Instance, status: str) -> Tree:
    row: Tree | None = instance.told.get(status)
    if row is None:
        row = Part(
            {
                "instanceId": instance.instance_id,
                "instanceName": instance.name,
                "instanceType": instance.type.name,
                "instanceTypeId": instance.type.type_id,
                "status": status,
                "cpu": instance.type.cpu,
                "memory": instance.type.memory,
                "volume": instance.type.volume,
                "ipAddresses": f"{instance.public_ip},{instance.private_ip}",
            }
        )
        instance.told.clear()
        instance.told[status] = row
    return row


def _done() -> Tree:
    return {"return": "True"}


def _name(value: str, parameter: str) -> str:
    if len(value) > _LONGEST_NAME or any(unicodedata.category(c)[0] == "C" for c in value):
        raise RefusedError(
            Refusal.UNUSABLE,
            f"{parameter}: {_LONGEST_NAME} characters at most and none that cannot be seen were"
            f" expected, not {value[:_LONGEST_NAME]!r}",
        )
    return value


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
