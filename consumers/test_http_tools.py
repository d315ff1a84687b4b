"""vcrpy, responses and pook: the driver's requests are theirs to record, to replay and to fail."""

import subprocess
import sys
import textwrap

import pook
import pytest
import requests
import responses
import vcr

from libcloud_mcs.emulator import Emulator
from libcloud_mcs.errors import OutcomeUnknownError

IMAGE = "d1620e45-c561-42e7-a2a4-53ae0a389bb9"
BALANCE = "<GetBalanceResponse><balance>5</balance></GetBalanceResponse>"
#: Each request has a different time and signature.
MATCH = {"match_on": ["method", "scheme", "host", "port", "path"]}


@pytest.fixture
def cloud():
    with Emulator(instances=3000) as emulator:
        yield emulator


@pytest.fixture(params=["xml", "json"])
def driver(cloud, request):
    return cloud.driver(response_format=request.param, retry_delay=0.001, page_size=5000)


@pytest.mark.parametrize("used", [False, True], ids=["new driver", "used driver"])
def test_vcrpy_lets_nothing_past_it(cloud, driver, tmp_path, used):
    if used:
        driver.ex_get_balance()
    before = len(cloud.records)
    with (
        vcr.use_cassette(str(tmp_path / "none.yaml"), record_mode="none", **MATCH),
        pytest.raises(vcr.errors.CannotOverwriteExistingCassetteException),
    ):
        driver.create_node("web", "small", IMAGE)
    assert len(cloud.records) == before
    assert cloud.ledger == []


def test_vcrpy_records_and_replays(cloud, driver, tmp_path):
    # One page, which is read in many chunks.
    path = str(tmp_path / "nodes.yaml")
    with vcr.use_cassette(path, record_mode="once", **MATCH):
        recorded = [node.id for node in driver.list_nodes(ex_names=["instance-1"])]
        whole = driver.list_nodes()
        balance = driver.ex_get_balance()
    seen = len(cloud.records)
    with vcr.use_cassette(path, record_mode="none", **MATCH) as cassette:
        assert [node.id for node in driver.list_nodes(ex_names=["instance-1"])] == recorded
        assert len(driver.list_nodes()) == len(whole) == 3000
        assert driver.ex_get_balance() == balance
        assert cassette.all_played
    assert len(cloud.records) == seen
    # And behind it everything is as before.
    driver.ex_get_balance()
    assert len(cloud.records) == seen + 1


def test_vcrpy_may_come_first(cloud, tmp_path):
    program = f"""
        import vcr
        with vcr.use_cassette({str(tmp_path / "none.yaml")!r}, record_mode="none"):
            from libcloud_mcs.driver import MCSNodeDriver
            driver = MCSNodeDriver({cloud.access_key!r}, {cloud.secret!r}, url={cloud.url!r})
            try:
                driver.ex_get_balance()
            except vcr.errors.CannotOverwriteExistingCassetteException:
                print("nothing past it")
        print(driver.ex_get_balance().amount)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["nothing past it", "1000.00"], done.stderr


@pytest.mark.parametrize(
    "error",
    [
        requests.ReadTimeout("slow"),
        requests.Timeout("slow"),
        requests.ConnectionError("reset"),
        requests.exceptions.ProxyError("gone"),
        requests.exceptions.SSLError("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_responses_is_unclear(cloud, driver, error):
    with responses.RequestsMock() as mock:
        mock.post(cloud.url, body=error)
        with pytest.raises(OutcomeUnknownError):
            driver.connection.call("CreateInstance", {"InstanceName": "web"})
        assert len(mock.calls) == 1


def test_responses_answers(cloud, driver):
    with responses.RequestsMock() as mock:
        mock.post(cloud.url, body=BALANCE)
        assert driver.ex_get_balance().amount == 5
    assert driver.ex_get_balance().amount == 1000


def test_pook_answers(cloud, driver):
    with pook.use():
        pook.post(cloud.url).reply(200).body(BALANCE)
        assert driver.ex_get_balance().amount == 5
    assert driver.ex_get_balance().amount == 1000
