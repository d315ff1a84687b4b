"""The service's own client, ``climos``, does on the emulator whatever it can do with instances."""

import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from libcloud_mcs.actions import ACTIONS
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.keys import generate_key_pair

#: What ``make consumers`` has downloaded: programs for Python 2, as they are.
SOURCES = Path(sys.prefix) / "climos"
IMAGE = "019c6db6-55fa-443d-ac0c-182e3379d175"
#: climos prints Chinese where it can print anything at all.
RUN = """
import sys
reload(sys)
sys.setdefaultencoding("utf-8")
from mosclient.shell import main
main()
"""


def python2():
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for path in (*pyenv.glob("versions/2.7*/bin/python"), shutil.which("python2.7")):
        if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            return path
    return None


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Where the client and what it needs are unpacked."""
    folder = tmp_path_factory.mktemp("climos")
    for archive in SOURCES.iterdir():
        # As commands: what the functions of these modules want to be told differs with the version.
        module = "zipfile" if archive.suffix == ".zip" else "tarfile"
        subprocess.run([sys.executable, "-m", module, "-e", archive, folder], check=True)
    return os.pathsep.join(str(path) for path in folder.iterdir())


@pytest.fixture(params=["xml", "json"])
def command(request, library):
    """Return the command for a cloud, as a function from words to the rows of the printed table."""
    python = python2()
    if python is None:
        pytest.skip("there is no Python 2.7 here, which climos needs")

    def for_cloud(cloud):
        def climos(*words):
            done = subprocess.run(
                [python, "-c", RUN, "--format", request.param, *words],
                env={
                    "PYTHONPATH": library,
                    "PYTHONIOENCODING": "utf-8",
                    "MOS_URL": cloud.url,
                    "MOS_ACCESS": cloud.access_key,
                    "MOS_SECRET": cloud.secret,
                },
                capture_output=True,
                encoding="utf-8",
                timeout=60,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stderr == ""
            lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            assert "Error" not in done.stdout
            return rows

        return climos

    return for_cloud


@pytest.fixture
def key_file(tmp_path):
    """The path of a public key."""
    public, _ = generate_key_pair("mine")
    path = tmp_path / "mine.pub"
    path.write_text(public)
    return str(path)


def properties(rows):
    assert rows[0] == ["Property", "Value"]
    return dict(rows[1:])


def records(rows):
    """Return the rows of a list by the names of its columns."""
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def column(rows, name):
    return [record[name] for record in records(rows)]


def manage(climos, cloud, web):
    """Carry out the actions that are the same in both editions, on a running instance."""
    assert properties(climos("DescribeInstanceStatus", web)) == {"status": "running"}
    assert properties(climos("GetPasswordData", web))["account"] == "root"
    lease = properties(climos("GetInstanceContractInfo", web))
    assert set(lease) == {"startedAt", "expireAt", "extendTo"}
    assert len(climos("DescribeInstances")) == 5
    assert len(climos("DescribeInstances", "--limit", "2", "--offset", "1")) == 3
    assert len(climos("DescribeInstances", "--filter", "name:instance-1")) == 2
    assert len(climos("DescribeInstanceNetworkInterfaces", web)) == 3
    climos("PutInstanceMetadata", web, "--data", "role:db")
    assert properties(climos("GetInstanceMetadata", web))["role"] == "db"

    climos("RenewInstance", web, "--duration", "1H")
    climos("RebuildInstanceRootImage", web, "--image", IMAGE)
    climos("RebootInstance", web)
    cloud.clock.advance(timedelta(seconds=10))
    climos("StopInstance", web, "--force")
    cloud.clock.advance(timedelta(seconds=10))
    assert properties(climos("DescribeInstanceStatus", web)) == {"status": "ready"}
    climos("StartInstance", web)
    cloud.clock.advance(timedelta(seconds=10))


def check_records(cloud):
    """Check that each action of the cloud's edition was requested, and none was refused."""
    requested = {record.action for record in cloud.records}
    assert requested == {
        name for name, action in ACTIONS.items() if action.edition <= cloud.edition
    }
    assert {record.message for record in cloud.records} == {""}


