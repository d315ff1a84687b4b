"""
A local MCS endpoint::

    from libcloud_mcs.emulator import Emulator

    with Emulator(balance=1000) as cloud:
        driver = cloud.driver()

From the command line: ``python -m libcloud_mcs.emulator``. Either needs the extra ``emulator``.
"""

# ruff: noqa: E402 - nothing is imported before it is certain that all of it is there

from importlib.util import find_spec

for _package in ("tornado", "cryptography"):
    if find_spec(_package) is None:
        raise ImportError(
            f"the emulator needs the package {_package!r}: pip install 'libcloud-mcs[emulator]'"
        )

from libcloud_mcs.emulator._backend import Account, Record
from libcloud_mcs.emulator._clock import Clock
from libcloud_mcs.emulator._emulator import Emulator
from libcloud_mcs.emulator._errors import StateError
from libcloud_mcs.emulator._faults import (
    Effect,
    Fault,
    boot_fail,
    content_type,
    cut,
    delay,
    drop_after,
    drop_before,
    error,
    html,
    meanwhile,
    overload,
    too_many,
)
from libcloud_mcs.emulator._instances import Charge
from libcloud_mcs.emulator._wire import Response

__all__ = [
    "Account",
    "Charge",
    "Clock",
    "Effect",
    "Emulator",
    "Fault",
    "Record",
    "Response",
    "StateError",
    "boot_fail",
    "content_type",
    "cut",
    "delay",
    "drop_after",
    "drop_before",
    "error",
    "html",
    "meanwhile",
    "overload",
    "too_many",
]
