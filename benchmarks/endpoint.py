"""
A server of prepared responses: a fleet of instances in the format of one cloud's API.

    python benchmarks/endpoint.py mcs --nodes 10000 --cap 1000 --delay 0.05

Its first line of output is its URL. ``GET /count`` returns the numbers of requests and of bytes of
responses since the last count. Every API has the same fleet with the same fields; only ``ec2-real``
has all fields that EC2 has for an instance.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from functools import cache
from urllib.parse import parse_qs, urlsplit

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.netutil import bind_sockets

Params = dict[str, str]
Responder = Callable[[Params], bytes]

TYPE_ID = "3f0a7d5c-6a51-4a0e-8c2f-9d1f0b7d9e10"
CREATED = "2026-01-02T03:04:05.000Z"
HEADER = b'<?xml version="1.0" encoding="utf-8"?>\n'


def instance_id(number: int) -> str:
    """Return the ID of an instance of the fleet."""
    return f"d70c6fe6-4340-43bb-a983-{number:012d}"


def addresses(number: int) -> tuple[str, str]:
    """Return the public and the private address of an instance of the fleet."""
    high, low = divmod(number, 256)
    return f"198.{18 + high // 256}.{high % 256}.{low}", f"10.{high // 256}.{high % 256}.{low}"


class MCS:
    """
    ``DescribeInstances`` in pages.

    One instance may be starting: it runs after a number of polls.
    """

    def __init__(self, nodes: int, cap: int, polls: int) -> None:
        self.nodes, self.cap, self.polls = nodes, cap, polls
        self.starting = nodes // 2
        self._page = cache(self._make_page)

    def __call__(self, params: Params) -> bytes:
        as_json = params.get("Format") == "json"
        wanted = params.get("InstanceId.1")
        if wanted:
            start = int(wanted[-12:])
            page, total = range(start, start + 1), 1
        else:
            start = int(params.get("Offset", "0"))
            limit = min(self.cap, int(params.get("Limit", "0")) or self.cap)
            page, total = range(start, min(start + limit, self.nodes)), self.nodes
        starting = self.polls > 0 and self.starting in page
        if starting:
            self.polls -= 1
        return self._page(page, total, as_json, starting)

    def _make_page(self, page: range, total: int, as_json: bool, starting: bool) -> bytes:
        rows = [self._fields(n, starting and n == self.starting) for n in page]
        paging: dict[str, object] = {"Total": total, "Limit": len(rows), "Offset": page.start}
        if as_json:
            return json.dumps(
                {"DescribeInstancesResponse": {"InstanceSet": {"Instance": rows, **paging}}}
            ).encode()
        text = "".join(f"<Instance>{_elements(row)}</Instance>" for row in rows)
        return (
            HEADER
            + (
                f"<DescribeInstancesResponse><InstanceSet>{text}{_elements(paging)}</InstanceSet>"
                "</DescribeInstancesResponse>"
            ).encode()
        )

    def _fields(self, number: int, starting: bool) -> dict[str, object]:
        return {
            "instanceId": instance_id(number),
            "instanceName": f"web-{number}",
            "instanceType": "small",
            "instanceTypeId": TYPE_ID,
            "status": "starting" if starting else "running",
            "cpu": 1,
            "memory": 1024,
            "volume": 30720,
            "ipAddresses": ",".join(addresses(number)),
        }


def _elements(row: dict[str, object]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in row.items())


class EC2:
    """``DescribeInstances``, in pages on request, and no elastic addresses."""

    def __init__(self, nodes: int, cap: int, real: bool) -> None:
        self.nodes, self.cap, self.real = nodes, cap, real
        self._page = cache(self._make_page)

    def __call__(self, params: Params) -> bytes:
        if params["Action"] == "DescribeAddresses":
            return self._document("DescribeAddresses", "<addressesSet/>")
        if wanted := params.get("InstanceId.1"):
            start = int(wanted[-12:], 16)
            return self._page(start, start + 1, False)
        start = int(params.get("NextToken", "0"))
        # Without MaxResults there are no pages: all instances in one response.
        limit = min(self.cap, int(params["MaxResults"])) if "MaxResults" in params else self.nodes
        end = min(start + limit, self.nodes)
        return self._page(start, end, end < self.nodes)

    def _make_page(self, start: int, end: int, more: bool) -> bytes:
        rows = "".join(self._reservation(n) for n in range(start, end))
        token = f"<nextToken>{end}</nextToken>" if more else ""
        return self._document(
            "DescribeInstances", f"<reservationSet>{rows}</reservationSet>{token}"
        )

    def _document(self, action: str, content: str) -> bytes:
        namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"
        return (
            HEADER
            + (
                f'<{action}Response xmlns="{namespace}"><requestId>8f7724cf</requestId>{content}'
                f"</{action}Response>"
            ).encode()
        )

    def _reservation(self, number: int) -> str:
        public, private = addresses(number)
        fields = (
            f"<instanceId>i-{number:017x}</instanceId><instanceType>t3.micro</instanceType>"
            "<instanceState><code>16</code><name>running</name></instanceState>"
            "<cpuOptions><coreCount>1</coreCount><threadsPerCore>1</threadsPerCore></cpuOptions>"
            f"<ipAddress>{public}</ipAddress><privateIpAddress>{private}</privateIpAddress>"
            f"<tagSet><item><key>Name</key><value>web-{number}</value></item></tagSet>"
        )
        if self.real:
            fields += self._rest(number, private)
        return (
            f"<item><reservationId>r-{number:017x}</reservationId><ownerId>123456789012</ownerId>"
            f"<groupSet/><instancesSet><item>{fields}</item></instancesSet></item>"
        )

    def _rest(self, number: int, private: str) -> str:
        """Return the other fields of an instance in a VPC: a disk, an interface, a group."""
        names = f"ip-{private.replace('.', '-')}"
        group = (
            "<groupSet><item><groupId>sg-0a1b2c3d4e5f60718</groupId>"
            "<groupName>default</groupName></item></groupSet>"
        )
        network = (
            "<subnetId>subnet-0a1b2c3d4e5f60718</subnetId><vpcId>vpc-0a1b2c3d4e5f60718</vpcId>"
        )
        association = (
            f"<association><publicIp>{addresses(number)[0]}</publicIp>"
            f"<publicDnsName>{names}.example</publicDnsName><ipOwnerId>amazon</ipOwnerId>"
            "</association>"
        )
        attached = f"<status>attached</status><attachTime>{CREATED}</attachTime>"
        simple = {
            "imageId": "ami-0a1b2c3d4e5f60718",
            "privateDnsName": f"{names}.ec2.internal",
            "dnsName": f"{names}.example",
            "reason": "",
            "keyName": "mykey",
            "amiLaunchIndex": 0,
            "launchTime": CREATED,
            "architecture": "x86_64",
            "rootDeviceType": "ebs",
            "rootDeviceName": "/dev/xvda",
            "virtualizationType": "hvm",
            "clientToken": f"token-{number}",
            "hypervisor": "xen",
            "ebsOptimized": "false",
            "enaSupport": "true",
            "sourceDestCheck": "true",
            "usageOperation": "RunInstances",
            "bootMode": "uefi",
        }
        return (
            f"{_elements(simple)}{network}{group}<productCodes/>"
            "<placement><availabilityZone>us-east-1a</availabilityZone><groupName/>"
            "<tenancy>default</tenancy></placement><monitoring><state>disabled</state></monitoring>"
            "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs>"
            f"<volumeId>vol-{number:017x}</volumeId>{attached}"
            "<deleteOnTermination>true</deleteOnTermination></ebs></item></blockDeviceMapping>"
            "<networkInterfaceSet><item>"
            f"<networkInterfaceId>eni-{number:017x}</networkInterfaceId>{network}<description/>"
            "<ownerId>123456789012</ownerId><status>in-use</status>"
            f"<macAddress>02:00:00:00:00:01</macAddress><privateIpAddress>{private}"
            f"</privateIpAddress><sourceDestCheck>true</sourceDestCheck>{group}<attachment>"
            f"<attachmentId>eni-attach-{number:017x}</attachmentId><deviceIndex>0</deviceIndex>"
            f"{attached}<deleteOnTermination>true</deleteOnTermination></attachment>{association}"
            f"<privateIpAddressesSet><item><privateIpAddress>{private}</privateIpAddress>"
            f"<primary>true</primary>{association}</item></privateIpAddressesSet>"
            "</item></networkInterfaceSet>"
            "<metadataOptions><state>applied</state><httpTokens>required</httpTokens>"
            "<httpEndpoint>enabled</httpEndpoint></metadataOptions>"
            "<enclaveOptions><enabled>false</enabled></enclaveOptions>"
            "<hibernationOptions><configured>false</configured></hibernationOptions>"
        )


class ECS:
    """Aliyun's ``DescribeInstances``, in numbered pages."""

    def __init__(self, nodes: int, cap: int) -> None:
        self.nodes, self.cap = nodes, cap
        self._page = cache(self._make_page)

    def __call__(self, params: Params) -> bytes:
        return self._page(int(params.get("PageNumber", "1")))

    def _make_page(self, page: int) -> bytes:
        start = (page - 1) * self.cap
        rows = "".join(self._instance(n) for n in range(start, min(start + self.cap, self.nodes)))
        paging = {"TotalCount": self.nodes, "PageNumber": page, "PageSize": self.cap}
        return (
            HEADER
            + (
                f"<DescribeInstancesResponse><RequestId>8f7724cf</RequestId>{_elements(paging)}"
                f"<Instances>{rows}</Instances></DescribeInstancesResponse>"
            ).encode()
        )

    def _instance(self, number: int) -> str:
        public, private = addresses(number)
        simple = {
            "InstanceId": f"i-{number:017x}",
            "InstanceName": f"web-{number}",
            "InstanceType": "ecs.t5",
            "Status": "Running",
            "Cpu": 1,
            "Memory": 1024,
        }
        return (
            f"<Instance>{_elements(simple)}"
            f"<PublicIpAddress><IpAddress>{public}</IpAddress></PublicIpAddress>"
            f"<InnerIpAddress><IpAddress>{private}</IpAddress></InnerIpAddress>"
            "<VpcAttributes/><EipAddress/><OperationLocks/></Instance>"
        )


