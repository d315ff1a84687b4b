"""Starting and stopping: repeatedly, from any thread, across forks, and at the end of a program."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref
from datetime import datetime, timedelta
from functools import partial

import paramiko
import pytest
from conftest import AT_ONCE
from plain_client import CREATE, Client
from raw_client import RawClient

from libcloud_mcs.emulator import Effect, Emulator, delay, meanwhile
from libcloud_mcs.emulator import _server as server
from libcloud_mcs.errors import MCSError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def client(cloud):
    return Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")


def is_free(path):
    """Return whether a state file is closed. An open one cannot be opened again."""
    Emulator(state=path).close()
    return True


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "mcs-emulator"]


# Again


def test_restarted_emulator_has_the_same_url():
    cloud = Emulator(**AT_ONCE)
    with pytest.raises(RuntimeError, match="not started"):
        _ = cloud.url
    assert repr(cloud).startswith("<Emulator not started ")
    seen = set()
    for _ in range(3):
        with cloud:
            seen.add(cloud.url)
            driver = cloud.driver()
            assert driver.list_nodes() == []
        assert repr(cloud).startswith("<Emulator not started ")
        seen.add(cloud.url)
        with pytest.raises(MCSError):
            cloud.driver(max_tries=1).list_nodes()
    assert len(seen) == 1


def test_client_recovers_after_restart(cloud):
    driver = cloud.driver(retry_delay=0.01, max_tries=50)
    image = driver.list_images()[0]
    cloud.stop()
    timer = threading.Timer(0.1, cloud.start)
    timer.start()
    assert driver.list_nodes() == []
    assert driver.create_node("web", "small", image).name == "web"
    timer.join()


def test_restart_with_taken_port_is_error(cloud):
    cloud.stop()
    taken = f"cannot listen on 127.0.0.1 port {cloud.port}: "
    with (
        socket.create_server(("127.0.0.1", cloud.port)),
        pytest.raises(OSError, match=taken),
    ):
        cloud.start()
    cloud.start()
    client(cloud).tree("GetBalance")


def test_restart_closes_connections_of_clients(cloud):
    with contextlib.ExitStack() as stack:
        for _ in range(15):
            held = [stack.enter_context(RawClient(cloud.port)) for _ in range(5)]
            for raw in held[:3]:
                assert raw.ask("GET", "/").status == 200
            held[3].send(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
            cloud.stop()
            assert all(raw.is_closed() for raw in held)
            cloud.start()
    assert len(threads()) == 1


def test_stop_of_stopped_emulator_does_nothing(cloud):
    for _ in range(2):
        cloud.stop()
        cloud.close()
    cloud.__exit__(None, None, None)
    Emulator().stop()


def test_nested_with_blocks_are_refused(path):
    with Emulator(state=path) as cloud:
        with pytest.raises(RuntimeError, match="started already"), cloud:
            pass
        client(cloud).tree("CreateInstance", **CREATE)
    assert is_free(path)


def test_failed_with_block_leaves_nothing_open(cloud, path):
    with pytest.raises(OSError, match="cannot listen"), Emulator(port=cloud.port, state=path):
        pass
    assert is_free(path)


def test_close_stops_the_emulator(path):
    cloud = Emulator(state=path)
    cloud.start()
    # A change that could not be kept any more would be acknowledged otherwise.
    cloud.close()
    assert threads() == []
    assert is_free(path)


def test_start_without_thread_is_error_and_leaves_nothing_open(cloud, monkeypatch, node_network):
    cloud.stop()
    other = Emulator(node_network=node_network, ssh=True, ssh_port=2222)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for emulator in (cloud, other):
            with pytest.raises(RuntimeError, match="new thread"):
                emulator.start()
            emulator.stop()
    for emulator in (cloud, other):
        with emulator:
            client(emulator).tree("GetBalance")


def test_start_without_event_loop_is_error_and_leaves_nothing_open(cloud, monkeypatch, fork):
    cloud.stop()

    def refuse():
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(server.selectors, "DefaultSelector", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            cloud.start()
    assert "belongs to the parent" in fork(cloud.start)
    cloud.start()
    client(cloud).tree("GetBalance")


def test_emulator_serves_after_too_many_clients():
    code = """
        import logging, resource, sys
        from libcloud_mcs.emulator import Emulator

        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
        with Emulator() as cloud:
            print(cloud.port, flush=True)
            sys.stdin.read()
        print("stopped")
    """
    told = "no connection can be accepted for a second: [Errno 24] Too many open files\n"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        port = int(process.stdout.readline())
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                for _ in range(60):
                    stack.enter_context(RawClient(port))
                assert process.stdout.readline() == told
            with RawClient(port) as raw:
                assert raw.ask("GET", "/").status == 200
        # It also stops while it accepts no connections.
        held = [RawClient(port) for _ in range(60)]
        assert process.stdout.readline() == told
        printed, _ = process.communicate()
        for raw in held:
            raw.__exit__()
    assert printed.replace(told, "") == "stopped\n"
    assert process.returncode == 0


# From anywhere


def test_stop_in_thread_of_emulator_returns_at_once(path):
    with Emulator(state=path) as cloud:
        driver = cloud.driver(max_tries=1)
        cloud.inject(meanwhile(cloud.stop), on="CreateInstance")
        with pytest.raises(MCSError):
            driver.create_node("web", "small", driver.list_images()[0])
        # The request during which it was stopped is not carried out.
        assert cloud.ledger == []
        with pytest.raises(MCSError):
            driver.list_nodes()
        cloud.faults.clear()
        cloud.start()
        assert driver.list_nodes() == []
        cloud.inject(meanwhile(cloud.stop))
        with pytest.raises(MCSError):
            driver.list_nodes()
    assert is_free(path)


def test_close_in_thread_of_emulator_prevents_start(path):
    seen = []

    def close_and_start():
        cloud.close()
        with pytest.raises(RuntimeError, match="state file was closed"):
            cloud.start()
        seen.append(is_free(path))

    def stop_and_start():
        other.stop()
        with pytest.raises(RuntimeError, match=r"a function of meanwhile\(\) .* is still running"):
            other.start()
        seen.append(True)

    with Emulator(state=path) as cloud, Emulator() as other:
        for emulator, function in ((cloud, close_and_start), (other, stop_and_start)):
            emulator.inject(meanwhile(function))
            with pytest.raises(MCSError):
                emulator.driver(max_tries=1).list_nodes()
    assert seen == [True, True]


@pytest.mark.parametrize(
    "effect", [meanwhile, lambda function: Effect("odd", answer=lambda _: function())]
)
def test_stop_in_thread_that_a_request_waits_for_ends(monkeypatch, path, effect):
    monkeypatch.setattr(server, "_PATIENCE", 0.1)

    def stop_elsewhere():
        thread = threading.Thread(target=cloud.stop)
        thread.start()
        thread.join()

    with Emulator(state=path) as cloud:
        cloud.inject(effect(stop_elsewhere))
        with pytest.raises(MCSError):
            cloud.driver(max_tries=1).list_nodes()
    assert is_free(path)
    assert threads() == []


def test_stop_in_several_threads_at_once_ends(path):
    with Emulator(state=path) as cloud:
        cloud.inject(delay(60))

        def wait():
            with pytest.raises(MCSError):
                cloud.driver(max_tries=1).list_nodes()

        waiting = threading.Thread(target=wait)
        waiting.start()
        while not any(fault.fired for fault in cloud.faults):
            pass
        stopping = [threading.Thread(target=cloud.stop) for _ in range(8)]
        for thread in stopping:
            thread.start()
        for thread in [*stopping, waiting]:
            thread.join(30)
            assert not thread.is_alive()
    assert is_free(path)


def test_start_in_several_threads_at_once_succeeds_once():
    cloud, outcomes = Emulator(), []

    def start():
        try:
            outcomes.append(cloud.start())
        except RuntimeError as error:
            outcomes.append(str(error))

    starting = [threading.Thread(target=start) for _ in range(8)]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    assert sorted(outcomes, key=str) == [None, *["the emulator is started already"] * 7]
    cloud.stop()
    assert threads() == []


@pytest.mark.parametrize(
    "moment",
    [None, (server._Serving, "start"), (threading.Thread, "join"), (server.Server, "stop")],
)
def test_stop_in_signal_handler_ends(moment, monkeypatch):
    cloud = Emulator()
    handler = signal.signal(signal.SIGUSR1, lambda *_: cloud.stop())
    try:
        with monkeypatch.context() as patched:
            if moment:
                owner, name = moment
                carry_out, sent = getattr(owner, name), []

                def interrupted(*args):
                    if not sent:
                        sent.append(True)
                        signal.raise_signal(signal.SIGUSR1)
                    return carry_out(*args)

                patched.setattr(owner, name, interrupted)
            cloud.start()
            if not moment:
                signal.raise_signal(signal.SIGUSR1)
            cloud.stop()
        assert threads() == []
    finally:
        signal.signal(signal.SIGUSR1, handler)
    with cloud:
        client(cloud).tree("GetBalance")


def test_tasks_in_event_loop_are_cancelled_by_stop(cloud):
    ended = []

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    tasks = []
    cloud.inject(meanwhile(lambda: tasks.append(asyncio.get_running_loop().create_task(forever()))))
    assert cloud.driver().list_nodes() == []
    cloud.stop()
    assert ended == [True]


def test_error_in_thread_of_emulator_is_not_hidden(monkeypatch, node_network):
    errors = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: errors.append(hook.exc_type))
    cloud = Emulator(node_network=node_network, ssh=True, ssh_port=2222)
    cloud.start()
    monkeypatch.setattr(cloud._ssh, "update", lambda: 1 / 0)
    while threads():
        pass
    assert errors == [ZeroDivisionError]
    monkeypatch.undo()
    with cloud:
        assert cloud.driver().list_nodes() == []


def test_emulator_starts_and_stops_in_a_coroutine(path):
    async def main():
        cloud = Emulator(state=path)
        for _ in range(2):
            cloud.start()
            driver = cloud.driver()
            nodes = await asyncio.get_running_loop().run_in_executor(None, driver.list_nodes)
            assert nodes == driver.list_nodes() == []
            cloud.stop()
        cloud.close()
        with Emulator() as other:
            assert other.driver().list_nodes() == []

    asyncio.run(main())
    assert is_free(path)


def test_emulator_without_references_serves_until_stopped():
    cloud = Emulator()
    cloud.start()
    reference, driver = weakref.ref(cloud), cloud.driver()
    # It continues to serve: a client may know its URL.
    del cloud
    gc.collect()
    assert driver.list_nodes() == []
    reference().stop()
    gc.collect()
    assert reference() is None


# Until a signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_ends_on_signal(path, number):
    before = signal.getsignal(number), signal.set_wakeup_fd(-1)
    cloud, seen = Emulator(state=path), []

    def ready():
        seen.append(cloud.driver().list_nodes())
        for _ in range(3):  # who is impatient
            signal.raise_signal(number)

    cloud.run(ready)
    assert seen == [[]]
    assert (signal.getsignal(number), signal.set_wakeup_fd(-1)) == before
    assert threads() == []
    assert is_free(path)


def test_run_leaves_other_signals_to_the_program(path):
    cloud, seen = Emulator(state=path), []
    handler = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))

    def ready():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)

    try:
        cloud.run(ready)
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert seen == [signal.SIGUSR1]
    assert is_free(path)


def test_run_ends_when_stopped(path):
    cloud = Emulator(state=path)
    cloud.run(lambda: threading.Thread(target=cloud.stop).start())
    assert is_free(path)
    other, outcomes = Emulator(), []

    def ask():
        try:
            other.driver(max_tries=1).list_nodes()
        except MCSError as error:
            outcomes.append(error)

    other.inject(meanwhile(other.stop))
    asking = threading.Thread(target=ask)
    other.run(asking.start)
    asking.join()
    assert len(outcomes) == 1


def test_run_outside_the_main_thread_is_refused(path):
    cloud, outcomes = Emulator(state=path), []

    def run():
        with pytest.raises(RuntimeError, match=r"call run\(\) there, or use start\(\)"):
            cloud.run()
        outcomes.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert outcomes == [True]
    with cloud:
        client(cloud).tree("GetBalance")


def test_failed_run_closes_the_emulator(path):
    with pytest.raises(ZeroDivisionError):
        Emulator(state=path).run(lambda: 1 / 0)
    assert is_free(path)
    assert threads() == []


# Forks


@pytest.fixture
def fork():
    """
    Forks children that do something and then wait until the end of the test. Returns what came of
    it there.
    """
    children = []

    def run(function):
        (from_child, to_parent), (from_parent, to_child) = os.pipe(), os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of what is tried here: a fork of a process with threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                outcome = function()
            except BaseException as error:
                outcome = error
            os.write(to_parent, str(outcome).encode())
            os.close(to_child)
            os.read(from_parent, 1)
            os._exit(0)
        for descriptor in (from_parent, to_parent):
            os.close(descriptor)
        children.append((child, to_child))
        with open(from_child, "rb", buffering=0) as file:
            return file.read(65536).decode()

    yield run
    for child, to_child in children:
        os.close(to_child)
        assert os.waitpid(child, 0)[1] == 0


def test_forked_child_keeps_no_port_or_file_busy(fork, path):
    with Emulator(state=path, tls=True) as cloud, RawClient(cloud.port) as handshaking:
        ask = client(cloud)
        ask.session.verify, ask.session.trust_env = cloud.ca_cert, False
        ask.tree("CreateInstance", **CREATE)
        with RawClient(cloud.port) as idle:
            fork(lambda: None)
            # The parent is served as before.
            ask.tree("CreateInstance", **CREATE)
            cloud.stop()
            assert idle.is_closed()
            assert handshaking.is_closed()
        cloud.start()
        ask.tree("CreateInstance", **CREATE)
    assert is_free(path)
    with Emulator(state=path) as cloud:
        assert len(cloud.account.state.instances()) == 3


def test_forked_child_keeps_no_ssh_port_busy(fork, node_network):
    settings = {**AT_ONCE, "node_network": node_network, "ssh": True, "ssh_port": 2222}
    with Emulator(**settings, instances=1) as cloud:
        address = cloud.driver().list_nodes()[0].public_ips[0]
        with socket.create_connection((address, 2222), timeout=30) as connection:
            assert connection.recv(8) == b"SSH-2.0-"
            fork(lambda: None)
            cloud.stop()
            while connection.recv(65536):
                pass
    with Emulator(**settings, instances=1):
        socket.create_connection((address, 2222), timeout=30).close()


def test_forked_child_keeps_no_ssh_command_waiting(fork, node_network):
    settings = {**AT_ONCE, "node_network": node_network, "ssh": True, "ssh_port": 2222}
    with Emulator(**settings) as cloud, paramiko.SSHClient() as ssh:
        driver = cloud.driver()
        node = driver.create_node("web", "small", driver.list_images()[0])
        known = driver.ex_get_password_data(node)
        ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        ssh.connect(node.public_ips[0], 2222, known.account, known.password)
        stdin, stdout, _ = ssh.exec_command("cat", timeout=30)
        stdin.write("here")
        stdin.flush()
        assert stdout.read(4) == b"here"
        fork(lambda: None)
        stdin.close()
        assert stdout.read() == b""
        assert stdout.channel.recv_exit_status() == 0


def test_forked_child_can_use_only_the_endpoint(fork, path):
    def use_it():
        for call in (
            cloud.start,
            cloud.run,
            cloud.reset,
            cloud.add_account,
            partial(cloud.inject, delay(0)),
            partial(cloud.stub, "DescribeThing", {}),
            partial(cloud.unstub, "DescribeThing"),
            partial(getattr, cloud, "ledger"),
            partial(getattr, cloud, "records"),
            cloud.clock.freeze,
            partial(cloud.clock.advance, timedelta(1)),
        ):
            with pytest.raises(RuntimeError, match="belongs to the parent"):
                call()
        # The endpoint is its parent's, and can be used.
        names = [node.name for node in cloud.driver().list_nodes()]
        cloud.stop()
        cloud.close()
        cloud.__exit__(None, None, None)
        return names, cloud.url, cloud.access_key

    with Emulator(state=path, instances=1) as cloud:
        seen = fork(use_it)
        assert seen == str((["instance-1"], cloud.url, cloud.access_key))
        assert client(cloud).tree("GetBalance")["balance"] == 1000
    assert is_free(path)


def test_forked_child_does_not_wait_for_threads_of_parent(fork, cloud):
    fault = cloud.inject(delay(0))
    is_changing, is_over = threading.Event(), threading.Event()

    def change():
        with cloud._backend.transactions():
            is_changing.set()
            is_over.wait()

    def use_it():
        with pytest.raises(RuntimeError, match="forked"):
            fault.remove()
        return cloud.clock.now()

    # The fork happens at a moment at which another thread is in a change.
    changing = threading.Thread(target=change)
    changing.start()
    is_changing.wait()
    seen = fork(use_it)
    is_over.set()
    changing.join()
    assert datetime.fromisoformat(seen) <= cloud.clock.now()
    assert list(cloud.faults) == [fault]


def test_forked_child_can_create_emulators(fork, cloud, tmp_path):
    def use_it():
        with Emulator(state=tmp_path / "child.db", instances=2) as other:
            assert other.port != cloud.port
            return len(other.driver().list_nodes())

    assert fork(use_it) == "2"
    assert is_free(tmp_path / "child.db")
    assert cloud.driver().list_nodes() == []


def test_forked_child_of_stopped_emulator_cannot_start_it(fork, path):
    with Emulator(state=path) as cloud:
        cloud.stop()
        assert "belongs to the parent" in fork(cloud.start)
        cloud.start()
        client(cloud).tree("GetBalance")


def test_subprocess_inherits_no_connection(cloud):
    with RawClient(cloud.port) as raw:
        assert raw.ask("GET", "/").status == 200
        code = "import sys; print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        ) as process:
            process.stdout.readline()
            cloud.stop()
            assert raw.is_closed()
            cloud.start()
            process.communicate()


def script(code, *arguments, status=0):
    """Run a program, and return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (status, "")
    return done.stdout


