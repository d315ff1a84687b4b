"""Invalid settings, arguments, options and fields: each error is one line that names it."""

import dataclasses
import inspect
import json
import math
import os
import pickle
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from conftest import START

import libcloud_mcs.emulator
from libcloud_mcs.emulator import Clock, Effect, Emulator, Fault, delay, overload
from libcloud_mcs.emulator import __main__ as command
from libcloud_mcs.emulator._control import ROUTES
from libcloud_mcs.emulator._faults import EFFECTS
from libcloud_mcs.emulator._settings import AccountSettings, Settings


class Hostile:
    """A value whose ``repr()`` fails."""

    def __repr__(self):
        raise RuntimeError("not for you")


#: What nothing is.
NEVER = (b"1", [], {}, object(), Hostile(), 1j, range(3))
NOT_TEXT = (*NEVER, 5, 1.5, True, Decimal(1))
NOT_WHOLE = (*NEVER, "", "1", 1.0, 1.5, True, False, math.nan, math.inf, Decimal(1), 10**5000)
NOT_NUMBER = (*NEVER, "", "1", True, math.nan, math.inf, -math.inf, 10**5000, 1e300, Decimal(1))
NOT_FLAG = (*NEVER, 0, 1, "", "no", "true", None)
ODD_TEXTS = ("", " ", " a", "a\n", "a\tb", "a\x00b", "a\x7fb", "\ud800", "a\u2028b", "a" * 257)
NOT_SECONDS = (*NOT_NUMBER, None, -1, -0.1, 1e10)
NOT_MONEY = (
    *NEVER,
    *(
        None,
        True,
        -1,
        "",
        "much",
        "-1",
        "1,5",
        "1..5",
        "1_0",
        " 1",
        "\u0661",
        "nan",
        "inf",
        1e30,
        "1e30",
    ),
    *(math.nan, math.inf, Decimal("nan"), Decimal("snan"), Decimal("inf"), 10**5000),
)
NOT_NAME = (*NOT_TEXT, *ODD_TEXTS)
NOT_PATH = (*NEVER, 5, True, "", "a\0b")

#: For every setting: what it cannot be.
BAD = {
    "access_key": NOT_NAME,
    "secret": NOT_NAME,
    "balance": NOT_MONEY,
    "instances": (*NOT_WHOLE, None, -1, 100_001),
    "accounts": (
        *(*NEVER[3:], b"1", "a", 5, True, None, {"balance": 5}),
        *([5], [None], ["a"], [{"balance": -1}], [{"name": "a"}], [{5: 5}], [{"secret": ""}]),
        [{"access_key": "a"}, {"access_key": "a"}],
    ),
    "edition": (*NOT_WHOLE, None, 2012, 2014, -2013, 0),
    "host": (
        *NOT_TEXT,
        *ODD_TEXTS,
        *(None, "a b", "a/b", "a:80", "[::1]", "fe80::1%lo", "1.2.3", "256.1.1.1", "a..b", "-a"),
        *("http://a", "x" * 64, "a@b", "é", "中"),
    ),
    "port": (*NOT_WHOLE, None, -1, 65536, 70000),
    "clock": (*NEVER, 5, "now", datetime(2030, 1, 1, tzinfo=timezone.utc), Clock),
    "boot_seconds": NOT_SECONDS,
    "start_seconds": NOT_SECONDS,
    "stop_seconds": NOT_SECONDS,
    "reboot_seconds": NOT_SECONDS,
    "rebuild_seconds": NOT_SECONDS,
    "change_seconds": NOT_SECONDS,
    "save_seconds": NOT_SECONDS,
    "terminate_seconds": NOT_SECONDS,
    "default_limit": (*NOT_WHOLE, 0, -1, 10**9),
    "max_limit": (*NOT_WHOLE, 0, -1, 10**9),
    "churn": (*NOT_WHOLE, None, -1, 100_001),
    "seed": tuple(bad for bad in NOT_WHOLE if bad != 10**5000 or bad is True),
    "node_network": (
        *NOT_TEXT,
        *ODD_TEXTS,
        *("10.0.0.0/16", "127.10.0.1/16", "127.10.0.0/31", "127.0.0.0/7", "::1/128", "nowhere"),
    ),
    "ssh": NOT_FLAG,
    "ssh_port": (*NOT_WHOLE, None, 0, -1, 65536),
    "signature_clock": (*NOT_TEXT, *ODD_TEXTS, None, "moon", "REAL"),
    "debug": NOT_FLAG,
    "state": NOT_PATH,
    "max_records": (*NOT_WHOLE, None, -1, 10**7),
    "tls": NOT_FLAG,
    "tls_cert": NOT_PATH,
    "tls_key": NOT_PATH,
}

