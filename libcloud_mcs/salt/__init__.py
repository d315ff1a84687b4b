"""
The Salt extension: ``driver: mcs`` for ``salt-cloud``.

Salt's loader is led here by an entry point and takes ``clouds/mcs.py``. That module is the only one
that knows Salt; what it stands on beside the driver is in ``settings`` and ``machines``.
"""

__all__: list[str] = []
