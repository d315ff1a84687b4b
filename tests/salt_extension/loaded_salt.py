"""
Commands of Salt in forks of a process that has loaded Salt, since a new process loads Salt for most
of its time.
"""

import importlib.util
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
# What each command would load. Salt's loader loads the module of the cloud itself, in each command.
_context.set_forkserver_preload(
    [
        "salt.scripts",
        "salt.cli.call",
        "salt.cloud.cli",
        "salt.cloud.libcloudfuncs",
        "salt.loader",
        "salt.minion",
        "salt.output",
        "salt.transport.tcp",
        "salt.utils.cloud",
        "multiprocessing.managers",
        "lxml.etree",
        "libcloud_mcs.salt._access",
        "libcloud_mcs.salt._bootstrap",
        "libcloud_mcs.salt._commands",
        "libcloud_mcs.salt._machines",
        "libcloud_mcs.salt._targets",
    ]
)


def run(command, environment, timeout, folder="."):
    """
    Run a command to its end. Only one thread may do so: the start of a process reads the status of
    others that have ended, which a thread that waits for one of them would then miss.

    :param command: The path of a Python script, or ``-c`` and a program; then the arguments.
    :param environment: All environment variables of the command.
    :param timeout: The most seconds to wait.
    :param folder: The working directory of the command.
    :return: The exit status, the standard output, and the standard error.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryDirectory() as output:
        paths = [Path(output, "stdout"), Path(output, "stderr")]
        # Salt looks at the name.
        process = _context.Process(
            target=_main, args=(words, environment, folder, *paths), name="MainProcess"
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        status = process.exitcode
        process.close()
        return status, *(path.read_text(encoding="utf-8") for path in paths)


def _main(words, environment, folder, stdout, stderr):
    import salt._logging

    # The module of Salt's commands does this when it is loaded. This process has begun with the
    # method by which it was started itself, with which Salt's processes would log nothing.
    multiprocessing.set_start_method("fork", force=True)
    # As Salt does itself in the main process that it forks.
    salt._logging.in_mainprocess.__pid__ = os.getpid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    # A new process imports this module at its start.
    sys.modules.pop("sitecustomize", None)
    if path := environment.get("PYTHONPATH"):
        sys.path[:0] = path.split(os.pathsep)
    if importlib.util.find_spec("sitecustomize"):
        runpy.run_module("sitecustomize")
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(words[1], {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
