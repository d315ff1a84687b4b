"""
The Salt extension: ``driver: mcs`` for ``salt-cloud``.

Salt's loader finds ``clouds/mcs.py`` through an entry point. Only that module imports Salt. The
others are plain Python: ``_settings`` and ``_access`` read Salt's configuration, ``_arguments``
reads the arguments of a command, ``_targets`` decides which machines a command means,
``_commands`` and ``_machines`` call the driver, and ``_bootstrap`` prepares Salt's bootstrap.
"""

__all__: list[str] = []