class CloudStack:
    """``listVirtualMachines`` as the libcloud driver requests it: all in one response."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self._all = cache(self._make_all)

    def __call__(self, params: Params) -> bytes:
        if params["command"] == "listVirtualMachines":
            return self._all()
        return json.dumps({f"{params['command'].lower()}response": {}}).encode()

    def _make_all(self) -> bytes:
        machines = [self._machine(n) for n in range(self.nodes)]
        content = {"count": self.nodes, "virtualmachine": machines}
        return json.dumps({"listvirtualmachinesresponse": content}).encode()

    def _machine(self, number: int) -> dict[str, object]:
        return {
            "id": instance_id(number),
            "name": f"web-{number}",
            "serviceofferingid": TYPE_ID,
            "serviceofferingname": "small",
            "state": "Running",
            "cpunumber": 1,
            "memory": 1024,
            "nic": [{"ipaddress": address} for address in addresses(number)],
        }


class Nova:
    """OpenStack's ``/servers/detail``, in pages that link the next one."""

    def __init__(self, nodes: int, cap: int) -> None:
        self.nodes, self.cap = nodes, cap
        self._page = cache(self._make_page)

    def __call__(self, params: Params) -> bytes:
        return self._page(int(params.get("marker", "0")))

    def _make_page(self, start: int) -> bytes:
        end = min(start + self.cap, self.nodes)
        page: dict[str, object] = {"servers": [self._server(n) for n in range(start, end)]}
        if end < self.nodes:
            link = f"http://localhost/servers/detail?marker={end}"
            page["servers_links"] = [{"rel": "next", "href": link}]
        return json.dumps(page).encode()

    def _server(self, number: int) -> dict[str, object]:
        public, private = addresses(number)
        link = f"http://localhost/servers/{instance_id(number)}"
        return {
            "id": instance_id(number),
            "name": f"web-{number}",
            "status": "ACTIVE",
            "flavor": {"id": TYPE_ID, "vcpus": 1, "ram": 1024, "disk": 30},
            "addresses": {"net": [{"addr": public}, {"addr": private}]},
            "created": "2026-01-02T03:04:05Z",
            "updated": "2026-01-02T03:04:05Z",
            "hostId": "h",
            "tenant_id": "t",
            "links": [{"rel": "self", "href": link}],
            "metadata": {},
        }


