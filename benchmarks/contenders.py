"""
The contenders that list a fleet: floors, this package's driver, and its peers.

A floor is the least possible work: urllib3 with a kept-alive connection, lxml or ``json``,
and plain loops that create the same ``Node`` objects as the driver. It does not sign, check
responses, or retry. It classifies addresses with libcloud's function; the *lower* floors use a
few comparisons.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3
from libcloud.common.base import ConnectionUserAndKey, XmlResponse
from libcloud.compute.base import Node, NodeDriver, NodeSize
from libcloud.compute.types import NodeState
from libcloud.utils.networking import is_private_subnet
from libcloud.utils.xml import findall, findtext
from lxml import etree

KEY, SECRET = "me", "mine"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

#: Lists a whole fleet, or the nodes with these IDs.
Lister = Callable[..., list[Any]]


@dataclass(frozen=True)
class Contender:
    """
    A program that can list a fleet.

    :ivar api: An API of ``endpoint.py``.
    :ivar make: Returns a lister for an endpoint's URL, a page size and a concurrency.
    """

    label: str
    api: str
    make: Callable[[str, int, int], Lister]


# Floors

STATES = {"running": NodeState.RUNNING, "starting": NodeState.STARTING}


def floor(
    form: str,
    parse: Callable[[bytes], tuple[list[dict[str, Any]], int]],
    is_private: Callable[[str], bool],
) -> Any:
    """Return the floor of one format. ``parse`` returns the rows of a page and their total."""

    def make(url: str, page_size: int, concurrency: int) -> Lister:
        pool = urllib3.PoolManager(maxsize=concurrency)
        sizes: dict[str, NodeSize] = {}

        def page(offset: int, which: str = "") -> tuple[list[Node], int]:
            body = f"Action=DescribeInstances&{form}&Limit={page_size}&Offset={offset}{which}"
            rows, total = parse(pool.request("POST", url, body=body, headers=FORM).data)
            return [to_node(row, sizes, is_private) for row in rows], total

        def lister(ids: Iterable[str] = ()) -> list[Node]:
            which = "".join(f"&InstanceId.{n}={each}" for n, each in enumerate(ids, 1))
            nodes, total = page(0, which)
            offsets = range(len(nodes), total, page_size)
            if concurrency == 1 or not offsets:
                for offset in offsets:
                    nodes += page(offset, which)[0]
                return nodes
            with ThreadPoolExecutor(concurrency) as threads:
                for more, _ in threads.map(page, offsets):
                    nodes += more
            return nodes

        return lister

    return make


def floor_xml(body: bytes) -> tuple[list[dict[str, Any]], int]:
    """Read a page in XML."""
    rows = []
    total = 0
    for element in etree.fromstring(body)[0]:
        if element.tag == "Instance":
            rows.append({child.tag: child.text for child in element})
        elif element.tag == "Total":
            total = int(element.text)
    return rows, total


def floor_json(body: bytes) -> tuple[list[dict[str, Any]], int]:
    """Read a page in JSON."""
    result = json.loads(body)["DescribeInstancesResponse"]["InstanceSet"]
    return result["Instance"], result["Total"]


def quickly_private(address: str) -> bool:
    """Return whether an address is private, with the least possible work."""
    first, second = socket.inet_aton(address)[:2]
    return first == 10 or (first == 172 and 16 <= second < 32) or (first == 192 and second == 168)


def to_node(
    row: dict[str, Any], sizes: dict[str, NodeSize], is_private: Callable[[str], bool]
) -> Node:
    """Create a node from a row, as the driver does."""
    for name in ("cpu", "memory", "volume"):
        row[name] = int(row[name])
    public: list[str] = []
    private: list[str] = []
    for address in row["ipAddresses"].split(","):
        (private if is_private(address) else public).append(address)
    size = sizes.get(row["instanceTypeId"])
    if size is None:
        size = sizes[row["instanceTypeId"]] = NodeSize(
            row["instanceTypeId"],
            row["instanceType"],
            row["memory"],
            None,
            None,
            None,
            None,
            {"cpu": row["cpu"]},
        )
    return Node(
        id=row["instanceId"],
        name=row["instanceName"],
        state=STATES.get(row["status"], NodeState.UNKNOWN),
        public_ips=public,
        private_ips=private,
        driver=None,
        size=size,
        extra=row,
    )


# This package


def ours(response_format: str) -> Any:
    """Return this package's contender for one format."""

    def make(url: str, page_size: int, concurrency: int) -> Lister:
        from libcloud_mcs import MCSNodeDriver

        driver = MCSNodeDriver(
            KEY,
            SECRET,
            url=url,
            response_format=response_format,
            page_size=page_size,
            concurrency=concurrency,
        )
        return lambda ids=None: driver.list_nodes(ex_node_ids=ids)

    return make


# Peers


class UsualResponse(XmlResponse):
    """The response class of a typical libcloud driver."""


class UsualConnection(ConnectionUserAndKey):
    """The connection class of a typical libcloud driver; it does not sign."""

    responseCls = UsualResponse  # noqa: N815 - libcloud's name


