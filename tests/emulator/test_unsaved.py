"""A change that fails halfway changes neither memory nor the state file."""

import contextlib
import http.client
import itertools
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
from conftest import START
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_client import CREATE, Client, refusal
from ssh_keys import new_key, public_text

from libcloud_mcs.emulator import (
    Clock,
    Effect,
    Emulator,
    Response,
    StateError,
    _app,
    error,
    overload,
)
from libcloud_mcs.emulator._control import ROUTES, Route
from libcloud_mcs.emulator._handlers import HANDLERS
from libcloud_mcs.emulator._transactions import Cell, Transactions

KEYS = [public_text(new_key(1024)) for _ in range(2)]


class Disk:
    """A disk on which writing can fail."""

    def __init__(self):
        #: How many statements there were.
        self.count = 0
        #: The statements that fail.
        self.fails = range(0)

    def connect(self, *args, **kwargs):
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql, *parameters):
                disk.count += 1
                if disk.count in disk.fails:
                    raise sqlite3.OperationalError("disk I/O error")
                return super().execute(sql, *parameters)

        return Connection(*args, **kwargs)

    @contextlib.contextmanager
    def failing(self, first, times=1):
        """Fail at a given statement from now on, and at some after it."""
        self.fails = range(self.count + first, self.count + first + times)
        try:
            yield
        finally:
            self.fails = range(0)


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr("sqlite3.connect", disk.connect)
    return disk


def unsaved(cloud):
    """Return the whole state of an emulator, with the parts that no file keeps."""
    stubs = cloud._backend.snapshot(cloud.url)["stubs"]
    return memory(cloud), cloud.records, list(cloud.faults), stubs


def memory(cloud):
    """Return the state of an emulator without the requests."""
    return [
        cloud.clock.state(),
        *(
            (
                *(account.access_key, account.secret, account.state.seed, account.state.drawn),
                *(account.state.balance, account.state.balance_at, account.ledger),
                *(account.state.instances(), account.state.key_pairs(), account.state.templates()),
            )
            for account in cloud.accounts
        ),
    ]


def next_instances(cloud):
    """Return the values that the next instances would have: from the seeds, and addresses."""
    return [
        (row, ask.tree("GetPasswordData", InstanceId=row["instanceId"]), networks)
        for account in cloud.accounts
        for ask in [Client(cloud.url, account.access_key, account.secret, answer_format="json")]
        for row in [ask.tree("CreateInstance", **CREATE)["Instance"]]
        for networks in [
            ask.tree("DescribeInstanceNetworkInterfaces", InstanceId=row["instanceId"])
        ]
    ]


@contextlib.contextmanager
def reopened(path):
    """Open a copy of the file of an emulator that is in use."""
    with tempfile.TemporaryDirectory() as folder:
        for each in Path(path).parent.iterdir():
            shutil.copy(each, folder)
        state = Path(folder, Path(path).name)
        with Emulator(edition=2017, state=state, boot_seconds=0) as cloud:
            yield cloud


# Any change, any failure

