"""The SSH servers of the emulator's instances: logins, lifetime, commands and files."""

import asyncio
import contextlib
import errno
import io
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import asyncssh
import paramiko
import pytest
from conftest import AT_ONCE

from libcloud_mcs.emulator import Emulator
from libcloud_mcs.errors import MCSError

IMAGE = "cirros-0.3.0-x86_64.qcow2"


@pytest.fixture
def reachable(node_network):
    return {"node_network": node_network, "ssh": True, "ssh_port": 2222, **AT_ONCE}


@pytest.fixture
def cloud(reachable):
    """An emulated cloud with SSH servers, in which nothing takes time."""
    with Emulator(**reachable) as emulator:
        yield emulator


@pytest.fixture
def driver(cloud):
    return cloud.driver()


@pytest.fixture
def node(driver):
    return driver.create_node("web", "small", IMAGE)


@pytest.fixture
def connect(driver):
    """Connect to a node, by default with its account and password."""
    with contextlib.ExitStack() as connections:

        def run(node, username="cirros", **kwargs):
            if not kwargs:
                kwargs["password"] = driver.ex_get_password_data(node).password
            client = connections.enter_context(paramiko.SSHClient())
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            client.connect(
                *(node.public_ips[0], 2222, username),
                **{"allow_agent": False, "look_for_keys": False, "timeout": 10} | kwargs,
            )
            return client

        yield run


def run(client, command, stdin=b"", **kwargs):
    """Run a command, and return standard output, standard error and exit status."""
    to, out, err = client.exec_command(command, timeout=10, **kwargs)
    to.write(stdin)
    to.channel.shutdown_write()
    return out.read(), err.read(), out.channel.recv_exit_status()


