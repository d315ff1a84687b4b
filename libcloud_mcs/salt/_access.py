"""How Salt logs in to a machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from libcloud.compute.base import Node

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.errors import MCSError
from libcloud_mcs.salt._arguments import text

__all__ = ["NEVER_GLOBAL", "SETTINGS", "Access"]

_log = logging.getLogger(__name__)

_GATEWAY = (
    "ssh_gateway",
    "ssh_gateway_port",
    "ssh_gateway_username",
    "ssh_gateway_private_key",
    "ssh_gateway_command",
    "ssh_gateway_password",
)
#: The settings that Salt reads only from a profile or a provider, not from those for all clouds.
NEVER_GLOBAL = ("password", "key_filename", "ssh_keyfile", *_GATEWAY)
#: The settings that only this module reads, not Salt itself.
SETTINGS = ("private_key", "ssh_connect_timeout", "wait_for_passwd_timeout", *_GATEWAY)


@dataclass(frozen=True)
class Access:
    """
    The login to a machine, from its profile.

    :ivar usernames: The accounts to try, in this order; empty for the machine's own account.
    :ivar password: The password of these accounts.
    :ivar private_key: The path of the private key that decrypts the machine's password.
    :ivar key_filename: The path of the private key for SSH.
    :ivar agent: Whether an SSH agent has that key.
    :ivar windows: Whether the machine runs Windows, where Salt does not use SSH.
    :ivar gateway: The SSH gateway to the machine, in the form of Salt's own functions.
    """

    usernames: tuple[str, ...] = ()
    password: str | None = field(default=None, repr=False)
    private_key: str | None = None
    key_filename: str | None = None
    agent: bool = False
    windows: bool = False
    gateway: dict[str, str] | None = None

    @classmethod
    def read(cls, setting: Callable[[str], Any], agent: bool = False) -> Access:
        """
        Read the settings of a profile.

        :param setting: A function that returns a setting by its name, ``None`` if not set.
        :param agent: Whether Salt uses an SSH agent.
        :raises ValueError: If a setting is missing or invalid. The message names the setting.
        """
        passwords = {
            name: _password(setting(name), name)
            for name in ("password", "win_password", "sudo_password")
        }
        password = passwords["password"]
        windows = bool(setting("win_installer"))
        agent = agent and not windows
        usernames = setting("win_username" if windows else "ssh_username")
        private_key = _key(setting("private_key"), "private_key")
        key_filename = None
        if windows:
            password = passwords["win_password"] or password
        else:
            for name in ("ssh_keyfile", "key_filename"):
                key_filename = _key(setting(name), name) or key_filename
        has_key_pair = setting("keyname") is not None
        if has_key_pair and not (private_key or key_filename or password or agent):
            raise ValueError(
                "private_key: the path of the private key of 'keyname' is required, because Salt"
                " logs in to the machine"
            )
        if has_key_pair and not windows:
            key_filename = key_filename or private_key
        return cls(
            usernames=_usernames(usernames, "win_username" if windows else "ssh_username"),
            password=password,
            private_key=private_key,
            key_filename=key_filename,
            agent=agent and has_key_pair and not (key_filename or password),
            windows=windows,
            gateway=_gateway(setting),
        )

    def complete(self, driver: MCSNodeDriver, node: Node) -> Access:
        """
        Return the login with the initial account and password of a machine, where missing.

        With a key, an error is only logged, and the account is Salt's default.

        :raises MCSError: If the password is missing and cannot be requested.
        :raises ValueError: If the password is missing and the private key cannot be read.
        """
        secret = self.password or self.key_filename or self.agent
        if self.usernames and secret:
            return self
        account, password, reason = "", self.password, "the endpoint returned none"
        try:
            initial = driver.ex_get_password_data(node, self.private_key or self.key_filename)
        except (MCSError, ValueError) as error:
            if not secret:
                raise
            reason = str(error)
        else:
            account, password = initial.account, self.password if secret else initial.password
        if not self.usernames and not account:
            account = "Administrator" if self.windows else "root"
            _log.warning(
                "The account of the machine '%s' is unknown, Salt tries '%s': %s",
                node.name,
                account,
                reason,
            )
        return replace(self, usernames=self.usernames or (account,), password=password)

    def with_username(self, username: str) -> Access:
        """Return the same login with one account."""
        return replace(self, usernames=(username,))

    def bootstrap_settings(self) -> dict[str, Any]:
        """Return the settings for Salt's ``cloud.bootstrap``."""
        if self.windows:
            return {"win_username": self.usernames[0], "win_password": self.password}
        settings: dict[str, Any] = {"ssh_username": self.usernames[0], "gateway": self.gateway}
        if self.key_filename:
            settings["key_filename"] = self.key_filename
        elif self.password:
            settings["password"] = self.password
        return settings


def _password(value: object, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise ValueError(f"{name}: expected text, got {type(value).__name__}; put the value in quotes")


def _usernames(value: object, name: str) -> tuple[str, ...]:
    names = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    return tuple(text(each, name) for each in names)


def _key(value: object, name: str) -> str | None:
    if value is None:
        return None
    # Neither the driver nor ssh expands "~".
    path = os.path.expanduser(text(value, name))
    if not os.path.isfile(path):
        raise ValueError(f"{name}: there is no file {path!r}")
    if os.stat(path).st_mode & 0o077:
        raise ValueError(f"{name}: ssh refuses {path!r}: expected the mode 0400 or 0600")
    return path


def _gateway(setting: Callable[[str], Any]) -> dict[str, str] | None:
    host = setting("ssh_gateway")
    if host is None:
        return None
    if setting("ssh_gateway_password") is not None:
        raise ValueError(
            "ssh_gateway_password: Salt can log in to a gateway only with a key; set"
            " 'ssh_gateway_private_key' instead"
        )
    key = _key(setting("ssh_gateway_private_key"), "ssh_gateway_private_key")
    if key is None:
        raise ValueError("ssh_gateway_private_key: a key is required with 'ssh_gateway'")
    host, port = text(host, "ssh_gateway"), setting("ssh_gateway_port")
    return {
        # Salt's SSH functions read the port of the gateway only here.
        "ssh_gateway": f"{host}:{port}" if port and ":" not in host else host,
        "ssh_gateway_user": text(setting("ssh_gateway_username") or "root", "ssh_gateway_username"),
        "ssh_gateway_key": key,
        "ssh_gateway_command": text(
            setting("ssh_gateway_command") or "nc -q0 %h %p", "ssh_gateway_command"
        ),
    }
