"""
What a process does with its emulators when it forks, and when it ends.

A forked child inherits every descriptor, every lock in the state of that moment, and every object
whose clean-up touches files. None of it belongs to the child.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Folder", "keep_forever", "no_fork", "release", "watch", "watch_socket"]


T = TypeVar("T")

_owners: weakref.WeakKeyDictionary[Any, tuple[Callable[[Any], None], Callable[[Any], None]]] = (
    weakref.WeakKeyDictionary()
)
#: Held while a socket is opened and not yet watched: no fork happens meanwhile.
no_fork = threading.RLock()

_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def watch(owner: T, in_child: Callable[[T], None], at_exit: Callable[[T], None]) -> None:
    """
    Watch over an object that owns descriptors, files or threads. This does not keep it alive.

    :param owner: The object.
    :param in_child: Called with it in a process that was just forked from this one.
    :param at_exit: Called with it at the end of this process.
    """
    _owners[owner] = (in_child, at_exit)


def watch_socket(watched: socket.socket) -> None:
    """
    Release a socket in every process that is forked from this one, so that the connection ends
    when it is closed here.

    :param watched: The socket. It was opened while :data:`no_fork` was held.
    """
    _sockets.add(watched)


def release(descriptors: Iterable[int]) -> None:
    """
    Release inherited descriptors in a forked process.

    :param descriptors: Each of them refers to the null device from now on. They are not closed: an
        object that closes its own later must not close another file with the same number.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def keep_forever(thing: object) -> None:
    """
    Keep an object alive, even at the end of the process.

    :param thing: An object whose destruction would harm the parent of a forked child.
    """
    import ctypes  # for forked children alone

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class Folder:
    """
    A temporary folder that only its own user may read. It is removed by the process that made it,
    at the latest when that ends, and never by a forked child.

    :param prefix: What its name begins with.
    """

    def __init__(self, prefix: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        # What a command has left running may write there even while it is removed.
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        _folders.add(self)

    def remove(self) -> None:
        """Remove it, with all that is in it."""
        self._finalizer()

    def in_child(self) -> None:
        """Never remove it, in a process that was just forked."""
        self._finalizer.detach()


_folders: weakref.WeakSet[Folder] = weakref.WeakSet()


def _in_child() -> None:
    no_fork.release()
    release({watched.fileno() for watched in _sockets} - {-1})  # -1: it is closed
    for folder in _folders:
        folder.in_child()
    owners = list(_owners.items())
    _owners.clear()
    for owner, (in_child, _) in owners:
        in_child(owner)


def _at_exit() -> None:
    # One that cannot be closed keeps no other from being closed.
    with contextlib.ExitStack() as stack:
        for owner, (_, at_exit) in list(_owners.items()):
            stack.callback(at_exit, owner)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=_in_child
    )