def is_up(node):
    try:
        socket.create_connection((node.public_ips[0], 2222), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


def wait_until(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def private_key(driver, name):
    pair = driver.create_key_pair(name)
    return pair, paramiko.RSAKey.from_private_key(io.StringIO(pair.private_key))


# Who is let in


def test_password_is_accepted_for_its_account_alone(driver, node, connect):
    assert run(connect(node), "echo $USER") == (b"cirros\n", b"", 0)
    password = driver.ex_get_password_data(node).password
    other = driver.create_node("other", "small", IMAGE)
    for username, wrong in (
        ("root", password),
        ("cirros", driver.ex_get_password_data(other).password),
        ("cirros", password[:-1]),
        ("cirros", ""),
        ("cirros", password + "中"),
    ):
        with pytest.raises(paramiko.AuthenticationException):
            connect(node, username, password=wrong)
    with pytest.raises(paramiko.AuthenticationException):
        connect(node, pkey=paramiko.ECDSAKey.generate())


def test_key_pair_is_accepted_for_its_account_and_nodes_alone(driver, node, connect):
    pair, key = private_key(driver, "mine")
    keyed = driver.create_node("keyed", "small", IMAGE, ex_keyname=pair)
    assert run(connect(keyed, pkey=key), "echo $USER") == (b"cirros\n", b"", 0)
    _, other_key = private_key(driver, "other")
    for wrong, username, where in (
        (other_key, "cirros", keyed),
        (key, "root", keyed),
        (key, "cirros", node),
    ):
        with pytest.raises(paramiko.AuthenticationException):
            connect(where, username, pkey=wrong)
    # It has a password nevertheless.
    password = driver.ex_get_password_data(keyed, pair.private_key).password
    connect(keyed, password=password)


def test_key_in_authorized_keys_is_accepted(driver, node, connect):
    pair, key = private_key(driver, "installed")
    lines = f"no key at all\n\n{pair.public_key}\n"
    run(connect(node), "mkdir .ssh; cat >.ssh/authorized_keys", lines.encode())
    assert run(connect(node, pkey=key), "true") == (b"", b"", 0)
    with pytest.raises(paramiko.AuthenticationException):
        connect(node, "root", pkey=key)
    run(connect(node), "cat >.ssh/authorized_keys", b"no key at all\n")
    with pytest.raises(paramiko.AuthenticationException):
        connect(node, pkey=key)


def test_nothing_is_forwarded(node, connect):
    transport = connect(node).get_transport()
    with pytest.raises(paramiko.ChannelException):
        transport.open_channel("direct-tcpip", (node.public_ips[0], 2222), ("127.0.0.1", 1))
    with pytest.raises(paramiko.SSHException):
        transport.request_port_forward("127.0.0.1", 0)


# When


def test_server_is_up_while_node_runs(driver, node, connect):
    client = connect(node)
    driver.stop_node(node)
    assert not is_up(node)
    wait_until(lambda: not client.get_transport().is_active())
    driver.start_node(node)
    assert is_up(node)
    driver.destroy_node(node)
    assert not is_up(node)


def test_server_is_up_in_2017_except_while_a_node_is_scheduled_or_saved(reachable):
    with Emulator(edition=2017, **reachable | {"boot_seconds": 1, "save_seconds": 1}) as cloud:
        cloud.clock.freeze()
        driver = cloud.driver()
        node = driver.create_node("web", "C1_M1", IMAGE, ex_disk_size=10)
        assert node.public_ips == []
        for _ in range(2):
            cloud.clock.advance(timedelta(seconds=1))
            node = driver.ex_get_node("web")
            wait_until(lambda node=node: is_up(node))
            driver.create_image(node, "saved")
            wait_until(lambda node=node: not is_up(node))


def test_server_starts_and_stops_with_the_clock(node_network):
    with Emulator(node_network=node_network, ssh=True, ssh_port=2222) as cloud:
        cloud.clock.freeze()
        node = cloud.driver().create_node("web", "small", IMAGE, ex_duration="1H")
        node.public_ips = [cloud.account.state.instances()[0].public_ip]
        assert not is_up(node)
        cloud.clock.advance(timedelta(minutes=1))
        wait_until(lambda: is_up(node))
        cloud.clock.advance(timedelta(hours=1))
        wait_until(lambda: not is_up(node))
    assert not is_up(node)


def test_files_and_host_key_are_kept_until_rebuild(driver, node, connect):
    client = connect(node)
    run(client, "echo kept >file")
    host_key = client.get_transport().get_remote_server_key()
    driver.stop_node(node)
    driver.start_node(node)
    client = connect(node)
    assert run(client, "cat file")[0] == b"kept\n"
    assert client.get_transport().get_remote_server_key() == host_key
    driver.ex_rebuild_node(node)
    client = connect(node)
    assert run(client, "ls -A")[0] == b""
    assert client.get_transport().get_remote_server_key() != host_key


def test_folder_of_destroyed_node_is_removed(driver, node, connect):
    (home, _, _) = run(connect(node), "touch file; pwd")
    folder = Path(home.decode().strip())
    assert folder.is_dir()
    driver.destroy_node(node)
    driver.list_nodes()
    assert not folder.exists()
    assert folder.parent.is_dir()


def test_commands_are_killed_when_node_or_emulator_stops(cloud, driver, node, connect):
    def sleep():
        _, out, _ = connect(node).exec_command("echo $$; exec sleep 600", timeout=10)
        return Path("/proc", out.readline().strip())

    process = sleep()
    assert process.exists()
    driver.stop_node(node)
    wait_until(lambda: not process.exists())
    driver.start_node(node)
    process = sleep()
    assert process.exists()
    cloud.stop()
    assert not process.exists()


def test_background_process_does_not_delay_stop(cloud, node, connect):
    client = connect(node)
    _, out, _ = client.exec_command("sleep 600 & echo $!", timeout=10)
    process = int(out.readline())
    client.close()
    cloud.stop()
    os.kill(process, 9)


# What runs there


def test_command_has_input_output_and_exit_status(node, connect):
    client = connect(node)
    assert run(client, "echo out; echo err >&2; exit 7") == (b"out\n", b"err\n", 7)
    assert run(client, "cat", "中".encode()) == ("中".encode(), b"", 0)
    out, _, _ = run(client, "head -c 3000000 /dev/zero")
    assert out == bytes(3_000_000)
    assert run(client, "cat | wc -c", bytes(3_000_000))[0].strip() == b"3000000"
    # A signal is not an exit status.
    assert run(client, "kill -9 $$")[2] == -1


def test_signals_of_the_client_do_not_reach_the_command(driver, node):
    password = driver.ex_get_password_data(node).password

    async def talk():
        address = node.public_ips[0]
        async with (
            asyncssh.connect(
                address, 2222, username="cirros", password=password, known_hosts=None
            ) as client,
            client.create_process("cat") as process,
        ):
            process.send_signal("TERM")
            process.channel.send_break(100)
            process.stdin.write("still there")
            process.stdin.write_eof()
            return await asyncio.wait_for(process.stdout.read(), 10)

    assert asyncio.run(talk()) == "still there"


def test_command_does_not_inherit_environment_of_emulator(cloud, node, connect, monkeypatch):
    monkeypatch.setenv("MOS_SECRET", cloud.secret)
    out, _, _ = run(connect(node), "env; pwd; ls -A")
    *lines, folder = out.decode().splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    assert environment["HOME"] == environment["PWD"] == folder
    assert environment["USER"] == environment["LOGNAME"] == "cirros"
    assert set(environment) <= {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "PWD"}
    assert cloud.secret not in out.decode()


def test_shell_runs_commands(node, connect):
    channel = connect(node).get_transport().open_session()
    channel.invoke_shell()
    channel.sendall(b"echo shell$((1 + 1)); exit 4\n")
    assert channel.recv_exit_status() == 4
    assert channel.recv(1000) == b"shell2\n"


def test_terminal_has_size_and_echo(node, connect):
    client = connect(node)
    command = "tty; test -t 0 && test -t 1 && test -t 2; echo $?; stty size; echo $TERM; stty -echo"
    channel = client.get_transport().open_session()
    channel.get_pty("vt220", width=100, height=30)
    channel.exec_command(
        f"{command}; echo now; read go; stty size; stty echo; echo again; cat >/dev/tty; exit 3"
    )
    out = channel.makefile("r")
    assert out.readline().startswith("/dev/pts/")
    assert [out.readline().strip() for _ in range(3)] == ["0", "30 100", "vt220"]
    assert out.readline().strip() == "now"
    channel.resize_pty(width=120, height=40)
    channel.sendall(b"go\n")
    assert out.readline().strip() == "40 120"
    assert out.readline().strip() == "again"
    channel.sendall(b"typed\n\x04")
    # Echoed by the terminal, and written by cat.
    assert out.read().split() == [b"typed", b"typed"]
    assert channel.recv_exit_status() == 3


def test_sftp_reads_and_writes_files(node, connect, tmp_path):
    sftp = connect(node).open_sftp()
    home = sftp.normalize(".")
    with sftp.open("relative", "w") as file:
        file.write("in the home\n")
    assert Path(home, "relative").read_text() == "in the home\n"
    with sftp.open(str(tmp_path / "absolute"), "w") as file:
        file.write("anywhere\n")
    assert Path(tmp_path, "absolute").read_text() == "anywhere\n"
    assert sftp.listdir() == ["relative"]


@pytest.mark.parametrize("options", [(), ("-O",)], ids=["over SFTP", "as of old"])
def test_openssh_copies_files(driver, connect, tmp_path, options):
    pair = driver.create_key_pair("mine")
    node = driver.create_node("keyed", "small", IMAGE, ex_keyname=pair)
    key, source = tmp_path / "key", tmp_path / "source"
    key.touch(mode=0o600)
    key.write_text(pair.private_key)
    source.write_text("copied\n")
    scp = shutil.which("scp")
    if not scp:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("there is no scp: apt install openssh-client")
    settings = {
        "BatchMode": "yes",
        "IdentityFile": key,
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": tmp_path / "hosts",
    }
    copied = subprocess.run(
        [
            *(scp, *options, "-P", "2222"),
            *(f"-o{name}={value}" for name, value in settings.items()),
            *(source, f"cirros@{node.public_ips[0]}:there"),
        ],
        capture_output=True,
        text=True,
    )
    assert copied.returncode == 0, copied.stderr
    loaded = paramiko.RSAKey.from_private_key_file(str(key))
    assert run(connect(node, pkey=loaded), "cat there")[0] == b"copied\n"


# Addresses and settings


def test_public_addresses_are_taken_from_the_network(cloud, driver, node_network):
    first, second = (driver.create_node(name, "small", IMAGE) for name in ("one", "two"))
    start = node_network.removesuffix("0/24")
    assert first.public_ips == [f"{start}1"]
    assert second.public_ips == [f"{start}2"]
    assert all(ip.startswith("10.") for ip in first.private_ips + second.private_ips)


def test_nodes_have_different_addresses(node_network):
    small = node_network.replace("/24", "/29")
    with Emulator(node_network=small, **AT_ONCE) as cloud:
        driver = cloud.driver()
        nodes = [driver.create_node(f"node-{n}", "small", IMAGE) for n in range(6)]
        taken = {node.public_ips[0] for node in nodes}
        assert len(taken) == 6
        with pytest.raises(MCSError, match="are in use") as caught:
            driver.create_node("one too many", "small", IMAGE)
        assert caught.value.http_code == 409
        assert len(cloud.ledger) == 6
        driver.destroy_node(nodes[3])
        again = driver.create_node("again", "small", IMAGE)
        assert again.public_ips == nodes[3].public_ips
        cloud.reset()
        assert len({driver.create_node(f"n{n}", "small", IMAGE).id for n in range(6)}) == 6


def test_addresses_are_kept_in_the_state_file(node_network, tmp_path, caplog):
    settings = {"state": tmp_path / "state", "ssh_port": 2222, **AT_ONCE}
    with Emulator(**settings, node_network=node_network, ssh=True) as cloud:
        node = cloud.driver().create_node("kept", "small", IMAGE)
        assert is_up(node)
    with Emulator(**settings, node_network=node_network, ssh=True) as cloud:
        wait_until(lambda: is_up(node))
        other = cloud.driver().create_node("other", "small", IMAGE)
        assert other.public_ips != node.public_ips
    # In another network they cannot be reached, and say so.
    elsewhere = node_network.replace("0/24", "128/25")
    with (
        caplog.at_level(logging.WARNING, "libcloud_mcs"),
        Emulator(**settings, node_network=elsewhere, ssh=True) as cloud,
    ):
        assert len(cloud.driver().list_nodes()) == 2
        assert not is_up(node)
    assert "kept has no SSH server: its address" in caplog.text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"node_network": "10.0.0.0/16"}, "node_network: expected a loopback.*'10.0.0.0/16'"),
        ({"node_network": "127.10.0.1/16"}, "node_network: expected a loopback.*host bits"),
        ({"node_network": "127.10.0.0/31"}, "node_network: expected a loopback"),
        ({"node_network": "nowhere"}, "node_network: expected a loopback"),
        ({"ssh": True}, "ssh: it needs node_network"),
        ({"node_network": "127.10.0.0/16", "ssh": True, "ssh_port": 0}, "ssh_port: expected"),
        ({"node_network": "127.10.0.0/16", "ssh": True, "ssh_port": "ssh"}, "ssh_port: expected"),
    ],
)
def test_invalid_combination_of_settings_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Emulator(**settings)