NAMES = ["a", "b", "c"]
#: The parameters of each action, for a number.
REQUESTS = {
    "DescribeTemplates": lambda n: {},
    "DescribeInstanceTypes": lambda n: {},
    "GetBalance": lambda n: {},
    "DescribeKeyPairs": lambda n: {},
    "ImportKeyPair": lambda n: {"KeyName": f"k{n % 2}", "PublicKeyMaterial": KEYS[n // 2 % 2]},
    "DeleteKeyPair": lambda n: {"KeyName": f"k{n % 2}"},
    "DescribeInstances": lambda n: {"Offset": str(n)},
    "DescribeInstanceStatus": lambda n: {"InstanceId": NAMES[n]},
    "DescribeInstanceVolumes": lambda n: {"InstanceId": NAMES[n]},
    "DescribeInstanceNetworkInterfaces": lambda n: {"InstanceId": NAMES[n]},
    "GetPasswordData": lambda n: {"InstanceId": NAMES[n]},
    "GetInstanceContractInfo": lambda n: {"InstanceId": NAMES[n]},
    "StartInstance": lambda n: {"InstanceId": NAMES[n]},
    "StopInstance": lambda n: {"InstanceId": NAMES[n], "Force": str(n == 1)},
    "RebootInstance": lambda n: {"InstanceId": NAMES[n]},
    "RebuildInstanceRootImage": lambda n: {"InstanceId": NAMES[n], "ImageId": CREATE["ImageId"]},
    "CreateInstance": lambda n: {**CREATE, "InstanceName": NAMES[n]},
    "TerminateInstance": lambda n: {"InstanceId": NAMES[n]},
    "RenewInstance": lambda n: {"InstanceId": NAMES[n], "Duration": "3H"},
    "ChangeInstanceType": lambda n: {
        "InstanceId": NAMES[n],
        "InstanceType": ["small", "medium", "xlarge"][n],
        "Duration": "2H",
    },
    "GetInstanceMetadata": lambda n: {"InstanceId": NAMES[n]},
    "PutInstanceMetadata": lambda n: {"InstanceId": NAMES[n], "Name.1": "x", "Value.1": str(n)},
    "DescribeAvailabilityZones": lambda n: {"Limit": str(n)},
    "CreateTemplate": lambda n: {"InstanceId": NAMES[n], "Name": f"t{n}"},
    "DeleteTemplate": lambda n: {},
}


def params_of(cloud, action, n):
    """Return the parameters of an action in a cloud, for a number."""
    params = REQUESTS[action](n)
    if action == "DeleteTemplate":
        params["TemplateId"] = cloud.account.state.templates()[-1].template_id
    return params


def over_http(method, name, **body):
    def step(cloud, n):
        url = f"http://127.0.0.1:{cloud.port}/_emulator/{name}"
        return requests.request(method, url, json=body, timeout=10).status_code < 500

    return step


def api(action):
    def step(cloud, n):
        ask = Client(cloud.url, cloud.access_key, cloud.secret)
        return ask(action, **params_of(cloud, action, n)).status_code < 500

    return step


def in_a_program(change):
    def step(cloud, n):
        # That there is no such instance is raised, too.
        try:
            change(cloud, n)
        except Exception as problem:
            return not isinstance(problem, (StateError, BrokenError))
        return True

    return step


STEPS = {
    **{action: api(action) for action in REQUESTS},
    "advance over HTTP": over_http("POST", "clock", advance=3000),
    "freeze and set over HTTP": over_http(
        "POST", "clock", frozen=True, set="2026-03-01T00:00:00Z", advance=5
    ),
    "add over HTTP": over_http("POST", "accounts", balance=7, instances=1),
    "reset over HTTP": over_http("POST", "reset"),
    "state over HTTP": over_http("GET", "state"),
    "advance": in_a_program(lambda cloud, n: cloud.clock.advance(timedelta(seconds=10**n))),
    "advance by days": in_a_program(lambda cloud, n: cloud.clock.advance(timedelta(days=n))),
    "set": in_a_program(lambda cloud, n: cloud.clock.set(START + timedelta(days=n))),
    "freeze": in_a_program(lambda cloud, n: cloud.clock.freeze()),
    "reset the clock": in_a_program(lambda cloud, n: cloud.clock.reset()),
    "add an account": in_a_program(lambda cloud, n: cloud.add_account(instances=n)),
    "add a known account": in_a_program(lambda cloud, n: cloud.add_account(NAMES[n], "secret")),
    "reset": in_a_program(lambda cloud, n: cloud.reset()),
    "add instances": in_a_program(lambda cloud, n: cloud.account.state.add_running(*NAMES[:n])),
    "remove": in_a_program(lambda cloud, n: cloud.account.state.remove(NAMES[n])),
}


def test_tables_have_every_action_and_every_change_over_http():
    assert list(REQUESTS) == list(HANDLERS)
    changes = {name for method, name in ROUTES if method == "POST"}
    assert changes - {"faults", "stubs"} == {"clock", "accounts", "reset"}


class BrokenError(Exception):
    """An unexpected error."""


def broken(*args, **kwargs):
    raise BrokenError("not for you")


FAILURES = st.one_of(
    st.none(),
    st.tuples(st.just("disk"), st.integers(1, 14), st.sampled_from([1, 1000])),
    st.sampled_from(["renderer", "drawing", "storing"]),
)
BREAKABLE = {
    "renderer": "libcloud_mcs.emulator._app.App._render",
    "drawing": "libcloud_mcs.emulator._account.AccountState._new_password",
    "storing": "libcloud_mcs.emulator._store._document",
}


def failing(disk, failure):
    if failure is None:
        return contextlib.nullcontext()
    if failure in BREAKABLE:
        patched = pytest.MonkeyPatch.context()
        stack = contextlib.ExitStack()
        stack.enter_context(patched).setattr(BREAKABLE[failure], broken)
        return stack
    return disk.failing(*failure[1:])


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 2), FAILURES), max_size=8
    )
)
def test_failed_change_leaves_memory_and_file_equal(steps):
    logging.getLogger(_app.__name__).disabled = True
    disk = Disk()
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sqlite3.connect", disk.connect)
        path = Path(folder, "state.db")
        # A password is there at once, and what takes time takes long.
        instant = {"edition": 2017, "boot_seconds": 0, "churn": 1, "balance": 50, "seed": 1}
        with Emulator(state=path, clock=frozen_clock(), instances=1, **instant) as cloud:
            cloud.account.state.add_running(*NAMES[:2])
            for name, n, failure in steps:
                before = memory(cloud)
                with failing(disk, failure):
                    done = STEPS[name](cloud, n)
                if not done:
                    assert failure is not None
                    assert memory(cloud) == before, name
                cloud.clock.freeze()
                with reopened(path) as copy:
                    assert memory(copy) == memory(cloud), name
            with reopened(path) as copy:
                accounts = [account.access_key for account in copy.accounts]
                assert accounts == [account.access_key for account in cloud.accounts]
                if all(account.state.balance > 1 for account in cloud.accounts):
                    assert next_instances(copy) == next_instances(cloud)
        assert os.listdir(folder) == ["state.db"]
    logging.getLogger(_app.__name__).disabled = False