async def serve(responder: Responder, delay: float) -> None:
    """Answer every request, and count them."""
    counted = {"requests": 0, "bytes": 0}

    def respond(request: HTTPServerRequest) -> None:
        parts = urlsplit(request.uri or "/")
        if parts.path == "/count":
            send(request, json.dumps(counted).encode())
            counted.update(requests=0, bytes=0)
            return
        form = f"{parts.query}&{request.body.decode()}"
        body = responder({name: values[0] for name, values in parse_qs(form).items()})
        counted["requests"] += 1
        counted["bytes"] += len(body)
        if delay:
            asyncio.get_running_loop().call_later(delay, send, request, body)
        else:
            send(request, body)

    def send(request: HTTPServerRequest, body: bytes) -> None:
        kind = "application/json" if body.startswith(b"{") else "text/xml"
        headers = HTTPHeaders({"Content-Type": kind, "Content-Length": str(len(body))})
        connection = request.connection
        assert connection is not None
        connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers, body)
        connection.finish()

    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(respond).add_sockets(sockets)
    print(f"endpoint: http://127.0.0.1:{sockets[0].getsockname()[1]}/", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("api", choices=("mcs", "ec2", "ec2-real", "ecs", "cloudstack", "nova"))
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--cap", type=int, default=1000, help="the largest page")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each response")
    parser.add_argument("--polls", type=int, default=0, help="polls until one instance runs")
    arguments = parser.parse_args()
    responders: dict[str, Callable[[], Responder]] = {
        "mcs": lambda: MCS(arguments.nodes, arguments.cap, arguments.polls),
        "ec2": lambda: EC2(arguments.nodes, arguments.cap, real=False),
        "ec2-real": lambda: EC2(arguments.nodes, arguments.cap, real=True),
        "ecs": lambda: ECS(arguments.nodes, arguments.cap),
        "cloudstack": lambda: CloudStack(arguments.nodes),
        "nova": lambda: Nova(arguments.nodes, arguments.cap),
    }
    asyncio.run(serve(responders[arguments.api](), arguments.delay))


if __name__ == "__main__":
    main()
