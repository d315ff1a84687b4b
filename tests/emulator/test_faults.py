"""Faults: effects, the requests that they apply to, and the charges."""

import threading
from datetime import timedelta

import pytest
import requests
from libcloud.compute.types import NodeState
from plain_client import CREATE, Client, refusal

from libcloud_mcs.actions import ACTIONS
from libcloud_mcs.emulator import (
    Effect,
    Emulator,
    Response,
    boot_fail,
    content_type,
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
from libcloud_mcs.emulator._faults import parse_fault
from libcloud_mcs.errors import MCSError


@pytest.fixture
def ask(make_client):
    return make_client(answer_format="json")


def outcome(ask, action="GetBalance", **params):
    """Return the status that a client sees, or how the connection ended."""
    try:
        return ask(action, **params).status_code
    except requests.exceptions.ChunkedEncodingError:
        return "cut"
    except requests.exceptions.ConnectionError:
        return "dropped"


@pytest.mark.parametrize(
    ("effect", "seen", "charges"),
    [
        (drop_before(), "dropped", 0),
        (drop_after(), "dropped", 1),
        (cut(), "cut", 1),
        (cut(0), "cut", 1),
        (error(500), 500, 0),
        (error(418), 418, 0),
        (error(500, after=True), 500, 1),
        (html(), 502, 0),
        (html(200), 200, 0),
        (html(504, after=True), 504, 1),
        (too_many(3), 429, 0),
        (overload(), 503, 0),
        (content_type("text/plain"), 200, 1),
        (delay(0.001), 200, 1),
        (meanwhile(lambda: None), 200, 1),
        (boot_fail(), 200, 1),
        (Effect("nothing"), 200, 1),
    ],
)
def test_effect_has_its_outcome_and_charges(cloud, ask, effect, seen, charges):
    with cloud.inject(effect, on="CreateInstance") as fault:
        assert outcome(ask, "CreateInstance", **CREATE) == seen
        assert fault.fired == 1
    assert len(cloud.ledger) == charges
    assert len(cloud.account.state.instances()) == charges
    # It is there until the end of the block.
    assert outcome(ask, "CreateInstance", **CREATE) == 200
    assert len(cloud.ledger) == charges + 1
    assert cloud.records[0].fault == effect.name
    assert cloud.records[1].fault == ""


def test_effect_response_has_the_requested_format(cloud, ask):
    with cloud.inject(error(507, "Full & busy")):
        response = ask("GetBalance")
        assert response.headers["Content-Type"] == "application/json"
        assert refusal(response) == (507, "Full & busy")
        ask.answer_format = "xml"
        assert refusal(ask("GetBalance")) == (507, "Full & busy")
    with cloud.inject(html(502)):
        response = ask("GetBalance")
        assert response.headers["Content-Type"] == "text/html"
        assert "<h1>502</h1>" in response.text
    for retry_after in (3, "Wed, 21 Oct 2026 07:28:00 GMT", "soon"):
        with cloud.inject(too_many(retry_after)):
            assert ask("GetBalance").headers["Retry-After"] == str(retry_after)
    with cloud.inject(too_many()):
        assert "Retry-After" not in ask("GetBalance").headers
    with cloud.inject(overload()):
        assert ask("GetBalance").content == b""
    with cloud.inject(content_type("text/csv")):
        response = ask("GetBalance")
        assert response.headers["Content-Type"] == "text/csv"
        assert b"<balance>1000.00</balance>" in response.content


def pattern(ask, count, action="GetBalance"):
    return [outcome(ask, action) for _ in range(count)]


def test_fault_applies_from_nth_call_for_given_times(cloud, ask):
    with cloud.inject(error(500), nth=3):
        assert pattern(ask, 5) == [200, 200, 500, 500, 500]
    with cloud.inject(error(500), times=2):
        assert pattern(ask, 4) == [500, 500, 200, 200]
    with cloud.inject(error(500), nth=2, times=1):
        assert pattern(ask, 4) == [200, 500, 200, 200]


def test_fault_applies_to_one_action_or_to_all(cloud, ask):
    with cloud.inject(error(500), on="DescribeTemplates", nth=2, times=1):
        assert pattern(ask, 3) == [200] * 3
        assert pattern(ask, 3, "DescribeTemplates") == [200, 500, 200]
    with cloud.inject(error(500)):
        assert pattern(ask, 1) + pattern(ask, 1, "DescribeTemplates") == [500, 500]


def test_fault_with_probability_is_repeatable_with_seed(cloud, ask):
    def run(seed):
        with cloud.inject(error(500), probability=0.5, seed=seed):
            return pattern(ask, 30)

    first = run(1)
    assert first == run(1)
    assert first != run(2)
    assert 5 < first.count(500) < 25
    with cloud.inject(error(500), probability=0):
        assert pattern(ask, 5) == [200] * 5


def test_first_injected_fault_applies_first(cloud, ask):
    cloud.inject(error(500), times=1)
    cloud.inject(error(501), times=2)
    assert pattern(ask, 4) == [500, 501, 501, 200]
    cloud.inject(error(502))
    cloud.faults.clear()
    assert pattern(ask, 1) == [200]


def test_delay_does_not_block_other_requests(cloud, make_client):
    with cloud.inject(delay(30), on="GetBalance"):
        waiting = threading.Thread(target=lambda: outcome(make_client()), daemon=True)
        waiting.start()
        while not any(fault.fired for fault in cloud.faults):
            make_client().tree("DescribeTemplates")
        make_client().tree("DescribeTemplates")
        assert waiting.is_alive()
    cloud.stop()
    waiting.join(10)
    assert not waiting.is_alive()


def test_meanwhile_changes_list_between_pages(cloud, ask):
    for name in "abcd":
        ask.tree("CreateInstance", InstanceName=name, **CREATE)

    def pages():
        for offset in (0, 2):
            page = ask.tree("DescribeInstances", Limit="2", Offset=str(offset))
            yield [row["instanceName"] for row in page["InstanceSet"]["Instance"]]

    assert list(pages()) == [["a", "b"], ["c", "d"]]
    cloud.inject(
        meanwhile(lambda: cloud.account.state.remove("a")), on="DescribeInstances", nth=2, times=1
    )
    assert list(pages()) == [["a", "b"], ["d"]]


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        (
            meanwhile(lambda: 1 / 0),
            "the fault 'meanwhile' failed: ZeroDivisionError: division by zero",
        ),
        (
            Effect("broken", answer=lambda _: 1 / 0),
            "the fault 'broken' failed: ZeroDivisionError: division by zero",
        ),
        (
            Effect("odd", answer=lambda _: Response(200, "text/plain\r\nX: y", b"")),
            "the fault 'odd' failed: ValueError: 'Content-Type: text/plain\\r\\nX: y' cannot be"
            " sent as a header",
        ),
    ],
)
def test_failing_fault_is_logged_and_500(cloud, ask, caplog, effect, words):
    cloud.inject(effect, times=1)
    code, message = ask.refused("CreateInstance", **CREATE)
    assert (code, message) == (500, words)
    (record,) = cloud.records
    assert (record.status, record.message, record.fault) == (500, message, effect.name)
    assert cloud.ledger == []
    assert words.split(": ")[1] in caplog.text
    assert pattern(ask, 1) == [200]


