import pytest
from plain_client import Client


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
