"""The settings in Salt's configuration, checked for the driver."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, fields
from typing import Any

from libcloud_mcs._endpoint import Endpoint
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.salt import _access as access
from libcloud_mcs.salt._arguments import require, text, whole_number

__all__ = ["REQUIRED", "Profile", "driver_of", "unique_accounts", "unused"]

#: The required settings of a provider, named as in Salt's EC2 driver.
REQUIRED = ("id", "key")

#: The provider settings that have a name of Salt's, and the constructor's names for them.
_CREDENTIALS = {"id": "key", "key": "secret"}
#: Every other parameter of the constructor is a provider setting of that name.
_DRIVER_SETTINGS = tuple(
    name
    for name in inspect.signature(MCSNodeDriver).parameters
    if name not in _CREDENTIALS.values()
)


def driver_of(provider: Mapping[str, Any]) -> MCSNodeDriver:
    """
    Create a driver from the settings of a provider, without sending a request.

    :param provider: ``id`` and ``key``, and the other parameters of :class:`MCSNodeDriver` by name;
        other settings are ignored.
    :raises ValueError: If a setting is missing or invalid. The message names the setting.
    :raises TypeError: If a setting has a wrong type. The message names the setting.
    """
    require(provider, REQUIRED, "setting")
    for name in REQUIRED:
        if not isinstance(provider[name], str):
            # YAML reads digits as a number, without leading zeros: text cannot restore them.
            got = type(provider[name]).__name__
            raise ValueError(f"{name}: expected text, got {got}; put the value in quotes")
    options = {name: provider[name] for name in _DRIVER_SETTINGS if name in provider}
    return MCSNodeDriver(**{_CREDENTIALS[name]: provider[name] for name in REQUIRED}, **options)


def unique_accounts(
    providers: Mapping[str, Mapping[str, Any]], preferred: Container[str]
) -> dict[str, Mapping[str, Any]]:
    """
    Keep one provider of each account.

    :param providers: The settings of providers, by name.
    :param preferred: The names of the providers to keep; otherwise the first one is kept.
    """
    kept: dict[tuple[Any, ...], str] = {}
    for name in sorted(providers, key=lambda name: name not in preferred):
        kept.setdefault(_account(providers[name]), name)
    return {name: provider for name, provider in providers.items() if name in kept.values()}


def _account(provider: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the settings that identify the account of a provider."""
    endpoint = Endpoint.from_settings(
        *(provider.get(name) for name in ("url", "secure", "host", "port", "path"))
    )
    region = provider.get("region", inspect.signature(MCSNodeDriver).parameters["region"].default)
    return (endpoint, region, *(provider[name] for name in REQUIRED))


