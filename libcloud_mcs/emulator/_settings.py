"""
The settings of an emulator. Each stands here once, with its meaning, its bounds and its default:
the options of the command line and the checks of the constructor are made from these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cache
from ipaddress import IPv4Network
from os import fspath
from typing import Annotated, Any, get_type_hints

from libcloud_mcs.emulator._checks import (
    FLAG,
    HOST,
    MONEY,
    NAME,
    NETWORK,
    SECRET,
    ArgumentError,
    Kind,
    choice,
    number,
    number_choice,
    object_of,
    optional,
    shown,
    whole,
)
from libcloud_mcs.emulator._clock import Clock
from libcloud_mcs.emulator._edition import EDITIONS
from libcloud_mcs.emulator._instances import Timing

__all__ = ["AccountSettings", "Setting", "Settings", "parameters"]


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its default."""

    #: What its value must be.
    kind: Kind[Any]
    #: A phrase.
    meaning: str
    #: What its value is called in the command line's help.
    metavar: str | None = None
    #: The environment variable that the command line looks into without the option.
    variable: str = ""
    #: The command line's own default.
    command_default: Any = None


def _take_accounts(value: Any) -> tuple[AccountSettings, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return tuple(_take_account(f"accounts[{number}]", each) for number, each in enumerate(value))


def _take_account(name: str, value: object) -> AccountSettings:
    names = [each.name for each in fields(AccountSettings)]
    expected = f"a mapping with some of {', '.join(names)}"
    if not isinstance(value, Mapping):
        raise ArgumentError(name, expected, f"a {type(value).__name__}")
    for each in value:
        if each not in names:
            raise ArgumentError(name, expected, shown(each))
    try:
        return AccountSettings(**value)
    except ArgumentError as error:
        raise error.renamed(f"{name}: {error.name}") from None


def _take_path(value: Any) -> str:
    try:
        path = fspath(value)
    except TypeError:
        raise ValueError from None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError
    return path


_EDITION = number_choice(*EDITIONS)
_COUNT = whole(0, 100_000)
_ROWS = optional(whole(1, 999_999_999))
_SECONDS = number(0, 10**9, "seconds")
_ACCOUNTS = Kind(
    "a list of mappings with the arguments of add_account", _take_accounts, secret=True
)
_PATH = Kind("the path of a file", _take_path)


@dataclass(frozen=True)
class AccountSettings:
    """What an account begins with."""

    access_key: Annotated[
        str | None,
        Setting(
            optional(NAME),
            "the account's access key; where there is none, a random one",
            variable="MOS_ACCESS",
        ),
    ] = None
    secret: Annotated[
        str | None,
        Setting(
            optional(SECRET),
            "the account's secret; where there is none, a random one",
            variable="MOS_SECRET",
        ),
    ] = field(default=None, repr=False)
    balance: Annotated[Decimal, Setting(MONEY, "the money that the account begins with")] = Decimal(
        1000
    )
    instances: Annotated[int, Setting(_COUNT, "how many instances run at the start", "N")] = 0

    def __post_init__(self) -> None:
        for name, setting in self.settings().items():
            object.__setattr__(self, name, setting.kind.check(name, getattr(self, name)))

    @classmethod
    @cache
    def settings(cls) -> dict[str, Setting]:
        """Return what is known of each setting, by their names."""
        hints = get_type_hints(cls, include_extras=True)
        return {each.name: hints[each.name].__metadata__[0] for each in fields(cls)}


@dataclass(frozen=True)
class Settings(AccountSettings):
    """All settings of an emulator. The account among them is the first one."""

    accounts: Annotated[
        tuple[AccountSettings, ...],
        Setting(
            _ACCOUNTS,
            "further accounts: a list of mappings, each with the arguments of add_account",
        ),
    ] = field(default=(), repr=False)
    edition: Annotated[
        int,
        Setting(
            _EDITION,
            "the year of the service that is emulated: 2013 is the API specification, 2017 what the"
            " service became",
            "YEAR",
        ),
    ] = 2013
    host: Annotated[str, Setting(HOST, "the address to listen on")] = "127.0.0.1"
    port: Annotated[
        int,
        Setting(whole(0, 65535), "the port to listen on; 0 is a free one", command_default=8883),
    ] = 0
    clock: Annotated[
        Clock | None,
        Setting(
            optional(object_of(Clock, "a Clock")),
            "tells the time; where there is none, real time until it is moved",
        ),
    ] = None
    boot_seconds: Annotated[
        float, Setting(_SECONDS, "how long a new instance takes to run", "SECONDS")
    ] = Timing.boot_seconds
    start_seconds: Annotated[
        float, Setting(_SECONDS, "how long a stopped instance takes to run", "SECONDS")
    ] = Timing.start_seconds
    stop_seconds: Annotated[
        float, Setting(_SECONDS, "how long a stop takes that is not forced", "SECONDS")
    ] = Timing.stop_seconds
    reboot_seconds: Annotated[float, Setting(_SECONDS, "how long a reboot takes", "SECONDS")] = (
        Timing.reboot_seconds
    )
    rebuild_seconds: Annotated[
        float, Setting(_SECONDS, "how long a new system disk takes", "SECONDS")
    ] = Timing.rebuild_seconds
    change_seconds: Annotated[
        float, Setting(_SECONDS, "how long a change of type takes", "SECONDS")
    ] = Timing.change_seconds
    save_seconds: Annotated[
        float, Setting(_SECONDS, "how long a template of an instance takes", "SECONDS")
    ] = Timing.save_seconds
    terminate_seconds: Annotated[
        float, Setting(_SECONDS, "how long a deleted instance is still there", "SECONDS")
    ] = Timing.terminate_seconds
    default_limit: Annotated[
        int | None,
        Setting(
            _ROWS,
            "how many rows a page has when Limit is left out; where there is none, all",
            "ROWS",
        ),
    ] = None
    max_limit: Annotated[
        int | None,
        Setting(
            _ROWS,
            "how many rows a page has at most, whatever Limit says; where there is none, any",
            "ROWS",
        ),
    ] = None
    churn: Annotated[
        int,
        Setting(
            _COUNT,
            "how many instances are replaced by others before each page of a list of instances but"
            " the first",
            "N",
        ),
    ] = 0
    seed: Annotated[
        int | None,
        Setting(
            optional(whole()),
            "makes IDs, addresses, passwords, access keys and secrets the same each time",
            "NUMBER",
        ),
    ] = None
    node_network: Annotated[
        IPv4Network | None,
        Setting(
            optional(NETWORK),
            "a loopback network, like 127.10.0.0/16, to take the public addresses of instances"
            " from; where there is none, addresses that are not reachable",
            "NETWORK",
        ),
    ] = None
    ssh: Annotated[
        bool,
        Setting(
            FLAG,
            "whether a real SSH server is on each instance that runs: what is run over it runs on"
            " this machine, as the user who runs the emulator (it needs node_network, and the extra"
            " emulator-ssh)",
        ),
    ] = False
    ssh_port: Annotated[int, Setting(whole(1, 65535), "the port of the SSH servers")] = 22
    signature_clock: Annotated[
        str,
        Setting(
            choice("real", "emulated"),
            "what the time of a request is compared with: real time, so that a moved clock breaks"
            " no signature, or the emulated clock",
            "{real,emulated}",
        ),
    ] = "real"
    debug: Annotated[
        bool,
        Setting(
            FLAG, "whether a wrong signature is answered with the string that should be signed"
        ),
    ] = False
    state: Annotated[
        str | None,
        Setting(
            optional(_PATH),
            "a SQLite file in which everything is kept; what it holds goes before what accounts"
            " begin with",
            "FILE",
        ),
    ] = None
    max_records: Annotated[
        int, Setting(whole(0, 1_000_000), "how many requests are remembered", "N")
    ] = 1000
    tls: Annotated[
        bool,
        Setting(
            FLAG,
            "whether to speak HTTPS, with a throw-away certificate unless tls_cert names one",
        ),
    ] = False
    tls_cert: Annotated[
        str | None,
        Setting(
            optional(_PATH),
            "a PEM file to speak HTTPS with: the certificate, then those that it was signed with",
            "FILE",
        ),
    ] = None
    tls_key: Annotated[
        str | None,
        Setting(
            optional(_PATH),
            "a PEM file with the certificate's private key, without a passphrase; where there is"
            " none, it is in tls_cert too",
            "FILE",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ssh and self.node_network is None:
            raise ValueError("ssh: it needs node_network, loopback addresses like '127.10.0.0/16'")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key: it needs tls_cert, the file with its certificate")
        keys: set[str] = set()
        for each in (self, *self.accounts):
            if each.access_key in keys:
                got = f"{shown(each.access_key)} twice"
                raise ArgumentError("accounts", "access keys that differ", got)
            keys |= {each.access_key} if each.access_key else set()

    @property
    def timing(self) -> Timing:
        """How long things take."""
        return Timing(**{each.name: getattr(self, each.name) for each in fields(Timing)})


def parameters() -> str:
    """Return what a docstring says of all settings."""
    lines = [
        f":param {name}: {setting.meaning[0].upper()}{setting.meaning[1:]}."
        for name, setting in Settings.settings().items()
    ]
    return "\n".join(
        [
            *lines,
            ":raises ValueError: If an argument makes no sense, or the state cannot be used.",
            ":raises ImportError: If ``ssh`` is wanted without the package ``asyncssh``.",
        ]
    )