def test_forked_child_that_exits_removes_nothing(path, node_network):
    printed = script(
        """
        import os, sys
        from pathlib import Path
        from libcloud_mcs.emulator import Emulator

        nodes = dict(boot_seconds=0, node_network=sys.argv[2], ssh=True, ssh_port=2222)
        with Emulator(state=sys.argv[1], tls=True, **nodes) as cloud:
            driver = cloud.driver()
            image = driver.list_images()[0]
            driver.create_node("first", "small", image)
            here = set(os.listdir(os.path.dirname(sys.argv[1])))
            child = os.fork()
            if child == 0:
                sys.exit()
            assert os.waitpid(child, 0)[1] == 0
            assert set(os.listdir(os.path.dirname(sys.argv[1]))) == here
            assert Path(cloud.ca_cert).exists()
            homes = [disk.home for disk in cloud._ssh._disks.values()]
            assert len(homes) == 1 and homes[0].exists()
            driver.create_node("second", "small", image)
            print(len(cloud.driver().list_nodes()))
            os._exit(0)
        """,
        path,
        node_network,
    )
    assert printed == "2\n"
    with Emulator(state=path) as cloud:
        assert [each.name for each in cloud.account.state.instances()] == ["first", "second"]


def test_process_pool_uses_the_endpoint():
    printed = script(
        """
        import multiprocessing
        from libcloud_mcs.emulator import Emulator

        def work(number):
            driver = cloud.driver()
            return driver.create_node(f"node-{number}", "small", driver.list_images()[0]).name

        with Emulator() as cloud:
            pool = multiprocessing.get_context("fork").Pool(3)
            pool.map(work, range(9))
            pool.close()
            pool.join()
            print(sorted(node.name for node in cloud.driver().list_nodes()))
        """
    )
    assert printed == f"{[f'node-{number}' for number in range(9)]}\n"