#: For every setting with an option: text that it cannot be. ``None``: the option takes no text.
BAD_OPTIONS = {
    "access_key": ODD_TEXTS,
    "secret": ODD_TEXTS,
    "balance": [bad for bad in NOT_MONEY if isinstance(bad, str)],
    "instances": ["", "x", "1.5", "-1", "1_0", "\u0661", " 1", "nan", "9" * 5000],
    "accounts": [
        *("", "a", "KEY:mine", "balance=", "balance=x", "instances=1.5", "name=x", "'balance=5"),
        *("access_key=", "secret=", "secret_env=", "secret_env=NOT_THERE", "balance=1 balance=2"),
        "secret=a secret_env=HOME",
    ],
    "edition": ["", "x", "2014", "13", "2013.0", "latest"],
    "host": ["", "a b", "a\nb", "[::1]", "1.2.3", "http://a", "fe80::1%lo", "\ud800"],
    "port": ["", "x", "-1", "65536", "70000", "1.5", "True", "0x50", "9" * 5000],
    "boot_seconds": ["", "x", "-1", "nan", "inf", "1e10", "1_0", "\u0661"],
    "start_seconds": ["", "x", "-1", "nan"],
    "stop_seconds": ["", "x", "-1", "nan"],
    "reboot_seconds": ["", "x", "-1", "nan"],
    "rebuild_seconds": ["", "x", "-1", "nan"],
    "change_seconds": ["", "x", "-1", "nan"],
    "save_seconds": ["", "x", "-1", "nan"],
    "terminate_seconds": ["", "x", "-1", "nan"],
    "default_limit": ["", "x", "0", "-1", "1.5"],
    "max_limit": ["", "x", "0", "-1", "1.5"],
    "churn": ["", "x", "-1", "1.5"],
    "seed": ["", "x", "1.5", "nan"],
    "node_network": ["", "x", "10.0.0.0/8", "127.10.0.1/16", "127.0.0.0/31", "5"],
    "ssh": None,
    "ssh_port": ["", "x", "0", "-1", "65536"],
    "signature_clock": ["", "moon", "Real"],
    "debug": None,
    "state": ["", "/nowhere/at/all"],
    "max_records": ["", "x", "-1", "1.5"],
    "tls": None,
    "tls_cert": [""],
    "tls_key": [""],
    "fault": [
        *("", "GetBalance", "Nothing cut", "* explode", "* cut=x", "* cut=-1", "* error", "* 'cut"),
        *("* error=200", "* delay=nan", "* delay=-1", "* overload=1", "* cut nth=0", "* cut on=*"),
        *("* cut probability=2", "* cut probability=nan", "* cut seed=1.5", "* cut what=1"),
        *("StopInstance boot_fail", "* boot_fail=1", "* content_type=", "* too_many=\x01"),
    ],
}


def one_line(error):
    text = str(error)
    assert text
    assert len(text.splitlines()) == 1
    assert len(text) < 500
    return text


# In a program


def test_table_has_invalid_values_of_every_setting():
    assert set(BAD) == set(Settings.settings())
    assert set(BAD_OPTIONS) == {*BAD, "fault"} - {"clock"}


@pytest.mark.parametrize("name", BAD)
def test_invalid_setting_is_refused_in_one_line(name):
    for bad in BAD[name]:
        with pytest.raises(ValueError, match=f"{name}.*: expected .+, got") as caught:
            Emulator(**{name: bad})
        one_line(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    with pytest.raises(TypeError, match=f"{name}_"):
        Emulator(**{f"{name}_": 1})


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 65535, "host": "localhost", "max_records": 0, "max_limit": 1},
        {"host": "::1", "seed": -5, "signature_clock": "emulated", "clock": Clock(START)},
        {"host": "a-b.example_1.", "boot_seconds": 10**9, "stop_seconds": 0, "churn": 3},
        {"access_key": "钥匙", "secret": "with a space", "balance": "1e3", "instances": 2},
        {"balance": Decimal("12.50"), "accounts": ({"access_key": "a"}, {}), "debug": True},
        {"edition": 2017, "instances": 1},
        {"balance": 0.5, "node_network": "127.0.0.0/8", "ssh_port": 65535},
        dict.fromkeys(("access_key", "secret", "clock", "seed", "node_network", "state")),
    ],
)
def test_valid_settings_are_accepted(settings):
    assert Emulator(**settings).accounts


