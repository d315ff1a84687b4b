import tempfile
from pathlib import Path

import pytest
from salt_master import SaltMaster, profile, provider

from libcloud_mcs.emulator._account import AccountState


@pytest.fixture
def folder():
    # The path is shorter than that of pytest's own folder, since a socket is in the folder.
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def passwords(monkeypatch):
    """All passwords that emulators have generated."""
    generated = []
    new_password = AccountState._new_password

    def recorded(cloud):
        generated.append(new_password(cloud))
        return generated[-1]

    monkeypatch.setattr(AccountState, "_new_password", recorded)
    return generated


@pytest.fixture
def salt_master(folder, cloud, passwords):
    """A Salt master whose provider is the emulator. No log, event or error has a secret."""
    master = SaltMaster(folder)
    provider(master, cloud)
    profile(master)
    yield master
    output = master.output
    master.close()
    assert [secret for secret in (cloud.secret, *passwords) if secret in output] == []
    assert "PRIVATE KEY" not in output
