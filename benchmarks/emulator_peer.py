"""
Compare the emulator with moto's server, which emulates EC2.

    python benchmarks/emulator_peer.py [--quick]

Both are separate processes, on one machine, in one run. The same client sends plain requests to
both, over HTTP. ``--quick`` checks that everything works; its figures are rough.
"""

from __future__ import annotations

import argparse
import compileall
import http.client
import json
import math
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode

import pytest
from emulator_load import FORM, IMAGE, Client, Process

HERE = Path(__file__).parent
#: What moto's server reads of a signature: the service and the region.
AUTHORIZATION = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=me/20260101/us-east-1/ec2/aws4_request"
}
#: An image that moto has.
MOTO_IMAGE = "ami-12c6146b"

OUR_TEST = f"""
import pytest

@pytest.mark.parametrize("number", range(COUNT))
def test_fresh_cloud(mcs_driver, number):
    mcs_driver.create_node("web", "small", "{IMAGE}")
    assert len(mcs_driver.list_nodes()) == 1
"""
MOTO_TEST = f"""
import boto3
import pytest
from moto import mock_aws

@pytest.mark.parametrize("number", range(COUNT))
@mock_aws
def test_fresh_cloud(number):
    ec2 = boto3.client("ec2", "us-east-1")
    ec2.run_instances(ImageId="{MOTO_IMAGE}", InstanceType="t2.micro", MinCount=1, MaxCount=1)
    assert len(ec2.describe_instances()["Reservations"]) == 1
"""


class Server(Process):
    """A server that has just started, with a client."""

    def __init__(self, *command: str) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        start = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *command, str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not _accepts(port):
            if self.process.poll() is not None:
                raise RuntimeError(f"{command} ended with status {self.process.returncode}")
            time.sleep(0.002)
        #: The time until it accepted a connection, in seconds.
        self.start_seconds = time.perf_counter() - start
        self.url = f"http://127.0.0.1:{port}/"

    def create(self, number: int) -> None:
        """Create one instance."""
        raise NotImplementedError

    def count(self) -> int:
        """List all instances, and return their number."""
        raise NotImplementedError


class Ours(Server):
    """The emulator."""

    def __init__(self) -> None:
        account = ("--access-key", "me", "--secret", "mine", "--balance", "1000000")
        super().__init__("-m", "libcloud_mcs.emulator", *account, "--port")
        self._client = Client(f"{self.url}mcs/v1")

    def create(self, number: int) -> None:
        self._send(
            "CreateInstance",
            ImageId=IMAGE,
            InstanceType="small",
            InstanceName=f"web-{number}",
            Duration="1M",
        )

    def count(self) -> int:
        return self._send("DescribeInstances").count(b"<instanceId>")

    def _send(self, action: str, **params: str) -> bytes:
        return self._client.send(self._client.body(action, Format="xml", **params))


class Moto(Server):
    """moto's server."""

    def __init__(self) -> None:
        super().__init__("-m", "moto.server", "-p")
        self._connection = http.client.HTTPConnection(
            *self.url[len("http://") : -1].split(":"), timeout=60
        )

    def create(self, number: int) -> None:  # noqa: ARG002 - EC2's instances have no names
        self._send(
            "RunInstances", ImageId=MOTO_IMAGE, InstanceType="t2.micro", MinCount=1, MaxCount=1
        )

    def count(self) -> int:
        # Without a number, it is a page of 100.
        return self._send("DescribeInstances", MaxResults=1000).count(b"<instanceId>")

    def _send(self, action: str, **params: object) -> bytes:
        form = urlencode({"Action": action, "Version": "2016-11-15", **params})
        self._connection.request("POST", "/", form, {**FORM, **AUTHORIZATION})
        response = self._connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {data[:200]!r}")
        return data


CONTENDERS = (Ours, Moto)


def emulator_peer(quick: bool) -> list[list[str]]:
    """Return a table of both contenders."""
    rounds, instances, tests = (1, 50, (20, 2)) if quick else (7, 1000, (200, 8))
    # As pip does.
    compileall.compile_dir(HERE.parent / "libcloud_mcs", quiet=1)
    starts = [[_start_seconds(each) for each in CONTENDERS] for _ in range(rounds + 1)][1:]
    servers = [each() for each in CONTENDERS]
    try:
        create = _cost_of_creating(servers, instances)
        lists = [[_seconds_of_list(each, instances) for each in servers] for _ in range(rounds)]
        memory = [each.memory() for each in servers]
    finally:
        for server in servers:
            server.stop()
    fresh = [
        _seconds_of_test(text, count)
        for text, count in zip((OUR_TEST, MOTO_TEST), tests, strict=True)
    ]
    rows = [["measured", "the emulator", f"moto {version('moto')}", "ratio"]]
    for label, (ours, theirs), scale in (
        ("start, s", _medians(starts), 1),
        ("creation of an instance, CPU of the server, ms", create, 1e3),
        (f"list of {instances:,} instances, ms", _medians(lists), 1e3),
        (f"memory with {instances:,} instances, MB", memory, 1),
        ("test in pytest with a fresh cloud, ms", fresh, 1e3),
    ):
        figures = [_figure(each * scale) for each in (ours, theirs)]
        rows.append([label, *figures, _figure(theirs / ours)])
    return rows


def _figure(value: float) -> str:
    """Return a figure with two digits at least."""
    return f"{value:,.{max(0, 1 - math.floor(math.log10(value)))}f}"


def _medians(rounds: list[list[float]]) -> list[float]:
    """Return the median of each contender."""
    return [statistics.median(each) for each in zip(*rounds, strict=True)]


def _start_seconds(contender: type[Server]) -> float:
    server = contender()
    server.stop()
    return server.start_seconds


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


def _cost_of_creating(servers: list[Server], instances: int) -> list[float]:
    """Create instances, one at a time, and return the CPU time of one for each server."""
    costs = []
    for server in servers:
        server.create(0)  # moto imports its EC2 with the first request
        before = server.cpu()
        for number in range(1, instances):
            server.create(number)
        costs.append((server.cpu() - before) / (instances - 1))
    return costs


def _seconds_of_list(server: Server, instances: int) -> float:
    start = time.perf_counter()
    count = server.count()
    seconds = time.perf_counter() - start
    if count != instances:
        raise RuntimeError(f"expected {instances} instances, got {count}")
    return seconds


def _seconds_of_test(text: str, count: int) -> float:
    """Return the median time of one test, without the first one, which imports."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "test_fresh_cloud.py")
        path.write_text(text.replace("COUNT", str(count + 1)), encoding="utf-8")
        output = subprocess.run(
            [sys.executable, __file__, "--tests", str(path)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    taken = json.loads(output.splitlines()[-1])
    return statistics.median(taken[1:])


class Stopwatch:
    """A plugin of pytest that measures each test, with its fixtures."""

    def __init__(self) -> None:
        #: The times in seconds.
        self.taken: list[float] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        start = time.perf_counter()
        try:
            return (yield)
        finally:
            self.taken.append(time.perf_counter() - start)


def run_tests(path: str) -> int:
    """Run tests, and print the time of each in the last line."""
    stopwatch = Stopwatch()
    status = pytest.main(["-q", "-p", "no:cacheprovider", path], [stopwatch])
    print(json.dumps(stopwatch.taken))
    return int(status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tests", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tests is not None:
        return run_tests(arguments.tests)
    for row in emulator_peer(arguments.quick):
        print(*row, sep=" | ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
