"""
The Salt extension: ``driver: mcs`` for ``salt-cloud``.

An entry point leads Salt's loader here, which loads ``clouds/mcs.py``. That module is the only one
that knows Salt. The others are plain Python: ``_settings`` and ``_access`` read Salt's
configuration, ``_arguments`` reads the arguments of a command, and ``_machines`` calls the driver.
"""

__all__: list[str] = []
