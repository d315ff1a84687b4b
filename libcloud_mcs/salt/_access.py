"""How Salt logs in to a machine, and which settings are secret."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from libcloud.compute.base import Node

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.errors import MCSError
from libcloud_mcs.salt._arguments import text

__all__ = ["OWN", "SETTINGS", "Access", "Guarded", "without_secrets"]

_log = logging.getLogger(__name__)

_GATEWAY = (
    "ssh_gateway",
    "ssh_gateway_port",
    "ssh_gateway_username",
    "ssh_gateway_private_key",
    "ssh_gateway_command",
    "ssh_gateway_password",
)
#: The settings that Salt takes from a profile or a provider alone, never from those for all clouds.
OWN = ("password", "key_filename", "ssh_keyfile", *_GATEWAY)
#: The settings that are read here and nowhere in Salt itself.
SETTINGS = ("private_key", "ssh_connect_timeout", "wait_for_passwd_timeout", *_GATEWAY)


@dataclass(frozen=True)
class Access:
    """
    How Salt logs in to a machine, as its profile says.

    :ivar usernames: The accounts to try, in this order; none: the machine's own.
    :ivar password: The password of these accounts.
    :ivar private_key: The path of the private key that decrypts the machine's password.
    :ivar key_filename: The path of the private key for ssh.
    :ivar agent: Whether an SSH agent has that key.
    :ivar windows: Whether the machine runs Windows, where Salt does without ssh.
    :ivar gateway: The SSH gateway before the machine, as Salt's own functions take it.
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

        :param setting: Gives a setting by its name, ``None`` where it is not set.
        :param agent: Whether Salt uses an SSH agent.
        :raises ValueError: If a setting is missing or makes no sense. The message names it.
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
                "private_key: the path of the private key of 'keyname' is needed, since Salt shall"
                " log in to the machine"
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

    def completed(self, driver: MCSNodeDriver, node: Node) -> Access:
        """
        Ask for the account and the password that a machine came with, where one is missing.

        With a key, a failure is a warning, and Salt's default account is taken.

        :raises MCSError: If the password is missing and could not be asked for.
        :raises ValueError: If the password is missing and the private key cannot be read.
        """
        secret = self.password or self.key_filename or self.agent
        if self.usernames and secret:
            return self
        account, password, why = "", self.password, "it has none"
        try:
            told = driver.ex_get_password_data(node, self.private_key or self.key_filename)
        except (MCSError, ValueError) as error:
            if not secret:
                raise
            why = str(error)
        else:
            account, password = told.account, self.password if secret else told.password
        if not self.usernames and not account:
            account = "Administrator" if self.windows else "root"
            _log.warning(
                "The account of the machine '%s' could not be asked for, Salt tries '%s': %s",
                node.name,
                account,
                why,
            )
        return replace(self, usernames=self.usernames or (account,), password=password)

    def only(self, username: str) -> Access:
        """Return the same, with one account."""
        return replace(self, usernames=(username,))

    def for_bootstrap(self) -> dict[str, Any]:
        """Return the settings for Salt's ``cloud.bootstrap``."""
        if self.windows:
            return {"win_username": self.usernames[0], "win_password": self.password}
        wanted: dict[str, Any] = {"ssh_username": self.usernames[0], "gateway": self.gateway}
        if self.key_filename:
            wanted["key_filename"] = self.key_filename
        elif self.password:
            wanted["password"] = self.password
        return wanted


def _password(value: object, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise ValueError(f"{name}: expected text, got {type(value).__name__}; put it in quotes")


def _usernames(value: object, name: str) -> tuple[str, ...]:
    names = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    return tuple(text(each, name) for each in names)


def _key(value: object, name: str) -> str | None:
    if value is None:
        return None
    # Both the driver and ssh shall find it.
    path = os.path.expanduser(text(value, name))
    if not os.path.isfile(path):
        raise ValueError(f"{name}: there is no file {path!r}")
    if os.stat(path).st_mode & 0o077:
        raise ValueError(f"{name}: ssh will not take {path!r}: it must have mode 0400 or 0600")
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
        raise ValueError("ssh_gateway_private_key: it is needed with 'ssh_gateway'")
    host, port = text(host, "ssh_gateway"), setting("ssh_gateway_port")
    return {
        # Salt's functions for ssh read the port only from here.
        "ssh_gateway": f"{host}:{port}" if port and ":" not in host else host,
        "ssh_gateway_user": text(setting("ssh_gateway_username") or "root", "ssh_gateway_username"),
        "ssh_gateway_key": key,
        "ssh_gateway_command": text(
            setting("ssh_gateway_command") or "nc -q0 %h %p", "ssh_gateway_command"
        ),
    }


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of a machine that anybody may see."""
    return {name: value for name, value in settings.items() if not _is_secret(name)}


class Guarded(dict[str, Any]):
    """
    The settings of a machine, of which a deep copy has no secrets.

    Salt merges the provider's settings into those of each machine. Its ``cloud.bootstrap`` needs
    secrets among them, and fires an event with a deep copy of all of them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        if isinstance(self.get("gateway"), Mapping):
            self["gateway"] = Guarded(self["gateway"])
        if isinstance(self.get("master_pem"), str):
            # Salt also puts it beside these settings, and copies it there.
            self["master_pem"] = _Unseen(self["master_pem"])

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(without_secrets(self), memo)


class _Unseen(str):
    """A secret text of which a deep copy is empty."""

    def __deepcopy__(self, memo: dict[int, Any]) -> str:
        return ""


def _is_secret(name: str) -> bool:
    return name in ("id", "key", "priv_key", "master_pem") or "password" in name
