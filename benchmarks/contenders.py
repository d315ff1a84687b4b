"""
The contenders that list a fleet: floors, this package's driver, and its peers.

A floor is the least possible work: urllib3 with a kept-alive connection, lxml or ``json``,
and plain loops that create the same ``Node`` objects as the driver. It does not sign, check
responses, or retry. It classifies addresses with libcloud's function, and its threads parse the
pages that they fetch. The *leaner* floors compare the text of addresses, cache numbers, and parse
all pages in one thread.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
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
NUMBERS = ("cpu", "memory", "volume")
#: The beginnings of private addresses.
PRIVATE = ("10.", "192.168.", *(f"172.{second}." for second in range(16, 32)))
cached_int = cache(int)


class Floor:
    """
    A floor of one format.

    :param leaner: Whether the least possible work is done, and in one thread.
    """

    def __init__(
        self, response_format: str, leaner: bool, url: str, page_size: int, concurrency: int
    ) -> None:
        self.url, self.concurrency, self.page_size = url, concurrency, page_size
        self.form = f"Action=DescribeInstances&Format={response_format}&Limit={page_size}"
        self.pool = urllib3.PoolManager(maxsize=concurrency)
        self.parse = floor_xml if response_format == "xml" else floor_json
        self.leaner = leaner
        self.convert = to_node
        if leaner:
            self.convert = leaner_xml_node if response_format == "xml" else leaner_json_node
        self.sizes: dict[str, NodeSize] = {}

    def __call__(self, ids: Iterable[str] = ()) -> list[Node]:
        which = "".join(f"&InstanceId.{n}={each}" for n, each in enumerate(ids, 1))
        nodes, total = self.read(self.fetch(0, which))
        offsets = range(len(nodes), total, self.page_size)
        if self.concurrency == 1 or not offsets:
            for offset in offsets:
                nodes += self.page(offset)
            return nodes
        with ThreadPoolExecutor(self.concurrency) as threads:
            if self.leaner:
                for body in threads.map(self.fetch, offsets):
                    nodes += self.read(body)[0]
            else:
                for more in threads.map(self.page, offsets):
                    nodes += more
        return nodes

    def fetch(self, offset: int, which: str = "") -> bytes:
        """Fetch the page at an offset."""
        body = f"{self.form}&Offset={offset}{which}"
        return self.pool.request("POST", self.url, body=body, headers=FORM).data

    def read(self, body: bytes) -> tuple[list[Node], int]:
        """Read a page: its nodes and the total."""
        rows, total = self.parse(body)
        return [self.convert(row, self.sizes) for row in rows], total

    def page(self, offset: int) -> list[Node]:
        """Fetch and read the page at an offset."""
        return self.read(self.fetch(offset))[0]


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


def to_node(row: dict[str, Any], sizes: dict[str, NodeSize]) -> Node:
    """Create a node from a row, as the driver does."""
    for name in NUMBERS:
        row[name] = int(row[name])
    return create_node(row, sizes, is_private_subnet)


def leaner_xml_node(row: dict[str, Any], sizes: dict[str, NodeSize]) -> Node:
    """Create a node from a row in XML, with the least possible work."""
    for name in NUMBERS:
        row[name] = cached_int(row[name])
    return create_node(row, sizes, has_private_text)


def leaner_json_node(row: dict[str, Any], sizes: dict[str, NodeSize]) -> Node:
    """Create a node from a row with numbers, with the least possible work."""
    return create_node(row, sizes, has_private_text)


def has_private_text(address: str) -> bool:
    """Check whether an address is private by its text, which may be anything."""
    return address.startswith(PRIVATE)


def create_node(
    row: dict[str, Any], sizes: dict[str, NodeSize], is_private: Callable[[str], bool]
) -> Node:
    """Create a node from a row with numbers."""
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
    "floor-json": Contender("floor, JSON", "mcs", partial(Floor, "json", False)),
    "floor-xml": Contender("floor, XML", "mcs", partial(Floor, "xml", False)),
    "leaner-json": Contender("leaner floor, JSON", "mcs", partial(Floor, "json", True)),
    "leaner-xml": Contender("leaner floor, XML", "mcs", partial(Floor, "xml", True)),
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