@dataclass(frozen=True)
class Profile:
    """The profile of a machine. Each field is the setting of that name."""

    image: str
    size: str
    keyname: str | None = None
    #: ``"72H"`` or ``"1M"``; one month by default, which the endpoint decides.
    duration: str | None = None
    #: The ID or name of a zone; the endpoint chooses by default.
    location: str | None = None
    #: The data disk, in GB, and the external bandwidth, in Mbps: to be chosen for some sizes.
    disk_size: int | None = None
    bandwidth: int | None = None
    #: The ID of a security group.
    security_group: str | None = None
    ssh_interface: str = "public_ips"
    #: The interface for the minions of a new master; ``ssh_interface`` by default.
    salt_interface: str | None = None
    #: Whether to install Salt on the machine.
    deploy: bool = True
    #: Commands to run on the machine.
    inline_script: list[str] | None = None
    #: The treatment of a machine that was created but could not be set up: ``keep``, ``destroy``,
    #: or ``expire``: stop the machine until its lease ends.
    on_failure: str = "keep"
    #: The timeout for the start of the machine, in seconds.
    wait_for_ip_timeout: int = 600
    #: The maximum time between two polls, in seconds.
    wait_for_ip_interval: int = 5

    @classmethod
    def read(cls, setting: Callable[[str], Any]) -> Profile:
        """
        Read a profile.

        :param setting: A function that returns a setting by its name, ``None`` if not set.
        :raises ValueError: If a setting is missing or invalid. The message names the setting.
        """
        values = {field.name: setting(field.name) for field in fields(cls)}
        require(values, ("image", "size"), "setting")
        for field in fields(cls):
            if values[field.name] is not None and field.type in ("str", "str | None"):
                # YAML reads digits as a number.
                values[field.name] = text(values[field.name], field.name)
        for name, unit in (("disk_size", "GB"), ("bandwidth", "Mbps")):
            values[name] = whole_number(values[name], name, unit)
        profile = cls(**{name: value for name, value in values.items() if value is not None})
        for name in ("ssh_interface", "salt_interface"):
            _check_choice(name, getattr(profile, name), ("public_ips", "private_ips", None))
        _check_choice("on_failure", profile.on_failure, ("keep", "destroy", "expire"))
        if not isinstance(profile.deploy, bool):
            raise ValueError(f"deploy: expected true or false, got {profile.deploy!r}")
        for name in ("wait_for_ip_timeout", "wait_for_ip_interval"):
            value = getattr(profile, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected whole seconds above 0, got {value!r}")
        commands = profile.inline_script
        if commands is not None and not (
            isinstance(commands, (list, tuple)) and all(isinstance(each, str) for each in commands)
        ):
            # Salt would run each character of a text as a command.
            raise ValueError("inline_script: expected a list of commands, each of them text")
        if commands and setting("ssh_gateway") is not None:
            raise ValueError(
                "inline_script: Salt ignores 'ssh_gateway' for these commands; put them in a"
                " 'script' instead"
            )
        return profile

    @property
    def needs_login(self) -> bool:
        """Whether Salt logs in to the machine."""
        return self.deploy or bool(self.inline_script)

    def create_node_args(self, name: str) -> dict[str, Any]:
        """Return the arguments of :meth:`MCSNodeDriver.create_node` for a machine of that name."""
        return {
            "name": name,
            "size": self.size,
            "image": self.image,
            "location": self.location,
            "ex_keyname": self.keyname,
            "ex_duration": self.duration,
            "ex_disk_size": self.disk_size,
            "ex_bandwidth": self.bandwidth,
            "ex_security_group": self.security_group,
        }


#: The settings of a machine that Salt itself reads or adds.
_SALT_SETTINGS = """
    append_domain deploy deploy_command display_ssh_output domain driver extends file_map
    file_transport force_minion_config grains hard_timeout inline_script key_filename
    keysize known_hosts_file level make_master make_minion master master_finger master_pem
    master_pub master_sign_pub_file minion name os password preflight_cmds preseed_minion_keys
    priv_key profile profiles provider pub_key requires salt_host salt_interface script
    script_args script_env smb_port ssh_host ssh_interface ssh_keyfile ssh_port ssh_username
    sudo sudo_password tmp_dir tty use_fqdn use_winrm wait_for_passwd_maxtries win_delay_start
    win_install_dir win_installer win_password win_username winrm_port winrm_use_ssl
    winrm_verify_ssl
""".split()  # noqa: SIM905 - a list of these would be a page


def unused(machine: Mapping[str, Any], global_names: Container[str]) -> list[str]:
    """
    Return the settings of a machine that are never read: those of other drivers, and misspelt ones.

    :param machine: The settings of a machine.
    :param global_names: The names of Salt's settings for all clouds, which Salt adds to these.
    """
    known = {*REQUIRED, *_DRIVER_SETTINGS, *access.SETTINGS, *_SALT_SETTINGS}
    known.update(field.name for field in fields(Profile))
    return sorted(
        str(name)
        for name in machine
        if name not in known and name not in global_names and not str(name).startswith("__")
    )


def _check_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        expected = " or ".join(repr(each) for each in choices if each)
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
