"""``python -m libcloud_mcs.emulator``: a local MCS endpoint."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from libcloud_mcs.emulator._checks import ArgumentError, Kind, shown, split_words
from libcloud_mcs.emulator._emulator import Emulator
from libcloud_mcs.emulator._faults import EFFECTS, parse_fault
from libcloud_mcs.emulator._settings import AccountSettings, Setting, Settings
from libcloud_mcs.emulator._sockets import is_loopback


def main(argv: list[str] | None = None) -> int:
    """
    Run the command.

    :return: Its exit status: 0 after a clean stop, 1 when it could not run or not go on, 2 when an
        option makes no sense or cannot be used.
    """
    given = vars(_parser().parse_args(argv))
    faults = given.pop("fault")
    try:
        for name, setting in Settings.settings().items():
            if setting.variable and given[name] is None:
                given[name] = _from_environment(setting)
        emulator = Emulator(**given)
        with contextlib.closing(emulator):
            for fault in faults:
                emulator.inject(**fault)
            if not is_loopback(given["host"]):
                is_secure = given["tls"] or given["tls_cert"]
                print(
                    f"warning: listening on {given['host']}: others can reach this endpoint,"
                    f"{'' if is_secure else ' what is sent to it is not encrypted,'}"
                    " and its page and /_emulator/ want no signature",
                    file=sys.stderr,
                )
            emulator.run(lambda: _introduce(emulator, given))
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


def _from_environment(setting: Setting) -> Any:
    value = os.environ.get(setting.variable)
    return setting.kind.parse(setting.variable, value) if value else None


def _introduce(emulator: Emulator, given: dict[str, Any]) -> None:
    """Print where the emulator is, and its accounts; no secret that the user knows."""
    known = {given["secret"], *(each.get("secret") for each in given["accounts"])}
    print(f"MCS endpoint: {emulator.url}")
    print(f"export MOS_URL={emulator.url}")
    for account in emulator.accounts:
        words = [f"MOS_ACCESS={shlex.quote(account.access_key)}"]
        if account.secret not in known:
            words.append(f"MOS_SECRET={shlex.quote(account.secret)}")
        if account is emulator.account:
            for word in words:
                print(f"export {word}")
        else:
            # A comment, so that all of it can be pasted into a shell.
            print("# another account:", *words)
    if emulator.ca_cert:
        print(f"CA certificate: {emulator.ca_cert}")
    sys.stdout.flush()


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {' '.join(message.splitlines())}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m libcloud_mcs.emulator",
        description="A local MCS endpoint. Stops on Ctrl-C. Its page is at the endpoint's root.",
        allow_abbrev=False,
    )
    for name, setting in Settings.settings().items():
        if name == "accounts":
            parser.add_argument(
                "--account",
                dest="accounts",
                action="append",
                default=[],
                type=_type("account", _parse_account),
                metavar="ACCOUNT",
                help="a further account, such as 'access_key=second balance=5 instances=2': any of"
                " access_key, secret, secret_env (the environment variable that has the secret),"
                " balance, instances; what is left out is as it is for the first account; can be"
                " given more than once",
            )
        elif name != "clock":
            _add_option(parser, name, setting, getattr(Settings, name))
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_type("fault", parse_fault),
        metavar="FAULT",
        help="let something go wrong: an action or *, an effect"
        f" ({', '.join(EFFECTS)}), and when (nth=, times=, probability=, seed=):"
        " 'CreateInstance drop_after times=1', '* error=500 probability=0.1';"
        " can be given more than once",
    )
    return parser


def _add_option(parser: argparse.ArgumentParser, name: str, setting: Setting, default: Any) -> None:
    option = f"--{name.replace('_', '-')}"
    if isinstance(default, bool):
        parser.add_argument(option, action="store_true", help=setting.meaning)
        return
    if setting.command_default is not None:
        default = setting.command_default
    shown_default = f"${setting.variable}" if setting.variable else default
    parser.add_argument(
        option,
        type=_type(name, lambda text: setting.kind.parse(name, text)),
        default=default,
        metavar=setting.metavar,
        help=setting.meaning if shown_default is None else f"{setting.meaning} ({shown_default})",
    )


def _type(name: str, parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return what argparse calls to read an option: the option's own name is in its message."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ArgumentError as error:
            about = "" if error.name == name else f"{error.name}: "
            message = f"{about}expected {error.expected}, got {error.got}"
            raise argparse.ArgumentTypeError(message) from None

    return read


def _parse_account(text: str) -> dict[str, Any]:
    """Read an account from one line of words such as ``balance=5``."""
    kinds: dict[str, Kind[Any]] = {
        name: setting.kind for name, setting in AccountSettings.settings().items()
    }
    names = (*kinds, "secret_env")
    such = f"words such as 'access_key=second balance=5', with {', '.join(names)}"
    account: dict[str, Any] = {}
    for word in split_words("account", text, such):
        name, _, value = word.partition("=")
        if name == "secret_env":
            name, value = "secret", os.environ.get(value) or _no_variable(value)
        if name not in kinds or name in account:
            # What is there may be a secret.
            raise ArgumentError("account", such, "another word, or one of them twice")
        account[name] = kinds[name].parse(name, value)
    return account


def _no_variable(name: str) -> NoReturn:
    raise ArgumentError("secret_env", "the name of an environment variable", shown(name))


if __name__ == "__main__":
    sys.exit(main())