class Interruption(BaseException):
    """What ends a program or a test, such as KeyboardInterrupt."""


def test_a_request_whose_function_is_interrupted_is_recorded_without_a_response(cloud, ask):
    def interrupt():
        raise Interruption

    cloud.inject(meanwhile(interrupt), times=1)
    assert outcome(ask, "CreateInstance", **CREATE) == "dropped"
    (record,) = cloud.records
    assert (record.status, record.message) == (0, "no response was sent")
    assert cloud.ledger == []
    assert pattern(ask, 1) == [200]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"on": "Nothing"}, "on: "),
        ({"nth": 0}, "nth: "),
        ({"times": 0}, "times: "),
        ({"probability": 1.5}, "probability: "),
    ],
)
def test_invalid_fault_is_refused(cloud, kwargs, words):
    with pytest.raises(ValueError, match=words):
        cloud.inject(overload(), **kwargs)
    for effect in (lambda: error(200), lambda: html(600), lambda: delay(-1)):
        with pytest.raises(ValueError, match="expected"):
            effect()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("CreateInstance drop_after times=1", ("CreateInstance", "drop_after", {"times": 1})),
        ("* error=500 nth=2 times=3", ("*", "error", {"nth": 2, "times": 3})),
        ("* delay=0.5 probability=0.1 seed=7", ("*", "delay", {"probability": 0.1, "seed": 7})),
        ("* too_many=3", ("*", "too_many", {})),
        ("* too_many='Wed, 21 Oct 2026 07:28:00 GMT'", ("*", "too_many", {})),
        ("* cut", ("*", "cut", {})),
        ("* html=504", ("*", "html", {})),
        ("* html_after", ("*", "html", {})),
        ("* error_after=500", ("*", "error", {})),
        ("* content_type=text/csv", ("*", "content_type", {})),
        ("* drop_before", ("*", "drop_before", {})),
        ("* overload", ("*", "overload", {})),
        ("* boot_fail", ("*", "boot_fail", {})),
        ("CreateInstance boot_fail times=2", ("CreateInstance", "boot_fail", {"times": 2})),
    ],
)
def test_fault_is_parsed_from_one_line(line, expected):
    arguments = parse_fault(line)
    effect, on = arguments.pop("effect"), arguments.pop("on")
    assert (on, effect.name, arguments) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "such as"),
        ("CreateInstance", "such as"),
        ("* explode", "'explode'"),
        ("* error", "error: expected an HTTP status from 400 to 599, got no argument"),
        ("* overload=1", "overload: expected no argument, got '1'"),
        ("* error=many", "many"),
        ("* error=200", "status"),
        ("* cut sometimes=1", "sometimes"),
        ("* cut nth=1 nth=2", "one of times, probability, seed, got 'nth'"),
        ("* cut nth=x", "x"),
        ("* 'cut", "quotation"),
        ("GetBalance boot_fail", "on: expected CreateInstance .*'GetBalance'"),
    ],
)
def test_invalid_line_of_fault_is_refused(line, words):
    with pytest.raises(ValueError, match=words):
        parse_fault(line)