def frozen_clock():
    clock = Clock(START)
    clock.freeze()
    clock.set(START)
    return clock


# One failure after another


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def kept(path, disk):
    """A cloud with a state file and a frozen clock, in which nothing takes time."""
    instant = {"boot_seconds": 0, "save_seconds": 0}
    with Emulator(edition=2017, state=path, clock=frozen_clock(), seed=1, **instant) as cloud:
        cloud.account.state.add_running("a")
        cloud.account.state.save_template("a", "t0")
        ask = Client(cloud.url, cloud.access_key, cloud.secret)
        ask.tree("ImportKeyPair", KeyName="k0", PublicKeyMaterial=KEYS[0])
        ask.tree("StopInstance", InstanceId="a", Force="True")
        cloud.account.state.add_running("b")
        yield cloud


#: The actions that change something, and the number that :data:`REQUESTS` makes one of.
CHANGES = {
    "ImportKeyPair": 1,
    "DeleteKeyPair": 0,
    "StartInstance": 0,
    "StopInstance": 1,
    "RebootInstance": 1,
    "RebuildInstanceRootImage": 1,
    "CreateInstance": 2,
    "TerminateInstance": 0,
    "RenewInstance": 0,
    "ChangeInstanceType": 1,
    "PutInstanceMetadata": 0,
    "CreateTemplate": 1,
    "DeleteTemplate": 0,
}


