"""The command ``python -m libcloud_mcs.emulator``."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from plain_client import Client


@pytest.fixture
def start():
    """Start the command, and return the process."""
    processes = []

    def run(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "libcloud_mcs.emulator", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def settings(process, lines=3):
    return dict(
        process.stdout.readline().strip().removeprefix("export ").split("=", 1)
        for _ in range(lines)
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_prints_endpoint_and_stops_on_signal(start, number):
    process = start()
    first = process.stdout.readline()
    assert first.startswith("MCS endpoint: http://127.0.0.1:")
    found = settings(process)
    assert first.strip() == f"MCS endpoint: {found['MOS_URL']}"
    assert found["MOS_URL"].endswith("/mcs/v1")
    client = Client(found["MOS_URL"], found["MOS_ACCESS"], found["MOS_SECRET"])
    assert client.tree("GetBalance")["balance"] == "1000.00"
    process.send_signal(number)
    assert process.wait(10) == 0
    assert process.stderr.read() == ""


def test_edition_of_2017_is_an_option(start):
    process = start("--edition", "2017")
    process.stdout.readline()
    found = settings(process)
    client = Client(found["MOS_URL"], found["MOS_ACCESS"], found["MOS_SECRET"])
    assert client.tree("DescribeAvailabilityZones")["AvailabilityZoneSet"]


def test_command_applies_its_options(start):
    process = start(
        *("--access-key", "me", "--secret", "mine", "--balance", "5.5", "--instances", "3"),
        *("--boot-seconds", "0", "--seed", "7"),
    )
    process.stdout.readline()
    found = settings(process, 2)
    client = Client(found["MOS_URL"], "me", "mine", answer_format="json")
    assert client.tree("GetBalance")["balance"] == 5.5
    assert client.tree("DescribeInstances")["InstanceSet"]["Total"] == 3
    image = client.tree("DescribeTemplates")["TemplateSet"]["Template"][0]["templateId"]
    made = client.tree("CreateInstance", ImageId=image, InstanceType="small", Duration="1H")
    assert made["Instance"]["status"] == "running"
    process.terminate()
    assert "mine" not in process.stdout.read()


def test_command_reads_account_from_environment(start):
    process = start(MOS_ACCESS="me", MOS_SECRET="mine")
    process.stdout.readline()
    found = settings(process, 2)
    assert found["MOS_ACCESS"] == "me"
    Client(found["MOS_URL"], "me", "mine").tree("GetBalance")


def test_command_adds_several_accounts(start):
    process = start(
        *("--access-key", "me", "--secret", "mine"),
        *("--account", "access_key=second secret_env=SECOND balance=5 instances=2"),
        *("--account", "'access_key=the third'"),
        *("--account", "secret=no-secret"),
        SECOND="of the second",
    )
    process.stdout.readline()
    found = settings(process, 2)
    assert found["MOS_ACCESS"] == "me"
    second, third, fourth = (process.stdout.readline() for _ in range(3))
    assert second == "# another account: MOS_ACCESS=second\n"
    match = re.fullmatch("# another account: MOS_ACCESS='the third' MOS_SECRET=(\\w+)\n", third)
    fourth = re.fullmatch("# another account: MOS_ACCESS=(\\w+)\n", fourth)
    for key, secret, instances, balance in (
        ("me", "mine", 0, 1000),
        ("second", "of the second", 2, 5),
        ("the third", match[1], 0, 1000),
        (fourth[1], "no-secret", 0, 1000),
    ):
        client = Client(found["MOS_URL"], key, secret, answer_format="json")
        assert client.tree("DescribeInstances")["InstanceSet"]["Total"] == instances
        assert client.tree("GetBalance")["balance"] == balance
    process.terminate()
    assert process.wait(10) == 0


def test_command_with_taken_port_prints_error_and_exits_1(start, cloud):
    process = start("--port", str(cloud.port))
    assert process.wait(10) == 1
    assert f"cannot listen on 127.0.0.1 port {cloud.port}" in process.stderr.read()


def test_command_warns_when_not_on_loopback(start):
    process = start("--host", "0.0.0.0")
    assert process.stdout.readline().startswith("MCS endpoint: http://0.0.0.0:")
    process.terminate()
    assert "warning: listening on 0.0.0.0" in process.stderr.read()


def test_command_applies_limits_faults_and_debug(start):
    process = start(
        *("--access-key", "me", "--secret", "mine", "--instances", "5", "--debug"),
        *("--default-limit", "2", "--max-limit", "3", "--stop-seconds", "0"),
        *("--fault", "GetBalance error=507 times=1", "--fault", "GetBalance too_many times=1"),
    )
    process.stdout.readline()
    found = settings(process, 2)
    client = Client(found["MOS_URL"], "me", "mine", answer_format="json")
    assert [client("GetBalance").status_code for _ in range(3)] == [507, 429, 200]
    for limit, count in (({}, 2), ({"Limit": "9"}, 3)):
        rows = client.tree("DescribeInstances", **limit)["InstanceSet"]["Instance"]
        assert len(rows) == count
    client.tree("StopInstance", InstanceId="instance-1")
    status = client.tree("DescribeInstanceStatus", InstanceId="instance-1")
    assert status["InstanceStatus"]["status"] == "ready"
    client.secret = "wrong"
    assert "the string to sign is" in client.refused("GetBalance")[1]


def test_command_with_ssh_serves_ssh_on_instances(start, node_network):
    process = start(
        *("--node-network", node_network, "--ssh", "--ssh-port", "2222", "--instances", "1")
    )
    assert process.stdout.readline().startswith("MCS endpoint: ")
    found = settings(process)
    client = Client(found["MOS_URL"], found["MOS_ACCESS"], found["MOS_SECRET"])
    instance = client.tree("DescribeInstances")["InstanceSet"]["Instance"]
    address = instance["ipAddresses"].partition(",")[0]
    with socket.create_connection((address, 2222), timeout=10) as connection:
        assert connection.recv(8) == b"SSH-2.0-"
    process.terminate()
    assert process.wait(10) == 0
    process = start("--ssh")
    assert process.wait(10) == 2
    assert "ssh: it needs node_network" in process.stderr.read()