# An instance that does not come up


@pytest.fixture
def failed(held):
    """A client of a cloud with a paid instance that fails to boot."""
    ask = Client(held.url, held.access_key, held.secret, answer_format="json")
    held.inject(boot_fail(), on="CreateInstance", times=1)
    made = ask.tree("CreateInstance", InstanceName="bad", **CREATE)["Instance"]
    assert made["status"] == "disk"
    return ask


def statuses(ask):
    rows = ask.tree("DescribeInstances")["InstanceSet"]["Instance"]
    return {row["instanceName"]: row["status"] for row in rows}


def test_boot_fail_applies_to_the_first_instance_alone(held, failed):
    seen = []
    for _ in range(9):
        seen.append(statuses(failed)["bad"])
        held.clock.advance(timedelta(seconds=0.1))
    assert list(dict.fromkeys(seen)) == ["disk", "start_deploy", "deploying", "deploy_fail"]
    (charge,) = held.ledger
    assert (charge.action, str(charge.amount)) == ("CreateInstance", "0.12")
    failed.tree("CreateInstance", InstanceName="good", **CREATE)
    held.clock.advance(timedelta(seconds=1))
    assert statuses(failed) == {"bad": "deploy_fail", "good": "running"}
    assert len(held.ledger) == 2


def test_instance_with_deploy_fail_can_only_be_terminated(held, failed):
    held.clock.advance(timedelta(seconds=1))
    for action, params in (
        ("StartInstance", {}),
        ("StopInstance", {"Force": "True"}),
        ("RebootInstance", {}),
        ("RebuildInstanceRootImage", {}),
        ("ChangeInstanceType", {"InstanceType": "medium"}),
        ("RenewInstance", {}),
    ):
        status, message = failed.refused(action, InstanceId="bad", **params)
        assert (status, "deploy_fail" in message) == (409, True), action
    status, message = failed.refused("GetPasswordData", InstanceId="bad")
    assert (status, message) == (409, "InstanceId: 'bad' is deploy_fail; it has no password")
    assert failed.refused("CreateInstance", InstanceName="bad", **CREATE)[0] == 409
    assert len(held.ledger) == 1
    failed.tree("TerminateInstance", InstanceId="bad")
    assert statuses(failed) == {"bad": "deleting"}
    held.clock.advance(timedelta(seconds=1))
    assert statuses(failed) == {}
    # Its name is free again.
    failed.tree("CreateInstance", InstanceName="bad", **CREATE)
    held.clock.advance(timedelta(seconds=1))
    assert statuses(failed) == {"bad": "running"}


def test_instance_with_deploy_fail_is_removed_after_its_lease(held, failed):
    held.clock.advance(timedelta(hours=2))
    assert statuses(failed) == {"bad": "deploy_fail"}
    held.clock.advance(timedelta(days=1))
    assert statuses(failed) == {}