# The end of a program


@pytest.mark.parametrize(
    "last",
    [
        "",
        "cloud.stop()",
        "atexit.register(cloud.stop)",
        "atexit.register(lambda: cloud.driver().list_nodes())",
        "del cloud",
        "sys.exit()",
        "threading.Thread(target=cloud.stop).start()",
        "threading.Thread(target=cloud.driver().list_nodes, daemon=True).start()",
        "cloud.inject(delay(99)); ask()",
        "cloud.inject(meanwhile(forever)); ask()",
    ],
)
def test_program_that_ends_without_stop_leaves_nothing(path, node_network, tmp_path, last):
    folders = tmp_path / "temporary"
    folders.mkdir()
    script(
        f"""
        import atexit, os, sys, tempfile, threading
        from libcloud_mcs.emulator import Effect, Emulator, delay, meanwhile

        def ask():
            threading.Thread(target=cloud.driver().list_nodes, daemon=True).start()
            while not any(fault.fired for fault in cloud.faults):
                pass

        def forever():
            threading.Event().wait()

        threading.excepthook = lambda _: None  # of the client that gets no answer
        tempfile.tempdir = sys.argv[3]
        nodes = dict(instances=1, node_network=sys.argv[2], ssh=True, ssh_port=2222)
        cloud = Emulator(state=sys.argv[1], tls=True, **nodes)
        assert os.path.exists(cloud.ca_cert)
        cloud.start()
        driver = cloud.driver()
        driver.create_node("web", "small", driver.list_images()[0])
        assert len(os.listdir(sys.argv[3])) == 2
        {last}
        """,
        path,
        node_network,
        folders,
    )
    assert os.listdir(folders) == []
    assert is_free(path)
    with Emulator(state=path) as cloud:
        assert len(cloud.account.state.instances()) == 2


def test_interrupted_program_leaves_nothing(path):
    with pytest.raises(AssertionError, match="KeyboardInterrupt") as caught:
        script(
            """
            import os, signal, sys, threading, time
            from libcloud_mcs.emulator import Emulator

            # Whoever runs this may have it ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with Emulator(state=sys.argv[1]) as cloud:
                threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
                time.sleep(60)
            """,
            path,
            status=-signal.SIGINT,
        )
    assert "Exception ignored" not in str(caught.value)
    assert sorted(os.listdir(path.parent)) == [path.name]
    assert is_free(path)
