"""
The pytest plugin of libcloud-mcs: the fixtures ``mcs_emulator`` and ``mcs_driver``.

pytest imports it in every run on a machine where libcloud-mcs is installed. So it is a module
outside the package, and imports nothing but pytest until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from libcloud_mcs.driver import MCSNodeDriver
    from libcloud_mcs.emulator import Emulator

__all__ = ["mcs_driver", "mcs_emulator"]


@pytest.fixture
def mcs_emulator() -> Iterator[Emulator]:
    """A fresh emulated cloud, for this test alone."""
    try:
        from libcloud_mcs.emulator import Emulator
    except ImportError as error:
        pytest.fail(str(error), pytrace=False)
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def mcs_driver(mcs_emulator: Emulator) -> MCSNodeDriver:
    """A driver that is connected to :func:`mcs_emulator`."""
    return mcs_emulator.driver()
