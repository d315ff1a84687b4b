"""What stands in Salt's configuration, checked for the driver."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, fields
from typing import Any

from libcloud_mcs._endpoint import Endpoint
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.salt import _access as access
from libcloud_mcs.salt._arguments import demand, text

__all__ = ["REQUIRED", "Profile", "driver_of", "one_for_each_account", "unused"]

#: What a provider cannot do without, in the words of Salt's EC2 driver.
REQUIRED = ("id", "key")

#: Provider settings with a name of Salt's, and what the driver's constructor calls them.
_CREDENTIALS = {"id": "key", "key": "secret"}
#: Any other argument of the constructor is a provider setting of that name.
_DRIVER_SETTINGS = tuple(
    name
    for name in inspect.signature(MCSNodeDriver).parameters
    if name not in _CREDENTIALS.values()
)


def driver_of(provider: Mapping[str, Any]) -> MCSNodeDriver:
    """
    Make a driver of the settings of a provider. Nothing is sent.

    :param provider: ``id`` and ``key``, and any other argument of :class:`MCSNodeDriver` by its
        name; what else is in it is Salt's.
    :raises ValueError: A setting is missing or makes no sense. The message names it.
    :raises TypeError: Likewise.
    """
    demand(provider, REQUIRED, "setting")
    for name in REQUIRED:
        if not isinstance(provider[name], str):
            # YAML takes digits for a number, and with it the zeros in front of them.
            raise ValueError(f"{name}: text was expected, not a number; put it in quotes")
    wanted = {name: provider[name] for name in _DRIVER_SETTINGS if name in provider}
    return MCSNodeDriver(**{_CREDENTIALS[name]: provider[name] for name in REQUIRED}, **wanted)


def one_for_each_account(
    providers: Mapping[str, Mapping[str, Any]], wanted: Container[str]
) -> dict[str, Mapping[str, Any]]:
    """
    Keep one provider of each account.

    :param providers: The settings of providers, by their names.
    :param wanted: Names of providers that are preferred to others; else the first one is kept.
    """
    kept: dict[tuple[Any, ...], str] = {}
    for alias in sorted(providers, key=lambda alias: alias not in wanted):
        kept.setdefault(_account(providers[alias]), alias)
    return {alias: provider for alias, provider in providers.items() if alias in kept.values()}


def _account(provider: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the settings that decide which machines a provider lists."""
    endpoint = Endpoint.choose(
        *(provider.get(name) for name in ("url", "secure", "host", "port", "path"))
    )
    region = provider.get("region", inspect.signature(MCSNodeDriver).parameters["region"].default)
    return (endpoint, region, *(provider[name] for name in REQUIRED))


@dataclass(frozen=True)
class Profile:
    """What a machine shall be, as its profile says. Each field is the setting of that name."""

    image: str
    size: str
    keyname: str | None = None
    #: ``"72H"`` or ``"1M"``; left out, the endpoint takes a month.
    duration: str | None = None
    location: str | None = None
    ssh_interface: str = "public_ips"
    #: The interface for the minions of a new master; ``ssh_interface`` when it is left out.
    salt_interface: str | None = None
    #: Whether Salt is installed on it.
    deploy: bool = True
    #: Commands to run on it.
    inline_script: list[str] | None = None
    #: What becomes of a machine that was made and then did not come up or could not be set up:
    #: ``keep``, ``destroy``, or ``expire``: it is stopped, and gone when its lease has ended.
    on_failure: str = "keep"
    #: Seconds to wait until it runs.
    wait_for_ip_timeout: int = 600
    #: Seconds between two looks, at most.
    wait_for_ip_interval: int = 5

    @classmethod
    def read(cls, setting: Callable[[str], Any]) -> Profile:
        """
        Read a profile.

        :param setting: Gives a setting by its name, ``None`` where it is not set.
        :raises ValueError: A setting is missing or makes no sense. The message names it.
        """
        given = {field.name: setting(field.name) for field in fields(cls)}
        demand(given, ("image", "size"), "setting")
        for field in fields(cls):
            if given[field.name] is not None and field.type in ("str", "str | None"):
                # YAML takes digits for a number.
                given[field.name] = text(given[field.name], field.name)
        profile = cls(**{name: value for name, value in given.items() if value is not None})
        for name in ("ssh_interface", "salt_interface"):
            _one_of(name, getattr(profile, name), ("public_ips", "private_ips", None))
        _one_of("on_failure", profile.on_failure, ("keep", "destroy", "expire"))
        if not isinstance(profile.deploy, bool):
            raise ValueError(f"deploy: expected true or false, got {profile.deploy!r}")
        for name in ("wait_for_ip_timeout", "wait_for_ip_interval"):
            value = getattr(profile, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: whole seconds above 0 were expected, not {value!r}")
        commands = profile.inline_script
        if commands is not None and not (
            isinstance(commands, (list, tuple)) and all(isinstance(each, str) for each in commands)
        ):
            # Salt would run each letter of a text.
            raise ValueError("inline_script: expected a list of commands, each of them text")
        if commands and setting("ssh_gateway") is not None:
            raise ValueError(
                "inline_script: Salt runs it without 'ssh_gateway'; put its commands into a"
                " 'script'"
            )
        return profile

    @property
    def entered(self) -> bool:
        """Whether Salt logs in to the machine."""
        return self.deploy or bool(self.inline_script)

    def for_create_node(self, name: str) -> dict[str, Any]:
        """Give the arguments of :meth:`MCSNodeDriver.create_node`."""
        return {
            "name": name,
            "size": self.size,
            "image": self.image,
            "location": self.location,
            "ex_keyname": self.keyname,
            "ex_duration": self.duration,
        }


#: The settings of a machine that Salt itself reads or adds.
_SALTS = """
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


def unused(machine: Mapping[str, Any], everywhere: Container[str]) -> list[str]:
    """
    List the settings of a machine that nobody reads: other drivers' own, and misspelt ones.

    :param everywhere: The names of Salt's settings for all clouds, which Salt merges into them.
    """
    read = {*REQUIRED, *_DRIVER_SETTINGS, *access.SETTINGS, *_SALTS}
    read.update(field.name for field in fields(Profile))
    return sorted(
        str(name)
        for name in machine
        if name not in read and name not in everywhere and not str(name).startswith("__")
    )


def _one_of(name: str, value: object, known: tuple[str | None, ...]) -> None:
    if value not in known:
        allowed = ", ".join(repr(each) for each in known if each)
        raise ValueError(f"{name}: {allowed} were expected, not {value!r}")
