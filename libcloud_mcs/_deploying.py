"""
What ``deploy_node`` is given: checked before anything is sent.

A node costs money from the moment on that it is made, and libcloud looks at most of these arguments
only when it is up.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import libcloud.compute.ssh
from libcloud.compute.base import Node, NodeAuthPassword, NodeAuthSSHKey
from libcloud.compute.deployment import FileDeployment, MultiStepDeployment, ScriptDeployment

from libcloud_mcs import _key_text
from libcloud_mcs._arguments import (
    one_of,
    required_text,
    seconds,
    several,
    type_name,
    whole,
    writable,
)
from libcloud_mcs._waiting import INTERFACES

__all__ = ["Task", "for_libcloud"]

#: It has paramiko under that name, where paramiko is installed.
_ssh: Any = libcloud.compute.ssh
_KEY = "a private key that paramiko reads (RSA, ECDSA or Ed25519, in PEM or OpenSSH's form)"


class Task(NamedTuple):
    """
    The deployment that a caller passed, and what the driver must know of the node when it is up.

    libcloud hands a deployment on to the driver's own methods as it is.
    """

    deploy: Any
    #: Whether the node is made with a key pair: its password comes encrypted then, or not at all.
    has_key_pair: bool

    def run(self, node: Node, client: Any) -> Any:
        """Run the deployment on a node, as libcloud does."""
        return self.deploy.run(node, client)


def for_libcloud(
    *,
    deploy: Any,
    ssh_username: str | None,
    ssh_alternate_usernames: Iterable[str] | None,
    ssh_port: int,
    ssh_timeout: float | None,
    ssh_key: Any,
    ssh_key_password: str | bytes | None,
    auth: NodeAuthSSHKey | NodeAuthPassword | None,
    timeout: float | None,
    max_tries: int,
    ssh_interface: str,
    at_exit_func: Callable[..., object] | None,
    wait_period: float,
    key_pair: object,
) -> dict[str, Any]:
    """
    Check the arguments of ``deploy_node``, and give them as libcloud's takes them.

    :param key_pair: The registered key pair with which the node is made, ``None`` for none.
    :return: The arguments. ``ssh_username`` is ``""`` where the caller passed none.
    :raises RuntimeError: If the package ``paramiko`` is missing, as libcloud has it.
    :raises OSError: If the file of a ``FileDeployment`` cannot be read.
    :raises TypeError: If an argument is of another type. The message names the argument.
    :raises ValueError: If an argument makes no sense. The message names it, and shows no secret.
    """
    if not _ssh.have_paramiko:
        raise RuntimeError(
            "deploy_node() needs the package 'paramiko': pip install 'libcloud-mcs[deploy]'"
        )
    _check_deployment(deploy, "deploy")
    if auth is not None and not isinstance(auth, (NodeAuthSSHKey, NodeAuthPassword)):
        raise TypeError(f"auth: expected a NodeAuthSSHKey, got {type_name(auth)}")
    if at_exit_func is not None and not callable(at_exit_func):
        raise TypeError(f"at_exit_func: expected a function, got {type_name(at_exit_func)}")
    has_key_pair = isinstance(auth, NodeAuthSSHKey) or key_pair is not None
    files = _key_files(ssh_key, ssh_key_password)
    if has_key_pair and not (files or ssh_key_password or _has_other_keys()):
        raise ValueError(
            "ssh_key: expected the private key of the node's key pair, got none; neither an SSH"
            " agent nor ~/.ssh has one"
        )
    others = () if ssh_alternate_usernames is None else ssh_alternate_usernames
    names = several(others, "ssh_alternate_usernames")
    names = [required_text(name, "ssh_alternate_usernames") for name in names]
    return {
        "deploy": Task(deploy, has_key_pair),
        "ssh_username": "" if ssh_username is None else required_text(ssh_username, "ssh_username"),
        "ssh_alternate_usernames": names,
        "ssh_port": whole(ssh_port, "ssh_port", 1, 65535),
        "ssh_timeout": None if ssh_timeout is None else seconds(ssh_timeout, "ssh_timeout"),
        "ssh_key": files,
        "ssh_key_password": ssh_key_password or None,
        "auth": auth,
        "timeout": None if timeout is None else seconds(timeout, "timeout"),
        "max_tries": whole(max_tries, "max_tries", 1),
        "ssh_interface": one_of(ssh_interface, INTERFACES, "ssh_interface"),
        "at_exit_func": at_exit_func,
        "wait_period": seconds(wait_period, "wait_period"),
    }


def _check_deployment(deploy: Any, argument: str) -> None:
    """Check a deployment and its steps, as far as libcloud's own classes show what they need."""
    if isinstance(deploy, type) or not callable(getattr(deploy, "run", None)):
        got = f"the class {deploy.__name__}" if isinstance(deploy, type) else type_name(deploy)
        raise TypeError(f"{argument}: expected a Deployment, got {got}")
    if isinstance(deploy, MultiStepDeployment):
        for place, step in enumerate(deploy.steps):
            _check_deployment(step, f"{argument}.steps[{place}]")
    elif isinstance(deploy, FileDeployment):
        required_text(deploy.target, f"{argument}.target")
        if not isinstance(deploy.source, (str, os.PathLike)):
            raise TypeError(f"{argument}.source: expected a path, got {type_name(deploy.source)}")
        with open(deploy.source, "rb"):
            pass
    elif isinstance(deploy, ScriptDeployment):
        required_text(deploy.name, f"{argument}.name")
        for word in several(deploy.args, f"{argument}.args"):
            if not isinstance(word, str):
                raise TypeError(f"{argument}.args: expected texts, got {type_name(word)}")
        if deploy.timeout is not None:
            seconds(deploy.timeout, f"{argument}.timeout")


