"""
The promises of docs/reliability.md about money, retries and secrets.

Each test uses a fault that the emulator injects, or a broken server.
"""

import contextlib
import gc
import gzip
import json
import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import libcloud
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from libcloud.common.base import Connection
from libcloud.compute.base import NodeAuthSSHKey, NodeImage, NodeSize
from libcloud.compute.deployment import ScriptDeployment
from libcloud.compute.types import DeploymentError, NodeState
from ssh_keys import new_key, public_text
from urllib3.connection import HTTPConnection

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import (
    Effect,
    Emulator,
    Response,
    boot_fail,
    cut,
    delay,
    drop_after,
    drop_before,
    error,
    html,
    meanwhile,
    overload,
    too_many,
)
from libcloud_mcs.emulator._instances import Lease, Order
from libcloud_mcs.errors import (
    InvalidCredentialsError,
    MCSError,
    NotFoundError,
    OutcomeUnknownError,
    PrivateKeyRequiredError,
    RateLimitError,
)
from libcloud_mcs.keys import public_key_fingerprint

IMAGE = "d1620e45-c561-42e7-a2a4-53ae0a389bb9"


@pytest.fixture
def quick(cloud):
    """A driver with short delays between its tries."""
    return cloud.driver(retry_delay=0.001, timeout=10)


@pytest.fixture
def node(quick):
    return quick.create_node("web", "small", IMAGE, ex_duration="1H")


# Money

#: Every way in which an answer may fail to come, and whether the request was carried out.
UNCLEAR = {
    "dropped before it was done": (drop_before(), False),
    "dropped after it was done": (drop_after(), True),
    "cut in the answer": (cut(10), True),
    "cut before the answer's body": (cut(0), True),
    "500, not done": (error(500), False),
    "500, done": (error(500, after=True), True),
    "503, not done": (overload(), False),
    "503, done": (error(503, after=True), True),
    "HTML with 502, not done": (html(502), False),
    "HTML with 502, done": (html(502, after=True), True),
    "HTML with 200, not done": (html(200), False),
    "HTML with 200, done": (html(200, after=True), True),
    "no answer in time": (None, True),
}


def billed(driver, node, action):
    """Return the call of the verb of a billed action."""
    return {
        "CreateInstance": lambda: driver.create_node("new", "small", IMAGE, ex_duration="1H"),
        "RenewInstance": lambda: driver.ex_renew_node(node, "1H"),
        "ChangeInstanceType": lambda: driver.ex_change_node_size(node, "medium", "1H"),
    }[action]


@pytest.mark.parametrize("unclear", UNCLEAR)
@pytest.mark.parametrize("action", ["CreateInstance", "RenewInstance", "ChangeInstanceType"])
def test_unclear_billed_request_is_charged_once_and_its_result_found(cloud, node, action, unclear):
    effect, done = UNCLEAR[unclear]
    driver = cloud.driver(retry_delay=0.001, timeout=10)
    if effect is None:
        effect = Effect("late", seconds=0.6, after=True)
        driver = cloud.driver(retry_delay=0.3, backoff=2, max_tries=6, timeout=0.3)
    cloud.inject(effect, on=action)
    call = billed(driver, node, action)
    if done:
        result = call()
        assert result is True or result.name == "new"
    else:
        with pytest.raises(
            OutcomeUnknownError, match="the action may still be in progress"
        ) as caught:
            call()
        assert caught.value.action == action
    charges = [charge.action for charge in cloud.ledger]
    assert charges == ["CreateInstance"] + [action] * done
    assert Counter(record.action for record in cloud.records)[action] == 1 + (
        action == "CreateInstance"
    )


@pytest.mark.parametrize("action", ["CreateInstance", "RenewInstance", "ChangeInstanceType"])
def test_refused_billed_request_is_not_retried(cloud, quick, node, action):
    for effect, ours in ((too_many(0), RateLimitError), (error(409), MCSError)):
        with cloud.inject(effect, on=action) as fault:
            with pytest.raises(ours):
                billed(quick, node, action)()
            assert fault.fired == 1
    assert len(cloud.ledger) == 1


def test_billed_request_that_was_not_sent_is_retried(cloud, node, monkeypatch):
    # No server listens for a while: connecting is all that failed.
    driver = cloud.driver(retry_delay=0.001, max_tries=3)
    driver.ex_get_contract(node)
    url = cloud.url
    cloud.stop()
    tries = []

    def pause(number):
        tries.append(number)
        if len(tries) == 2:
            restarted.start()
        return 0

    monkeypatch.setattr(driver.connection, "backoff_delay", pause)
    port = int(url.rpartition(":")[2].partition("/")[0])
    restarted = Emulator(port=port, access_key=cloud.access_key, secret=cloud.secret)
    try:
        with pytest.raises(MCSError, match="'none'"):
            driver.connection.call("RenewInstance", {"InstanceId": "none"})
        assert tries == [1, 2]
        assert len(restarted.records) == 1
    finally:
        restarted.stop()