@pytest.mark.parametrize("answer_format", ["xml", "json"])
@pytest.mark.parametrize("action", HANDLERS)
def test_change_that_cannot_be_saved_is_not_made(kept, path, disk, action, answer_format, caplog):
    ask = Client(kept.url, kept.access_key, kept.secret, answer_format=answer_format)
    before = memory(kept)
    with disk.failing(1, times=1000):
        response = ask(action, **params_of(kept, action, CHANGES.get(action, 0)))
    assert memory(kept) == before
    with reopened(path) as copy:
        assert memory(copy) == before
    if action not in CHANGES:
        # What changes nothing does not need the file.
        assert response.status_code == 200
        assert caplog.records == []
        return
    status, message = refusal(response)
    assert status == 500
    assert "the change could not be saved" in message
    assert "disk I/O error" in message
    assert str(path) in message
    (logged,) = caplog.records
    assert (logged.levelname, action in logged.getMessage()) == ("ERROR", True)
    assert logged.exc_info[0] is StateError
    record = kept.records[-1]
    assert (record.action, record.status, record.message) == (action, 500, message)
    # As soon as it can be saved, it is.
    assert ask(action, **params_of(kept, action, CHANGES[action])).status_code == 200
    assert memory(kept) != before
    with reopened(path) as copy:
        assert memory(copy) == memory(kept)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("clock", {"advance": 5}),
        ("clock", {"set": "2027-01-01T00:00:00Z", "frozen": False}),
        ("accounts", {"access_key": "second"}),
        ("reset", {}),
    ],
)
def test_control_request_that_cannot_be_saved_is_not_made(kept, path, disk, name, body, caplog):
    kept.inject(overload(), nth=5)
    kept.stub("DescribeThing", {})
    before = unsaved(kept)
    url = f"http://127.0.0.1:{kept.port}/_emulator/{name}"
    with disk.failing(2):
        response = requests.post(url, json=body, timeout=10)
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/json"
    assert "could not be saved" in response.json()["error"]
    assert [record.exc_info[0] for record in caplog.records] == [StateError]
    assert unsaved(kept) == before
    with reopened(path) as copy:
        assert memory(copy) == before[0]
    assert requests.post(url, json=body, timeout=10).status_code == 200
    kept.clock.freeze()
    with reopened(path) as copy:
        assert memory(copy) == memory(kept) != before[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda cloud: cloud.clock.advance(timedelta(days=60)),
        lambda cloud: cloud.clock.set(START - timedelta(1)),
        lambda cloud: cloud.clock.unfreeze(),
        lambda cloud: cloud.clock.reset(),
        lambda cloud: cloud.add_account("second", instances=2),
        lambda cloud: cloud.reset(),
        lambda cloud: cloud.account.state.remove("a"),
        lambda cloud: cloud.account.state.add_running("c"),
    ],
)
@pytest.mark.parametrize("times", [1, 1000])
def test_call_that_cannot_be_saved_is_not_made(kept, path, disk, change, times):
    kept.inject(overload())
    kept.stub("DescribeThing", {})
    before = unsaved(kept)
    said = []
    # Each of the statements that it needs fails once, alone or with all that follow.
    for first in itertools.count(1):
        with disk.failing(first, times):
            try:
                change(kept)
                break
            except StateError as problem:
                said.append(str(problem))
        assert unsaved(kept) == before
        with reopened(path) as copy:
            assert memory(copy) == before[0]
    assert first > 3
    assert all("could not be saved" in each and "disk I/O error" in each for each in said)
    assert memory(kept) != before[0]
    kept.clock.freeze()
    with reopened(path) as copy:
        assert memory(copy) == memory(kept)


def test_emulator_that_cannot_save_its_initial_state_is_not_created(path, disk):
    for first in itertools.count(1):
        with disk.failing(first, times=1000), contextlib.suppress(StateError):
            Emulator(state=path, instances=1).close()
            break
        # What was begun is finished by the next one.
        assert os.listdir(path.parent) == [path.name]
    assert first > 10


# Unexpected errors


def raw(cloud, request):
    """Send two requests over a new connection, and return the first response."""
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(*request)
        first = connection.getresponse()
        body = first.read()
        # The connection is as usable as before.
        connection.request("GET", "/_emulator/clock")
        second = connection.getresponse()
        second.read()
        assert second.status == 200
        return first.status, first.headers["Content-Type"], body


def signed(ask, action, **params):
    form = ask.parameters(action, params)
    query = urlencode(form | {"Signature": ask.sign(form)})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return "POST", "/mcs/v1", query, headers