def test_full_life_cycle_in_the_specifications_edition(command, key_file):
    with Emulator(instances=3, boot_seconds=0, rebuild_seconds=0, change_seconds=0) as cloud:
        climos = command(cloud)
        assert properties(climos("GetBalance"))["balance"].startswith("1000")
        assert IMAGE in column(climos("DescribeTemplates"), "TEMPLATEID")
        assert len(climos("DescribeInstanceTypes")) == 6
        pair = properties(climos("ImportKeyPair", "mine", "--key-file", key_file))
        assert re.fullmatch("([0-9a-f]{2}:){15}[0-9a-f]{2}", pair["keyFingerprint"])
        (row,) = climos("DescribeKeyPairs")[1:]
        assert sorted(row) == sorted(pair.values())

        made = properties(
            climos("CreateInstance", IMAGE, "small", "--duration", "72H", "--name", "中")
        )
        web = made["instanceId"]
        assert made["instanceName"] == "中"
        assert len(climos("DescribeInstanceVolumes", web)) == 3
        manage(climos, cloud, web)
        # climos requires the two options; 0 is the same as none.
        wanted = ("medium", "--datadisk=0", "--bandwidth=0", "--duration", "1H")
        climos("ChangeInstanceType", web, *wanted)
        climos("TerminateInstance", web)
        climos("DeleteKeyPair", "mine")
        cloud.clock.advance(timedelta(seconds=10))
        assert len(cloud.driver().list_nodes()) == 3
        assert cloud.driver().list_key_pairs() == []
        small, medium = Decimal("0.12"), Decimal("0.35")
        assert [charge.amount for charge in cloud.ledger] == [72 * small, small, medium]
        check_records(cloud)


def test_full_life_cycle_in_the_later_edition(command, key_file):
    with Emulator(
        edition=2017,
        instances=3,
        boot_seconds=0,
        rebuild_seconds=0,
        change_seconds=0,
        save_seconds=10,
    ) as cloud:
        climos = command(cloud)
        assert properties(climos("GetBalance"))["balance"].startswith("1000")
        zones = climos("DescribeAvailabilityZones")
        assert {"enable", "soldout"} == set(column(zones, "STATUS"))
        assert {"AVAILABILITYZONENAME", "AVAILABILITYZONENAME_CN"} < set(zones[0])
        (zone,) = column(
            climos("DescribeAvailabilityZones", "--filter", "status:enable", "--limit", "1"),
            "AVAILABILITYZONEID",
        )
        small, *_, large = (
            record["INSTANCETYPE"]
            for record in records(climos("DescribeInstanceTypes"))
            if record["VOLUME"] == record["EXTERNALBANDWIDTH"] == "0"
        )
        # The header of a table without columns.
        assert climos("DescribeKeyPairs") == [[""]]
        pair = properties(climos("ImportKeyPair", "mine", "--key-file", key_file))

        create = ("CreateInstance", IMAGE, small, "--duration", "72H", "--name", "中")
        chosen = ("--datadisk", "100", "--bandwidth", "5", "--zone", zone)
        made = properties(climos(*create, *chosen, "--secgroup", "a-group"))
        web = made["instanceId"]
        assert (made["instanceName"], made["availabilityZoneId"]) == ("中", zone)
        assert "volume" not in made
        assert sorted(column(climos("DescribeInstanceVolumes", web), "VOLUMESIZE")) == [
            "102400",
            "25600",
        ]
        assert web in column(climos("DescribeInstances", "--zone", zone), "INSTANCEID")
        manage(climos, cloud, web)
        wanted = (large, "--datadisk=200", "--bandwidth=10", "--duration", "1H")
        climos("ChangeInstanceType", web, *wanted)
        assert "204800" in column(climos("DescribeInstanceVolumes", web), "VOLUMESIZE")

        assert properties(climos("CreateTemplate", web, "saved", "--notes", "before the move")) == {
            "return": "True"
        }
        assert properties(climos("DescribeInstanceStatus", web)) == {"status": "start_save_disk"}
        (saving,) = (
            each for each in records(climos("DescribeTemplates")) if each["TEMPLATENAME"] == "saved"
        )
        assert saving["STATUS"] == "saving"
        saved = saving["TEMPLATEID"]
        cloud.clock.advance(timedelta(seconds=10))
        assert properties(climos("DescribeInstanceStatus", web)) == {"status": "running"}
        again = properties(climos("CreateInstance", saved, small, "--datadisk", "10"))
        climos("DeleteTemplate", saved)
        assert saved not in column(climos("DescribeTemplates"), "TEMPLATEID")
        climos("TerminateInstance", web)
        climos("TerminateInstance", again["instanceId"])
        climos("DeleteKeyPair", pair["keyId"])
        cloud.clock.advance(timedelta(seconds=10))
        assert len(cloud.driver().list_nodes()) == 3
        # Each charge has the type, the disk and the bandwidth.
        hour, larger, month = Decimal("1.10"), Decimal("4.00"), Decimal("28.00")
        assert [charge.amount for charge in cloud.ledger] == [72 * hour, hour, larger, month]
        check_records(cloud)