def test_node_that_existed_before_is_not_returned_as_new(cloud, quick, node):
    cloud.inject(drop_after(), on="CreateInstance")
    with pytest.raises(OutcomeUnknownError) as caught:
        quick.create_node("web", "small", IMAGE)
    assert caught.value.find_out == "driver.list_nodes(ex_names=['web'])"
    assert caught.value.asked["InstanceName"] == "web"
    assert len(cloud.ledger) == 1


def test_node_of_another_size_is_not_returned_as_new(cloud, quick):
    # Another client uses the name before the request, which is refused. The response is lost.
    effect = Effect("late", run=lambda: create_instance(cloud, "web", "large"), drop_after=True)
    cloud.inject(effect, on="CreateInstance", times=1)
    with pytest.raises(OutcomeUnknownError):
        quick.create_node("web", "small", IMAGE)
    assert [charge.action for charge in cloud.ledger] == ["CreateInstance"]


@pytest.mark.parametrize("row", [{}, {"instanceType": "small"}, {"instanceTypeId": "s-1"}])
def test_new_node_is_found_by_any_name_of_its_size(requests_mock, row):
    # What the specification's examples leave out, an endpoint may leave out.
    asked = []

    def treat(request, context):
        action = request.text.partition("Action=")[2].partition("&")[0]
        asked.append(action)
        if action == "CreateInstance":
            context.status_code = 500
            return "oops"
        rows = [{"instanceId": "i", "instanceName": "new", **row}] if len(asked) > 2 else []
        tree = {"InstanceSet": {"Instance": rows, "Total": len(rows)}}
        return json.dumps({"DescribeInstancesResponse": tree})

    requests_mock.post("https://mosapi.meituan.com/mcs/v1", text=treat)
    driver = MCSNodeDriver("key", "secret", retry_delay=0.001)
    size = NodeSize("s-1", "small", 1, 1, 1, None, driver)
    assert driver.create_node("new", size, NodeImage("m", "image", driver)).id == "i"
    assert asked == ["DescribeInstances", "CreateInstance", "DescribeInstances"]


def test_failed_confirmation_is_unknown_outcome(cloud, quick, node):
    cloud.inject(drop_after(), on="RenewInstance")
    cloud.inject(error(500), on="GetInstanceContractInfo", nth=2)
    with pytest.raises(OutcomeUnknownError, match="the check failed") as caught:
        quick.ex_renew_node(node, "1H")
    assert caught.value.find_out == f"driver.ex_get_contract({node.id!r})"
    cloud.faults.clear()
    assert eval(caught.value.find_out, {"driver": quick}).expire_at
    assert len(cloud.ledger) == 2


def test_failed_snapshot_is_unknown_outcome(cloud, quick, node):
    for read, action in (
        ("DescribeInstances", "CreateInstance"),
        ("GetInstanceContractInfo", "RenewInstance"),
        ("DescribeInstances", "ChangeInstanceType"),
    ):
        cloud.inject(error(500), on=read)
        cloud.inject(drop_after(), on=action)
        with pytest.raises(OutcomeUnknownError):
            billed(quick, node, action)()
        cloud.faults.clear()
    assert len(cloud.ledger) == 4


def test_change_to_the_same_size_is_unknown_outcome(cloud, quick, node):
    cloud.inject(drop_after(), on="ChangeInstanceType")
    with pytest.raises(OutcomeUnknownError):
        quick.ex_change_node_size(node, "small")


def test_confirmation_waits_for_request_under_way(cloud, quick, node):
    # Seen only with the third look.
    cloud.inject(drop_after(), on="RenewInstance")
    looks = []
    real = quick.ex_get_contract

    def look(name):
        looks.append(name)
        contract = real(name)
        return contract if len(looks) in (1, 4) else before

    before = real(node)
    quick.ex_get_contract = look
    assert quick.ex_renew_node(node, "1H") is True
    assert len(looks) == 4


# Changes and reads

CHANGES = {
    "StartInstance": lambda driver, node: driver.start_node(node),
    "StopInstance": lambda driver, node: driver.stop_node(node),
    "RebootInstance": lambda driver, node: driver.reboot_node(node),
    "RebuildInstanceRootImage": lambda driver, node: driver.ex_rebuild_node(node),
    "TerminateInstance": lambda driver, node: driver.destroy_node(node),
    "PutInstanceMetadata": lambda driver, node: driver.ex_set_metadata(node, {"a": "b"}),
    "DeleteKeyPair": lambda driver, node: driver.delete_key_pair("none"),
}