def test_constructor_has_every_setting_with_its_default():
    taken = dict(inspect.signature(Emulator).parameters)
    assert list(taken) == list(Settings.settings())
    for name, parameter in taken.items():
        assert parameter.default == getattr(Settings, name), name
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert f":param {name}: " in Emulator.__doc__
    # The defaults pass their own checks.
    assert Settings() == Settings(**{name: getattr(Settings, name) for name in taken})


def test_add_account_has_every_setting_of_an_account():
    with Emulator() as cloud:
        taken = dict(inspect.signature(cloud.add_account).parameters)
        assert list(taken) == list(AccountSettings.settings())
        for name, parameter in taken.items():
            assert parameter.default == getattr(AccountSettings, name), name
            for bad in BAD[name]:
                with pytest.raises(ValueError, match=f"^{name}: expected .+, got") as caught:
                    cloud.add_account(**{name: bad})
                one_line(caught.value)
        assert len(cloud.accounts) == 1


def test_more_instances_than_addresses_are_refused():
    settings = {"node_network": "127.9.9.0/30", "instances": 2}
    with Emulator(**settings) as cloud:
        for add in (
            lambda: cloud.add_account(instances=1),
            lambda: Emulator(**settings | {"instances": 3}),
            lambda: Emulator(**settings, accounts=[{"instances": 1}]),
        ):
            with pytest.raises(ValueError, match="instances: expected .* are in use") as caught:
                add()
            one_line(caught.value)
        assert len(cloud.accounts) == 1


def test_invalid_secret_is_not_shown():
    secret = "of mine\n"
    for make in (
        lambda: Emulator(secret=secret),
        lambda: Emulator(accounts=[{"secret": secret}]),
        lambda: Emulator(accounts={"secret": secret}),
        lambda: Emulator().add_account("a", secret),
        lambda: Emulator(accounts=[secret]),
    ):
        with pytest.raises(ValueError, match="expected") as caught:
            make()
        assert "of mine" not in repr(caught.value) + str(caught.value)
    for settings in (Settings(secret="mine"), AccountSettings(secret="mine")):
        assert "mine" not in repr(settings)
    assert "mine" not in repr(Settings(accounts=[{"secret": "mine"}]))


MAKERS = {
    name: value
    for name, value in vars(libcloud_mcs.emulator).items()
    if inspect.isfunction(value) and name in libcloud_mcs.emulator.__all__
}
HEADERS = (*ODD_TEXTS, "é", "a\r\nb")
#: For every function that makes an effect, and for each of its arguments: what that cannot be.
BAD_EFFECTS = {
    "boot_fail": {},
    "content_type": {"value": (*NOT_TEXT, *HEADERS, None)},
    "cut": {"length": (*NOT_WHOLE, None, -1)},
    "delay": {"seconds": NOT_SECONDS},
    "drop_after": {},
    "drop_before": {},
    "error": {
        "code": (*NOT_WHOLE, None, 99, 200, 399, 600),
        "message": (*NOT_TEXT, None, "a\x00b", "\ud800", "\ufffe"),
        "after": NOT_FLAG,
    },
    "html": {"status": (*NOT_WHOLE, None, 99, 199, 600), "after": NOT_FLAG},
    "meanwhile": {"run": (*NEVER, None, 5, "run")},
    "overload": {},
    "too_many": {"retry_after": (*NEVER, True, -1, math.nan, *HEADERS)},
}
#: What each argument can be.
GOOD = {
    "value": "text/csv",
    "length": 0,
    "seconds": 0.5,
    "code": 599,
    "message": "",
    "after": True,
    "status": 304,
    "run": print,
    "retry_after": "soon",
}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_invalid_argument_of_effect_is_refused(name):
    taken = inspect.signature(MAKERS[name]).parameters
    assert set(BAD_EFFECTS[name]) == set(taken)
    good = {each: GOOD[each] for each in taken}
    assert isinstance(MAKERS[name](**good), Effect)
    for each, values in BAD_EFFECTS[name].items():
        for bad in values:
            with pytest.raises(ValueError, match=f"^{each}: expected .+, got") as caught:
                MAKERS[name](**good | {each: bad})
            one_line(caught.value)