@pytest.mark.parametrize("answer_format", ["xml", "json"])
@pytest.mark.parametrize(
    "place",
    [
        "libcloud_mcs.emulator._app.HANDLERS",
        "libcloud_mcs.emulator._app.read_form",
        "libcloud_mcs.emulator._app.verify",
        "libcloud_mcs.emulator._app.App._render",
        "libcloud_mcs.emulator._app.is_administrative",
        "libcloud_mcs.emulator._handlers._instance_row",
        "libcloud_mcs.emulator._account.AccountState._put",
        "libcloud_mcs.emulator._account.AccountState._charge",
        "libcloud_mcs.emulator._backend.Backend._save",
        "libcloud_mcs.emulator._store.Store.save_account",
        "libcloud_mcs.emulator._store._document",
    ],
)
def test_unexpected_error_is_500(kept, path, monkeypatch, caplog, place, answer_format):
    before = memory(kept)
    ask = Client(kept.url, kept.access_key, kept.secret, answer_format=answer_format)
    with monkeypatch.context() as patch:
        if place.endswith("HANDLERS"):
            patch.setitem(HANDLERS, "CreateInstance", broken)
        elif place.endswith("_save"):
            patch.setattr(kept._backend.transactions, "save", broken)
        else:
            patch.setattr(place, broken)
        if place.endswith("is_administrative"):
            response = ask("CreateInstance", **CREATE)
            status, content_type, body = (
                *(response.status_code, response.headers["Content-Type"]),
                response.content,
            )
        else:
            status, content_type, body = raw(kept, signed(ask, "CreateInstance", **CREATE))
    # The format of a form that could not be read is not known.
    known = "json" if answer_format == "json" and "read_form" not in place else "xml"
    known = "xml" if "is_administrative" in place else known
    assert (status, content_type) == (500, f"application/{known}")
    assert b"ErrorResponse" in body
    assert b"the emulator failed" in body
    assert b"BrokenError" in body
    assert b"not for you" not in body
    logged = [each for each in caplog.records if each.name == _app.__name__]
    assert [each.exc_info[0] for each in logged] == [BrokenError]
    assert "Traceback" in caplog.text
    assert kept.records[-1].status == 500
    assert memory(kept) == before
    with reopened(path) as copy:
        assert memory(copy) == before
    assert ask("CreateInstance", **CREATE).status_code == 200


@pytest.mark.parametrize(("method", "name"), ROUTES)
def test_unexpected_error_of_control_request_is_500(kept, monkeypatch, caplog, method, name):
    before = memory(kept)
    headers = {"Content-Type": "application/json"}
    body = None if method == "GET" else "{}"
    with monkeypatch.context() as patch:
        route = Route(broken, ROUTES[method, name].fields)
        patch.setitem(ROUTES, (method, name), route)
        url = f"http://127.0.0.1:{kept.port}/_emulator/{name}"
        response = requests.request(method, url, data=body, headers=headers, timeout=10)
    assert (response.status_code, response.headers["Content-Type"]) == (500, "application/json")
    assert "the emulator failed" in response.json()["error"]
    assert [each.exc_info[0] for each in caplog.records] == [BrokenError]
    assert memory(kept) == before


def test_unexpected_error_of_page_is_500(kept, monkeypatch, caplog):
    monkeypatch.setattr("libcloud_mcs.emulator._control.render_page", broken)
    status, content_type, body = raw(kept, ("GET", "/"))
    assert (status, content_type) == (500, "application/json")
    assert b"the emulator failed" in body
    assert [each.exc_info[0] for each in caplog.records] == [BrokenError]


def test_refused_creation_draws_nothing_from_the_seed(kept):
    before = memory(kept)
    ask = Client(kept.url, kept.access_key, kept.secret)
    expensive = CREATE | {"InstanceType": "xlarge", "Duration": "120M"}
    assert ask.refused("CreateInstance", **expensive)[0] == 406
    assert memory(kept) == before