@pytest.mark.parametrize("action", CHANGES)
@pytest.mark.parametrize("effect", [drop_before(), drop_after(), cut(5), error(500), html(200)])
def test_unclear_change_is_not_retried(cloud, quick, node, action, effect):
    with cloud.inject(effect, on=action) as fault:
        with pytest.raises((OutcomeUnknownError, MCSError)) as caught:
            CHANGES[action](quick, node)
        assert fault.fired == 1
    if effect.name != "cut" or caught.value.http_code < 400:
        assert isinstance(caught.value, OutcomeUnknownError)


# Key pairs

#: Whether a key pair that another client made is registered, after each unclear outcome.
UNCLEAR_CHANGES = {what: entry for what, entry in UNCLEAR.items() if not what.startswith("503")}


def registered(cloud):
    return {pair.name: pair.fingerprint for pair in cloud.account.state.key_pairs()}


def assert_carries(error, cloud, name):
    """Check that an error has the private key of a pair, and shows it nowhere."""
    private = error.private_key
    key = serialization.load_pem_private_key(private.encode(), None)
    if name in registered(cloud):
        assert registered(cloud)[name] == public_key_fingerprint(public_text(key), "key")
    shown = [repr(error), str(error), str(error.args)]
    shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    copied = pickle.loads(pickle.dumps(error))
    assert copied.private_key == private
    for text in (*shown, repr(copied), str(copied)):
        assert not any(line in text for line in private.splitlines()[1:-1])


@pytest.mark.parametrize("unclear", UNCLEAR_CHANGES)
def test_private_key_of_unclear_creation_is_kept(cloud, unclear):
    effect, done = UNCLEAR_CHANGES[unclear]
    driver = cloud.driver(retry_delay=0.001, timeout=10)
    if effect is None:
        effect = Effect("late", seconds=0.6, after=True)
        driver = cloud.driver(retry_delay=0.3, backoff=2, max_tries=6, timeout=0.3)
    with cloud.inject(effect, on="ImportKeyPair") as fault:
        if done:
            pair = driver.create_key_pair("mine")
            key = serialization.load_pem_private_key(pair.private_key.encode(), None)
            assert public_key_fingerprint(pair.public_key, "key") == pair.fingerprint
            assert public_key_fingerprint(public_text(key), "key") == pair.fingerprint
            assert registered(cloud) == {"mine": pair.fingerprint}
        else:
            with pytest.raises(OutcomeUnknownError, match="'private_key' of this error") as caught:
                driver.create_key_pair("mine")
            assert_carries(caught.value, cloud, "mine")
            assert registered(cloud) == {}
        assert fault.fired == 1


def test_failed_confirmation_of_key_pair_has_private_key(cloud, quick, caplog):
    caplog.set_level(logging.DEBUG)
    cloud.inject(drop_after(), on="ImportKeyPair")
    cloud.inject(error(500), on="DescribeKeyPairs")
    with pytest.raises(OutcomeUnknownError, match="the check failed") as caught:
        quick.create_key_pair("mine")
    assert list(registered(cloud)) == ["mine"]
    assert_carries(caught.value, cloud, "mine")
    assert not any(line in caplog.text for line in caught.value.private_key.splitlines()[1:-1])
    cloud.faults.clear()
    found = eval(caught.value.find_out, {"driver": quick})
    assert found.fingerprint == registered(cloud)["mine"]


def test_error_503_of_registration_has_private_key(cloud, quick):
    cloud.inject(error(503, after=True), on="ImportKeyPair")
    with pytest.raises(MCSError, match="'private_key' of this error") as caught:
        quick.create_key_pair("mine")
    assert list(registered(cloud)) == ["mine"]
    assert_carries(caught.value, cloud, "mine")


@pytest.mark.parametrize("on", ["ImportKeyPair", "DescribeKeyPairs"])
def test_interrupted_creation_of_key_pair_has_private_key(cloud, quick, on):
    if on == "DescribeKeyPairs":
        cloud.inject(drop_after(), on="ImportKeyPair")
    fault = cloud.inject(Effect("late", seconds=60, after=True), on=on)
    with interrupted_when(lambda: fault.fired) as caught:
        quick.create_key_pair("mine")
    assert_carries(caught.value, cloud, "mine")


def test_exception_of_a_tool_has_private_key(cloud, quick, monkeypatch):
    def send(*args, **kwargs):
        raise RuntimeError("no request goes out from here")

    monkeypatch.setattr(requests.Session, "send", send)
    with pytest.raises(RuntimeError) as caught:
        quick.create_key_pair("mine")
    assert_carries(caught.value, cloud, "mine")