BAD_FIELDS = {
    "name": NOT_NAME,
    "seconds": NOT_SECONDS,
    "run": (*NEVER, 5, "run"),
    "drop_before": NOT_FLAG,
    "drop_after": NOT_FLAG,
    "answer": (*NEVER, 5, "answer"),
    "after": NOT_FLAG,
    "cut": (*NOT_WHOLE, -1),
    "content_type": (*NOT_TEXT, *HEADERS),
    "boot_fail": NOT_FLAG,
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Effect)])
def test_invalid_field_of_effect_is_refused(name):
    for bad in BAD_FIELDS[name]:
        with pytest.raises(ValueError, match=f"^{name}: expected .+, got") as caught:
            Effect(**{"name": "odd", name: bad})
        one_line(caught.value)


BAD_FAULTS = {
    "effect": (*NEVER, None, "cut", overload),
    "on": (*NOT_TEXT, *ODD_TEXTS, None, "Nothing", "getbalance"),
    "nth": (*NOT_WHOLE, None, 0, -1),
    "times": (*NOT_WHOLE, 0, -1),
    "probability": (*NOT_NUMBER, None, -0.1, 1.1),
    "seed": BAD["seed"],
}


@pytest.mark.parametrize("name", inspect.signature(Emulator().inject).parameters)
def test_invalid_occurrence_of_fault_is_refused(name):
    cloud = Emulator()
    for bad in BAD_FAULTS[name]:
        with pytest.raises(ValueError, match=f"^{name}: expected .+, got") as caught:
            cloud.inject(**{"effect": delay(1), name: bad})
        one_line(caught.value)
    assert list(cloud.faults) == []


def test_fault_created_directly_has_defaults():
    fault = Fault(overload(), "GetBalance")
    with fault:
        assert (fault.nth, fault.times, fault.probability) == (1, None, 1.0)


NOT_TIMES = (
    *(*NEVER, 5, 1.5, True, "2030-01-01T00:00:00Z", timedelta(1), START.date()),
    *(datetime(2030, 1, 1), datetime.min, datetime.max),
    datetime(1969, 12, 31, tzinfo=timezone.utc),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
)


def test_invalid_time_of_clock_is_refused():
    clock = Clock(START)
    clock.freeze()
    clock.set(START)
    for bad in NOT_TIMES:
        for name, call in (("start", Clock), ("to", clock.set)):
            with pytest.raises(ValueError, match=f"^{name}: expected a time with a zone") as caught:
                call(bad)
            one_line(caught.value)
    with pytest.raises(ValueError, match="^to: expected"):
        clock.set(None)
    for bad in (*NEVER, 5, 1.5, True, None, "1h", timedelta.max, timedelta.min, timedelta(-30_000)):
        with pytest.raises(ValueError, match="^by: expected .+, got") as caught:
            clock.advance(bad)
        one_line(caught.value)
    assert clock.now() == START
    clock.advance(timedelta(-1))
    assert clock.now() == START - timedelta(1)


# On the command line


def run(capsys, *arguments):
    """Run the command, and return its exit status and standard error."""
    try:
        status = command.main(list(arguments))
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    assert said.out == ""
    return status, said.err


def option(name):
    return {"accounts": "--account"}.get(name, f"--{name.replace('_', '-')}")


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_invalid_option_ends_the_command_in_one_line(name, capsys, monkeypatch):
    monkeypatch.delenv("NOT_THERE", raising=False)
    for bad in ["x"] if BAD_OPTIONS[name] is None else BAD_OPTIONS[name]:
        status, said = run(capsys, f"{option(name)}={bad}")
        assert status == 2, bad
        assert said.startswith("error: ")
        assert option(name).strip("-") in said
        assert ("expected " in said) or BAD_OPTIONS[name] is None or "cannot be used" in said
        one_line(said)
        assert said.endswith("\n")


