"""``python -m libcloud_mcs.emulator``: a local MCS endpoint."""

from __future__ import annotations

import argparse
import os
import sys

from libcloud_mcs.emulator._emulator import Emulator
from libcloud_mcs.emulator._faults import EFFECTS, parse_fault
from libcloud_mcs.emulator.cloud import Timing

_DURATIONS = {
    "boot_seconds": "a new instance takes to run",
    "start_seconds": "a stopped instance takes to run",
    "stop_seconds": "a stop takes that is not forced",
    "reboot_seconds": "a reboot takes",
    "rebuild_seconds": "a new system disk takes",
    "change_seconds": "a change of type takes",
    "terminate_seconds": "a deleted instance is still there",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; give its exit status."""
    settings = vars(_parser().parse_args(argv))
    faults = settings.pop("fault")
    show_secret = settings["secret"] is None
    try:
        wanted = [parse_fault(fault) for fault in faults]
        emulator = Emulator(**settings)
        for fault in wanted:
            emulator.inject(**fault)
        if not emulator.loopback:
            is_secure = settings["tls"] or settings["tls_cert"]
            print(
                f"warning: listening on {settings['host']}: others can reach this endpoint,"
                f"{'' if is_secure else ' what is sent to it is not encrypted,'}"
                " and its page and /_emulator/ want no signature",
                file=sys.stderr,
            )
        emulator.run(lambda: _introduce(emulator, show_secret=show_secret))
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _introduce(emulator: Emulator, *, show_secret: bool) -> None:
    print(f"MCS endpoint: {emulator.url}")
    print(f"export MOS_URL={emulator.url}")
    print(f"export MOS_ACCESS={emulator.access_key}")
    if show_secret:
        print(f"export MOS_SECRET={emulator.secret}")
    if emulator.ca_cert:
        print(f"CA certificate: {emulator.ca_cert}")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m libcloud_mcs.emulator",
        description="A local MCS endpoint, true to the specification. Stops on Ctrl-C. Its page is"
        " at the endpoint's root.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=8883, help="port, 0 for a free one (%(default)s)")
    add(
        "--access-key",
        default=os.environ.get("MOS_ACCESS") or None,
        help="the account's access key ($MOS_ACCESS, or a random one)",
    )
    add(
        "--secret",
        default=os.environ.get("MOS_SECRET") or None,
        help="the account's secret ($MOS_SECRET, or a random one that is printed)",
    )
    add("--balance", default="1000", help="the money the account begins with (%(default)s)")
    add("--instances", type=int, default=0, help="how many run at the start (%(default)s)")
    for name, what in _DURATIONS.items():
        add(
            f"--{name.replace('_', '-')}",
            type=float,
            default=getattr(Timing, name),
            metavar="SECONDS",
            help=f"how long {what} (%(default)s)",
        )
    add(
        "--default-limit",
        type=int,
        metavar="ROWS",
        help="how many rows a page has when Limit is left out (all)",
    )
    add(
        "--max-limit",
        type=int,
        metavar="ROWS",
        help="how many rows a page has at most, whatever Limit says (any)",
    )
    add(
        "--churn",
        type=int,
        default=0,
        metavar="N",
        help="let N instances of nobody's go, and N others come, between pages (%(default)s)",
    )
    add("--seed", type=int, help="make IDs, passwords and so on the same each time")
    add(
        "--node-network",
        metavar="NETWORK",
        help="loopback network to take the instances' addresses from, like 127.10.0.0/16",
    )
    add(
        "--ssh",
        action="store_true",
        help="put a real SSH server on each instance that runs; what is run over it runs on this"
        " machine, as the user who runs this command (needs --node-network)",
    )
    add("--ssh-port", type=int, default=22, help="port of the SSH servers (%(default)s)")
    add(
        "--signature-clock",
        choices=("real", "emulated"),
        default="real",
        help="what the time of a request is compared with (%(default)s)",
    )
    add(
        "--debug",
        action="store_true",
        help="answer a wrong signature with the string that should be signed",
    )
    add("--state", metavar="FILE", help="keep everything in this SQLite file")
    add(
        "--tls",
        action="store_true",
        help="speak HTTPS, with a throw-away certificate whose CA file is printed",
    )
    add("--tls-cert", metavar="FILE", help="speak HTTPS with this certificate (PEM)")
    add(
        "--tls-key",
        metavar="FILE",
        help="the certificate's private key (PEM, no passphrase); left out: in --tls-cert too",
    )
    add(
        "--fault",
        action="append",
        default=[],
        metavar="FAULT",
        help="let something go wrong: an action or *, an effect"
        f" ({', '.join(EFFECTS)}), and when (nth=, times=, probability=, seed=):"
        " 'CreateInstance drop_after times=1', '* error=500 probability=0.1';"
        " can be given more than once",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
