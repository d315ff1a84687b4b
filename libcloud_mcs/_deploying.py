"""
Checks of the arguments of ``deploy_node`` before a request is sent.

A node costs money from its creation on, and libcloud checks most of these arguments only when the
node is running.
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
    encodable,
    items,
    one_of,
    required_text,
    seconds,
    type_name,
    whole_number,
)
from libcloud_mcs._waiting import INTERFACES

__all__ = ["Task", "libcloud_arguments"]

#: Has the attribute ``paramiko`` if paramiko is installed.
_ssh: Any = libcloud.compute.ssh
_KEY = "a private key that paramiko reads (RSA, ECDSA or Ed25519, in PEM or OpenSSH's form)"


class Task(NamedTuple):
    """
    The caller's deployment, and a fact that the driver needs when the node runs.

    libcloud passes a deployment unchanged to the driver's own methods.
    """

    #: The deployment.
    deploy: Any
    #: Whether the node has a key pair. Its password is then encrypted or missing.
    has_key_pair: bool

    def run(self, node: Node, client: Any) -> Any:
        """Run the deployment on a node, as libcloud does."""
        return self.deploy.run(node, client)


def libcloud_arguments(
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
    Check the arguments of ``deploy_node``, and return the arguments for libcloud's method.

    :param key_pair: The registered key pair of the node, ``None`` for none.
    :return: The arguments. ``ssh_username`` is ``""`` if the caller passed none.
    :raises RuntimeError: If the package ``paramiko`` is missing, as in libcloud.
    :raises OSError: If the file of a ``FileDeployment`` cannot be read.
    :raises TypeError: If an argument is of another type. The message names the argument.
    :raises ValueError: If an argument has an invalid value. The message names the argument, and
        shows no secret.
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
            " agent nor ~/.ssh has a key"
        )
    alternates = () if ssh_alternate_usernames is None else ssh_alternate_usernames
    names = [
        required_text(name, "ssh_alternate_usernames")
        for name in items(alternates, "ssh_alternate_usernames")
    ]
    return {
        "deploy": Task(deploy, has_key_pair),
        "ssh_username": "" if ssh_username is None else required_text(ssh_username, "ssh_username"),
        "ssh_alternate_usernames": names,
        "ssh_port": whole_number(ssh_port, "ssh_port", 1, 65535),
        "ssh_timeout": None if ssh_timeout is None else seconds(ssh_timeout, "ssh_timeout"),
        "ssh_key": files,
        "ssh_key_password": ssh_key_password or None,
        "auth": auth,
        "timeout": None if timeout is None else seconds(timeout, "timeout"),
        "max_tries": whole_number(max_tries, "max_tries", 1),
        "ssh_interface": one_of(ssh_interface, INTERFACES, "ssh_interface"),
        "at_exit_func": at_exit_func,
        "wait_period": seconds(wait_period, "wait_period"),
    }


def _check_deployment(deploy: Any, argument: str) -> None:
    """Check a deployment and its steps, as far as libcloud's own classes show their arguments."""
    if isinstance(deploy, type) or not callable(getattr(deploy, "run", None)):
        got = f"the class {deploy.__name__}" if isinstance(deploy, type) else type_name(deploy)
        raise TypeError(f"{argument}: expected a Deployment, got {got}")
    if isinstance(deploy, MultiStepDeployment):
        for index, step in enumerate(deploy.steps):
            _check_deployment(step, f"{argument}.steps[{index}]")
    elif isinstance(deploy, FileDeployment):
        required_text(deploy.target, f"{argument}.target")
        if not isinstance(deploy.source, (str, os.PathLike)):
            raise TypeError(f"{argument}.source: expected a path, got {type_name(deploy.source)}")
        with open(deploy.source, "rb"):
            pass
    elif isinstance(deploy, ScriptDeployment):
        required_text(deploy.name, f"{argument}.name")
        for word in items(deploy.args, f"{argument}.args"):
            if not isinstance(word, str):
                raise TypeError(f"{argument}.args: expected texts, got {type_name(word)}")
        if deploy.timeout is not None:
            seconds(deploy.timeout, f"{argument}.timeout")


def _key_files(ssh_key: Any, password: str | bytes | None) -> str | list[str] | None:
    """
    Check the files of private keys. All must be readable, and at least one usable.

    :return: The paths: text for a single path, a list for several, ``None`` without a key.
    """
    if isinstance(password, str):
        encodable(password, "ssh_key_password")
    elif not (password is None or isinstance(password, bytes)):
        raise TypeError(f"ssh_key_password: expected text or bytes, got {type_name(password)}")
    if ssh_key is None:
        return None
    is_single = not isinstance(ssh_key, (list, tuple))
    paths = [ssh_key] if is_single else list(ssh_key)
    errors = []
    for index, path in enumerate(paths):
        argument = "ssh_key" if is_single else f"ssh_key[{index}]"
        try:
            key = _key_text.read_file(path, argument, _KEY)
        except OSError as error:
            # Without the path, which may be a mangled key.
            got = f"the path of a file that cannot be read ({error.strerror})"
            raise _key_text.invalid_key(argument, _KEY, got) from None
        _key_text.check_private_key(key, argument, _KEY)
        if problem := _key_problem(key, password or None, is_single):
            errors.append(_key_text.invalid_key(argument, _KEY, *problem))
    if errors and len(errors) == len(paths):
        raise errors[0]
    files = [os.path.expanduser(os.fsdecode(path)) for path in paths]
    return files[0] if is_single else files


def _key_problem(key: str, password: str | bytes | None, is_single: bool) -> tuple[str, str] | None:
    """
    Describe a key that paramiko cannot use.

    :param is_single: Whether the key is the only one. libcloud converts only such a key.
    :return: The description and the advice for a message, ``None`` for a usable key.
    """
    loads = [
        kind.from_private_key
        for kind in (_ssh.paramiko.RSAKey, _ssh.paramiko.ECDSAKey, _ssh.paramiko.Ed25519Key)
    ]
    if is_single:
        convert = _ssh.ParamikoSSHClient("")._get_pkey_object
        loads.append(lambda file, password: convert(file.read(), password))
    encrypted = False
    for load in loads:
        try:
            load(io.StringIO(key), password)
        except _ssh.paramiko.PasswordRequiredException:
            encrypted = True
        except Exception:  # noqa: S112 - any exception, if the key is of another kind
            continue
        else:
            return None
    if encrypted:
        return "an encrypted key and no ssh_key_password", ""
    got = "a key that cannot be read" + (" with this ssh_key_password" if password else "")
    return got, "'ssh-keygen -p -f FILE' writes it in OpenSSH's form"


def _has_other_keys() -> bool:
    """Check whether an SSH agent or paramiko's default folders have a key."""
    for folder, kind in itertools.product((".ssh", "ssh"), ("rsa", "ecdsa", "ed25519")):
        if os.path.isfile(os.path.expanduser(f"~/{folder}/id_{kind}")):
            return True
    agent = _ssh.paramiko.Agent()
    try:
        return bool(agent.get_keys())
    finally:
        agent.close()