class UsualDriver(NodeDriver):
    """An MCS driver in the style of libcloud's drivers: one XPath query for each field."""

    name = "usual"
    connectionCls = UsualConnection  # noqa: N815 - libcloud's name

    def usual_list(self, page_size: int) -> list[Node]:
        """List all nodes."""
        nodes: list[Node] = []
        total = 1
        while len(nodes) < total:
            params = {
                "Action": "DescribeInstances",
                "Limit": str(page_size),
                "Offset": str(len(nodes)),
            }
            root = self.connection.request("/", params=params).object
            nodes += [self._to_node(each) for each in findall(root, "InstanceSet/Instance")]
            total = int(findtext(root, "InstanceSet/Total"))
        return nodes

    def _to_node(self, element: Any) -> Node:
        names = ("instanceId", "instanceName", "instanceType", "instanceTypeId", "status")
        extra: dict[str, Any] = {name: findtext(element, name) for name in names}
        for name in ("cpu", "memory", "volume"):
            extra[name] = int(findtext(element, name))
        extra["ipAddresses"] = findtext(element, "ipAddresses")
        public, private = [], []
        for address in extra["ipAddresses"].split(","):
            (private if is_private_subnet(address) else public).append(address)
        return Node(
            id=extra["instanceId"],
            name=extra["instanceName"],
            state=STATES.get(extra["status"], NodeState.UNKNOWN),
            public_ips=public,
            private_ips=private,
            driver=self,
            extra=extra,
        )


def usual(url: str, page_size: int, concurrency: int) -> Lister:
    """Return the typical libcloud driver."""
    parts = urlsplit(url)
    driver = UsualDriver(KEY, SECRET, secure=False, host=parts.hostname, port=parts.port)
    return lambda: driver.usual_list(page_size)


def ec2(url: str, page_size: int, concurrency: int) -> Lister:
    """Return libcloud's EC2 driver."""
    from libcloud.compute.drivers.ec2 import EC2NodeDriver

    parts = urlsplit(url)
    driver = EC2NodeDriver(KEY, SECRET, secure=False, host=parts.hostname, port=parts.port)
    return lambda ids=None: driver.list_nodes(ex_node_ids=ids)


def boto3(url: str, page_size: int, concurrency: int) -> Lister:
    """Return boto3's EC2 client."""
    import boto3

    client = boto3.client(
        "ec2",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )

    def instances(response: dict[str, Any]) -> list[Any]:
        return [each for group in response["Reservations"] for each in group["Instances"]]

    def lister(ids: list[str] | None = None) -> list[Any]:
        if ids is not None:
            return instances(client.describe_instances(InstanceIds=ids))
        pages = client.get_paginator("describe_instances").paginate(
            PaginationConfig={"PageSize": page_size}
        )
        return [instance for page in pages for instance in instances(page)]

    return lister


def cloudstack(url: str, page_size: int, concurrency: int) -> Lister:
    """Return libcloud's CloudStack driver."""
    from libcloud.compute.drivers.cloudstack import CloudStackNodeDriver

    return CloudStackNodeDriver(KEY, SECRET, secure=False, url=url).list_nodes


def nova(url: str, page_size: int, concurrency: int) -> Lister:
    """Return libcloud's OpenStack driver."""
    from libcloud.compute.drivers.openstack import OpenStack_2_NodeDriver

    driver = OpenStack_2_NodeDriver(
        KEY,
        SECRET,
        secure=False,
        ex_force_base_url=url.rstrip("/"),
        ex_force_auth_url=url,
        ex_force_auth_token="token",
        ex_tenant_name="project",
    )
    return driver.list_nodes


def ecs(url: str, page_size: int, concurrency: int) -> Lister:
    """Return libcloud's Aliyun driver."""
    from libcloud.compute.drivers.ecs import ECSDriver

    parts = urlsplit(url)
    driver = ECSDriver(
        KEY, SECRET, secure=False, host=parts.hostname, port=parts.port, region="cn-beijing"
    )
    return driver.list_nodes


CONTENDERS = {
    "floor-json": Contender(
        "floor, JSON", "mcs", floor("Format=json", floor_json, is_private_subnet)
    ),
    "floor-xml": Contender("floor, XML", "mcs", floor("Format=xml", floor_xml, is_private_subnet)),
    "lower-json": Contender(
        "lower floor, JSON", "mcs", floor("Format=json", floor_json, quickly_private)
    ),
    "lower-xml": Contender(
        "lower floor, XML", "mcs", floor("Format=xml", floor_xml, quickly_private)
    ),
    "ours-json": Contender("libcloud-mcs, JSON", "mcs", ours("json")),
    "ours-xml": Contender("libcloud-mcs, XML", "mcs", ours("xml")),
    "usual": Contender("an MCS driver the usual way", "mcs", usual),
    "cloudstack": Contender("libcloud CloudStack", "cloudstack", cloudstack),
    "nova": Contender("libcloud OpenStack (Nova)", "nova", nova),
    "ecs": Contender("libcloud Aliyun ECS", "ecs", ecs),
    "ec2": Contender("libcloud EC2, same fields", "ec2", ec2),
    "boto3": Contender("boto3 EC2, same fields", "ec2", boto3),
    "ec2-real": Contender("libcloud EC2, real answers", "ec2-real", ec2),
    "boto3-real": Contender("boto3 EC2, real answers", "ec2-real", boto3),
}

# A proxy cannot reach an endpoint on this machine.
os.environ["NO_PROXY"] = "127.0.0.1"