def test_table_has_invalid_values_of_every_option():
    parser = command._parser()
    options = {text for action in parser._actions for text in action.option_strings}
    assert options - {"-h", "--help"} == {option(name) for name in BAD_OPTIONS}


@pytest.mark.parametrize("arguments", [["--nothing"], ["--por", "5"], ["5"], ["--port"], ["a\nb"]])
def test_unknown_option_ends_the_command_in_one_line(capsys, arguments):
    status, said = run(capsys, *arguments)
    assert (status, said.startswith("error: ")) == (2, True)
    one_line(said)


def test_invalid_combination_of_options_ends_the_command(capsys):
    for arguments, words in (
        (["--ssh"], "ssh: it needs node_network"),
        (["--access-key", "a", "--account", "access_key=a"], "accounts: expected access keys"),
        (["--node-network", "127.9.9.0/30", "--instances", "3"], "instances: expected"),
    ):
        status, said = run(capsys, *arguments)
        assert (status, words in said) == (2, True), said
        one_line(said)


@pytest.mark.parametrize("variable", ["MOS_ACCESS", "MOS_SECRET"])
@pytest.mark.parametrize("value", ["of mine\n", " of mine", "of mine\udcff"])
def test_invalid_variable_is_named(capsys, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    status, said = run(capsys, "--port", "0")
    assert status == 2
    assert said.startswith(f"error: {variable}: expected ")
    assert ("of mine" in said) is (variable == "MOS_ACCESS")
    one_line(said)


def test_secret_on_the_command_line_is_not_shown(capsys):
    for arguments in (
        ["--secret", "of mine\n"],
        ["--account", "'secret=of mine\n'"],
        ["--account", "secrets='of mine'"],
        ["--account", "KEY:'of mine'"],
    ):
        status, said = run(capsys, *arguments)
        assert (status, "of mine" in said) == (2, False)


# Over HTTP

WRONG = {
    "flag": ("no", "true", 0, 1, None, [], {}),
    "number": ("1", True, [], {}, 10**400, -(10**400)),
    "whole": ("1", True, 1.5, 1.0, [], {}, 10**400),
    "text": (5, True, [], {}, "", " a", "a\nb", "\ud800"),
}
#: For every field of every route: what it cannot be.
BAD_BODIES = {
    ("POST", "clock"): {
        "advance": (*WRONG["number"], None, 1e300, 9e11, -9e11, 10**12 + 1),
        "set": (
            *(*WRONG["text"], None, "tomorrow", "2030-01-01T00:00:00", "2030-13-01T00:00:00Z"),
            *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-01-01T00:00:00Z"),
        ),
        "frozen": WRONG["flag"],
    },
    ("POST", "faults"): {
        "effect": (*WRONG["text"], None, "explode"),
        "on": (*WRONG["text"], None, "Nothing"),
        "argument": (*WRONG["number"], None, "x", -1),
        "nth": (*WRONG["whole"], None, 0),
        "times": (*WRONG["whole"], 0),
        "probability": (*WRONG["number"], None, -0.1, 1.1),
        "seed": WRONG["whole"][:-1],
    },
    ("DELETE", "faults"): {},
    ("POST", "stubs"): {
        "action": (*WRONG["text"], None, "a b", "A" * 65, "GetBalance"),
        "answer": (None, True, 5, 1.5, 10**400, "", "a", "\ud800", [], [{}]),
    },
    ("DELETE", "stubs"): {"action": (*WRONG["text"], None, "a b", "DescribeThing")},
    ("POST", "accounts"): {
        "access_key": WRONG["text"],
        "secret": WRONG["text"],
        "balance": (True, None, [], {}, "", "much", -1, 1e30),
        "instances": (*WRONG["whole"], None, -1, 100_001),
    },
    ("POST", "reset"): {},
}
#: What else the body must have, for the field to be what is wrong.
BESIDE = {
    ("POST", "clock"): {"frozen": True},
    ("POST", "faults"): {"effect": "error", "argument": 500},
    ("POST", "stubs"): {"action": "DescribeThing", "answer": {}},
    ("DELETE", "stubs"): {},
    ("POST", "accounts"): {"balance": 5},
}


@pytest.fixture
def control(cloud):
    """Send a body to ``/_emulator/`` that must be refused, and return the message."""
    cloud.clock.freeze()

    def state():
        return cloud._backend.snapshot(cloud.url), [account.secret for account in cloud.accounts]

    def refused(method, name, body, content_type="application/json", status=400):
        before = state()
        url = f"http://127.0.0.1:{cloud.port}/_emulator/{name}"
        headers = {"Content-Type": content_type}
        response = session.request(method, url, data=body, headers=headers, timeout=10)
        assert response.status_code == status, (body, response.text)
        assert response.headers["Content-Type"] == "application/json"
        assert state() == before
        return one_line(response.json()["error"])

    with requests.Session() as session:
        yield refused


def test_table_has_invalid_values_of_every_field():
    changing = {key: set(route.fields) for key, route in ROUTES.items() if key[0] != "GET"}
    assert {key: set(fields) for key, fields in BAD_BODIES.items()} == changing


@pytest.mark.parametrize("route", BAD_BODIES)
def test_invalid_field_of_control_request_is_refused(control, route):
    for name, values in BAD_BODIES[route].items():
        for bad in values:
            body = json.dumps({**BESIDE[route], name: bad})
            assert control(*route, body).startswith(f"{name}: expected "), body
        for constant in ("NaN", "Infinity", "-Infinity"):
            assert "is not JSON" in control(*route, f'{{"{name}": {constant}}}')


@pytest.mark.parametrize("route", BAD_BODIES)
def test_invalid_body_of_control_request_is_refused(control, route):
    for body in ("[]", "5", "null", '"text"', "{", "{}x", b"\xff\xfe", b"\x80"):
        assert control(*route, body).startswith("body: expected ")
    assert control(*route, "[" * 100_000).startswith("body: expected ")
    assert control(*route, '{"a":' * 100_000).startswith("body: expected ")
    assert control(*route, '{"a": ' + "9" * 100_000 + "}").startswith("body: expected ")
    for unknown in ("speed", "", "\ud800", "Frozen", "x" * 10_000):
        message = control(*route, json.dumps({**BESIDE.get(route, {}), unknown: 1}))
        assert message.startswith("body: expected ")
    for content_type in ("", "text/plain", "application/x-www-form-urlencoded", "application/jso"):
        assert control(*route, "{}", content_type).startswith("Content-Type: expected ")


def test_empty_body_of_control_request_has_no_fields(cloud):
    url = f"http://127.0.0.1:{cloud.port}/_emulator"
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert requests.post(f"{url}/reset", headers=headers, timeout=10).status_code == 200
    assert requests.delete(f"{url}/faults", timeout=10).status_code == 200
    response = requests.post(f"{url}/clock", headers=headers, timeout=10)
    assert response.json()["error"].startswith("body: expected advance, set or frozen")


def test_unknown_control_route_is_404_or_405(control):
    for name in ("nothing", ""):
        assert "expected one of GET /_emulator/" in control("GET", name, "", status=404)
    for method, name in (("PUT", "clock"), ("POST", "state")):
        message = control(method, name, "", status=405)
        assert message.startswith("method: expected GET, ")


@pytest.mark.parametrize("name", EFFECTS)
def test_invalid_argument_of_effect_over_http_is_refused(control, cloud, name):
    kind = EFFECTS[name].argument
    bad = [[], {}, True, -1, 10**400, ""]
    if kind is not None and not EFFECTS[name].optional:
        bad.append(None)
    for each in bad:
        message = control("POST", "faults", json.dumps({"effect": name, "argument": each}))
        assert message.startswith("argument: expected ")


def test_refused_request_to_the_clock_changes_nothing(control, cloud):
    cloud.clock.unfreeze()
    cloud.clock.freeze()
    body = {"frozen": False, "set": "2030-01-01T00:00:00Z", "advance": 10**12}
    assert control("POST", "clock", json.dumps(body)).startswith("advance: expected ")
    assert cloud.clock.frozen


def test_paths_of_any_type_are_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a.db", Path("b.db"), os.fsdecode(b"c\xff.db")):
        Emulator(state=path).close()
    assert len(os.listdir(tmp_path)) == 3
