"""
Apache Libcloud driver for Meituan's compute cloud MCS (MOS).

An import of this package registers the provider ``"mcs"`` with libcloud::

    import libcloud_mcs
    from libcloud.compute.providers import get_driver

    driver = get_driver("mcs")("ACCESS KEY", "SECRET")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libcloud.compute.providers import DRIVERS
from libcloud.compute.types import Provider

if TYPE_CHECKING:
    from libcloud_mcs.driver import MCSNodeDriver

__all__ = ["MCSNodeDriver", "__version__"]

__version__ = "0.1.0"

# libcloud's set_driver() would import the driver immediately, and fail the second time. Some
# consumers read the name from DRIVERS, others from an attribute of Provider.
DRIVERS["mcs"] = ("libcloud_mcs.driver", "MCSNodeDriver")  # type: ignore[index]
Provider.MCS = "mcs"  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    if name == "MCSNodeDriver":
        from libcloud_mcs.driver import MCSNodeDriver

        return MCSNodeDriver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