def test_boot_fail_applies_to_creations_alone(cloud, ask):
    with cloud.inject(boot_fail()) as fault:
        ask.tree("GetBalance")
        ask.tree("DescribeInstances")
        assert (fault.seen, fault.fired) == (0, 0)
        # Where nothing takes time, it has failed at once.
        made = ask.tree("CreateInstance", **CREATE)["Instance"]
        assert (made["status"], fault.fired) == ("deploy_fail", 1)
        assert ask.refused("CreateInstance", **CREATE | {"InstanceType": "huge"})[0] == 404
    for action in ACTIONS:
        if action != "CreateInstance":
            with pytest.raises(ValueError, match=f"^on: expected CreateInstance .*'{action}'"):
                cloud.inject(boot_fail(), on=action)


@pytest.mark.parametrize("nth", [1, 2])
def test_boot_fail_applies_to_nth_instance(cloud, ask, nth):
    cloud.inject(boot_fail(), nth=nth, times=1)
    for name in "ab":
        ask.tree("GetBalance")
        ask.tree("CreateInstance", InstanceName=name, **CREATE)
    expected = ["running", "running"]
    expected[nth - 1] = "deploy_fail"
    assert list(statuses(ask).values()) == expected


def test_boot_fail_can_be_combined_with_drop_after(cloud, ask):
    cloud.inject(Effect("both", seconds=0.01, boot_fail=True, drop_after=True))
    assert outcome(ask, "CreateInstance", InstanceName="bad", **CREATE) == "dropped"
    assert statuses(ask) == {"bad": "deploy_fail"}


def test_boot_fail_over_http_is_kept_in_the_state_file(tmp_path):
    with Emulator(state=tmp_path / "state.db") as cloud:
        control = f"http://127.0.0.1:{cloud.port}/_emulator/faults"
        made = requests.post(control, json={"effect": "boot_fail", "times": 1}, timeout=10)
        assert (made.status_code, made.json()["effect"]) == (200, "boot_fail")
        refused = requests.post(
            control, json={"effect": "boot_fail", "on": "StopInstance"}, timeout=10
        )
        assert refused.status_code == 400
        assert refused.json()["error"].startswith("on: expected CreateInstance")
        ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")
        for name in ("bad", "good"):
            ask.tree("CreateInstance", InstanceName=name, **CREATE)
        cloud.clock.advance(timedelta(seconds=1))
    with Emulator(state=tmp_path / "state.db") as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")
        assert statuses(ask) == {"bad": "deploy_fail", "good": "running"}
        assert ask.refused("GetPasswordData", InstanceId="bad")[0] == 409
        assert len(cloud.ledger) == 2


def test_driver_sees_node_with_boot_fail_as_error(cloud, driver):
    cloud.inject(boot_fail(), times=1)
    node = driver.create_node("bad", "small", CREATE["ImageId"], ex_duration="1H")
    assert driver.ex_get_node(node).state is NodeState.ERROR
    with pytest.raises(MCSError, match="'bad' cannot run any more: its status is 'deploy_fail'"):
        driver.wait_until_running([node], wait_period=0.01, timeout=5)
    assert driver.destroy_node(node)
    again = driver.create_node("bad", "small", CREATE["ImageId"], ex_duration="1H")
    ((up, _),) = driver.wait_until_running([again], wait_period=0.01, timeout=5)
    assert up.state is NodeState.RUNNING
    assert len(cloud.ledger) == 2


def test_churn_replaces_instances_between_pages():
    with Emulator(churn=2, instances=4) as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")

        def page(offset):
            tree = ask.tree("DescribeInstances", Limit="3", Offset=str(offset))["InstanceSet"]
            return [row["instanceName"] for row in tree["Instance"]], tree["Total"]

        first, total = page(0)
        assert (first, total) == (["other-1", "other-2", "instance-1"], 6)
        second, total = page(3)
        # Two went before it, so that two rows are missed: instance-2 and instance-3.
        assert (second[0], total) == ("instance-4", 6)
        driver = cloud.driver(page_size=3)
        for _ in range(3):
            names = {node.name for node in driver.list_nodes()}
            assert {f"instance-{n}" for n in range(1, 5)} <= names


def test_churn_does_not_touch_instances_of_the_user():
    with Emulator(churn=2, boot_seconds=0) as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")
        ask.tree("CreateInstance", InstanceName="other-web", **CREATE)
        for _ in range(3):
            ask.tree("DescribeInstances", Offset="1")
        names = [each.name for each in cloud.account.state.instances()]
        assert "other-web" in names
        assert len(names) == 3