@pytest.mark.parametrize(
    "effect",
    [
        Effect("odd", answer=broken),
        Effect("odd", answer=broken, after=True),
        Effect("odd", answer=lambda _: "no answer"),
        Effect("odd", answer=lambda _: None),
    ],
)
def test_failing_effect_changes_nothing(kept, caplog, effect):
    before = memory(kept)
    ask = Client(kept.url, kept.access_key, kept.secret)
    with kept.inject(effect):
        assert refusal(ask("CreateInstance", **CREATE))[0] == 500
    assert len(caplog.records) == 1
    assert memory(kept) == before


def test_effect_replaces_any_response(kept):
    ask = Client(kept.url, kept.access_key, "wrong")
    for effect in (error(507), error(507, after=True), Effect("own", answer=own)):
        with kept.inject(effect):
            assert ask("CreateInstance", **CREATE).status_code == 507
    assert len(kept.ledger) == 0


def own(answer_format):
    return Response(507, "text/plain", b"")


def test_invalid_target_is_400_and_connection_is_kept(kept):
    request = b"GET http://[x HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", kept.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(request)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"<code>400</code>" in answer


# The end of time


def test_lease_beyond_the_year_9999_is_refused(kept, caplog):
    ask = Client(kept.url, kept.access_key, kept.secret)
    kept.clock.set(datetime(9999, 12, 1, tzinfo=timezone.utc))
    for clock, duration in (
        (datetime(9999, 12, 31, tzinfo=timezone.utc), "1H"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc), "1H"),
        (datetime(9999, 12, 24, 23, 59, 59, tzinfo=timezone.utc), "1H"),
        (datetime(9999, 12, 1, tzinfo=timezone.utc), "1M"),
        (datetime(9995, 1, 1, tzinfo=timezone.utc), "120M"),
        (datetime(9995, 1, 1, tzinfo=timezone.utc), "80000H"),
    ):
        kept.clock.set(clock)
        before = memory(kept)
        status, message = ask.refused("CreateInstance", **CREATE | {"Duration": duration})
        assert status == 422
        assert message.startswith(
            "Duration: expected a lease that ends before the year 10000, got "
        )
        assert memory(kept) == before
    assert caplog.records == []


def test_renewal_beyond_the_year_9999_is_refused(kept):
    ask = Client(kept.url, kept.access_key, kept.secret)
    kept.clock.set(datetime(9999, 12, 24, 0, 0, tzinfo=timezone.utc))
    ask.tree("CreateInstance", InstanceName="last", **CREATE)
    before = memory(kept)
    for action, params in (
        ("RenewInstance", {"Duration": "23H"}),
        ("RenewInstance", {"Duration": "1M"}),
        ("ChangeInstanceType", {"InstanceType": "medium", "Duration": "1M"}),
    ):
        status, message = ask.refused(action, InstanceId="last", **params)
        assert (status, message.startswith("Duration: ")) == (422, True)
        assert memory(kept) == before
    ask.tree("RenewInstance", InstanceId="last", Duration="22H")


def test_clock_stops_at_the_end_of_the_year_9999():
    clock = Clock()
    clock.set(datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc))
    with Emulator(clock=clock, signature_clock="real") as cloud:
        assert clock.now() == datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
        assert not clock.frozen
        ask = Client(cloud.url, cloud.access_key, cloud.secret)
        ask.tree("GetBalance")
        assert ask.refused("CreateInstance", **CREATE)[0] == 422
        with pytest.raises(ValueError, match="by: expected what leads to a time from 1970"):
            clock.advance(timedelta(seconds=1))
        with pytest.raises(
            ValueError, match="instances: expected at most as many as there are addresses"
        ):
            cloud.add_account(instances=1)
        clock.reset()
        ask.tree("CreateInstance", **CREATE)


def test_transition_beyond_the_year_9999_does_not_end():
    clock = Clock(datetime(9999, 12, 29, tzinfo=timezone.utc))
    with Emulator(clock=clock, stop_seconds=10**9, boot_seconds=0) as cloud:
        ask = Client(cloud.url, cloud.access_key, cloud.secret)
        ask.tree("CreateInstance", InstanceName="a", **CREATE)
        ask.tree("StopInstance", InstanceId="a")
        status = ask.tree("DescribeInstanceStatus", InstanceId="a")
        assert status["InstanceStatus"]["status"] == "stopping"


