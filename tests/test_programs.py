"""Programs of users: exit, threads, and copies of drivers and of objects that have one."""

import copy
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from operator import methodcaller

import pytest
from libcloud.compute.base import NodeDriver

from libcloud_mcs.emulator import Emulator, error
from libcloud_mcs.errors import MCSError

SECRET = "a-very-secret-secret"

#: Every verb that may use threads, and how many things it gives of 30 instances.
VERBS = {
    "list_nodes": ("len(driver.list_nodes())", 30),
    "list_nodes by IDs": ("len(driver.list_nodes(ex_node_ids=ids))", 30),
    "ex_iterate_nodes": ("len(list(driver.ex_iterate_nodes()))", 30),
    "list_volumes": ("len(driver.list_volumes())", 60),
    "destroy_node": ("sum(node.destroy() for node in driver.list_nodes())", 30),
}


@pytest.fixture
def fleet():
    with Emulator(instances=30, terminate_seconds=60) as cloud:
        yield cloud


def run(cloud, program, concurrency=8, ids="[node.id for node in driver.list_nodes()]"):
    """Run a program with a driver, and return its output."""
    begin = f"""
        import atexit, sys, threading
        from libcloud_mcs import MCSNodeDriver

        driver = MCSNodeDriver(
            {cloud.access_key!r}, {cloud.secret!r}, url={cloud.url!r},
            page_size=5, concurrency={concurrency},
        )
        ids = {ids}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


# The end of a program


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(("verb", "count"), VERBS.values(), ids=VERBS)
def test_verb_works_at_exit(fleet, verb, count, concurrency):
    program = f"atexit.register(lambda: print({verb}))"
    assert run(fleet, program, concurrency) == [str(count)]


@pytest.mark.parametrize(("verb", "count"), VERBS.values(), ids=VERBS)
def test_verb_works_at_exit_without_earlier_imports(fleet, verb, count):
    program = f"""
        assert "concurrent.futures.thread" not in sys.modules
        atexit.register(lambda: print({verb}))
    """
    ids = [node.id for node in fleet.driver().list_nodes()]
    assert run(fleet, program, ids=ids) == [str(count)]


@pytest.mark.parametrize(("verb", "count"), VERBS.values(), ids=VERBS)
def test_verb_works_in_thread_that_outlives_the_main_one(fleet, verb, count):
    program = f"""
        def work():
            threading.main_thread().join()
            print({verb})

        threading.Thread(target=work).start()
    """
    assert run(fleet, program) == [str(count)]


def test_iteration_begun_before_exit_continues_at_exit(fleet):
    program = """
        nodes = driver.ex_iterate_nodes()
        next(nodes)
        atexit.register(lambda: print(len(list(nodes))))
    """
    assert run(fleet, program) == ["29"]


# Threads


@pytest.fixture
def started(monkeypatch):
    """The list of threads that were started."""
    found, start = [], threading.Thread.start

    def record(self):
        found.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", record)
    return found


@pytest.mark.parametrize(("verb", "count"), VERBS.values(), ids=VERBS)
def test_verb_with_concurrency_1_starts_no_thread(fleet, started, verb, count):
    driver = fleet.driver(page_size=5, concurrency=1)
    ids = [node.id for node in driver.list_nodes()]
    assert eval(verb, {"driver": driver, "ids": ids}) == count
    assert started == []


@pytest.mark.parametrize("left", [0, 1, 3])
@pytest.mark.parametrize(("verb", "count"), VERBS.values(), ids=VERBS)
def test_verb_continues_when_no_thread_can_be_started(fleet, monkeypatch, verb, count, left):
    driver = fleet.driver(page_size=5, concurrency=8)
    ids = [node.id for node in driver.list_nodes()]
    remaining, start = [left], threading.Thread.start

    def refuse(self):
        if not remaining[0]:
            raise RuntimeError("can't start new thread")
        remaining[0] -= 1
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert eval(verb, {"driver": driver, "ids": ids}) == count


def test_error_is_the_same_with_concurrency_1(fleet):
    driver = fleet.driver(concurrency=1, max_tries=1)
    fleet.inject(error(418), on="DescribeInstanceVolumes", nth=3)
    with pytest.raises(MCSError, match="Injected fault"):
        driver.list_volumes()
    assert sum(record.action == "DescribeInstanceVolumes" for record in fleet.records) == 3


# Copies


#: Returns an object, for every kind that a verb returns and that has the driver.
THINGS = {
    "driver": lambda driver: driver,
    "connection": lambda driver: driver.connection,
    "node": lambda driver: driver.list_nodes()[0],
    "size of a node": lambda driver: driver.list_nodes()[0].size,
    "size": lambda driver: driver.list_sizes()[0],
    "image": lambda driver: driver.list_images()[0],
    "location": lambda driver: driver.list_locations()[0],
    "key pair": lambda driver: driver.create_key_pair("mine"),
    "volume": lambda driver: driver.list_volumes()[0],
}
WAYS = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle, protocol {protocol}": lambda thing, protocol=protocol: pickle.loads(
            pickle.dumps(thing, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def driver_of(thing):
    return thing if isinstance(thing, NodeDriver) else thing.driver


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", THINGS)
def test_objects_with_a_driver_can_be_copied(fleet, name, way):
    driver = fleet.driver()
    thing = THINGS[name](driver)
    copied = way(thing)
    assert type(copied) is type(thing)
    theirs = driver_of(copied)
    assert theirs is not driver
    assert theirs.connection.driver is theirs
    # It has separate connections, and works as the other does.
    assert (
        theirs.connection._open_channel().session is not driver.connection._open_channel().session
    )
    assert len(theirs.list_nodes()) == len(driver.list_nodes()) == 30
    assert getattr(copied, "name", None) == getattr(thing, "name", None)
    assert getattr(copied, "extra", None) == getattr(thing, "extra", None)


def test_copied_driver_keeps_every_setting(fleet):
    settings = {
        "region": "Shanghai",
        "timeout": 7,
        "connect_timeout": 6,
        "deadline": 5,
        "max_tries": 3,
        "retry_delay": 0.2,
        "backoff": 3.0,
        "http_method": "GET",
        "response_format": "json",
        "signature_method": "HmacSHA1",
        "page_size": 11,
        "concurrency": 2,
    }
    driver = fleet.driver(**settings)
    copied = pickle.loads(pickle.dumps(driver))
    for name, value in settings.items():
        holder = copied if hasattr(copied, name) and name != "connection" else copied.connection
        assert getattr(holder, name) == value, name
    assert copied.connection.key == fleet.secret


def test_copied_driver_of_emulator_uses_no_proxy(fleet, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert len(copy.deepcopy(fleet.driver()).list_nodes()) == 30


def test_copied_driver_has_a_separate_throttle(fleet):
    driver = fleet.driver()
    driver.connection._open_channel().throttle.rate_limited(60)
    assert len(copy.deepcopy(driver).list_nodes()) == 30


def test_pickled_sizes_are_read_after_requests_were_sent(fleet, tmp_path):
    driver = fleet.driver()
    (tmp_path / "sizes").write_bytes(pickle.dumps(driver.list_sizes()))
    sizes = pickle.loads((tmp_path / "sizes").read_bytes())
    assert {size.driver for size in sizes} == {sizes[0].driver}
    assert [size.id for size in sizes] == [size.id for size in driver.list_sizes()]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_nodes_can_be_destroyed_in_a_process_pool(fleet, method):
    nodes = fleet.driver().list_nodes()[:4]
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        # A function that every process can import.
        assert list(pool.map(methodcaller("destroy"), nodes)) == [True] * 4
    states = {node.id: node.state for node in fleet.driver().list_nodes(ex_node_ids=nodes)}
    assert states == {node.id: "terminated" for node in nodes}
