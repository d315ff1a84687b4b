"""Faults on demand: what goes wrong, when, and what the ledger says after it."""

import threading

import pytest
import requests
from plain_client import CREATE, Client, refusal

from libcloud_mcs.emulator import (
    Effect,
    Emulator,
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
from libcloud_mcs.emulator.wire import Answer


@pytest.fixture
def ask(make_client):
    return make_client(answer_format="json")


def outcome(ask, action="GetBalance", **params):
    """Give what a client sees: a status, or what became of the connection."""
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
        (Effect("nothing"), 200, 1),
    ],
)
def test_what_goes_wrong_and_whether_it_was_charged(cloud, ask, effect, seen, charges):
    with cloud.inject(effect, on="CreateInstance") as fault:
        assert outcome(ask, "CreateInstance", **CREATE) == seen
        assert fault.fired == 1
    assert len(cloud.ledger) == charges
    assert len(cloud.cloud.instances()) == charges
    # It is there until the end of the block.
    assert outcome(ask, "CreateInstance", **CREATE) == 200
    assert len(cloud.ledger) == charges + 1
    assert cloud.records[0].fault == effect.name
    assert cloud.records[1].fault == ""


def test_the_answers(cloud, ask):
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


def test_the_nth_call_and_the_next_k(cloud, ask):
    with cloud.inject(error(500), nth=3):
        assert pattern(ask, 5) == [200, 200, 500, 500, 500]
    with cloud.inject(error(500), times=2):
        assert pattern(ask, 4) == [500, 500, 200, 200]
    with cloud.inject(error(500), nth=2, times=1):
        assert pattern(ask, 4) == [200, 500, 200, 200]


def test_one_action_or_all(cloud, ask):
    with cloud.inject(error(500), on="DescribeTemplates", nth=2, times=1):
        assert pattern(ask, 3) == [200] * 3
        assert pattern(ask, 3, "DescribeTemplates") == [200, 500, 200]
    with cloud.inject(error(500)):
        assert pattern(ask, 1) + pattern(ask, 1, "DescribeTemplates") == [500, 500]


def test_by_chance_with_a_seed(cloud, ask):
    def run(seed):
        with cloud.inject(error(500), probability=0.5, seed=seed):
            return pattern(ask, 30)

    first = run(1)
    assert first == run(1)
    assert first != run(2)
    assert 5 < first.count(500) < 25
    with cloud.inject(error(500), probability=0):
        assert pattern(ask, 5) == [200] * 5


def test_the_first_that_comes_is_the_one(cloud, ask):
    cloud.inject(error(500), times=1)
    cloud.inject(error(501), times=2)
    assert pattern(ask, 4) == [500, 501, 501, 200]
    cloud.inject(error(502))
    cloud.faults.clear()
    assert pattern(ask, 1) == [200]


def test_a_delay_lets_the_others_pass(cloud, make_client):
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


def test_what_others_do_between_two_pages(cloud, ask):
    for name in "abcd":
        ask.tree("CreateInstance", InstanceName=name, **CREATE)

    def pages():
        for offset in (0, 2):
            page = ask.tree("DescribeInstances", Limit="2", Offset=str(offset))
            yield [row["instanceName"] for row in page["InstanceSet"]["Instance"]]

    assert list(pages()) == [["a", "b"], ["c", "d"]]
    cloud.inject(meanwhile(lambda: cloud.cloud.remove("a")), on="DescribeInstances", nth=2, times=1)
    assert list(pages()) == [["a", "b"], ["d"]]


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        (meanwhile(lambda: 1 / 0), "ZeroDivisionError: division by zero"),
        (Effect("broken", answer=lambda _: 1 / 0), "ZeroDivisionError: division by zero"),
        (
            Effect("odd", answer=lambda _: Answer(200, "text/plain\r\nX: y", b"")),
            "ValueError: 'Content-Type: text/plain\\r\\nX: y' cannot be a header",
        ),
    ],
)
def test_a_fault_that_fails_is_logged_and_answered_with_500(cloud, ask, caplog, effect, words):
    cloud.inject(effect, times=1)
    code, message = ask.refused("CreateInstance", **CREATE)
    assert (code, message) == (500, f"the fault {effect.name!r} failed: {words}")
    (record,) = cloud.records
    assert (record.status, record.message, record.fault) == (500, message, effect.name)
    assert cloud.ledger == []
    assert words.partition(":")[0] in caplog.text
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
def test_faults_that_make_no_sense(cloud, kwargs, words):
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
    ],
)
def test_faults_from_one_line(line, expected):
    arguments = parse_fault(line)
    effect, on = arguments.pop("effect"), arguments.pop("on")
    assert (on, effect.name, arguments) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "such as"),
        ("CreateInstance", "such as"),
        ("* explode", "'explode'"),
        ("* error", "'error' lacks"),
        ("* overload=1", "'overload'"),
        ("* error=many", "many"),
        ("* error=200", "status"),
        ("* cut sometimes=1", "sometimes"),
        ("* cut nth=x", "x"),
        ("* 'cut", "quotation"),
    ],
)
def test_lines_that_make_no_sense(line, words):
    with pytest.raises(ValueError, match=words):
        parse_fault(line)


def test_churn():
    with Emulator(churn=2, instances=4) as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")

        def page(offset):
            tree = ask.tree("DescribeInstances", Limit="3", Offset=str(offset))["InstanceSet"]
            return [row["instanceName"] for row in tree["Instance"]], tree["Total"]

        first, total = page(0)
        assert (first, total) == (["passer-by-1", "passer-by-2", "instance-1"], 6)
        second, total = page(3)
        # Two went before it, so that two rows are missed: instance-2 and instance-3.
        assert (second[0], total) == ("instance-4", 6)
        driver = cloud.driver(page_size=3)
        for _ in range(3):
            names = {node.name for node in driver.list_nodes()}
            assert {f"instance-{n}" for n in range(1, 5)} <= names
