import pytest
from conftest import START
from plain_client import Client

from libcloud_mcs.emulator import Clock, Emulator


@pytest.fixture
def client(cloud):
    return Client(cloud.url, cloud.access_key, cloud.secret)


@pytest.fixture
def make_client(cloud):
    def make(**kwargs):
        return Client(
            kwargs.pop("url", cloud.url),
            kwargs.pop("access_key", cloud.access_key),
            kwargs.pop("secret", cloud.secret),
            **kwargs,
        )

    return make


@pytest.fixture
def held():
    """A cloud with a frozen clock and the default durations."""
    clock = Clock()
    clock.freeze()
    clock.set(START)
    with Emulator(clock=clock) as emulator:
        yield emulator
