"""The driver as libcloud and its consumers see it."""

import importlib
import unittest

import libcloud.compute.base
import pytest
from libcloud.compute.providers import DRIVERS, get_driver
from libcloud.compute.types import Provider
from libcloud.test import compute as libclouds

import libcloud_mcs
from libcloud_mcs.emulator import Emulator


class LibcloudsOwnTests(libclouds.TestCaseMixin, unittest.TestCase):
    should_list_volumes = True
    response_format = "xml"

    def setUp(self):
        emulator = Emulator(instances=3)
        emulator.start()
        self.addCleanup(emulator.stop)
        self.driver = emulator.driver(response_format=self.response_format)


class LibcloudsOwnTestsInJSON(LibcloudsOwnTests):
    response_format = "json"


def test_import_of_package_registers_the_provider():
    assert Provider.MCS == "mcs"
    assert get_driver("mcs") is libcloud_mcs.MCSNodeDriver
    assert get_driver(Provider.MCS) is get_driver("MCS")
    # Done twice it does nothing.
    before = dict(DRIVERS)
    importlib.reload(libcloud_mcs)
    assert dict(DRIVERS) == before


def test_package_has_no_other_attribute():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = libcloud_mcs.Nothing


def test_driver_has_the_attributes_that_consumers_read(mcs_emulator):
    driver = mcs_emulator.driver()
    assert isinstance(driver, libcloud.compute.base.NodeDriver)
    assert driver.features["create_node"] == ["ssh_key", "generates_password"]
    assert (driver.name, driver.type, driver.region) == ("Meituan MCS", "mcs", "Beijing")
    assert driver.NODE_STATE_MAP["ready"] == "stopped"
    assert (driver.connection.host, driver.connection.port) == ("127.0.0.1", mcs_emulator.port)
    assert driver.connection.secure == 0
    assert mcs_emulator.secret not in repr(driver)


def test_unsigned_request_of_libcloud_is_not_implemented(mcs_emulator):
    with pytest.raises(NotImplementedError, match="call"):
        mcs_emulator.driver().connection.request("/")


def test_user_agent_names_package_and_libcloud(requests_mock):
    requests_mock.post(
        "https://mosapi.meituan.com/mcs/v1",
        text="<GetBalanceResponse><balance>1</balance></GetBalanceResponse>",
    )
    libcloud_mcs.MCSNodeDriver("key", "secret").ex_get_balance()
    agent = requests_mock.last_request.headers["User-Agent"]
    assert agent.startswith("libcloud/")
    assert f"(libcloud-mcs/{libcloud_mcs.__version__})" in agent
