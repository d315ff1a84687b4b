"""Kept state: whatever happens to the process, what was acknowledged is there again."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import requests
from plain_client import CREATE, Client
from ssh_keys import new_key, public_text

from libcloud_mcs.emulator import Emulator, StateError
from libcloud_mcs.emulator._store import APPLICATION_ID, VERSION

KEY = public_text(new_key())
#: The actions that tell of one instance what ``DescribeInstances`` does not.
QUERIES = (
    "DescribeInstanceVolumes",
    "DescribeInstanceNetworkInterfaces",
    "GetInstanceContractInfo",
    "GetInstanceMetadata",
    "GetPasswordData",
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a state.db"


def client(cloud):
    return Client(cloud.url, cloud.access_key, cloud.secret, answer_format="json")


def everything(cloud):
    """Return everything that a client can see, but the time and the requests."""
    ask = client(cloud)
    seen = [ask.tree("DescribeInstances"), ask.tree("DescribeKeyPairs"), ask.tree("GetBalance")]
    for row in seen[0]["InstanceSet"]["Instance"]:
        seen += [
            ask.tree(action, InstanceId=row["instanceId"])
            for action in QUERIES
            if row["instanceName"] != "keyed" or action != "GetPasswordData"
        ]
    return seen, [account.ledger for account in cloud.accounts]


def test_everything_comes_back(path):
    with Emulator(state=path, seed=5, balance=77, instances=2) as cloud:
        cloud.clock.freeze()
        ask = client(cloud)
        ask.tree("ImportKeyPair", KeyName="mine", PublicKeyMaterial=KEY)
        ask.tree("ImportKeyPair", KeyName="other", PublicKeyMaterial=KEY)
        ask.tree("CreateInstance", InstanceName="keyed", KeyName="mine", **CREATE)
        ask.tree("CreateInstance", InstanceName="gone", **CREATE)
        ask.tree("CreateInstance", InstanceName="名", **CREATE)
        ask.tree("DeleteKeyPair", KeyName="other")
        cloud.clock.advance(timedelta(seconds=2))
        ask.tree("PutInstanceMetadata", InstanceId="名", Name_1="a", Value_1="b")
        ask.tree("RenewInstance", InstanceId="名", Duration="5H")
        ask.tree(
            "ChangeInstanceType", InstanceId="instance-1", InstanceType="medium", Duration="1H"
        )
        ask.tree("StopInstance", InstanceId="keyed")
        ask.tree("TerminateInstance", InstanceId="gone")
        cloud.add_account("second", "secret", instances=1)
        cloud.clock.advance(timedelta(seconds=2))
        before = everything(cloud)
        now, keys = cloud.clock.now(), (cloud.access_key, cloud.secret)
    assert sorted(os.listdir(path.parent)) == ["a state.db"]
    with Emulator(state=path, balance=5, instances=9) as cloud:
        assert (cloud.access_key, cloud.secret) == keys
        assert (cloud.clock.now(), cloud.clock.frozen) == (now, True)
        assert everything(cloud) == before
        assert len(Client(cloud.url, "second", "secret").tree("DescribeInstances")["InstanceSet"])
        # New IDs are new, new addresses are free, and life goes on.
        made = client(cloud).tree("CreateInstance", **CREATE)["Instance"]
        seen = client(cloud).tree("DescribeInstances")["InstanceSet"]["Instance"]
        assert len({row["instanceId"] for row in seen}) == len(seen)
        assert len({row["ipAddresses"] for row in seen}) == len(seen)
        assert made["status"] == "disk"
        cloud.clock.advance(timedelta(seconds=1))
        assert {
            row["status"]
            for row in client(cloud).tree("DescribeInstances")["InstanceSet"]["Instance"]
        } == {"running", "ready"}


def test_the_file_is_its_owners_alone(path):
    with Emulator(state=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_account_that_is_named_is_the_first(path):
    with Emulator(state=path, access_key="one", secret="a"):
        pass
    with Emulator(state=path, access_key="two", secret="b", balance=5) as cloud:
        assert [account.access_key for account in cloud.accounts] == ["two", "one"]
        assert client(cloud).tree("GetBalance")["balance"] == 5
    with Emulator(state=path, access_key="one", secret="c") as cloud:
        assert [account.access_key for account in cloud.accounts] == ["one", "two"]
        # The secret that is given is the one that holds from now on.
        client(cloud).tree("GetBalance")
        assert cloud.secret == "c"
    with Emulator(state=path) as cloud:
        assert {account.secret for account in cloud.accounts} == {"b", "c"}


def test_reset_forgets_what_was_kept(path):
    with Emulator(state=path, balance=9) as cloud:
        client(cloud).tree("CreateInstance", **CREATE)
        cloud.reset()
        keys = cloud.access_key, cloud.secret
    with Emulator(state=path, balance=7) as cloud:
        assert (cloud.ledger, str(cloud.account.state.balance)) == ([], "9.00")
        # It is the same account after that, whoever named it.
        cloud.reset()
        assert (cloud.access_key, cloud.secret, str(cloud.account.state.balance)) == (*keys, "7.00")


def test_an_emulator_whose_state_was_closed_does_not_start(path):
    with Emulator(state=path) as cloud:
        pass
    with pytest.raises(RuntimeError, match="was closed"):
        cloud.start()


def test_two_emulators_cannot_share_a_file(path):
    with Emulator(state=path), pytest.raises(StateError, match="another emulator is using it"):
        Emulator(state=path)
    Emulator(state=path).close()


def database(path, script):
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def setting(path, name, value):
    database(path, f"UPDATE setting SET value = '{value}' WHERE name = '{name}'")


def document(path, field, value):
    """Put another value into the document of each instance."""
    query = f"UPDATE instance SET document = json_set(document, '$.{field}', json('{value}'))"
    database(path, query)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b"no database at all"), "damaged, or not a state"),
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "damaged|cannot be used"),
        (
            lambda path: path.write_bytes(
                path.read_bytes()[:4096] + b"\xa5" * 4096 + path.read_bytes()[8192:]
            ),
            "damaged|malformed",
        ),
        (lambda path: database(path, f"PRAGMA user_version = {VERSION + 1}"), "newer than this"),
        (lambda path: database(path, "PRAGMA application_id = 1"), "another program"),
        (lambda path: database(path, "PRAGMA application_id = 0"), "another program"),
        (lambda path: database(path, "DROP TABLE charge"), "damaged"),
        (lambda path: database(path, "DROP TABLE setting"), "damaged"),
        (lambda path: setting(path, "clock", "{"), "damaged"),
        (lambda path: setting(path, "clock", "5"), "damaged"),
        (lambda path: setting(path, "clock", '{"offset": 1}'), "damaged"),
        (lambda path: setting(path, "clock", '{"offset": "x", "frozen": null}'), "damaged"),
        (lambda path: setting(path, "clock", '{"offset": NaN, "frozen": null}'), "damaged"),
        (lambda path: setting(path, "clock", '{"offset": -1e11, "frozen": null}'), "before 1970"),
        (lambda path: setting(path, "clock", '{"offset": 0, "frozen": "2030-01-01"}'), "damaged"),
        (lambda path: setting(path, "clock", '{"offset": 0, "frozen": 5}'), "damaged"),
        (lambda path: setting(path, "serial", '"x"'), "damaged"),
        (lambda path: document(path, "phases", "[]"), "damaged"),
        (lambda path: document(path, "phases", "[5]"), "damaged"),
        (lambda path: document(path, "name", "5"), "TypeError: 'name' of an instance"),
        (lambda path: document(path, "name", '"n"'), "two instances are called 'n'"),
        (lambda path: document(path, "metadata", "5"), "damaged"),
        (lambda path: document(path, "type", '"huge"'), "there is no type 'huge'"),
        (lambda path: document(path, "template", '"unknown"'), "damaged"),
        (lambda path: document(path, "expire_at", '"2030-01-01"'), "damaged"),
        (lambda path: database(path, "UPDATE instance SET document = '5'"), "damaged"),
        (lambda path: database(path, "UPDATE account SET balance = 'NaN'"), "damaged"),
        (lambda path: database(path, "UPDATE instance SET document = '{}'"), "damaged"),
        (lambda path: database(path, "UPDATE instance SET document = '{'"), "damaged"),
        (lambda path: database(path, "UPDATE account SET balance = 'much'"), "damaged"),
        (lambda path: database(path, "UPDATE account SET balance_at = '2026-01-01'"), "damaged"),
    ],
)
def test_a_damaged_or_newer_file_is_an_error_and_left_as_it_was(path, spoil, words):
    with Emulator(state=path, instances=3) as cloud:
        client(cloud).tree("CreateInstance", **CREATE)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StateError, match=words) as caught:
        Emulator(state=path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    # Nothing was left beside it either.
    assert os.listdir(path.parent) == [path.name]


def test_a_path_without_a_file_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "such" / "folder"):
        with pytest.raises(StateError, match="cannot be used"):
            Emulator(state=path)
    (tmp_path / "empty").touch()
    Emulator(state=tmp_path / "empty").close()


def test_a_file_that_was_only_just_made(path):
    # Killed between making the file and filling it.
    database(path, "PRAGMA journal_mode = WAL")
    assert path.stat().st_size
    with Emulator(state=path) as cloud:
        client(cloud).tree("CreateInstance", **CREATE)


def test_the_format_is_the_documented_one(path):
    Emulator(state=path, instances=1).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    assert [name for (name,) in tables] == [
        *("account", "charge", "instance", "key_pair", "setting", "template")
    ]
    connection.close()


def start(path, *arguments):
    command = [sys.executable, "-m", "libcloud_mcs.emulator", "--port", "0", "--state", str(path)]
    command += ["--access-key", "me", "--secret", "mine", "--boot-seconds", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    url = process.stdout.readline().removeprefix("MCS endpoint: ").strip()
    return process, url


class Writer(threading.Thread):
    """Creates instances until the endpoint has stopped."""

    def __init__(self, ask, prefix):
        super().__init__()
        self.ask, self.prefix = ask, prefix
        self.acknowledged = {}
        self.count = threading.Semaphore(0)

    def run(self):
        for number in range(10_000):
            name = f"{self.prefix}-{number}"
            params = CREATE | {"Duration": "1M", "InstanceName": name}
            try:
                made = self.ask.tree("CreateInstance", **params)["Instance"]
            except requests.exceptions.RequestException:
                return
            self.acknowledged[made["instanceId"]] = name
            self.count.release()

    def wait_for(self, count):
        return all(self.count.acquire(timeout=30) for _ in range(count))


def test_killed_at_any_moment_it_comes_back_with_all_that_was_acknowledged(path):
    acknowledged: dict[str, str] = {}
    for kill in range(6):
        process, url = start(path, "--balance", "100000")
        ask = Client(url, "me", "mine", answer_format="json")
        rows = ask.tree("DescribeInstances")["InstanceSet"]["Instance"]
        kept = {row["instanceId"]: row["instanceName"] for row in rows}
        # The last request before the kill may have been carried out, or not.
        assert acknowledged.items() <= kept.items()
        assert len(kept) <= len(acknowledged) + 1
        ledger = requests.get(url.replace("/mcs/v1", "/_emulator/ledger"), timeout=10).json()
        assert [charge["instance_id"] for charge in ledger] == list(kept)
        assert ask.tree("GetBalance")["balance"] == 100000 - 59 * len(kept)

        writer = Writer(ask, kill)
        writer.start()
        assert writer.wait_for(5 + 7 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        writer.join(30)
        acknowledged = kept | writer.acknowledged
    assert len(acknowledged) >= sum(5 + 7 * kill for kill in range(6))


def test_a_clean_stop_leaves_one_file(path):
    process, url = start(path)
    Client(url, "me", "mine").tree("CreateInstance", **CREATE)
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()
    assert sorted(os.listdir(path.parent)) == ["a state.db"]


def test_a_state_that_cannot_be_used_ends_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "libcloud_mcs.emulator", "--port", "0", "--state", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: state: ")


# Files of earlier versions

OLD = [Path(__file__).parent / f"state_version_{version}.db" for version in range(1, VERSION)]
#: What ``/_emulator/state`` and the API tell of the accounts in each of these files.
OLD_CONTENT = json.loads(OLD[0].with_suffix(".json").read_text(encoding="utf-8"))


def content(cloud):
    """Return everything that an emulator tells of its accounts."""
    with requests.get(cloud.url.replace("/mcs/v1", "/_emulator/state")) as response:
        accounts = response.json()["accounts"]
    rows = []
    for account in cloud.accounts:
        ask = Client(cloud.url, account.access_key, account.secret, answer_format="json")
        for instance in ask.tree("DescribeInstances")["InstanceSet"]["Instance"]:
            for action in QUERIES:
                answer = ask(action, InstanceId=instance["instanceId"])
                status, tree = answer.status_code, answer.json()
                if action == "GetPasswordData" and instance["instanceName"] == "keyed":
                    # RSA-OAEP is random.
                    tree["GetPasswordDataResponse"].pop("passwordData")
                rows.append([instance["instanceName"], action, status, tree])
    return json.loads(json.dumps({"accounts": accounts, "rows": rows}))


@pytest.mark.parametrize("old", OLD, ids=lambda path: path.stem)
def test_a_file_of_an_older_version_is_read_whole(path, old):
    shutil.copy(old, path)
    options = {
        "access_key": "first",
        "accounts": [{"access_key": "second"}],
        "seed": 7,
    }
    for _ in range(2):
        with Emulator(state=path, **options) as cloud:
            assert cloud.clock.frozen
            assert cloud.clock.now() == datetime(2014, 3, 1, 12, 0, 20, tzinfo=timezone.utc)
            assert [account.secret for account in cloud.accounts] == [
                "first-secret",
                "second-secret",
            ]
            assert content(cloud) == OLD_CONTENT
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.mark.parametrize("old", OLD, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE setting SET value = '{' WHERE name = 'clock'",
        "UPDATE instance SET document = json_set(document, '$.template', 'unknown')",
        "DROP TABLE charge",
        "DROP TABLE account",
    ],
)
def test_a_damaged_file_of_an_older_version_is_an_error_and_left_as_it_was(path, old, damage):
    shutil.copy(old, path)
    database(path, damage)
    before = path.read_bytes()
    with pytest.raises(StateError, match="damaged"):
        Emulator(state=path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_an_instance_keeps_what_it_needs_of_a_template_that_is_deleted(path):
    with Emulator(state=path, instances=2) as cloud:
        before = everything(cloud)
    database(path, "DELETE FROM template")
    with Emulator(state=path) as cloud:
        assert everything(cloud) == before
        client(cloud).tree("RebuildInstanceRootImage", InstanceId="instance-1")


@pytest.mark.parametrize("field", ["size", "name", "metadata"])
def test_a_template_that_is_damaged_is_an_error(path, field):
    Emulator(state=path).close()
    database(path, f"UPDATE template SET document = json_set(document, '$.{field}', null)")
    with pytest.raises(StateError, match=f"'{field}' of a template"):
        Emulator(state=path)
