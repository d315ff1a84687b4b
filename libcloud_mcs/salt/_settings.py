"""What stands in Salt's configuration, and what a command was given, checked for the driver."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from libcloud_mcs.driver import MCSNodeDriver

__all__ = ["REQUIRED", "Guarded", "Profile", "arguments", "driver_of", "span", "without_secrets"]

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
    _demand(provider, REQUIRED, "setting")
    for name in REQUIRED:
        if not isinstance(provider[name], str):
            # YAML takes digits for a number, and with it the zeros in front of them.
            raise ValueError(f"{name}: text was expected, not a number; put it in quotes")
    wanted = {name: provider[name] for name in _DRIVER_SETTINGS if name in provider}
    return MCSNodeDriver(**{_CREDENTIALS[name]: provider[name] for name in REQUIRED}, **wanted)


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
    #: Whether Salt is installed on it.
    deploy: bool = True
    #: The path of the private key of ``keyname``.
    private_key: str | None = None
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
        _demand(given, ("image", "size"), "setting")
        profile = cls(**{name: value for name, value in given.items() if value is not None})
        _one_of("ssh_interface", profile.ssh_interface, ("public_ips", "private_ips"))
        _one_of("on_failure", profile.on_failure, ("keep", "destroy", "expire"))
        for name in ("wait_for_ip_timeout", "wait_for_ip_interval"):
            value = getattr(profile, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: whole seconds above 0 were expected, not {value!r}")
        if profile.private_key is not None:
            # Both the driver and ssh shall find it.
            path = os.path.expanduser(profile.private_key)
            if not os.path.isfile(path):
                raise ValueError(f"private_key: there is no file {path!r}")
            object.__setattr__(profile, "private_key", path)
        elif profile.deploy and profile.keyname is not None:
            raise ValueError(
                "private_key: the path of the private key of 'keyname' is needed, since Salt shall"
                " be deployed to the machine"
            )
        return profile

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


def arguments(
    kwargs: Mapping[str, Any] | None, required: Iterable[str] = (), optional: Iterable[str] = ()
) -> dict[str, Any]:
    """
    Check the ``name=value`` arguments of a command.

    :return: The arguments, with ``None`` for the optional ones that were not given.
    :raises ValueError: One is missing or unknown. The message names it.
    """
    given = dict(kwargs or {})
    _demand(given, required, "argument")
    known = (*required, *optional)
    if unknown := [name for name in given if name not in known]:
        takes = ", ".join(known) or "none"
        raise ValueError(f"unknown argument {', '.join(map(repr, unknown))}; known: {takes}")
    return {name: given.get(name) for name in known}


def span(hours: object, days: object) -> timedelta:
    """
    Add numbers of hours and of days, either of which may be ``None``.

    :raises ValueError: Both are ``None``, or one is no number above 0.
    """
    if hours is None and days is None:
        raise ValueError("the argument 'hours' or 'days' is missing")
    whole = timedelta()
    for name, value in (("hours", hours), ("days", days)):
        if value is not None:
            try:
                whole += timedelta(**{name: float(str(value))})
                if whole <= timedelta():
                    raise ValueError
            except (ValueError, OverflowError):
                raise ValueError(f"{name}: a number above 0 was expected, not {value!r}") from None
    return whole


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

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(without_secrets(self), memo)


def _is_secret(name: str) -> bool:
    return name in ("id", "key", "priv_key", "master_pem") or "password" in name


def _demand(given: Mapping[str, Any], names: Iterable[str], what: str) -> None:
    if missing := [name for name in names if given.get(name) in (None, "")]:
        several = f"{what}s {', '.join(map(repr, missing))} are"
        one = f"{what} {missing[0]!r} is"
        raise ValueError(f"the {several if len(missing) > 1 else one} missing")


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: {', '.join(map(repr, known))} were expected, not {value!r}")