def test_network_in_use_by_another_emulator_is_refused(cloud, node_network):
    second = Emulator(node_network=node_network, ssh=True, ssh_port=2222)
    with pytest.raises(OSError, match=r"another emulator has it.*--node-network"):
        second.start()
    with pytest.raises(RuntimeError, match="not started"):
        _ = second.port
    # When the first is gone it can be had.
    cloud.stop()
    with second:
        assert second.driver().list_nodes() == []


def test_privileged_port_is_error_that_says_how_to_allow_it(monkeypatch, node_network):
    create_server = socket.create_server

    def refuse(address, **kwargs):
        if address[1] == 22:
            raise PermissionError(errno.EACCES, "Permission denied")
        return create_server(address, **kwargs)

    monkeypatch.setattr(socket, "create_server", refuse)
    emulator = Emulator(node_network=node_network, ssh=True)
    with pytest.raises(OSError, match=r"port 22: Permission denied.*ssh_port=2222"):
        emulator.start()


def test_node_whose_port_is_in_use_has_no_server(cloud, driver, node_network, caplog):
    taken = node_network.replace("0/24", "1")
    with socket.create_server((taken, 2222)):
        driver.create_node("first", "small", IMAGE)
        second = driver.create_node("second", "small", IMAGE)
        assert is_up(second)
        first = driver.list_nodes(ex_names=["first"])[0]
    # It is tried again at the next boot.
    driver.stop_node(first)
    driver.start_node(first)
    assert is_up(first)
    assert "first has no SSH server" in caplog.text
    assert f"no SSH server can listen on {taken} port 2222" in caplog.text


