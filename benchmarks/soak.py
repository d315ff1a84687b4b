"""
A soak test: one driver, many threads, and random faults on every action.

Each thread takes instances through their life cycle. After each call it compares the result with
the ledger: a call that returned was charged once, a refused call was not charged, and a call whose
outcome is unknown was charged at most once. Each response must be about the thread's own instance.

    python benchmarks/soak.py --seconds 600 --threads 8
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading
import time
from collections import Counter

from libcloud_mcs.emulator import (
    Emulator,
    content_type,
    cut,
    delay,
    drop_after,
    drop_before,
    error,
    html,
    overload,
    too_many,
)
from libcloud_mcs.errors import MCSError, OutcomeUnknownError

IMAGE = "d1620e45-c561-42e7-a2a4-53ae0a389bb9"
EFFECTS = (
    drop_before(),
    drop_after(),
    cut(0),
    cut(30),
    error(500),
    error(500, after=True),
    error(400),
    html(502),
    html(502, after=True),
    html(200, after=True),
    too_many(0),
    too_many("soon"),
    overload(),
    content_type("text/html"),
    delay(0.02),
    delay(1.2),  # longer than the driver's timeout
)


class Soak:
    def __init__(self, cloud: Emulator, end: float) -> None:
        self.cloud, self.end = cloud, end
        self.driver = cloud.driver(
            timeout=1, retry_delay=0.02, backoff=1.5, max_tries=5, concurrency=2
        )
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []

    def charges(self, action: str, instance_id: str) -> int:
        return sum(
            charge.action == action and charge.instance_id == instance_id
            for charge in self.cloud.ledger[-4000:]
        )

    def check(self, condition: bool, message: str) -> None:
        if not condition:
            self.errors.append(message)

    def call(self, name: str, function, *arguments):
        """Call a function; return its result, or its error."""
        try:
            result = function(*arguments)
            self.counts[f"{name}: done"] += 1
        except OutcomeUnknownError as unknown:
            self.counts[f"{name}: unknown"] += 1
            return unknown
        except MCSError as refused:
            self.counts[f"{name}: failed"] += 1
            return refused
        return result

    def billed(self, action: str, node, function) -> None:
        before = self.charges(action, node.id)
        result = self.call(action, function)
        if isinstance(result, OutcomeUnknownError):
            time.sleep(1.3)  # until a late request has certainly ended
        deadline = time.monotonic() + 3
        while True:
            paid = self.charges(action, node.id) - before
            if isinstance(result, OutcomeUnknownError):
                expected = paid in (0, 1)
            elif isinstance(result, MCSError):
                expected = paid == 0
            else:
                expected = paid == 1
            if expected or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        self.check(expected, f"{action}: {result!r}, but {paid} charges")

    def life_cycle(self, name: str, rng: random.Random) -> None:
        driver = self.driver
        node = self.call(
            "CreateInstance",
            lambda: driver.create_node(name, "small", IMAGE, ex_duration="1H"),
        )
        if isinstance(node, Exception):
            time.sleep(1.3)  # until a late request has certainly ended
            created = self.cloud.cloud.find([], [name])
            if created:
                self.check(isinstance(node, OutcomeUnknownError), f"created, but {node!r}")
                self.cloud.cloud.remove(name)
            return
        self.check(node.name == name, f"expected {name}, got {node.name}")
        self.check(self.charges("CreateInstance", node.id) == 1, f"{name}: not charged once")
        steps = (self.renew, self.resize, self.get, self.interfaces, self.metadata, self.list_one)
        for _ in range(rng.randrange(1, 6)):
            rng.choice(steps)(node)
        self.call("reboot", driver.reboot_node, node)
        self.call("destroy", driver.destroy_node, node)

    def renew(self, node) -> None:
        self.billed("RenewInstance", node, lambda: self.driver.ex_renew_node(node, "1H"))

    def resize(self, node) -> None:
        size = random.choice(["small", "medium", "large"])
        self.billed(
            "ChangeInstanceType",
            node,
            lambda: self.driver.ex_change_node_size(node, size, "1H"),
        )

    def get(self, node) -> None:
        found = self.call("ex_get_node", self.driver.ex_get_node, node)
        if not isinstance(found, Exception):
            self.check(found.id == node.id, "another node's response")

    def interfaces(self, node) -> None:
        found = self.call("interfaces", self.driver.ex_list_network_interfaces, node)
        if not isinstance(found, Exception):
            owners = {each.extra["instanceId"] for each in found}
            self.check(owners == {node.id}, "another node's interfaces")

    def metadata(self, node) -> None:
        self.call("set metadata", self.driver.ex_set_metadata, node, {"n": node.name})
        found = self.call("get metadata", self.driver.ex_get_metadata, node)
        if not isinstance(found, Exception):
            self.check(found.get("n") in (node.name, None), "another node's metadata")

    def list_one(self, node) -> None:
        found = self.call("list", lambda: self.driver.list_nodes(ex_node_ids=[node]))
        if not isinstance(found, Exception):
            self.check([each.id for each in found] == [node.id], "another list")

    def run(self, number: int) -> None:
        rng = random.Random(number)
        step = 0
        while time.monotonic() < self.end:
            step += 1
            try:
                self.life_cycle(f"t{number}-{step}", rng)
            except Exception as bug:
                self.errors.append(f"{type(bug).__name__}: {bug}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--threads", type=int, default=8)
    arguments = parser.parse_args()
    settings = {"boot_seconds": 0, "change_seconds": 0, "reboot_seconds": 0}
    with Emulator(balance=10**8, terminate_seconds=0, **settings) as cloud:
        for number, effect in enumerate(EFFECTS):
            cloud.inject(effect, probability=0.015, seed=number)
        files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        soak = Soak(cloud, time.monotonic() + arguments.seconds)
        workers = [
            threading.Thread(target=soak.run, args=(number,)) for number in range(arguments.threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        fired = sum(fault.fired for fault in cloud.faults)
        requests = max(fault.seen for fault in cloud.faults)
        print(f"{arguments.seconds:.0f} s, {arguments.threads} threads: {requests} requests")
        print(f"  faults: {fired}")
        for result, count in sorted(soak.counts.items()):
            print(f"  {result}: {count}")
        print(f"  charges: {len(cloud.ledger)}")
        print(f"  leftover threads: {threading.active_count() - threads}")
        kept = len(os.listdir("/proc/self/fd")) - files
        print(f"  additional open files: {kept} (both ends of kept-alive connections)")
        print(f"  errors: {len(soak.errors)}", *soak.errors[:5], sep="\n    ")
    return 1 if soak.errors else 0


if __name__ == "__main__":
    sys.exit(main())
