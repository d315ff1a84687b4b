"""When the endpoint says that there are too many requests, they go one after another."""

import threading
import time
from types import SimpleNamespace

import pytest

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator, too_many
from libcloud_mcs.errors import RateLimitError
from libcloud_mcs.turns import Turns

SOON = 30.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves on."""
    clock = SimpleNamespace(now=1000.0, slept=[])

    def sleep(seconds):
        clock.slept.append(seconds)
        clock.now += seconds

    clock.monotonic, clock.sleep = lambda: clock.now, sleep
    monkeypatch.setattr("libcloud_mcs.turns.time", clock)
    return clock


def side_by_side(turns, count, inside):
    """Have so many threads take a turn, with the same thing to do in it; give their errors."""
    errors = []

    def one():
        try:
            with turns.turn(time.monotonic() + SOON):
                inside()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_all_at_once_until_there_are_too_many():
    together = threading.Barrier(4)
    assert side_by_side(Turns(), 4, lambda: together.wait(SOON)) == []


def test_one_after_another_from_then_on():
    turns = Turns()
    turns.too_many()
    alone = threading.Lock()
    had = []

    def inside():
        assert alone.acquire(blocking=False)
        had.append(threading.current_thread())
        alone.release()

    assert side_by_side(turns, 4, inside) == []
    assert len(had) == 4


def test_nobody_before_the_time_that_was_told_and_all_again_some_time_after(clock):
    turns = Turns()
    turns.too_many(wait=7)
    turns.too_many()
    for _ in range(2):
        with turns.turn(clock.now + 60):
            assert clock.now == 1007
    assert clock.slept == [7]
    clock.now += 11
    # The second turn begins inside of the first.
    with turns.turn(clock.now + 60), turns.turn(clock.now):
        pass


def test_a_turn_that_never_comes_is_an_error_and_so_is_one_that_raises(clock):
    turns = Turns()
    turns.too_many()
    with (
        turns.turn(clock.now + 60),
        pytest.raises(RateLimitError, match="turn never came"),
        turns.turn(clock.now),
    ):
        pytest.fail("there were two at once")
    with pytest.raises(ZeroDivisionError), turns.turn(clock.now + 60):
        raise ZeroDivisionError
    with turns.turn(clock.now + 60):
        pass


def test_nobody_waits_beyond_the_deadline(clock):
    turns = Turns()
    turns.too_many(wait=50)
    with turns.turn(clock.now + 5):
        assert clock.slept == [5]


def test_a_walk_goes_on_one_by_one_after_429():
    with Emulator(instances=60, max_limit=5) as cloud:
        driver = cloud.driver(concurrency=4, retry_delay=0.001)
        first = cloud.inject(too_many(0), on="DescribeInstances", nth=3, times=1)
        second = cloud.inject(too_many("soon"), on="DescribeInstances", nth=9, times=1)
        names = [node.name for node in driver.list_nodes()]
        assert names == [f"instance-{number}" for number in range(1, 61)]
        assert first.fired == second.fired == 1


def test_an_endpoint_that_takes_one_request_at_a_time(requests_mock):
    busy = threading.Lock()
    refused = []
    rows = [f"<Instance><instanceId>i{n}</instanceId></Instance>" for n in range(60)]

    def answer(request, context):
        if not busy.acquire(blocking=False):
            refused.append(request)
            context.status_code = 429
            return "one at a time"
        try:
            time.sleep(0.002)
            offset = int(request.text.partition("Offset=")[2].partition("&")[0])
            return (
                f"<DescribeInstancesResponse><InstanceSet>{''.join(rows[offset : offset + 5])}"
                "<Total>60</Total></InstanceSet></DescribeInstancesResponse>"
            )
        finally:
            busy.release()

    requests_mock.post("https://mosapi.meituan.com/mcs/v1", text=answer)
    driver = MCSNodeDriver("key", "secret", concurrency=8, retry_delay=0.001)
    assert [node.id for node in driver.list_nodes()] == [f"i{n}" for n in range(60)]
    assert 0 < len(refused) < 15
