"""Salt's bootstrap of a machine: its SSH login, its settings without secrets, its result."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

from libcloud_mcs.salt._access import Access

__all__ = ["BootstrapError", "Guarded", "checked", "find_login", "without_secrets"]


class BootstrapError(Exception):
    """Salt could not log in to a machine or could not set up the machine."""


def find_login(
    access: Access,
    host: str,
    setting: Callable[[str], Any],
    *,
    wait_for_port: Callable[..., bool],
    wait_for_login: Callable[..., bool],
) -> Access:
    """
    Wait for SSH, and return the login with the first account that works.

    Salt's own bootstrap reports no error if it cannot log in to run an ``inline_script``.

    :param access: The login with all accounts to try.
    :param host: The address of the machine.
    :param setting: A function that returns a setting by its name, ``None`` if not set.
    :param wait_for_port: Salt's function of that name.
    :param wait_for_login: Salt's ``wait_for_passwd``, with a false result for a refused password.
    :raises BootstrapError: If the port does not open in time or no account works.
    """
    port, timeout = setting("ssh_port") or 22, setting("ssh_connect_timeout") or 900
    if not wait_for_port(host, port, timeout, access.gateway):
        raise BootstrapError(
            f"port {port} of {host} did not open within {timeout} seconds (ssh_connect_timeout)"
        )
    display = setting("display_ssh_output")
    for username in access.usernames:
        if wait_for_login(
            host,
            port,
            username=username,
            password=access.password,
            key_filename=access.key_filename,
            gateway=access.gateway,
            ssh_timeout=setting("wait_for_passwd_timeout") or 15,
            maxtries=setting("wait_for_passwd_maxtries") or 15,
            display_ssh_output=True if display is None else display,
            known_hosts_file=setting("known_hosts_file") or os.devnull,
            hard_timeout=setting("hard_timeout"),
        ):
            return access.with_username(username)
    tried = ", ".join(map(repr, access.usernames))
    raise BootstrapError(f"ssh cannot log in to {host} as {tried}")


def checked(result: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the result of Salt's ``cloud.bootstrap``.

    :raises BootstrapError: If the result reports errors.
    """
    if "Error" in result:
        raise BootstrapError(", ".join(map(str, result["Error"].values())))
    return dict(result)


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a machine without the secret ones."""
    return {name: value for name, value in settings.items() if not _is_secret(name)}


class Guarded(dict[str, Any]):
    """
    The settings of a machine, whose deep copy has no secrets.

    Salt merges the provider's settings into those of each machine. Its ``cloud.bootstrap`` needs
    the secrets among them, and fires an event with a deep copy of all settings.

    :param settings: The settings, with secrets.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        if isinstance(self.get("gateway"), Mapping):
            self["gateway"] = Guarded(self["gateway"])
        if isinstance(self.get("master_pem"), str):
            # Salt also copies this value on its own, without the other settings.
            self["master_pem"] = _SecretText(self["master_pem"])

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(without_secrets(self), memo)


class _SecretText(str):
    """A text whose deep copy is empty."""

    def __deepcopy__(self, memo: dict[int, Any]) -> str:
        return ""


def _is_secret(name: str) -> bool:
    return name in ("id", "key", "priv_key", "master_pem") or "password" in name