def test_client_that_connects_during_stop_is_disconnected(cloud, driver, monkeypatch):
    node = driver.create_node("web", "small", IMAGE)
    serve = asyncssh.run_server

    async def run_server(*args, **kwargs):
        # The connection was accepted, and is not known yet.
        cloud.account.state.stop("web", force=True)
        cloud._ssh.update()
        return await serve(*args, **kwargs)

    monkeypatch.setattr(asyncssh, "run_server", run_server)
    with socket.create_connection((node.public_ips[0], 2222), timeout=30) as client:
        assert client.recv(1024) == b""
    assert not is_up(node)


def test_node_without_space_for_its_folder_has_no_server(cloud, driver, monkeypatch, caplog):
    def full(**kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    node = driver.create_node("web", "small", IMAGE)
    assert driver.ex_get_node("web").state == "running"
    assert not is_up(node)
    (record,) = caplog.records
    assert record.message == "web has no SSH server: [Errno 28] No space left on device"
    assert len(cloud.ledger) == 1


def test_unexpected_error_of_servers_changes_no_response(cloud, driver, monkeypatch, caplog):
    def fail(instances):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(cloud._ssh, "_match", fail)
        node = driver.create_node("web", "small", IMAGE)
    assert len(cloud.ledger) == 1
    assert "ZeroDivisionError" in caplog.text
    wait_until(lambda: is_up(node))


def test_missing_asyncssh_is_error_that_names_the_extra(monkeypatch, node_network):
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    monkeypatch.delitem(sys.modules, "libcloud_mcs.emulator._ssh", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'libcloud-mcs\[emulator-ssh\]'"):
        Emulator(node_network=node_network, ssh=True)
    assert Emulator(node_network=node_network).accounts