@pytest.mark.parametrize("effect", [None, error(401), error(403), too_many(0)])
def test_refused_key_pair_has_no_private_key_in_error(cloud, quick, effect):
    if effect is None:
        quick.import_key_pair_from_string("mine", public_text(new_key()))
    else:
        cloud.inject(effect, on="ImportKeyPair")
    before = registered(cloud)
    with pytest.raises(MCSError) as caught:
        quick.create_key_pair("mine")
    assert getattr(caught.value, "private_key", None) is None
    assert "private_key" not in str(caught.value)
    assert registered(cloud) == before


def test_key_pair_that_was_not_sent_has_no_private_key_in_error(cloud, quick):
    cloud.stop()
    with pytest.raises(MCSError, match="no connection") as caught:
        quick.create_key_pair("mine")
    assert not hasattr(caught.value, "private_key")


@pytest.mark.parametrize("unclear", UNCLEAR_CHANGES)
def test_unclear_registration_of_key_is_confirmed(cloud, unclear):
    effect, done = UNCLEAR_CHANGES[unclear]
    driver = cloud.driver(retry_delay=0.001, timeout=10)
    if effect is None:
        effect = Effect("late", seconds=0.6, after=True)
        driver = cloud.driver(retry_delay=0.3, backoff=2, max_tries=6, timeout=0.3)
    key = public_text(new_key())
    # The same key under another name is not what was asked for.
    driver.import_key_pair_from_string("other", key)
    with cloud.inject(effect, on="ImportKeyPair") as fault:
        if done:
            pair = driver.import_key_pair_from_string("mine", key)
            assert (pair.name, pair.fingerprint) == ("mine", registered(cloud)["mine"])
            assert pair.public_key == key
        else:
            with pytest.raises(OutcomeUnknownError, match="registered as 'other'") as caught:
                driver.import_key_pair_from_string("mine", key)
            assert caught.value.private_key is None
        assert fault.fired == 1


def another_client_registers(cloud, key, name, answer):
    """Register a key for another client just before the driver's request, and fail that request."""
    effect = Effect(
        "race",
        run=lambda: cloud.account.state.import_key_pair(name, key),
        answer=answer and answer.answer,
    )
    return cloud.inject(effect, on="ImportKeyPair")


@pytest.mark.parametrize("answer", [error(409), error(400), error(500), None])
@pytest.mark.parametrize("name", ["theirs", "ours"])
def test_key_registered_by_another_client_is_used_for_node(cloud, quick, name, answer):
    key = public_text(new_key())
    if name == "ours":
        name = "libcloud-" + public_key_fingerprint(key, "key").replace(":", "")
    another_client_registers(cloud, key, name, answer)
    node = quick.create_node("web", "small", IMAGE, auth=NodeAuthSSHKey(key), ex_duration="1H")
    used = cloud.account.state.instance(node.id)[0].key_pair
    assert used.fingerprint == public_key_fingerprint(key, "key")
    if answer:
        assert used.name == name
    assert len(cloud.ledger) == 1


@pytest.mark.parametrize("answer", [error(409), error(500), None])
def test_key_registered_by_another_client_is_returned(cloud, quick, answer):
    key = public_text(new_key())
    another_client_registers(cloud, key, "mine", answer)
    pair = quick.import_key_pair_from_string("mine", key)
    assert (pair.name, pair.public_key) == ("mine", key)


def test_key_refused_under_second_name_is_error_that_names_the_first(cloud, quick):
    key = public_text(new_key())
    another_client_registers(cloud, key, "theirs", error(409))
    with pytest.raises(MCSError, match="this key is registered as 'theirs'") as caught:
        quick.import_key_pair_from_string("mine", key)
    assert caught.value.http_code == 409


def test_refused_key_with_failed_confirmation_is_the_refusal(cloud, quick):
    cloud.inject(error(409), on="ImportKeyPair")
    cloud.inject(error(500), on="DescribeKeyPairs")
    with pytest.raises(MCSError, match="the check failed") as caught:
        quick.import_key_pair_from_string("mine", public_text(new_key()))
    assert (caught.value.action, caught.value.http_code) == ("ImportKeyPair", 409)


@pytest.mark.parametrize("effect", [overload(), too_many(0), too_many("soon")])
def test_change_refused_with_429_or_503_is_retried(cloud, quick, node, effect):
    with cloud.inject(effect, on="RebootInstance", times=2) as fault:
        assert quick.reboot_node(node) is True
        assert fault.fired == 2


@pytest.mark.parametrize(
    "effect", [drop_before(), drop_after(), cut(5), error(500), html(502), overload(), too_many(0)]
)
def test_read_is_retried_until_it_succeeds(cloud, quick, node, effect):
    with cloud.inject(effect, on="DescribeInstances", times=3) as fault:
        assert [each.name for each in quick.list_nodes()] == ["web"]
        assert fault.fired == 3


def test_deadline_bounds_the_whole_call(cloud):
    driver = cloud.driver(deadline=0.3, timeout=30, retry_delay=0.001, max_tries=1000)
    cloud.inject(delay(20), on="GetBalance")
    with pytest.raises(MCSError, match="timed out"):
        driver.ex_get_balance()