def _key_files(ssh_key: Any, password: str | bytes | None) -> str | list[str] | None:
    """Check the files of private keys: all are read, and one at least has to be usable."""
    if isinstance(password, str):
        writable(password, "ssh_key_password")
    elif not (password is None or isinstance(password, bytes)):
        raise TypeError(f"ssh_key_password: expected text or bytes, got {type_name(password)}")
    if ssh_key is None:
        return None
    alone = not isinstance(ssh_key, (list, tuple))
    paths = [ssh_key] if alone else list(ssh_key)
    unusable = []
    for place, path in enumerate(paths):
        argument = "ssh_key" if alone else f"ssh_key[{place}]"
        try:
            key = _key_text.read_file(path, argument, _KEY)
        except OSError as error:
            # Without the path: a mangled key looks like one.
            got = f"a path at which no file can be read ({error.strerror})"
            raise _key_text.wrong(argument, _KEY, got) from None
        _key_text.private_text(key, argument, _KEY)
        if why := _unusable(key, password or None, alone):
            unusable.append(_key_text.wrong(argument, _KEY, *why))
    if unusable and len(unusable) == len(paths):
        raise unusable[0]
    files = [os.path.expanduser(os.fsdecode(path)) for path in paths]
    return files[0] if alone else files


def _unusable(key: str, password: str | bytes | None, alone: bool) -> tuple[str, str] | None:
    """
    Describe why paramiko cannot use a key, and what to do, ``None`` where it can.

    :param alone: Whether libcloud converts the key first, which it does with a single one.
    """
    loads = [
        kind.from_private_key
        for kind in (_ssh.paramiko.RSAKey, _ssh.paramiko.ECDSAKey, _ssh.paramiko.Ed25519Key)
    ]
    if alone:
        convert = _ssh.ParamikoSSHClient("")._get_pkey_object
        loads.append(lambda file, password: convert(file.read(), password))
    encrypted = False
    for load in loads:
        try:
            load(io.StringIO(key), password)
        except _ssh.paramiko.PasswordRequiredException:
            encrypted = True
        except Exception:  # noqa: S112 - of a key of another kind it is anything
            continue
        else:
            return None
    if encrypted:
        return "an encrypted key and no ssh_key_password", ""
    got = "a key that cannot be read" + (" with this ssh_key_password" if password else "")
    return got, "'ssh-keygen -p -f FILE' writes it in OpenSSH's form"


def _has_other_keys() -> bool:
    """Check whether there is a key where paramiko looks when it is given none."""
    for folder, kind in itertools.product((".ssh", "ssh"), ("rsa", "ecdsa", "ed25519")):
        if os.path.isfile(os.path.expanduser(f"~/{folder}/id_{kind}")):
            return True
    agent = _ssh.paramiko.Agent()
    try:
        return bool(agent.get_keys())
    finally:
        agent.close()