# A file that is full


def start(path):
    command = [sys.executable, "-m", "libcloud_mcs.emulator", "--port", "0", "--state", str(path)]
    command += [
        "--access-key",
        "me",
        "--secret",
        "mine",
        "--balance",
        "100000",
        "--boot-seconds",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = process.stdout.readline().removeprefix("MCS endpoint: ").strip()
    return process, Client(url, "me", "mine", answer_format="json")


def test_full_disk_refuses_changes_until_there_is_space(path):
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux has prlimit")
    process, ask = start(path)
    try:
        limit = 256 * 1024
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        made = 0
        while True:
            response = ask("CreateInstance", **CREATE | {"InstanceName": f"n{made}"})
            if response.status_code != 200:
                break
            made += 1
        assert made > 5
        status, message = refusal(response)
        assert (status, "could not be saved" in message) == (500, True)
        # Nothing was made, and nothing was paid: it can be read, and asked for again and again.
        for _ in range(3):
            rows = ask.tree("DescribeInstances")["InstanceSet"]["Instance"]
            assert [row["instanceName"] for row in rows] == [f"n{n}" for n in range(made)]
            assert ask.tree("GetBalance")["balance"] == round(100000 - 0.12 * made, 2)
            assert refusal(ask("CreateInstance", **CREATE))[0] == 500
        # With space again, changes succeed.
        free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, free)
        ask.tree("CreateInstance", InstanceName="with space", **CREATE)
        before = ask.tree("DescribeInstances"), ask.tree("GetBalance")
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said.count("Traceback (most recent call last)") == 2 * 4  # each with its cause
    assert os.listdir(path.parent) == [path.name]
    process, ask = start(path)
    try:
        assert (ask.tree("DescribeInstances"), ask.tree("GetBalance")) == before
    finally:
        process.kill()
        process.communicate()


def test_clean_stop_leaves_only_the_state_file(path):
    for number in range(4):
        with Emulator(state=path, instances=1) as cloud:
            Client(cloud.url, cloud.access_key, cloud.secret).tree("CreateInstance", **CREATE)
            assert sorted(os.listdir(path.parent)) == ["state.db", "state.db-wal"]
            assert len(cloud.ledger) == number + 1
        assert os.listdir(path.parent) == ["state.db"]
    with pytest.raises(StateError), Emulator(state=path), Emulator(state=path):
        pass
    assert os.listdir(path.parent) == ["state.db"]


def test_clean_stop_after_kill_leaves_only_the_state_file(path):
    for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        process, ask = start(path)
        ask.tree("CreateInstance", **CREATE)
        process.send_signal(end)
        process.communicate(timeout=30)
        assert ("state.db-wal" in os.listdir(path.parent)) is (end == signal.SIGKILL)
    assert os.listdir(path.parent) == ["state.db"]


# What is under it


def test_nested_transaction_is_rolled_back_alone():
    transactions = Transactions()
    saved = []
    transactions.save = lambda: saved.append((first.value, second.value))
    first, second = Cell(transactions, [1]), Cell(transactions, "one")
    with transactions():
        first.draft().append(2)
        with contextlib.suppress(BrokenError), transactions():
            first.draft().append(3)
            second.put("two")
            raise BrokenError
        assert (first.value, second.value) == ([1, 2], "one")
        with transactions():
            first.draft().append(4)
            second.put("three")
        assert saved == []
    assert saved == [([1, 2, 4], "three")]
    with contextlib.suppress(BrokenError), transactions():
        with transactions():
            first.draft().append(5)
        raise BrokenError
    assert (first.value, second.value) == ([1, 2, 4], "three")
    with pytest.raises(RuntimeError, match="outside of a transaction"):
        first.put([])


def test_transaction_without_change_is_not_saved():
    transactions = Transactions()
    transactions.save = broken
    with transactions():
        pass
