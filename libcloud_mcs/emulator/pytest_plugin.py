"""The pytest fixtures that come with the package."""

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
    from libcloud_mcs.emulator import Emulator

    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def mcs_driver(mcs_emulator: Emulator) -> MCSNodeDriver:
    """A driver that is connected to :func:`mcs_emulator`."""
    return mcs_emulator.driver()
