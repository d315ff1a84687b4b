"""``python -m libcloud_mcs.emulator``: a local MCS endpoint."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from libcloud_mcs.emulator.cloud import Timing
from libcloud_mcs.emulator.server import Emulator


def main(argv: list[str] | None = None) -> int:
    """Run the command; give its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        emulator = Emulator(
            host=arguments.host,
            port=arguments.port,
            access_key=arguments.access_key,
            secret=arguments.secret,
            balance=arguments.balance,
            instances=arguments.instances,
            timing=Timing(boot_seconds=arguments.boot_seconds),
            seed=arguments.seed,
        )
        emulator.bind()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"warning: listening on {arguments.host}: others can reach this endpoint, and what is"
            " sent to it is not encrypted",
            file=sys.stderr,
        )
    asyncio.run(_serve(emulator, show_secret=arguments.secret is None))
    return 0


async def _serve(emulator: Emulator, *, show_secret: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(f"MCS endpoint: {emulator.url}")
    print(f"export MOS_URL={emulator.url}")
    print(f"export MOS_ACCESS={emulator.access_key}")
    if show_secret:
        print(f"export MOS_SECRET={emulator.secret}")
    sys.stdout.flush()
    await emulator.serve(stop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m libcloud_mcs.emulator",
        description="A local MCS endpoint, true to the specification. Stops on Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8883, help="port, 0 for a free one (%(default)s)"
    )
    parser.add_argument(
        "--access-key",
        default=os.environ.get("MOS_ACCESS") or None,
        help="the account's access key ($MOS_ACCESS, or a random one)",
    )
    parser.add_argument(
        "--secret",
        default=os.environ.get("MOS_SECRET") or None,
        help="the account's secret ($MOS_SECRET, or a random one that is printed)",
    )
    parser.add_argument(
        "--balance", default="1000", help="the money the account begins with (%(default)s)"
    )
    parser.add_argument(
        "--instances", type=int, default=0, help="how many run at the start (%(default)s)"
    )
    parser.add_argument(
        "--boot-seconds", type=float, default=0.8, help="how long a start takes (%(default)s)"
    )
    parser.add_argument("--seed", type=int, help="make IDs and passwords the same each time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
