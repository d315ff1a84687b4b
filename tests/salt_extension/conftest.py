import tempfile
from pathlib import Path

import pytest
from salt_master import SaltMaster, profile, provider

from libcloud_mcs.emulator._account import AccountState


@pytest.fixture
def folder():
    # Shorter than pytest's own, since there is a socket in it.
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def passwords(monkeypatch):
    """All passwords that clouds have made."""
    made = []
    new_password = AccountState._new_password

    def remembered(cloud):
        made.append(new_password(cloud))
        return made[-1]

    monkeypatch.setattr(AccountState, "_new_password", remembered)
    return made


@pytest.fixture
def salt_master(folder, cloud, passwords):
    """A Salt master whose provider is the emulated cloud; what it logs and fires has no secret."""
    master = SaltMaster(folder)
    provider(master, cloud)
    profile(master)
    yield master
    told = master.told
    master.close()
    assert [secret for secret in (cloud.secret, *passwords) if secret in told] == []
    assert "PRIVATE KEY" not in told