def test_response_that_does_not_end_is_failed_try(server):
    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n")
        for _ in range(300):
            connection.sendall(b"<")
            gone.wait(0.02)

    gone = threading.Event()
    url, _ = server(drip)
    driver = MCSNodeDriver("key", "secret", url=url, timeout=0.3, max_tries=1)
    with pytest.raises(MCSError, match="does not end"):
        driver.ex_get_balance()
    gone.set()


def test_billed_request_does_not_use_closed_connection(cloud, quick, node):
    quick.ex_get_balance()
    port, key, secret = cloud.port, cloud.access_key, cloud.secret
    cloud.stop()
    with Emulator(port=port, access_key=key, secret=secret, boot_seconds=0) as again:
        # The connection that was kept was closed by the first server.
        made = quick.connection.call(
            "CreateInstance", {"ImageId": IMAGE, "InstanceType": "small"}, dict
        )
        assert made["instanceId"]
        assert [record.status for record in again.records] == [200]


# Threads and processes


def test_threads_that_share_a_driver_get_their_own_responses(cloud):
    nodes = [cloud.driver().create_node(f"n{n}", "small", IMAGE) for n in range(16)]
    driver = cloud.driver()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def ask(number):
            node = nodes[number % 16]
            name = f"{number}"
            driver.ex_set_metadata(node, {"n": name}) if number < 16 else None
            contract = driver.ex_get_contract(node)
            assert driver.ex_get_node(node).id == node.id
            assert driver.ex_list_network_interfaces(node)[0].extra["instanceId"] == node.id
            return contract.started_at

        with ThreadPoolExecutor(16) as pool:
            assert len(list(pool.map(ask, range(700)))) == 700
    finally:
        sys.setswitchinterval(interval)
    for number, node in enumerate(nodes):
        assert driver.ex_get_metadata(node)["n"] == str(number)


@pytest.fixture
def connects(monkeypatch):
    """Collects an item for each connection that is opened."""
    found = []
    connect = HTTPConnection.connect
    monkeypatch.setattr(HTTPConnection, "connect", lambda self: found.append(self) or connect(self))
    return found


def test_connections_are_reused(cloud, connects):
    driver = cloud.driver()
    for _ in range(20):
        driver.ex_get_balance()
    assert len(connects) == 1
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: driver.ex_get_balance(), range(200)))
    assert len(connects) <= 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_child_has_separate_connections(cloud, connects):
    driver = cloud.driver()
    driver.ex_get_balance()
    assert len(connects) == 1
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                good = driver.ex_get_balance().amount == 1000
                os._exit(0 if good and len(connects) == 2 else 1)
            finally:
                os._exit(2)
        children.append(child)
        driver.ex_get_balance()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    # The parent's own connection is as good as before.
    assert driver.ex_get_balance().amount == 1000
    assert len(connects) == 1


# Hostile answers


