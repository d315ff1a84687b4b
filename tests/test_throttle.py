"""The throttle: after HTTP 429, requests are sent one after another."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from libcloud_mcs._throttle import Throttle
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator, too_many
from libcloud_mcs.errors import RateLimitError

SOON = 30.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances only by sleeping."""
    clock = SimpleNamespace(now=1000.0, slept=[])

    def sleep(seconds):
        clock.slept.append(seconds)
        clock.now += seconds

    clock.monotonic, clock.sleep = lambda: clock.now, sleep
    monkeypatch.setattr("libcloud_mcs._throttle.time", clock)
    return clock


def concurrent(throttle, count, inside):
    """Run a function in a slot in each of several threads, and return the errors."""
    errors = []

    def one():
        try:
            with throttle.slot(time.monotonic() + SOON):
                inside()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_requests_are_concurrent_before_429():
    together = threading.Barrier(4)
    assert concurrent(Throttle(), 4, lambda: together.wait(SOON)) == []


def test_requests_are_sequential_after_429():
    throttle = Throttle()
    throttle.rate_limited()
    alone = threading.Lock()
    had = []

    def inside():
        assert alone.acquire(blocking=False)
        had.append(threading.current_thread())
        alone.release()

    assert concurrent(throttle, 4, inside) == []
    assert len(had) == 4


def test_throttle_waits_for_delay_and_is_lifted_later(clock):
    throttle = Throttle()
    throttle.rate_limited(wait=7)
    throttle.rate_limited()
    for _ in range(2):
        with throttle.slot(clock.now + 60):
            assert clock.now == 1007
    assert clock.slept == [7]
    clock.now += 11
    # The second turn begins inside of the first.
    with throttle.slot(clock.now + 60), throttle.slot(clock.now):
        pass


def test_throttle_is_released_after_deadline_or_exception(clock):
    throttle = Throttle()
    throttle.rate_limited()
    with (
        throttle.slot(clock.now + 60),
        pytest.raises(
            RateLimitError, match="the deadline passed before this request could be sent"
        ),
        throttle.slot(clock.now),
    ):
        pytest.fail("there were two at once")
    with pytest.raises(ZeroDivisionError), throttle.slot(clock.now + 60):
        raise ZeroDivisionError
    with throttle.slot(clock.now + 60):
        pass


def test_no_request_waits_beyond_its_deadline(clock):
    throttle = Throttle()
    throttle.rate_limited(wait=50)
    with throttle.slot(clock.now + 5):
        assert clock.slept == [5]


def test_list_continues_sequentially_after_429():
    with Emulator(instances=60, max_limit=5) as cloud:
        driver = cloud.driver(concurrency=4, retry_delay=0.001)
        first = cloud.inject(too_many(0), on="DescribeInstances", nth=3, times=1)
        second = cloud.inject(too_many("soon"), on="DescribeInstances", nth=9, times=1)
        names = [node.name for node in driver.list_nodes()]
        assert names == [f"instance-{number}" for number in range(1, 61)]
        assert first.fired == second.fired == 1


class OneAtATime(BaseHTTPRequestHandler):
    """An endpoint of sixty instances that refuses a request while another is being answered."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        offset = int(form.partition("Offset=")[2].partition("&")[0])
        if not server.busy.acquire(blocking=False):
            server.refused.append(offset)
            server.was_refused.set()
            self.answer(429, "one at a time")
            return
        if offset:
            # The second for as long as it takes until another has come; then for a moment.
            server.was_refused.wait(0.01 if server.refused else SOON)
            server.was_refused.clear()
        rows = "".join(
            f"<Instance><instanceId>i{n}</instanceId></Instance>" for n in range(60)[offset:][:5]
        )
        content = f"<InstanceSet>{rows}<Total>60</Total></InstanceSet>"
        server.busy.release()
        self.answer(200, f"<DescribeInstancesResponse>{content}</DescribeInstancesResponse>")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


def test_list_is_complete_when_endpoint_allows_one_request_at_a_time():
    with ThreadingHTTPServer(("127.0.0.1", 0), OneAtATime) as server:
        server.busy, server.was_refused, server.refused = threading.Lock(), threading.Event(), []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            driver = MCSNodeDriver("key", "secret", url=url, concurrency=8, retry_delay=0.001)
            assert [node.id for node in driver.list_nodes()] == [f"i{n}" for n in range(60)]
            assert 0 < len(server.refused) < 15
        finally:
            driver.connection._open_channel().session.close()
            server.shutdown()
            thread.join()
