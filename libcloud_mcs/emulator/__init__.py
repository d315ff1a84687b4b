"""
A local MCS endpoint, true to the specification::

    from libcloud_mcs.emulator import Emulator

    with Emulator(balance=1000) as cloud:
        driver = cloud.driver()

From the command line: ``python -m libcloud_mcs.emulator``. Either needs the extra ``emulator``.
"""

from libcloud_mcs.emulator.clock import Clock
from libcloud_mcs.emulator.server import Emulator

__all__ = ["Clock", "Emulator"]