def test_endless_response_does_not_fill_the_memory(server):
    def flood(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        chunk = b"<a>" * 100_000
        for _ in range(400):
            connection.sendall(chunk)

    url, _ = server(flood)
    driver = MCSNodeDriver("key", "secret", url=url, max_tries=1)
    with pytest.raises(MCSError, match="malformed response") as caught:
        driver.ex_get_balance()
    assert len(str(caught.value)) < 500


def test_compressed_bomb_does_not_fill_the_memory(server):
    bomb = gzip.compress(b"<" * 200_000_000, 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    url, _ = server(lambda connection: connection.sendall(head.encode() + bomb))
    driver = MCSNodeDriver("key", "secret", url=url, max_tries=1)
    with pytest.raises(MCSError, match="malformed response"):
        driver.ex_get_balance()


def test_body_with_wrong_encoding_is_error(server):
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: 5"
    url, _ = server(lambda connection: connection.sendall(head + b"\r\n\r\n12345"))
    driver = MCSNodeDriver("key", "secret", url=url, max_tries=1)
    with pytest.raises(MCSError):
        driver.ex_get_balance()
    with pytest.raises(OutcomeUnknownError):
        driver.connection.call("RenewInstance", {"InstanceId": "i"})


# Secrets


@pytest.mark.parametrize("http_method", ["POST", "GET"])
def test_no_secret_is_printed_logged_or_raised(http_method, caplog, capfd, monkeypatch, tmp_path):
    caplog.set_level(logging.DEBUG)
    # What LIBCLOUD_DEBUG does; undone after the test.
    monkeypatch.setattr(Connection, "conn_class", Connection.conn_class)
    with open(tmp_path / "libcloud.log", "w+") as log:
        libcloud.enable_debug(log)
        secrets, words = noisy(http_method)
        log.seek(0)
        text = log.read()
    out, err = capfd.readouterr()
    text += caplog.text + out + err + words
    assert "GetBalance" in text
    for what, secret in secrets.items():
        assert secret not in text, what
    assert "Signature=***" in text or http_method == "POST"


def noisy(http_method):
    """Do everything that logs, and return the secrets used and the texts raised and shown."""
    words = []

    def attempt(call):
        try:
            words.append(repr(call()))
        except Exception as error:
            words.append(repr(error) + str(error) + traceback.format_exc())

    with Emulator(boot_seconds=0, debug=True, seed=None) as cloud:
        driver = cloud.driver(http_method=http_method, retry_delay=0.001, max_tries=2)
        wrong = cloud.driver(http_method=http_method)
        wrong.connection.key = "the-wrong-secret"
        pair = driver.create_key_pair("k")
        node = driver.create_node("n", "small", IMAGE, ex_keyname=pair)
        plain = driver.create_node("p", "small", IMAGE)
        password = driver.ex_get_password_data(node, pair.private_key).password
        other = driver.ex_get_password_data(plain).password
        attempt(lambda: driver.ex_get_password_data(plain))
        attempt(lambda: driver.ex_get_password_data(node))
        attempt(lambda: driver.ex_get_password_data(node, pair.private_key[:-200]))
        attempt(lambda: driver)
        attempt(lambda: driver.connection)
        attempt(lambda: pair)
        attempt(lambda: cloud)
        attempt(lambda: cloud.records)
        attempt(wrong.ex_get_balance)
        for effect in (drop_after(), cut(3), html(500), html(200), error(500), error(400)):
            with cloud.inject(effect):
                attempt(driver.ex_get_balance)
                attempt(lambda: driver.ex_get_password_data(plain))
                attempt(lambda: driver.reboot_node(node))
        attempt(lambda: driver.ex_renew_node(plain, "1H"))
        attempt(lambda: cloud._backend.snapshot(cloud.url))
        cloud.stop()
        attempt(driver.ex_get_balance)
        secrets = {
            "the secret": cloud.secret,
            "a wrong secret": "the-wrong-secret",
            "a password": password,
            "a plain password": other,
            "the private key": pair.private_key.splitlines()[1],
        }
    assert PrivateKeyRequiredError.__name__ in "".join(words)
    return secrets, "".join(words)


# Waiting


def test_waiting_ends_at_once_when_node_is_lost():
    with Emulator(boot_seconds=1000, terminate_seconds=1000) as cloud:
        driver = cloud.driver(response_format="json")
        cloud.inject(boot_fail(), nth=2)
        nodes = [driver.create_node(name, "small", IMAGE) for name in "ab"]

        def assert_lost(word):
            with pytest.raises(MCSError, match=f"'b' cannot run any more: its status is .{word}."):
                driver.wait_until_running(nodes, wait_period=0.01, timeout=5)

        # A word that the emulator does not have.
        rows = [
            {"instanceId": node.id, "instanceName": node.name, "status": status}
            for node, status in zip(nodes, ("disk", "start_fail"), strict=True)
        ]
        tree = {"DescribeInstancesResponse": {"InstanceSet": {"Instance": rows}}}
        answer = Response(200, "application/json", json.dumps(tree).encode())
        with cloud.inject(Effect("start_fail", answer=lambda _: answer), on="DescribeInstances"):
            assert_lost("start_fail")
        cloud.clock.advance(timedelta(seconds=1000))
        assert_lost("deploy_fail")
        driver.destroy_node(nodes[1])
        assert_lost("deleting")
        cloud.account.state.remove("b")
        with pytest.raises(MCSError, match="the node 'b' does not exist any more"):
            driver.wait_until_running(nodes, wait_period=0.01, timeout=5)


def test_waiting_ends_at_timeout_and_error_has_states():
    with Emulator(boot_seconds=1000) as cloud:
        driver = cloud.driver()
        node = driver.create_node("a", "small", IMAGE)
        with pytest.raises(MCSError, match="Timed out after 0.05 seconds: 'a' has .* 'disk'"):
            driver.wait_until_running([node], wait_period=0.01, timeout=0.05)
        with pytest.raises(ValueError, match="ssh_interface"):
            driver.wait_until_running([node], ssh_interface="ips")


def endpoint_with(requests_mock, *rows):
    """Return a driver of an endpoint that lists these nodes and nothing else."""
    rows = [
        {"instanceId": f"i-{n}", "instanceName": f"web{n}", "status": "running", **row}
        for n, row in enumerate(rows, 1)
    ]
    tree = {"InstanceSet": {"Instance": rows}}
    requests_mock.post(
        "https://mosapi.meituan.com/mcs/v1", json={"DescribeInstancesResponse": tree}
    )
    return MCSNodeDriver("key", "secret", response_format="json")


V4, V6, PRIVATE_V4, PRIVATE_V6 = "198.18.0.1", "2001:db8::1", "10.0.0.1", "fd00::1"


@pytest.mark.parametrize(
    ("addresses", "kwargs", "words"),
    [
        (
            PRIVATE_V4,
            {},
            "no public IPv4 address (ssh_interface='public_ips'), only private 10.0.0.1;"
            " ssh_interface='private_ips' waits for 10.0.0.1",
        ),
        (
            V4,
            {"ssh_interface": "private_ips"},
            "no private IPv4 address (ssh_interface='private_ips'), only public 198.18.0.1;"
            " ssh_interface='public_ips' waits for 198.18.0.1",
        ),
        (
            f"{V6},{PRIVATE_V6}",
            {},
            "no public IPv4 address (ssh_interface='public_ips'), only public 2001:db8::1,"
            " private fd00::1; wait_until_running(…, force_ipv4=False) waits for IPv6 addresses",
        ),
        (
            PRIVATE_V6,
            {"force_ipv4": False},
            "no public address (ssh_interface='public_ips'), only private fd00::1;"
            " ssh_interface='private_ips' waits for fd00::1",
        ),
        ("", {}, "no public IPv4 address (ssh_interface='public_ips') and no other"),
        ("", {"force_ipv4": False}, "no public address (ssh_interface='public_ips') and no other"),
    ],
)
def test_waiting_for_missing_address_is_error_with_addresses_of_node(
    requests_mock, addresses, kwargs, words
):
    driver = endpoint_with(
        requests_mock, {"ipAddresses": addresses}, {"ipAddresses": f"{V4},{PRIVATE_V4}"}
    )
    with pytest.raises(MCSError) as caught:
        driver.wait_until_running(["web1", "web2"], wait_period=0.01, timeout=0.01, **kwargs)
    assert f"Timed out after 0.01 seconds: 'web1' runs but has {words}" in str(caught.value)
    assert "web2" not in str(caught.value)


@pytest.mark.parametrize(
    ("addresses", "kwargs", "found"),
    [
        (f"{V4},{PRIVATE_V4}", {}, [V4]),
        (f"{V4},{PRIVATE_V4}", {"ssh_interface": "private_ips"}, [PRIVATE_V4]),
        (f"{V6},{V4}", {}, [V4]),
        (f"{V6},{V4}", {"force_ipv4": False}, [V6, V4]),
    ],
)
def test_waiting_returns_addresses_of_the_interface(requests_mock, addresses, kwargs, found):
    driver = endpoint_with(requests_mock, {"ipAddresses": addresses})
    ((node, given),) = driver.wait_until_running(["i-1"], **kwargs)
    assert (node.name, given) == ("web1", found)


def test_waiting_by_name_finds_node_that_is_listed_later():
    with Emulator(boot_seconds=0.05) as cloud:
        driver = cloud.driver()
        creation = meanwhile(lambda: create_instance(cloud, "web", "small"))
        cloud.inject(creation, on="DescribeInstances", nth=3, times=1)
        (up,) = driver.wait_until_running(["web"], wait_period=0.01)
        assert up[0].name == "web"
        # From then on it is the node of that ID.
        assert cloud.records[-1].params["InstanceId.1"] == up[0].id
        with pytest.raises(MCSError, match="seconds: 'none' is missing$"):
            driver.wait_until_running([up[0], "none"], timeout=0)
        with pytest.raises(NotFoundError, match="no node has the ID or name 'none'"):
            driver.wait_until_running([up[0], "none"], wait_period=0.01)
        nodes = driver.wait_until_running(["web", up[0].id, up[0]], wait_period=0.01)
        assert [node.id for node, _ in nodes] == [up[0].id]


def create_instance(cloud, name, size):
    """Create an instance as another client does, while the emulator handles a request."""
    account = cloud.account.state
    instance_type = account.edition.catalog.instance_type(size)
    account.create(Order(account.template(IMAGE), instance_type, Lease(1, "H"), name))


def test_waiting_by_name_ignores_node_that_is_being_deleted(requests_mock):
    rows = [
        {"instanceName": "web", "status": status, "ipAddresses": V4}
        for status in ("running", "deleting")
    ]
    for some in (rows, rows[::-1]):
        driver = endpoint_with(requests_mock, *some)
        ((node, _),) = driver.wait_until_running(["web"], wait_period=0.01)
        assert node.state is NodeState.RUNNING
    driver = endpoint_with(requests_mock, rows[1])
    with pytest.raises(MCSError, match="'web' cannot run any more: its status is .deleting."):
        driver.wait_until_running(["web"], wait_period=0.01)


def test_waiting_polls_at_growing_intervals(monkeypatch):
    with Emulator(boot_seconds=1000) as cloud:
        driver = cloud.driver()
        node = driver.create_node("a", "small", IMAGE)
        waits = []

        def sleep(seconds):
            waits.append(seconds)
            if len(waits) == 12:
                cloud.clock.advance(timedelta(seconds=1000))

        monkeypatch.setattr("libcloud_mcs.driver.time.sleep", sleep)
        before = len(cloud.records)
        ((up, _),) = driver.wait_until_running([node], wait_period=8)
        assert up.state is NodeState.RUNNING
        assert waits == sorted(waits)
        assert (waits[0], waits[-1]) == (1, 8)
        # One request a look, for this node alone.
        assert len(cloud.records) - before == 13
        assert {each.params["InstanceId.1"] for each in cloud.records[before:]} == {node.id}


def test_deploy_node_ends_at_once_when_node_fails(monkeypatch):
    monkeypatch.setattr("libcloud.compute.ssh.have_paramiko", True)
    with Emulator(boot_seconds=0.05) as cloud:
        cloud.inject(boot_fail())
        with pytest.raises(DeploymentError, match="cannot run any more: .* 'deploy_fail'"):
            cloud.driver().deploy_node(
                deploy=ScriptDeployment("true"),
                name="a",
                size="small",
                image=IMAGE,
                wait_period=0.01,
                timeout=5,
            )
        assert len(cloud.ledger) == 1


# Interruptions


def threads_end(count):
    """Wait until the requests in flight have ended, and with them their threads."""
    end = time.monotonic() + 20
    while threading.active_count() > count and time.monotonic() < end:
        time.sleep(0.005)
    return threading.active_count() == count


@contextlib.contextmanager
def interrupted_when(happened):
    """Press Ctrl-C when a condition holds, and expect that it ends the block."""

    def press():
        end = time.monotonic() + 20
        while not happened() and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    # What a callback of the garbage collector raises is lost, and hypothesis has one.
    gc.disable()
    try:
        pressing.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            yield caught
    finally:
        gc.enable()
        pressing.join()


def test_log_records_of_other_packages_are_unchanged(driver, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3.connectionpool").debug("%(pool)s", {"pool": "ours"})
    assert caplog.messages == ["ours"]


@pytest.mark.parametrize(
    "verb",
    [
        lambda driver: driver.list_nodes(),
        lambda driver: driver.create_node("b", "small", IMAGE),
        lambda driver: driver.list_volumes("a"),
        lambda driver: driver.wait_until_running(driver.list_nodes(), timeout=600),
    ],
)
def test_interrupted_verb_leaves_no_thread(cloud, verb):
    driver = cloud.driver()
    driver.create_node("a", "small", IMAGE)
    threads = threading.active_count()
    fault = cloud.inject(delay(60))
    with interrupted_when(lambda: fault.fired):
        verb(driver)
    fault.remove()
    assert threads_end(threads)
    # It is usable again.
    assert driver.ex_get_balance().amount > 0
    assert {each.name for each in driver.list_nodes()} == {"a"}


def test_interrupted_verb_ends_after_requests_in_flight(cloud):
    driver = cloud.driver(concurrency=4, timeout=20)
    for number in range(40):
        driver.create_node(f"n{number}", "small", IMAGE, ex_duration="1H")
    threads = threading.active_count()
    fault = cloud.inject(delay(0.3), on="DescribeInstanceVolumes")
    with interrupted_when(lambda: fault.fired >= 4):
        driver.list_volumes()
    assert threads_end(threads)
    # Those that had not begun never did.
    assert fault.fired < 12
    fault.remove()
    assert len(driver.list_volumes()) == 80


def test_driver_is_usable_after_any_error(cloud, quick, node):
    for effect in (drop_before(), drop_after(), cut(1), error(500), html(200), too_many("x")):
        with cloud.inject(effect), pytest.raises(MCSError):
            quick.ex_get_balance()
        assert quick.ex_get_balance().amount > 0


# Clock


def test_refusal_names_wrong_clock():
    with Emulator(signature_clock="emulated") as cloud:
        driver = cloud.driver()
        driver.ex_get_balance()
        cloud.clock.advance(timedelta(minutes=17))
        with pytest.raises(InvalidCredentialsError) as caught:
            driver.ex_get_balance()
        words = str(caught.value)
        assert "this machine's clock is 0:1" in words
        assert words.rpartition("(HTTP 403)")[0].strip().endswith("behind the endpoint's")
        cloud.clock.advance(timedelta(minutes=-40))
        with pytest.raises(InvalidCredentialsError, match="ahead of the endpoint's"):
            driver.ex_get_balance()


def test_refusal_does_not_name_right_clock(cloud):
    driver = cloud.driver()
    driver.connection.key = "wrong"
    with pytest.raises(InvalidCredentialsError) as caught:
        driver.ex_get_balance()
    assert "clock" not in str(caught.value)
